"""A place of files that is gone for a while: nobody is told of work that was not done (S14, S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.harness_base import NotShown
from kessel_conformance.places import FILES
from kessel_conformance.requirements import KEEPS_LEASES, LEASE
from kessel_conformance.told import Told
from kessel_core import AdapterUnavailable, LeaseLost
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Browse,
    Consumer,
    Find,
    JobState,
    QueueAdapter,
    QueueStats,
    Reservation,
)


@contextmanager
def _away(bench: Bench, place: Path) -> Iterator[None]:
    """Let a folder be gone for a while."""
    away = place.with_name("away")
    try:
        place.rename(away)
    except OSError as exc:
        raise NotShown(f"the files cannot be moved away: {exc}") from exc
    bench.history.add("its files are moved away")
    try:
        yield
        bench.check(not place.exists(), "a place that is gone was made anew, without its jobs")
    finally:
        if not place.exists():
            away.rename(place)
            bench.history.add("its files are back")


@contextmanager
def in_a_place(bench: Bench) -> Iterator[tuple[Bench, Path]]:
    """Give a bench whose files are in a folder of its own, and that folder."""
    with tempfile.TemporaryDirectory(dir=bench.harness.folder) as top:
        place = Path(top) / "place"
        place.mkdir()
        with bench.in_folder(str(place)) as there:
            yield there, place


@case(
    "files.gone",
    "S14",
    "S9",
    "S8",
    needs=(FILES,),
    why="A disk fails, and every job is stored, says an adapter that swallows what the system tells it.",
)
def gone(bench: Bench) -> None:
    with in_a_place(bench) as (there, place):
        _Gone(there, place).check()


class _Gone(Told):
    """Calls every operation while its files are away, and looks at what is there when they are back."""

    def __init__(self, bench: Bench, place: Path) -> None:
        super().__init__(bench)
        self.place = place
        #: The id of a job that is there and ready.
        self.waits = ""

    def check(self) -> None:
        bench = self.bench
        sent = [bench.put(), bench.put()]
        self.there = {message.body for message in sent}
        consumer = bench.consumer()
        held = bench.taken(consumer)
        self.there.remove(held.body)
        (self.waits,) = (message.id for message in sent if message.body != held.body)
        with bench.sharing() as other, _away(bench, self.place):
            self.enqueue(bench.message())
            self.enqueue_many([bench.message(), bench.message()])
            settled = self.asked("settle", lambda: consumer.settle(held, COMMIT), LeaseLost)
            taken = self.asked("reserve", lambda: consumer.reserve(NO_PAUSE))
            for adapter in (bench.adapter, other.adapter):  # which has never had a consumer
                self._makes_consumer(adapter)
            self._look()
        self.there.add(bench.put().body)  # it goes on
        if taken.error is None:
            if taken.value is None:
                bench.broken("reserve says that nothing is ready, although a job is, in files that are away")
            following = cast("Reservation", taken.value)
            self.there.discard(following.body)
            bench.settle(consumer, following)
        if isinstance(settled.error, AdapterUnavailable):
            bench.settle(consumer, held)
        elif settled.error is not None:
            self.perhaps.add(held.body)
            if KEEPS_LEASES.is_met(bench.harness):
                still = bench.stats().reserved
                bench.equal(still, 0, "jobs that are held, after its holder was told that its lease is lost")
        self.is_true(bench.drain(consumer))

    def _makes_consumer(self, adapter: QueueAdapter) -> None:
        made = self.asked("consumer", lambda: adapter.consumer([self.bench.queue]))
        if made.error is not None:
            self.bench.broken(
                "a consumer is not made of files that are away: that is for its first reserve to say"
            )
        cast("Consumer", made.value).close()

    def _look(self) -> None:
        bench = self.bench
        stats = self.asked("stats", lambda: bench.adapter.stats(bench.queue))
        if stats.error is None and not cast("QueueStats", stats.value).ready:
            bench.broken("stats says that nothing is ready, although a job is, in files that are away")
        names = self.asked("queues", bench.adapter.queues)
        if names.error is None and bench.queue not in cast("list[str]", names.value):
            bench.broken("queues() leaves out a queue that has jobs, in files that are away")
        if bench.has(Find):
            found = self.asked("find", lambda: bench.facet(Find).find(self.waits))
            if found.error is None and found.value is None:
                bench.broken("find says that there is no such job, in files that are away")
        if bench.has(Browse):
            shown = self.asked("peek", lambda: bench.facet(Browse).peek(bench.queue, JobState.READY, 5))
            if shown.error is None and not shown.value:
                bench.broken("peek shows nothing, although a job is ready, in files that are away")


@case(
    "files.gone_extend",
    "S7",
    needs=(FILES, LEASE),
    waits=True,
    why="A heartbeat that swallows what the system tells it says extended, and another one gets the job.",
)
def gone_extend(bench: Bench) -> None:
    with in_a_place(bench) as (there, place):
        there.put()
        consumer = there.consumer()
        held = there.taken(consumer)
        before = held.deadline
        there.let_pass(there.lease * 0.4)
        told = Told(there)
        with _away(there, place):
            one = told.asked("extend", lambda: consumer.extend(held))
            many = told.asked("extend_many", lambda: there.adapter.extend_many([(consumer, held)]))
            there.check(many.error is None, "extend_many raised, instead of returning an outcome for each")
        outcomes = [one.error, *cast("list[Exception | None]", many.value or [many.error])]
        for error in outcomes:
            is_allowed = error is None or isinstance(error, AdapterUnavailable)
            there.check(is_allowed, f"expected AdapterUnavailable, got {error!r}")
        if None not in outcomes:
            there.equal(held.deadline, before, "the deadline of a lease that nobody extended")
            return
        there.let_pass(there.lease * 0.7)  # beyond the end of the lease, if it was not extended after all
        came = there.reserve(there.consumer())
        is_over = there.clock.monotonic() >= (held.deadline or 0.0)
        there.check(came is None or is_over, "it was told that its lease was extended, but the job came")
