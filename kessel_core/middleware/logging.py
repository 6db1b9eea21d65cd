"""One line per job at level info on `kessel.jobs`, with its facts as fields (`extra`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from typing import Any

from kessel_core.handlers import JobContext
from kessel_core.hookspecs import hookimpl
from kessel_core.jobs import JobResult

__all__ = ["LoggingMiddleware"]

log = logging.getLogger("kessel.jobs")


class LoggingMiddleware:
    """Logs how each attempt ended, and how many milliseconds it took."""

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
        """Time what is inside; costs next to nothing while the level is off."""
        if not log.isEnabledFor(logging.INFO):
            return (yield)
        start = job.clock.monotonic()
        result = yield
        milliseconds = (job.clock.monotonic() - start) * 1000
        log.info(
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


def _made(options: Mapping[str, Any]) -> object:
    return LoggingMiddleware()


@hookimpl
def kessel_middleware() -> Mapping[str, Callable[[Mapping[str, Any]], object]]:
    """Offer the middleware `logging`; it has no options."""
    return {"logging": _made}
