"""Logs one line per attempt to `kessel.jobs`, with its data as fields (`extra`)."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from typing import Final, Literal

import attrs

from kessel_core.handlers.context import JobContext
from kessel_core.hooks.middleware import Middleware
from kessel_core.hooks.specs import hookimpl
from kessel_core.model.result import JobResult
from kessel_core.values.logs import get_logger

__all__ = ["LoggingMiddleware"]

log = get_logger("kessel.jobs")

_LEVELS: Final = {"trace": 5, "debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


@attrs.frozen(kw_only=True)
class LoggingOptions:
    """Options of the middleware `logging`."""

    #: Log level of the line.
    level: Literal["trace", "debug", "info", "warning"] = "info"


class LoggingMiddleware:
    """Logs how each attempt ended, and how many milliseconds it took."""

    def __init__(self, options: LoggingOptions) -> None:
        self._level = _LEVELS[options.level]

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
        """Measure the attempt and log it; costs almost nothing while the level is disabled."""
        if not log.isEnabledFor(self._level):
            return (yield)
        start = job.clock.monotonic()
        result = yield
        milliseconds = (job.clock.monotonic() - start) * 1000
        log.log(
            self._level,
            "job %s %s %s in %.1f ms%s",
            job.id,
            job.type,
            result.status,
            milliseconds,
            f": {result.message}" if result.message else "",
            extra={
                "job_id": job.id,
                "job_type": job.type,
                "status": str(result.status),
                "reason": str(result.reason) if result.reason else None,
                "ms": round(milliseconds, 3),
                "attempt": job.attempt,
                "queue": job.queue,
            },
        )
        return result


@hookimpl
def kessel_middleware() -> Iterable[Middleware]:
    """Offer the middleware `logging`; its option is `level`."""
    return [Middleware(name="logging", factory=LoggingMiddleware, options=LoggingOptions)]
