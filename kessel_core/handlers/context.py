"""The running job, as handlers and middleware see it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime, timedelta
from typing import Any

from kessel_core.clock import Clock
from kessel_core.handlers.registry import Handler
from kessel_core.model.job import JobRequest

__all__ = ["JobContext"]


class _JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Binds id, type and attempt to every record, beside the caller's own `extra`."""

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class JobContext:
    """The running job, as handlers and middleware see it. Belongs to one attempt and one thread."""

    __slots__ = (
        "_extend",
        "_logger",
        "attempt",
        "clock",
        "handler",
        "queue",
        "request",
        "retry_after",
        "started_at",
    )

    def __init__(
        self,
        request: JobRequest,
        attempt: int,
        clock: Clock,
        extend: Callable[[], None] | None = None,
        handler: Handler | None = None,
        queue: str | None = None,
    ) -> None:
        #: The request as it was stored.
        self.request = request
        #: Which delivery this is, from 1.
        self.attempt = attempt
        #: The application's clock.
        self.clock = clock
        #: What will run the job.
        self.handler = handler
        #: The queue it came from.
        self.queue = queue or request.queue
        #: When the handler was started; None before.
        self.started_at: datetime | None = None
        #: The pause that `Transient(after=...)` asked for; overrides the retry policy (S11).
        self.retry_after: timedelta | None = None
        self._extend = extend
        self._logger: _JobLogger | None = None

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
        """The request's headers."""
        return self.request.headers

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger (`kessel.handlers.TYPE`) that adds id, type and attempt to every record."""
        if self._logger is None:
            self._logger = _JobLogger(
                logging.getLogger(f"kessel.handlers.{self.type}"),
                {"job_id": self.id, "job_type": self.type, "attempt": self.attempt},
            )
        return self._logger

    def extend(self) -> None:
        """Renew the lease now. The worker does so by itself; long steps in C may want it.

        Raises:
            LeaseLost: The job is not ours any longer; stop working on it.
            AdapterUnavailable: The queue cannot be asked now.
        """
        if self._extend is not None:
            self._extend()
