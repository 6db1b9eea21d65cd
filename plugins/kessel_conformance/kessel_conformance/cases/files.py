"""A place of files that is gone for a while: nobody is told of work that was not done (S14, S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.faults import Answer
from kessel_conformance.harness_base import NotShown
from kessel_conformance.job_calls import OF_ENQUEUE
from kessel_conformance.requirements import FILES
from kessel_core import AdapterError, AdapterUnavailable, EnqueueUnknown, LeaseLost
from kessel_core.contract import COMMIT, NO_PAUSE, Browse, JobState, QueueStats, Reservation


@case(
    "files.gone",
    "S14",
    "S9",
    "S8",
    needs=(FILES,),
    why="A disk fails, and every job is stored, says an adapter that swallows what the system tells it.",
)
def gone(bench: Bench) -> None:
    with tempfile.TemporaryDirectory(dir=bench.harness.folder) as top:
        place = Path(top) / "place"
        place.mkdir()
        with bench.in_folder(str(place)) as there:
            _Gone(there, place).check()


class _Gone:
    """Calls every operation while its files are away, and looks at what is there when they are back."""

    def __init__(self, bench: Bench, place: Path) -> None:
        self.bench = bench
        self.place = place
        #: The bodies that must be there in the end, and those that may be.
        self.there: set[bytes] = set()
        self.perhaps: set[bytes] = set()

    def check(self) -> None:
        bench = self.bench
        self.there = {bench.put().body, bench.put().body}
        consumer = bench.consumer()
        held = bench.taken(consumer)
        self.there.remove(held.body)
        with self._away():
            self._enqueue()
            self._enqueue_many()
            settled = self._asked("settle", lambda: consumer.settle(held, COMMIT), LeaseLost)
            taken = self._asked("reserve", lambda: consumer.reserve(NO_PAUSE))
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
        found = bench.drain(consumer)
        bench.check(len(set(found)) == len(found), "a job was delivered twice")
        lost, strange = self.there - set(found), set(found) - self.there - self.perhaps
        bench.check(not lost, f"{bench.labels(sorted(lost))} was acknowledged and is lost")
        bench.check(not strange, f"{bench.labels(sorted(strange))} was told as not stored, or as done")

    @contextmanager
    def _away(self) -> Iterator[None]:
        away = self.place.with_name("away")
        try:
            self.place.rename(away)
        except OSError as exc:
            raise NotShown(f"the files cannot be moved away: {exc}") from exc
        self.bench.history.add("its files are moved away")
        try:
            yield
            self.bench.check(not self.place.exists(), "a place that is gone was made anew, without its jobs")
        finally:
            if not self.place.exists():
                away.rename(self.place)
                self.bench.history.add("its files are back")

    def _asked(self, what: str, call: Callable[[], object], *allowed: type[AdapterError]) -> Answer:
        """Make a call that may work, or end with `AdapterUnavailable` or another error that is allowed."""
        answer = Answer.of(call)
        answer.noted(self.bench.history, what, self.bench.text_of)
        error = answer.error
        if error is not None and not isinstance(error, (AdapterUnavailable, *allowed)):
            self.bench.broken(f"{what} raised {type(error).__name__}, expected AdapterUnavailable: {error}")
        return answer

    def _enqueue(self) -> None:
        message = self.bench.message()
        answer = self._asked("enqueue", lambda: self.bench.adapter.enqueue(message), *OF_ENQUEUE)
        self._told(message.body, answer.error)

    def _enqueue_many(self) -> None:
        batch = [self.bench.message(), self.bench.message()]
        answer = self._asked("enqueue_many", lambda: self.bench.adapter.enqueue_many(batch))
        if answer.error is not None:
            self.bench.broken("enqueue_many raised, instead of returning an outcome for each job")
        for message, outcome in zip(batch, cast("list[AdapterError | None]", answer.value), strict=True):
            if outcome is not None and not isinstance(outcome, OF_ENQUEUE):
                self.bench.broken(f"the outcome of a job is {type(outcome).__name__}: {outcome}")
            self._told(message.body, outcome)

    def _told(self, body: bytes, error: Exception | None) -> None:
        if error is None:
            self.there.add(body)
        elif isinstance(error, EnqueueUnknown):
            self.perhaps.add(body)

    def _look(self) -> None:
        bench = self.bench
        stats = self._asked("stats", lambda: bench.adapter.stats(bench.queue))
        if stats.error is None and not cast("QueueStats", stats.value).ready:
            bench.broken("stats says that nothing is ready, although a job is, in files that are away")
        names = self._asked("queues", bench.adapter.queues)
        if names.error is None and bench.queue not in cast("list[str]", names.value):
            bench.broken("queues() leaves out a queue that has jobs, in files that are away")
        if bench.has(Browse):
            shown = self._asked("peek", lambda: bench.facet(Browse).peek(bench.queue, JobState.READY, 5))
            if shown.error is None and not shown.value:
                bench.broken("peek shows nothing, although a job is ready, in files that are away")
