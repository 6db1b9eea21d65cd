"""How a job ended, as others are told: in callbacks and as the kept result. Text and JSON only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Self

import attrs

from kessel_core.errors import JobFailed
from kessel_core.model.json import JsonValue
from kessel_core.model.result import JobResult, Reason, Status

__all__ = ["Outcome", "ever_shorter"]

#: Longest message in an outcome whose value had to be left out already, in characters.
_SHORT: Final = 200


@attrs.frozen(kw_only=True)
class Outcome:
    """How a job ended, for whoever is told: callbacks, and who asks for the result. Thread-safe.

    What it was asked to do is not in it; the caller's own reference is.
    """

    #: The job's id.
    id: str
    #: Its type; None if its body could not be read.
    type: str | None = None
    #: The caller's own reference.
    ref: str | None = None
    #: `success` or `failed`.
    status: Status
    #: What the handler returned; a JSON value.
    value: JsonValue = None
    #: Whether the value was left out because it is too large to be passed on.
    value_omitted: bool = False
    #: What went wrong, in words meant for people.
    message: str = ""
    #: Why it did not succeed, as a code; None for a success.
    reason: Reason | None = None
    #: The number of the last attempt, from 1.
    attempt: int = 1
    #: When the last attempt began; aware; None if its handler was never started.
    started_at: datetime | None = None
    #: When it was known how the job ended; aware.
    finished_at: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether the job succeeded."""
        return self.status is Status.SUCCESS

    def raise_for_failure(self) -> Self:
        """Return this outcome if the job succeeded.

        Raises:
            JobFailed: It did not; `outcome` is this object.
        """
        if self.ok:
            return self
        why = f"{self.reason}: {self.message}" if self.reason else self.message
        raise JobFailed(self.id, why, self)

    @classmethod
    def of(cls, result: JobResult) -> Outcome:
        """Return what others are told of a result."""
        job = result.request
        return cls(
            id=result.id,
            type=job.type if job is not None else None,
            ref=job.ref if job is not None else None,
            status=result.status,
            value=result.value,
            message=result.message,
            reason=result.reason,
            attempt=result.attempt,
            started_at=result.started_at,
            finished_at=result.finished_at,
        )


def ever_shorter(outcome: Outcome) -> Iterator[Outcome]:
    """Yield an outcome, and what is told or kept of it where it is too large: its value goes first."""
    yield outcome
    smaller = attrs.evolve(outcome, value=None, value_omitted=True)
    yield smaller
    yield attrs.evolve(smaller, message=outcome.message[:_SHORT])
