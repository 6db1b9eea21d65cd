"""What operators see while others work: any thread may look, at any moment (S9; contract, rule 3)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Final, TypeVar

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_core.contract import COMMIT, NO_PAUSE, Browse, Consumer, Find, JobState, Message, QueueStats

T = TypeVar("T")

#: Jobs that nobody touches: enough that going through them takes a while.
_KEPT: Final = 100
_LATE: Final = 10
_SHOWN: Final = 5
_WORKERS: Final = 2
#: So that the number of jobs changes all the time.
_AT_ONCE: Final = 4


@case(
    "operations.while_others_work",
    "S9",
    why="A dashboard goes through jobs that come and go: it fails, or tells of some that never were.",
)
def while_others_work(bench: Bench) -> None:
    watched = _Watched(bench)
    over: list[None] = []

    def looks() -> None:
        try:
            kinds = watched.looks()
            for what, look in kinds.items():
                end = time.monotonic() + bench.settings.amounts.looking / len(kinds)
                for number in count(1):
                    # Always the same: what needs no lock is then never kept waiting, and meets the others.
                    look()
                    if time.monotonic() >= end:
                        bench.history.add(f"{what} {number} times, while others work")
                        break
        finally:
            over.append(None)

    def works(consumer: Consumer) -> None:
        while not over:
            watched.work(consumer)

    consumers = [bench.consumer() for _ in range(_WORKERS)]
    bench.side_by_side([looks, *(partial(works, consumer) for consumer in consumers)], 60)
    left = bench.drain(consumers[0])
    bench.equal(len(left), len(watched.missed), "jobs left after workers took as many as they enqueued")


class _Watched:
    """Jobs that stay, jobs that come and go, and what can be true of them. Safe for any thread."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.adapter = bench.adapter
        self.kept_queue = bench.queue_named("kept")
        self.kept = [bench.message(queue=self.kept_queue) for _ in range(_KEPT)]
        bench.send_many(self.kept)
        hours = range(1, _LATE + 1) if bench.capabilities.delay_granularity is not None else ()
        self.late = [bench.message(delay=timedelta(hours=number)) for number in hours]
        if self.late:
            bench.send_many(self.late)
        #: Of the jobs that come and go; and one for each time a worker found none.
        self.bodies: set[bytes] = set()
        self.missed: list[None] = []
        self._base = bench.message().id
        self._numbers = count()

    def work(self, consumer: Consumer) -> None:
        """Enqueue a few jobs, and commit as many."""
        for _ in range(_AT_ONCE):
            job_id = f"{self._base}-{next(self._numbers)}"
            self.bodies.add(job_id.encode())
            self.adapter.enqueue(Message(job_id, self.bench.queue, job_id.encode(), 65536))
        for _ in range(_AT_ONCE):
            held = consumer.reserve(NO_PAUSE)
            if held is None:
                self.missed.append(None)
            else:
                consumer.settle(held, COMMIT)

    def looks(self) -> dict[str, Callable[[], None]]:
        """Return each way to look."""
        found = {"queues": self._list, "stats": self._count}
        if self.bench.has(Browse):
            found["peek"] = self._peek
        if self.bench.has(Find):
            found["find"] = self._find
        return found

    def _list(self) -> None:
        listed = self._asked("queues", self.adapter.queues)
        self.bench.equal(listed, sorted(listed), "queues, sorted")
        self.bench.check(self.kept_queue in listed, "a queue is not listed whose jobs nobody takes")

    def _count(self) -> None:
        self._counted(self._asked("stats", lambda: self.adapter.stats(self.kept_queue)), len(self.kept), 0, 0)
        stats = self._asked("stats", lambda: self.adapter.stats(self.bench.queue))
        self._counted(stats, 0, len(self.late), _WORKERS * _AT_ONCE + len(self.missed))

    def _peek(self) -> None:
        self._shown(JobState.READY, self.kept_queue, self.kept)
        self._shown(JobState.DELAYED, self.bench.queue, self.late)
        self._moving_shown(JobState.READY)
        self._moving_shown(JobState.RESERVED)

    def _find(self) -> None:
        wanted = self.kept[-1]
        found = self._asked("find", lambda: self.bench.facet(Find).find(wanted.id))
        body = None if found is None else found.body
        self.bench.equal(body, wanted.body, "a job that is there all the time, as it is found")

    def _asked(self, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as exc:
            self.bench.broken(f"{what} raised {type(exc).__name__} while others worked: {exc}")

    def _counted(self, found: QueueStats, ready: int, delayed: int, moving: int) -> None:
        """Compare with what stays; as many as are moving may be ready or reserved besides."""
        bench = self.bench
        if bench.capabilities.counts:
            bench.equal((found.delayed, found.buried), (delayed, 0), "delayed and buried jobs, which stay")
            fits = ready <= found.ready <= ready + moving and 0 <= found.reserved <= moving
            what = f"{found.ready} ready and {found.reserved} reserved jobs are counted"
            bench.check(fits, f"{what}, where {ready} stay, and {moving} at most come and go")
        is_early = found.oldest_ready is not None and found.oldest_ready < NO_PAUSE
        bench.check(not is_early, f"the oldest ready job is ready since {found.oldest_ready}")

    def _shown(self, state: JobState, queue: str, stay: Sequence[Message]) -> None:
        """Look at a few of those that stay, none of which may be shown twice."""
        jobs = self._asked("peek", lambda: self.bench.facet(Browse).peek(queue, state, _SHOWN))
        bodies = {job.body for job in jobs}
        strange = bodies - {message.body for message in stay}
        self.bench.equal(self.bench.labels(sorted(strange)), [], f"{state} jobs that are shown, and are not")
        self.bench.equal((len(bodies), len(jobs)), (min(_SHOWN, len(stay)),) * 2, f"{state} jobs shown")

    def _moving_shown(self, state: JobState) -> None:
        bench = self.bench
        for job in self._asked("peek", lambda: bench.facet(Browse).peek(bench.queue, state, _SHOWN)):
            bench.check(job.body in self.bodies, f"{bench.label(job.body)} is shown as {state}")
            bench.equal(
                (job.queue, job.state), (bench.queue, state), "queue and state of a job that is shown"
            )
