"""What costs a bounded number of round trips and bytes a job, however many jobs there are (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.near import Near, near_adapter
from kessel_conformance.proxy import Traffic
from kessel_conformance.requirements import CONNECTION
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Browse,
    Buried,
    Bury,
    Consumer,
    Delete,
    Facet,
    FacetKind,
    JobState,
    QueueAdapter,
    Settlement,
    need,
)

#: Jobs of the small and of the large round.
_FEW: Final = 60
_MANY: Final = 2 * _FEW
#: Round trips for each job; a poor adapter needs one for each of its fields.
_MOST_TRIPS: Final = 16
#: Twice as many jobs cost twice as much, and not four times, as where each looks at all.
_MOST_GROWTH: Final = 2.9


class _Round:
    """So many jobs in a queue of their own, and what each thing that was done with them has cost.

    Each in turn is done by another adapter, as by the processes of producers, workers and operators: none of
    them knows what another has seen.
    """

    def __init__(self, bench: Bench, processes: Sequence[Near[Bench, QueueAdapter]], count: int) -> None:
        self.bench = bench
        self.queue = bench.queue_named(f"of{count}")
        self.count = count
        self._processes = itertools.cycle(processes)
        self._near = processes[0]

    @property
    def adapter(self) -> QueueAdapter:
        """The adapter whose turn it is."""
        return self._near.opened

    def cost(self, what: str, call: Callable[[], object]) -> tuple[str, Traffic]:
        """Do something that works, and return what it has cost."""
        near = self._near = next(self._processes)
        before = near.proxy.traffic
        answer = near.asked(self.bench.history, f"{what} of {self.count} jobs", call)
        if answer.error is not None:
            self.bench.broken(f"{what} of {self.count} jobs: {answer.error!r}")
        if answer.value != self.count:
            self.bench.broken(f"{what} of {self.count} jobs: {answer.value} were there")
        return what, near.proxy.traffic - before

    def enqueued(self) -> int:
        """Enqueue all in one batch."""
        batch = [self.bench.message(queue=self.queue) for _ in range(self.count)]
        return self.adapter.enqueue_many(batch).count(None)

    def settled(self, settlement: Settlement) -> int:
        """Settle one after the other, as a busy worker does."""
        with closing(self.adapter.consumer([self.queue])) as consumer:
            return sum(1 for _ in self._taken(consumer, settlement))

    @staticmethod
    def _taken(consumer: Consumer, settlement: Settlement) -> Iterator[object]:
        held = consumer.reserve(NO_PAUSE)
        while held is not None:
            yield held
            held = consumer.settle_and_reserve(held, settlement) or consumer.reserve(NO_PAUSE)

    def listed(self) -> int:
        """List all that are buried."""
        return len(need(self.adapter, Buried).buried(self.queue, self.count))

    def kicked(self) -> int:
        """Kick one after the other, as the command does."""
        buried = need(self.adapter, Buried)
        for job in (jobs := buried.buried(self.queue, self.count)):
            buried.kick_shown(job)
        return len(jobs)

    def shown(self) -> int:
        """Show all that are ready."""
        return len(need(self.adapter, Browse).peek(self.queue, JobState.READY, self.count))

    def deleted(self) -> int:
        """Delete one after the other, as the command does."""
        jobs = need(self.adapter, Browse).peek(self.queue, JobState.READY, self.count)
        for job in jobs:
            need(self.adapter, Delete).delete_shown(job)
        return len(jobs)

    def purged(self) -> int:
        """Remove all at once."""
        return self.adapter.purge(self.queue)

    def all(self) -> Iterator[tuple[str, Traffic]]:
        """Do everything that the adapter can; yield what each has cost."""
        has = self._has
        yield self.cost("enqueue", self.enqueued)
        if has(Buried):
            yield self.cost("bury", lambda: self.settled(Bury("error", "broken")))
            yield self.cost("list the buried", self.listed)
            yield self.cost("kick", self.kicked)
        if has(Browse):
            yield self.cost("show", self.shown)
        yield self.cost("commit", lambda: self.settled(COMMIT))
        if has(Browse) and has(Delete):
            yield self.cost("enqueue again", self.enqueued)
            yield self.cost("delete", self.deleted)
        yield self.cost("enqueue for the purge", self.enqueued)
        yield self.cost("purge", self.purged)

    def _has(self, kind: FacetKind[Facet]) -> bool:
        return self.bench.has(kind)


@case(
    "scale.linear",
    "S9",
    needs=(CONNECTION,),
    waits=True,
    alone=True,
    why="An operator with 5,000 buried jobs waits for hours where each job looks at all the others.",
)
def linear(bench: Bench) -> None:
    with near_adapter(bench) as first, near_adapter(bench) as second, near_adapter(bench) as third:
        processes = (first, second, third)
        few = dict(_Round(bench, processes, _FEW).all())
        for what, cost in _Round(bench, processes, _MANY).all():
            before = few[what]
            bench.history.add(f"{what}: {_shown(before)} for {_FEW} jobs, {_shown(cost)} for {_MANY}")
            bench.check(
                cost.round_trips <= _MOST_TRIPS * _MANY,
                f"{what} takes {cost.round_trips / _MANY:.1f} round trips a job, more than {_MOST_TRIPS}",
            )
            for unit, less, more in (
                ("round trips", before.round_trips, cost.round_trips),
                ("bytes", before.bytes, cost.bytes),
            ):
                bench.check(
                    more <= _MOST_GROWTH * max(less, _FEW),
                    f"{what} takes {less} {unit} for {_FEW} jobs, and {more} for {_MANY}",
                )


def _shown(cost: Traffic) -> str:
    return f"{cost.round_trips} round trips and {cost.bytes} bytes"
