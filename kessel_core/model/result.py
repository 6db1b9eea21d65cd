"""How an attempt at a job ended: the outcome that middleware sees, and the result that callbacks get."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import attrs

from kessel_core.model.job import Job
from kessel_core.model.json import JsonValue

__all__ = ["SUCCESS", "JobResult", "Reason", "Status"]


class Status(StrEnum):
    """How an attempt ended."""

    #: The handler returned.
    SUCCESS = "success"
    #: Failed permanently; the job is buried or, if it expired, removed.
    FAILED = "failed"
    #: Failed for now; the job will be retried.
    TRANSIENT = "failed-transient"
    #: Put off until later; the delivery does not count as an attempt (S21).
    SNOOZED = "snoozed"


#: What nearly every job ends with. CPython 3.11 finds a name of a module in a tenth of the time that it takes
#: to find one of an enumeration, which is 50 nanoseconds.
SUCCESS: Final = Status.SUCCESS


class Reason(StrEnum):
    """Why a job did not succeed, as a code for programs."""

    #: Its expiration came before its handler could be started (S5, S11).
    EXPIRED = "expired"
    #: No handler is mapped to its type (S12).
    NO_HANDLER = "no-handler"
    #: The payload does not match the annotation of the handler's parameter.
    BAD_PAYLOAD = "bad-payload"
    #: The stored bytes are not a request (S13).
    UNDECODABLE = "undecodable"
    #: Its last allowed attempt failed transiently (S10).
    RETRIES_EXHAUSTED = "retries-exhausted"
    #: Its attempts are used up, and the last one never reported back: the job may kill its worker (S10).
    WORKER_LOST = "worker-lost"
    #: An async handler ran longer than its `timeout`.
    TIMED_OUT = "timed-out"
    #: The handler or a middleware failed, or a handler returned what is not a JSON value.
    ERROR = "error"
    #: It succeeded, but the queue refused a job that it had asked for (S20).
    FOLLOW_UP_REFUSED = "follow-up-refused"
    #: It was delivered before its delay was over, so it was snoozed (S4, S21).
    TOO_EARLY = "too-early"


@attrs.frozen(kw_only=True, slots=False)  # without slots it is made in two thirds of the time, once a job
class JobResult:
    """How an attempt at a job ended. Thread-safe."""

    #: The job's id; "" if its body could not be read.
    id: str
    #: The job as it was stored; None if its body could not be read.
    request: Job | None
    #: How the attempt ended.
    status: Status
    #: What the handler returned; a JSON value.
    value: JsonValue = None
    #: What went wrong, in words meant for people.
    message: str = ""
    #: Why it did not succeed, as a code; None for a success and for a snooze that the handler asked for.
    reason: Reason | None = None
    #: The number of this attempt, from 1: deliveries that count, this one included (S10).
    attempt: int = 1
    #: The pause before the next delivery that `Transient(after=...)` or `Snooze` asked for; None:
    #: the retry policy decides. A middleware may change it.
    after: timedelta | None = None
    #: When the handler was started; aware; None if it never was.
    started_at: datetime | None = None
    #: When the handler ended or, if it never ran, when the outcome was known; aware.
    finished_at: datetime | None = None
    #: Where it failed: the last frames of the user's code, one a line, names only; "" if no code raised.
    #: Kept with a buried job, behind its message.
    frames: str = ""
    #: What the handler or a middleware raised, if it was unexpected; for logs of this process, never kept.
    raised: BaseException | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the job succeeded."""
        return self.status is Status.SUCCESS
