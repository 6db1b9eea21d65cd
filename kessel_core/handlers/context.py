"""The running job, as handlers and middleware see it: a value, but for what it can ask of its lease."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kessel_core.clock import Clock
from kessel_core.model.job import Job

if TYPE_CHECKING:
    from kessel_core.handlers.registry import Handler

__all__ = ["JobContext"]


class _JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Binds id, type and attempt to every record, beside the caller's own `extra`."""

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def _nothing() -> None:
    """Extend the lease of a job that has none."""


class JobContext:
    """The running job, as handlers and middleware see it. Belongs to one attempt; safe for any thread.

    Read-only. Not made by attrs, because one is made for every job and its frozen classes cost three times
    as much.
    """

    __slots__ = ("_attempt", "_clock", "_extend", "_handler", "_queue", "_request", "_snoozes", "_started_at")

    def __init__(
        self,
        request: Job,
        attempt: int,
        clock: Clock,
        started_at: datetime | None = None,
        handler: Handler | None = None,
        queue: str | None = None,
        snoozes: int = 0,
        extend: Callable[[], None] = _nothing,
    ) -> None:
        self._request = request
        self._attempt = attempt
        self._clock = clock
        self._started_at = started_at
        self._handler = handler
        self._queue = queue
        self._snoozes = snoozes
        self._extend = extend

    @property
    def request(self) -> Job:
        """The job as it was stored."""
        return self._request

    @property
    def attempt(self) -> int:
        """Which delivery this is, from 1, of those that count (S10)."""
        return self._attempt

    @property
    def clock(self) -> Clock:
        """The application's clock."""
        return self._clock

    @property
    def started_at(self) -> datetime | None:
        """When the attempt began; aware; None where none did."""
        return self._started_at

    @property
    def handler(self) -> Handler | None:
        """What will run the job."""
        return self._handler

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self._queue or self._request.queue

    @property
    def snoozes(self) -> int:
        """Earlier deliveries that were snoozed, as far as the queue knows (S21)."""
        return self._snoozes

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
        """Renew the lease now. The worker does so by itself; long steps in C may want it.

        Raises:
            LeaseLost: The job is not ours any longer; stop working on it.
            AdapterUnavailable: The queue cannot be asked now.
        """
        self._extend()
