"""The running job, as handlers and middleware see it: a value that can also extend its lease."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import attrs

from kessel_core.clock import Clock
from kessel_core.model.job import Job
from kessel_core.values.logs import SafeLogger

if TYPE_CHECKING:
    from kessel_core.handlers.registry import Handler

__all__ = ["JobContext"]


class _JobLogger(SafeLogger):
    """Adds id, type and attempt to every record; arguments are not escaped, and may have several lines."""

    @staticmethod
    def argument(value: object) -> object:
        return value


def _nothing() -> None:
    """Stand in for `extend` where a job has no lease."""


@attrs.frozen(eq=False)
class JobContext:
    """The running job, as handlers and middleware see it. Belongs to one attempt; thread-safe."""

    #: The job as it was stored.
    request: Job
    #: The number of this attempt, from 1; a lower bound where the queue would have to be asked for it, as on
    #: beanstalkd, so it may be 1 again at a later delivery. What the retries decide by is exact (S10).
    attempt: int
    #: The application's clock.
    clock: Clock
    #: When the attempt began; aware; None if it has not.
    started_at: datetime | None = None
    #: The handler of the job.
    handler: Handler | None = None
    #: The queue that the job came from.
    queue: str = attrs.field(default=attrs.Factory(lambda self: self.request.queue, takes_self=True))
    #: Earlier deliveries that were snoozed, as far as the queue knows (S21).
    snoozes: int = 0
    _extend: Callable[[], None] = _nothing

    @property
    def id(self) -> str:
        """The job's id."""
        return self.request.id

    @property
    def type(self) -> str:
        """The job's type."""
        return self.request.type

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers; read-only."""
        return self.request.headers

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger (`kessel.handlers.TYPE`) that adds id, type and attempt to every record."""
        return _JobLogger(
            logging.getLogger(f"kessel.handlers.{self.type}"),
            {"job_id": self.id, "job_type": self.type, "attempt": self.attempt},
        )

    def extend(self) -> None:
        """Renew the lease now. The worker does so regularly; call it before a long step that holds the GIL.

        Raises:
            LeaseLost: This worker no longer holds the job; stop working on it.
            AdapterUnavailable: The queue cannot be reached.
        """
        self._extend()
