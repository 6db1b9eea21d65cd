"""What operators see of a queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

import attrs

from kessel_core.errors import DecodeError
from kessel_core.model.job import Job
from kessel_core.model.states import JobState
from kessel_core.wire.requests import decode

__all__ = ["QueueStats", "StoredJob", "ready_for"]


@attrs.frozen(kw_only=True)
class StoredJob:
    """A job as operators see it; None means that the adapter does not know.

    Moments are as exact as delays are: `delay_granularity` is the most by which they may be cut or rounded,
    so that two of them may be in the wrong order.
    """

    #: The id that `kick` and `delete` take: the job's own if the adapter knows it.
    id: str
    #: The queue that it is in.
    queue: str
    #: Its state.
    state: JobState
    #: The stored body, as it was enqueued.
    body: bytes
    #: 0 (most urgent) to 4294967295.
    priority: int | None = None
    #: Deliveries that count (S10).
    attempt: int | None = None
    #: Deliveries that were snoozed (S21).
    snoozes: int | None = None
    #: When it was enqueued.
    enqueued_at: datetime | None = None
    #: When a delayed job becomes ready, or a reserved job's lease ends.
    due: datetime | None = None
    #: Why it was buried, as a code; see `JobResult.reason`.
    reason: str | None = None
    #: The message of the failure.
    message: str | None = None
    #: When it was buried.
    buried_at: datetime | None = None
    #: How the adapter that shows the job finds it again without a search, for `Delete.delete_shown` and
    #: `Buried.kick_shown`; nobody else looks into it. None: it is found by its id.
    handle: object = attrs.field(default=None, repr=False, eq=False)

    def job(self) -> Job:
        """Decode the body.

        Raises:
            DecodeError: It is not a request; the error lists every problem.
        """
        return decode(self.body)


@attrs.frozen(kw_only=True)
class QueueStats:
    """How many jobs a queue holds, by state."""

    #: Its name.
    queue: str
    #: Jobs that are waiting for a worker.
    ready: int = 0
    #: Jobs whose delay or retry pause is not over.
    delayed: int = 0
    #: Jobs that a worker holds.
    reserved: int = 0
    #: Jobs that were set aside.
    buried: int = 0
    #: Time left of a pause of the queue; None: not paused.
    paused: timedelta | None = None
    #: How long the ready job that is next has been ready: since it was stored, its delay was over, or it came
    #: back. An adapter that does not keep when it came back may say a longer time. None: no job is ready, or
    #: the adapter cannot tell without a search. Not compared: it is another one at every look.
    oldest_ready: timedelta | None = attrs.field(default=None, eq=False)

    @classmethod
    def counted(cls, queue: str, states: Iterable[JobState], paused: timedelta | None = None) -> QueueStats:
        """Count jobs by their states."""
        counts = Counter(states)
        return cls(
            queue=queue,
            ready=counts[JobState.READY],
            delayed=counts[JobState.DELAYED],
            reserved=counts[JobState.RESERVED],
            buried=counts[JobState.BURIED],
            paused=paused,
        )

    @property
    def total(self) -> int:
        """The number of jobs in the queue, in any state."""
        return self.ready + self.delayed + self.reserved + self.buried


def ready_for(job: StoredJob | None, now: datetime) -> timedelta | None:
    """Return how long a job has been ready, for `QueueStats.oldest_ready` of an adapter that can show jobs.

    One that came back after an attempt counts from when it was stored, unless `due` says when it came back.

    Args:
        job: The ready job that is next; None: none is ready.
        now: The time by the clock that says when the job was enqueued.

    Returns:
        Zero or more; None: there is no job, or it is not known when it was enqueued.
    """
    if job is None or job.enqueued_at is None:
        return None
    since = [job.enqueued_at]
    if job.due is not None:
        since.append(job.due)
    try:
        not_before = job.job().not_before
    except DecodeError:
        not_before = None
    if not_before is not None:
        since.append(not_before)
    return max(now - max(since), timedelta(0))
