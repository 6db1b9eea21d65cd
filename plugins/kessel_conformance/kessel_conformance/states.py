"""Jobs in every state, with all their values, before something ends, and how they have to be afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.requirements import (
    ATTEMPTS,
    DEDUPE,
    KICKS,
    LEASE,
    PRIORITIES,
    RETURNS_AT_ONCE,
    TIE_BREAK,
)
from kessel_core import IdHeld
from kessel_core.contract import (
    COMMIT,
    Attempts,
    Browse,
    Buried,
    Bury,
    Consumer,
    Delete,
    JobState,
    Message,
    Pause,
    Reservation,
    Rollback,
    Snooze,
    StoredJob,
)

__all__ = ["States"]

_LONG: Final = timedelta(hours=1)
_SOON: Final = timedelta(seconds=3)
#: What operators read; long, of several lines, and not ASCII.
_MESSAGE: Final = "Zähler 7 lässt sich nicht lesen\n" + "  at line 1\n" * 80
#: Bytes that are neither JSON nor UTF-8, and more than a page of them.
_ODD_BODY: Final = b"\xff\x00\r\n" * 4000


class States:
    """A queue for each state; `make` them, let something happen, and `check`."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._holder: Consumer | None = None
        self._seen: dict[tuple[str, JobState], list[StoredJob]] = {}

    # --- before ----------------------------------------------------------------------------------------

    def make(self) -> None:
        """Bring jobs into all states that the adapter has."""
        bench = self.bench
        self.ready = [bench.put(queue=self._queue("ready"), priority=p) for p in (70, 7, 7)]
        limit = bench.capabilities.max_body_bytes
        odd = _ODD_BODY if limit is None or limit >= len(_ODD_BODY) else _ODD_BODY[:limit]
        self.odd = bench.put(odd, queue=self._queue("odd"), expiration=_LONG)
        if bench.capabilities.delay_granularity is not None:
            # In a queue that is not listed: on a busy machine it may be ready before the other side looks.
            self.soon = bench.put(queue=self._queue("soon"), delay=_SOON)
            self.late = bench.put(queue=self._queue("delayed"), delay=_LONG)
        self._bury()
        self._try()
        self.kept = bench.put(queue=self._queue("kept"))
        consumer = bench.consumer(self.kept.queue)
        bench.settle(consumer, bench.taken(consumer), COMMIT)
        if bench.has(Pause):
            queue = self._queue("paused")
            bench.call("pause it for an hour", lambda: bench.facet(Pause).pause(queue, _LONG))
            self.paused = bench.put(queue=queue)
        self.held = bench.put(queue=self._queue("held"))
        self._holder = bench.consumer(self.held.queue)
        bench.gets(self._holder, self.held, "the job that is held")
        self.held_at = bench.now()
        self._seen = self._look()

    def _queue(self, name: str) -> str:
        return self.bench.queue_named(name)

    def _bury(self) -> None:
        bench, queue = self.bench, self._queue("buried")
        self.buried = [bench.put(queue=queue, priority=priority) for priority in (3, 9)]
        consumer = bench.consumer(queue)
        for reason, text in (("error", _MESSAGE), ("timeout", "too slow")):
            bench.settle(consumer, bench.taken(consumer), Bury(reason, text))

    def _try(self) -> None:
        """A job that was kicked, with one attempt that counts, and one that was snoozed."""
        bench, queue = self.bench, self._queue("tried")
        self.tried = bench.put(queue=queue, priority=11)
        consumer = bench.consumer(queue)
        if bench.has(Buried):
            bench.settle(consumer, bench.taken(consumer), Bury("error"))
            (job,) = bench.call("list the buried", lambda: bench.facet(Buried).buried(queue))
            bench.call("kick it", lambda: bench.facet(Buried).kick_shown(job))
        for settlement in (Rollback(), Snooze()):
            bench.settle(consumer, bench.taken(consumer, timedelta(seconds=5)), settlement)
            bench.let_pass(bench.slack)

    def _look(self) -> dict[tuple[str, JobState], list[StoredJob]]:
        """List everything that can be listed."""
        found: dict[tuple[str, JobState], list[StoredJob]] = {}
        bench = self.bench
        wanted = {"ready": JobState.READY, "odd": JobState.READY, "delayed": JobState.DELAYED}
        wanted |= {"tried": JobState.READY, "buried": JobState.BURIED}
        for name, state in wanted.items():
            queue = self._queue(name)
            if bench.has(Browse):
                look = partial(bench.facet(Browse).peek, queue, state, 10)
            elif state is JobState.BURIED and bench.has(Buried):
                look = partial(bench.facet(Buried).buried, queue)
            else:
                continue
            found[name, state] = bench.patiently(f"list what is {state}", look)
        return found

    # --- afterwards ------------------------------------------------------------------------------------

    def check(self, *, process_ended: bool) -> None:
        """Compare everything with what was made.

        Args:
            process_ended: Whether the backend's process ended, with which `Attempts.SERVER` loses its count.
        """
        self._is_shown()
        bench = self.bench
        knows = ATTEMPTS.is_met(bench.harness)
        counts = knows and (bench.capabilities.attempts is Attempts.DURABLE or not process_ended)
        first, second, third = self.ready
        self._come(self.ready, [second, third, first], "ready")
        self._come([self.odd], [self.odd], "ready, with a body of odd bytes")
        self._comes_delayed()
        what, attempt = "rolled back once and snoozed once", 2 if counts else None
        has_kicks = bench.has(Buried) and KICKS.is_met(bench.harness)
        kicks = 1 if counts and has_kicks else None
        (held,) = self._come([self.tried], [self.tried], what, attempt=attempt, kicks=kicks)
        if counts:
            bench.check(held.snoozes == 1, f"its snoozes are {held.snoozes}, expected 1 (S21)", "S21")
        self._come([], [], "committed", queue=self.kept.queue)
        if bench.has(Pause):
            self._is_paused(process_ended=process_ended)
        self._is_buried()
        self._comes_back(attempt=2 if counts else None)

    def _is_shown(self) -> None:
        for (name, state), jobs in self._look().items():
            before = self._seen[name, state]
            what = f"{state} jobs of the queue {name}"
            labels = [self.bench.label(job.body) for job in jobs]
            self.bench.equal(labels, [self.bench.label(job.body) for job in before], what)
            for old, new in zip(before, jobs, strict=True):
                self._is_same(old, new)

    def _is_same(self, old: StoredJob, new: StoredJob) -> None:
        bench = self.bench
        names = ["queue", "state", "priority", "reason", "message"]
        if old.body != self.odd.body:  # where an adapter reads ids from bodies
            names.append("id")
        if bench.capabilities.attempts is Attempts.DURABLE:
            names += ["attempt", "snoozes"]
        for name in names:
            bench.equal(getattr(new, name), getattr(old, name), f"{name} of {bench.label(old.body)}")
        for name in ("enqueued_at", "due", "buried_at"):
            was, now = getattr(old, name), getattr(new, name)
            bench.check(
                (was is None) == (now is None) and (was is None or abs(now - was) <= bench.slack),
                f"{name} of {bench.label(old.body)} was {_time(was)}, and is {_time(now)} now",
            )

    def _come(
        self,
        jobs: Sequence[Message],
        order: Sequence[Message],
        what: str,
        *,
        queue: str = "",
        attempt: int | None = None,
        kicks: int | None = None,
    ) -> list[Reservation]:
        """Take and commit the jobs of a queue: these and no others, in this order where it is promised."""
        bench = self.bench
        consumer = bench.consumer(queue or jobs[0].queue)
        came: list[Reservation] = []
        while (held := bench.patiently("reserve", lambda: consumer.reserve(timedelta(0)))) is not None:
            came.append(held)
            if attempt is not None:
                seen = bench.attempt(consumer, held)
                bench.equal(seen, attempt, f"attempt() of a job that was {what}", "S10")
            if kicks is not None:
                seen = bench.call("ask for its kicks", partial(consumer.kicks, held))
                bench.equal(seen, kicks, f"kicks() of a job that was {what}", "S22")
            bench.settle(consumer, held)
        got, expected = bench.labels([held.body for held in came]), bench.labels([m.body for m in order])
        harness = bench.harness
        if not (PRIORITIES.is_met(harness) and TIE_BREAK.is_met(harness)):
            got, expected = sorted(got), sorted(expected)
        bench.equal(got, expected, f"what was {what}")
        bench.call("close the worker", consumer.close)
        return came

    def _comes_delayed(self) -> None:
        bench = self.bench
        if bench.capabilities.delay_granularity is None:
            return
        due = self.soon.delay
        assert due is not None
        consumer = bench.consumer(self.soon.queue)
        if bench.now() < due - bench.slack:
            held = bench.comes_no_earlier(consumer, self.soon, due, "delayed by 3 s before")
        else:
            bench.until(due + bench.slack)
            held = bench.gets(consumer, self.soon, "the job that was delayed by 3 s")
        bench.settle(consumer, held)
        bench.nothing(bench.consumer(self.late.queue), "the other job is delayed by an hour", "S4")
        if bench.has(Browse) and bench.has(Delete):
            (left,) = bench.facet(Browse).peek(self.late.queue, JobState.DELAYED)
            bench.call("delete it", lambda: bench.facet(Delete).delete(self.late.queue, left.id))

    def _is_paused(self, *, process_ended: bool) -> None:
        """The pause still holds back its job; it need not survive the backend's process."""
        bench, queue = self.bench, self.paused.queue
        if not process_ended:
            bench.check(bench.stats(queue).paused is not None, "the pause of an hour is not shown any more")
            bench.nothing(bench.consumer(queue), "the queue is paused for an hour")
        bench.patiently("resume", lambda: bench.facet(Pause).pause(queue, timedelta(0)))
        self._come([self.paused], [self.paused], "in a queue that was paused")

    def _is_buried(self) -> None:
        bench = self.bench
        consumer = bench.consumer(self.buried[0].queue)
        bench.nothing(consumer, "both jobs are buried", "S8")
        if not bench.has(Buried):
            return
        buried = bench.facet(Buried)
        jobs = bench.call("list the buried", lambda: buried.buried(self.buried[0].queue))
        what = [(job.reason, job.message) for job in jobs]
        bench.equal(what, [("error", _MESSAGE), ("timeout", "too slow")], "reasons and messages")
        if DEDUPE.is_met(bench.harness):
            again = self.buried[0]
            bench.refused(IdHeld, "enqueue its id again", lambda: bench.adapter.enqueue(again), "S14")
        for job in jobs:
            bench.call("kick it", partial(buried.kick, job.queue, job.id))
        attempt = 1 if ATTEMPTS.is_met(bench.harness) else None
        self._come(self.buried, self.buried, "buried, and kicked", attempt=attempt)

    def _comes_back(self, attempt: int | None) -> None:
        """The job that was held is there when its lease is over, at the latest."""
        bench = self.bench
        assert self._holder is not None
        if RETURNS_AT_ONCE.is_met(bench.harness):
            bench.let_pass(bench.slack)
        elif LEASE.is_met(bench.harness):
            bench.until(self.held_at + bench.lease + bench.slack)
        elif bench.capabilities.lease is not None:
            return  # too long to be waited for
        self._come([self.held], [self.held], "held", attempt=attempt)


def _time(moment: datetime | None) -> str:
    return "nothing" if moment is None else moment.isoformat()
