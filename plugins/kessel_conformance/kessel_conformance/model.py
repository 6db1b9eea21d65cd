"""The reference model: what an adapter may do, given what it was asked and when.

It never asks what time it is. Each call is known to have happened between two readings of the
clock, so that a job is surely ready, surely not, or undecided; only what is sure is held against
the adapter. On a virtual clock both readings are equal, and nearly everything is sure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import attrs

from kessel_core.contract import Capabilities, JobState, LeaseReturn, Message, QueueStats, TieBreak

__all__ = ["Broken", "Job", "Model", "Span"]


class Broken(Exception):
    """The model and the adapter disagree; `clause` says about what."""

    def __init__(self, clause: str, why: str) -> None:
        self.clause = clause
        self.why = why
        super().__init__(why)


#: Granularity in seconds from which on a job that is rolled back without a pause may come late.
_COARSE: Final = 0.01


@attrs.frozen
class Span:
    """From the earliest to the latest moment at which something happens, in seconds."""

    lo: float
    hi: float


@attrs.define(eq=False)
class Job:
    """One job as the model sees it."""

    message: Message
    label: str
    #: Place in the order of enqueueing.
    number: int
    #: Priority, as far as the adapter tells priorities apart.
    rank: int
    #: When it becomes ready; while reserved, when its lease ends; while buried, since when it is.
    ready: Span
    #: READY also while its time has not come: `ready` tells whether it is delayed. None: it is gone.
    state: JobState | None = JobState.READY
    #: Counts what made jobs ready; None if time did, or will.
    turn: int | None = None
    holder: str | None = None
    attempts: int = 0
    snoozes: int = 0
    reason: str | None = None


#: Seconds that a datetime can tell apart; sums of floats are not exact below it.
RESOLUTION: Final = 1e-6


class Model:
    """All jobs of one queue.

    Args:
        declared: What the adapter declares.
        noise: Scheduling noise in seconds that is granted.
    """

    def __init__(self, declared: Capabilities, noise: float) -> None:
        self.declared = declared
        self.noise = max(noise, RESOLUTION)
        self.grain = declared.delay_granularity.total_seconds() if declared.delay_granularity else 0.0
        self.lease = declared.lease.total_seconds() if declared.lease else None
        self.jobs: list[Job] = []
        self.paused = Span(0.0, 0.0)
        self._turns = 0

    # --- what is asked -----------------------------------------------------------------------

    def enqueued(self, message: Message, label: str, due: float | None, at: Span) -> Job:
        """A job was stored."""
        low, high = self.declared.priorities or (0, 0)
        job = Job(message, label, len(self.jobs), min(max(message.priority, low), high), at)
        self._waits_for(job, due, at)
        self.jobs.append(job)
        return job

    def removed(self, job: Job) -> None:
        """The job is gone: it was committed, or deleted."""
        job.state, job.holder = None, None

    def rolled_back(self, job: Job, pause: float, at: Span) -> None:
        """The job waits again."""
        job.state, job.holder = JobState.READY, None
        if pause:
            job.turn, job.ready = None, Span(at.lo + pause, at.hi + pause + self.grain + self.noise)
            return
        self._waits_for(job, None, at)
        if self.grain > _COARSE:
            # A coarse backend may round nothing up to its granularity, too: that is late, not early.
            job.turn, job.ready = None, Span(at.lo, at.hi + self.grain + self.noise)

    def snoozed(self, job: Job, pause: float, at: Span) -> None:
        """The job waits again, and this delivery does not count as an attempt."""
        job.attempts -= 1
        job.snoozes += 1
        self.rolled_back(job, pause, at)

    def buried(self, job: Job, reason: str, at: Span) -> None:
        """The job is set aside; the latest burial is the last of the list."""
        job.state, job.holder, job.reason, job.ready = JobState.BURIED, None, reason, at
        self._turns += 1
        job.turn = self._turns

    def kicked(self, job: Job, at: Span) -> None:
        """The buried job is ready again, with its attempts counted anew."""
        job.state, job.attempts, job.reason = JobState.READY, 0, None
        self._waits_for(job, None, at)

    def extended(self, job: Job, at: Span) -> None:
        """The lease starts anew."""
        job.ready = self._leased(at)

    def holder_closed(self, job: Job, at: Span) -> None:
        """The consumer that held it was closed: at once at the earliest, by its lease at the latest."""
        if job.ready.hi <= at.lo:
            job.state, job.holder, job.turn = JobState.READY, None, None
            return  # its lease had ended before: the closing changes nothing
        latest = (
            at.hi if self.declared.lease_return is not LeaseReturn.LEASE_END else max(job.ready.hi, at.hi)
        )
        job.state, job.holder, job.turn = JobState.READY, None, None
        job.ready = Span(min(at.lo, job.ready.lo), latest + self.noise)

    def pause_set(self, span: float, at: Span) -> None:
        """Nothing is delivered for a while; zero ends it."""
        self.paused = (
            Span(at.lo + span, at.hi + span + max(self.grain, 0.0) + self.noise)
            if span
            else Span(0.0, at.hi + self.noise)
        )

    def _waits_for(self, job: Job, due: float | None, at: Span) -> None:
        if due is None or due <= at.lo:
            self._turns += 1
            job.turn, job.ready = self._turns, Span(at.lo, at.hi + (self.noise if due is not None else 0.0))
        else:
            job.turn, job.ready = None, Span(due, max(at.hi, due + self.grain) + self.noise)

    def _leased(self, at: Span) -> Span:
        if self.lease is None:
            return Span(float("inf"), float("inf"))
        return Span(at.lo + self.lease - self.noise, at.hi + self.lease + self.grain + self.noise)

    # --- what is answered ----------------------------------------------------------------------

    def _may_come(self, at: Span) -> Iterator[Job]:
        """Jobs that must be delivered unless something goes before them."""
        if self.paused.hi > at.lo:
            return
        for job in self.jobs:
            if job.state in (JobState.READY, JobState.RESERVED) and job.ready.hi <= at.lo:
                yield job

    def nothing_came(self, at: Span) -> None:
        """Check an empty reserve."""
        for job in self._may_come(at):
            since = at.lo - job.ready.hi
            what = "its lease ended" if job.state is JobState.RESERVED else "it was ready"
            raise Broken("S9", f"{job.label} was not delivered, although {what} at least {since:.3f} s ago")

    def came(self, body: bytes, holder: str, at: Span) -> Job:
        """Check a delivery, and return which job it is."""
        job = next((job for job in self.jobs if job.message.body == body), None)
        if job is None:
            raise Broken("S16", f"a body was delivered that nobody enqueued: {body!r:.80}")
        self._may_be_delivered(job, at)
        self._goes_first(job, at)
        job.state, job.holder, job.turn = JobState.RESERVED, holder, None
        job.ready = self._leased(at)
        job.attempts += 1
        return job

    def _may_be_delivered(self, job: Job, at: Span) -> None:
        early = job.ready.lo - at.hi - RESOLUTION
        match job.state:
            case None:
                raise Broken("S8", f"{job.label} was delivered after it was settled for good")
            case JobState.BURIED:
                raise Broken("S8", f"{job.label} was delivered although it is buried")
            case JobState.RESERVED if early > 0:
                raise Broken("S7", f"{job.label} was delivered while {job.holder} holds it")
            case _ if early > 0:
                raise Broken("S4", f"{job.label} was delivered {early + RESOLUTION:.6f} s early")
        if self.paused.lo > at.hi:
            raise Broken("S9", f"{job.label} was delivered although the queue is paused")

    def _goes_first(self, job: Job, at: Span) -> None:
        for other in self._may_come(at):
            if other is job:
                continue
            if self.declared.priorities is not None and other.rank != job.rank:
                if other.rank < job.rank:
                    raise Broken(
                        "S6",
                        f"{job.label} (priority {job.message.priority}) was delivered before "
                        f"{other.label} (priority {other.message.priority}), which was ready",
                    )
            elif self._was_before(other, job):
                raise Broken(
                    "S6",
                    f"{job.label} was delivered before its equal {other.label}, against tie_break {self.declared.tie_break}",  # noqa: E501  # one line of text
                )

    def _was_before(self, other: Job, job: Job) -> bool:
        match self.declared.tie_break:
            case None:
                return False
            case TieBreak.ENQUEUED:
                return other.number < job.number
            case TieBreak.READY:
                if other.turn is not None and job.turn is not None:
                    return other.turn < job.turn
                return _is_before(other, job)

    def holds(self, job: Job, holder: str, at: Span) -> bool | None:
        """Whether the holder's lease surely holds, surely ended, or neither (None)."""
        if job.state is not JobState.RESERVED or job.holder != holder:
            return False
        if at.hi < job.ready.lo:
            return True
        return False if at.lo >= job.ready.hi else None

    def left(self) -> list[Job]:
        """Return the jobs that must still be delivered."""
        return [job for job in self.jobs if job.state in (JobState.READY, JobState.RESERVED)]

    def buried_jobs(self) -> list[Job]:
        """Return buried jobs, oldest burial first."""
        return sorted(
            (job for job in self.jobs if job.state is JobState.BURIED), key=lambda job: job.turn or 0
        )

    def counted(self, seen: QueueStats, at: Span) -> None:
        """Check counts: each must lie between what surely is and what may be in that state."""
        least = dict.fromkeys(JobState, 0)
        most = dict(least)
        for job in self.jobs:
            states = self._states(job, at)
            for state in states:
                most[state] += 1
                least[state] += len(states) == 1
        for state, low in least.items():
            number = getattr(seen, state.value)
            if not low <= number <= most[state]:
                expected = str(low) if low == most[state] else f"{low} to {most[state]}"
                raise Broken("S9", f"stats counts {number} {state} jobs, expected {expected}")
        total = sum(job.state is not None for job in self.jobs)
        if seen.total != total:
            raise Broken("S9", f"stats counts {seen.total} jobs in all, expected {total}")

    def shown(self, state: JobState, bodies: Sequence[bytes], at: Span) -> None:
        """Check a listing of the jobs in one state: all of them, no others, the next one first."""
        known = {job.message.body: job for job in self.jobs}
        listed = [known.get(body) for body in bodies]
        for job in listed:
            if job is None:
                raise Broken("S16", "a body is shown that nobody enqueued")
            if listed.count(job) > 1:
                raise Broken("S9", f"{job.label} is shown twice")
            if state not in (states := self._states(job, at)):
                what = " or ".join(states) or "gone"
                raise Broken("S9", f"{job.label} is shown as {state}, but it is {what}")
        for job in self.jobs:
            if job not in listed and list(self._states(job, at)) == [state]:
                raise Broken("S9", f"{job.label} is {state}, but it is not shown")
        for first, second in pairwise(job for job in listed if job is not None):
            if self._is_shown_wrong(state, first, second, at):
                raise Broken("S9", f"{first.label} is shown before {second.label}, which comes first")

    def _is_shown_wrong(self, state: JobState, first: Job, second: Job, at: Span) -> bool:
        match state:
            case JobState.READY:
                if max(first.ready.hi, second.ready.hi) > at.lo:
                    return False
                if self.declared.priorities is not None and first.rank != second.rank:
                    return second.rank < first.rank
                return self._was_before(second, first)
            case JobState.DELAYED:
                # What is left is known to the granularity: within it equal ones may be in any order.
                return second.ready.hi + self.grain < first.ready.lo - RESOLUTION
            case JobState.BURIED:
                return _is_before(second, first)  # at the very same time no one is the older
            case JobState.RESERVED:
                return False

    def _states(self, job: Job, at: Span) -> Sequence[JobState]:
        match job.state:
            case None:
                return ()
            case JobState.BURIED:
                return (JobState.BURIED,)
            case JobState.RESERVED:
                if job.ready.lo - RESOLUTION > at.hi:
                    return (JobState.RESERVED,)
                return (JobState.READY,) if job.ready.hi <= at.lo else (JobState.RESERVED, JobState.READY)
            case _:
                if job.ready.lo - RESOLUTION > at.hi:
                    return (JobState.DELAYED,) if job.holder is None else (JobState.RESERVED,)
                if job.ready.hi <= at.lo:
                    return (JobState.READY,)
                # A closed consumer's job may be kept as reserved until its lease ends.
                return (JobState.READY, JobState.DELAYED, JobState.RESERVED)


def _is_before(one: Job, other: Job) -> bool:
    """Whether its moment surely comes first; sums of floats make two of what is one moment."""
    return one.ready.hi < other.ready.lo - RESOLUTION
