"""A request that is repeated while its job is held changes nothing, also not what shows later (S14)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import datetime, timedelta
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.cases.keeping import PAUSE, WAYS, ways_of
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import DEDUPE, DELAYS
from kessel_core import IdHeld
from kessel_core.contract import Browse, Bury, Consumer, JobState, Reservation, Rollback

_FIRST_DELAY: Final = "its first delay"
_PRIORITY: Final = 70_000
#: What a repetition asks for: to be sooner, and to be later.
_SOONER: Final[tuple[int, timedelta | None]] = (0, None)
_LATER: Final[tuple[int, timedelta | None]] = (4_294_967_295, timedelta(hours=1))


class _Repeated:
    """A job alone in its queue, whose request is repeated with other values in each state on its way.

    Args:
        bench: The case.
        way: By what it comes back.
        asks: Priority and delay of the repetitions.
    """

    def __init__(self, bench: Bench, way: str, asks: tuple[int, timedelta | None]) -> None:
        self.bench = bench
        self._way = way
        self._priority, self._delay = asks
        self.what = f"after {way}, when its request was repeated with priority {self._priority}"
        self._is_late = way == _FIRST_DELAY
        queue = bench.queue_named(f"{way.replace(' ', '_')}{self._priority}")
        #: When it is due, if it has a delay or a pause.
        self.due: datetime | None = bench.now() + PAUSE if self._is_late else None
        self.message = bench.put(queue=queue, priority=_PRIORITY, delay=PAUSE if self._is_late else None)
        self._repeat()
        self._held: tuple[Consumer, Reservation] | None = None
        if not self._is_late:
            consumer = bench.consumer(queue)
            self._held = consumer, bench.gets(consumer, self.message, "the job")
            self._repeat()

    def _repeat(self) -> None:
        """Enqueue another job under its id: alone, and in a batch."""
        bench = self.bench
        other = bench.message(
            b"another body",
            queue=bench.queue_named("other"),
            priority=self._priority,
            delay=None if bench.capabilities.delay_granularity is None else self._delay,
            job_id=self.message.id,
        )
        bench.refused(IdHeld, "enqueue another job under its id", lambda: bench.adapter.enqueue(other))
        outcomes = bench.call("the same in a batch", lambda: bench.adapter.enqueue_many([other]))
        bench.equal([type(one) for one in outcomes], [IdHeld], "outcome of an id that is held, in a batch")

    def comes_back(self) -> None:
        """Bring it back, if a worker holds it, and repeat its request once more."""
        if self._held is None:
            return
        consumer, held = self._held
        due = self.bench.now() + PAUSE
        if self._way == "a kick":
            self.bench.settle(consumer, held, Bury("error", "it failed"))
            self._repeat()
            (job,) = self.bench.buried(queue=held.queue)
            self.bench.equal(job.body, self.message.body, "the body of the buried job")
            self.bench.kick(job.id, held.queue)
        else:
            WAYS[self._way][0](self.bench, consumer, held)
        self._repeat()
        if "pause" in self._way or "reserves" in self._way:
            self.due = due

    def is_not_early(self) -> None:
        """Check that it does not come before it is due."""
        if self.due is None:
            return
        consumer = self.bench.consumer(self.message.queue)
        held = self.bench.reserve(consumer)
        if held is not None:
            left = (self.due - self.bench.now()).total_seconds()
            self.bench.check(left <= 0, f"it came {left:.3f} s early {self.what}", "S4")
            self.bench.settle(consumer, held, Rollback())  # the machine was busy

    def is_as_before(self) -> None:
        """Check what it comes back with, and between which others."""
        bench, message = self.bench, self.message
        if bench.has(Browse):
            shown = bench.peek(JobState.READY, 5, message.queue)
            bench.equal([job.body for job in shown], [message.body], f"bodies of the ready jobs {self.what}")
            right = shown[0].priority in (None, _PRIORITY)
            bench.check(right, f"its priority is shown as {shown[0].priority} {self.what}")
        wanted = [message]
        if bench.capabilities.priorities is not None:
            lazy, urgent = (bench.put(queue=message.queue, priority=_PRIORITY + more) for more in (1, -1))
            wanted = [urgent, message, lazy]
        came = bench.labels(bench.drain(bench.consumer(message.queue)))
        bench.equal(came, bench.labels([one.body for one in wanted]), f"the jobs that come {self.what}")


@case(
    "enqueue.held_changes_nothing",
    "S14",
    "S4",
    "S6",
    needs=(DEDUPE,),
    waits=True,
    why="A repeated request is refused, and changes the job in secret: that shows when it comes back.",
)
def held_changes_nothing(bench: Bench) -> None:
    late = [_FIRST_DELAY] if DELAYS.is_met(bench.harness) else []
    jobs = []
    for way in [*ways_of(bench), *late]:
        for asks in (_SOONER, _LATER):
            job = _Repeated(bench, way, asks)
            job.comes_back()  # at once: a lease may be shorter than the ways of all take
            job.is_not_early()
            jobs.append(job)
    is_lease_waited_for = "the end of its lease" in ways_of(bench)
    bench.let_pass(max(PAUSE, bench.lease + MICRO) if is_lease_waited_for else PAUSE)
    bench.let_pass(bench.slack)
    for job in jobs:
        job.is_as_before()
    bench.nothing(bench.consumer(bench.queue_named("other")), "only repetitions were asked for there")
