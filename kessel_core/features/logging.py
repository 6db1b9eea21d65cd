"""Logs one line per attempt to `kessel.jobs`, with its data as fields (`extra`).

A success is logged by the middleware; a failure when it is known what became of the job.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from typing import Final, Literal

import attrs

from kessel_core.handlers.context import JobContext
from kessel_core.hooks.middleware import Middleware
from kessel_core.hooks.specs import hookimpl
from kessel_core.model.job import Job
from kessel_core.model.result import JobResult, Status
from kessel_core.model.settlement import Bury, Commit, Rollback, Settlement, Snooze
from kessel_core.values.logs import get_logger

__all__ = ["LoggingMiddleware", "log_failure"]

log = get_logger("kessel.jobs")

_LEVELS: Final = {"trace": 5, "debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


#: What became of the job, in the field `settled`.
_SETTLED: Final[dict[type, str]] = {
    Bury: "buried",
    Commit: "removed",
    Rollback: "rolled back",
    Snooze: "snoozed",
}


@attrs.frozen(kw_only=True)
class LoggingOptions:
    """Options of the middleware `logging`."""

    #: Log level of the line of a success.
    level: Literal["trace", "debug", "info", "warning"] = "info"


class LoggingMiddleware:
    """Logs each success, and how many milliseconds it took; failures are logged when they are settled."""

    def __init__(self, options: LoggingOptions) -> None:
        self._level = _LEVELS[options.level]

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult | None, JobResult | None]:
        """Measure the attempt and log it; costs almost nothing while the level is disabled."""
        if not log.isEnabledFor(self._level):
            return (yield)
        start = job.clock.monotonic()
        result = yield
        # A middleware inside of this one may have lost the result or made something else of it;
        # what then becomes of the job is for the core to say.
        if isinstance(result, JobResult) and result.status is Status.SUCCESS:
            milliseconds = (job.clock.monotonic() - start) * 1000
            extra = {**_fields(result, job.request, job.attempt, job.queue), "ms": round(milliseconds, 3)}
            log.log(self._level, "job %s %s success in %.1f ms", job.id, job.type, milliseconds, extra=extra)
        return result


def log_failure(result: JobResult, settlement: Settlement, queue: str) -> None:
    """Log an attempt that did not succeed, once, with what became of the job; a burial is a warning.

    Here, and not in the middleware, because only after the decision is it known whether the job is tried
    again; and because a burial is logged whatever middleware is configured.
    """
    level = logging.WARNING if isinstance(settlement, Bury) else logging.INFO
    if not log.isEnabledFor(level):
        return
    settled = _SETTLED[type(settlement)]
    milliseconds = None
    if result.started_at is not None and result.finished_at is not None:
        milliseconds = (result.finished_at - result.started_at).total_seconds() * 1000
    extra = {**_fields(result, result.request, result.attempt, queue), "settled": settled}
    if milliseconds is not None:
        extra["ms"] = round(milliseconds, 3)
    log.log(
        level,
        "job %s %s %s, %s%s%s",
        result.id,
        result.request.type if result.request is not None else "(undecodable)",
        result.status,
        settled,
        "" if milliseconds is None else f" after {milliseconds:.1f} ms",
        f": {result.reason}: {result.message}" if result.reason else f": {result.message}",
        exc_info=result.raised,
        extra=extra,
    )


def _fields(result: JobResult, request: Job | None, attempt: int, queue: str) -> dict[str, object]:
    return {
        "job_id": request.id if request is not None else result.id,
        "job_type": request.type if request is not None else None,
        "ref": request.ref if request is not None else None,
        "status": str(result.status),
        "reason": str(result.reason) if result.reason else None,
        "attempt": attempt,
        "queue": queue,
    }


@hookimpl
def kessel_middleware() -> Iterable[Middleware]:
    """Offer the middleware `logging`; its option is `level`."""
    return [Middleware(name="logging", factory=LoggingMiddleware, options=LoggingOptions)]
