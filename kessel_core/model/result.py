"""How an attempt at a job ended: the outcome that middleware sees, and that a requester is told."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from kessel_core.model.job import Job
from kessel_core.model.json import JsonValue

__all__ = ["JobResult", "Reason", "Status"]


class Status(StrEnum):
    """How an attempt ended."""

    #: The handler returned.
    SUCCESS = "success"
    #: Failed for good; the job is buried, or gone if it expired.
    FAILED = "failed"
    #: Failed, and will be tried again.
    TRANSIENT = "failed-transient"
    #: Given back for later; the delivery does not count as an attempt (S21).
    SNOOZED = "snoozed"


class Reason(StrEnum):
    """Why a job did not succeed, for machines."""

    #: Its expiration came before its handler could be started (S5, S11).
    EXPIRED = "expired"
    #: No handler is mapped to its type (S12).
    NO_HANDLER = "no-handler"
    #: The payload does not fit the type that the handler's parameter is annotated with.
    BAD_PAYLOAD = "bad-payload"
    #: The stored bytes are not a request (S13).
    UNDECODABLE = "undecodable"
    #: It failed transiently, as often as it may (S10).
    RETRIES_EXHAUSTED = "retries-exhausted"
    #: Its deliveries are used up, and the last one never reported: it may kill its worker (S10).
    WORKER_LOST = "worker-lost"
    #: An async handler ran longer than its `timeout`.
    TIMED_OUT = "timed-out"
    #: The handler or a middleware failed, or a handler returned what is not a JSON value.
    ERROR = "error"
    #: It was delivered before its delay, so it was given back (S4, S21).
    TOO_EARLY = "too-early"


@attrs.frozen(kw_only=True)
class JobResult:
    """How an attempt at a job ended. Safe for any thread."""

    #: The job's id; "" if its body could not be read.
    id: str
    #: The job as it was stored; None if its body could not be read.
    request: Job | None
    #: How the attempt ended.
    status: Status
    #: What the handler returned; a JSON value.
    value: JsonValue = None
    #: For people: what went wrong.
    message: str = ""
    #: For machines: why it did not succeed; None for a success and for a snooze that was asked for.
    reason: Reason | None = None
    #: Which delivery this was, from 1, of those that count (S10).
    attempt: int = 1
    #: The pause before the next delivery that was asked for, by `Transient(after=...)` or `Snooze`; None:
    #: as the retry policy says. A middleware may change it.
    after: timedelta | None = None
    #: When the handler was started; aware; None if it never was.
    started_at: datetime | None = None
    #: When the handler ended, or else when the job's end was decided; aware.
    finished_at: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether the job succeeded."""
        return self.status is Status.SUCCESS
