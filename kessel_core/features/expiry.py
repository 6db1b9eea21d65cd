"""Stops a job whose expiration has come just before its handler would start (S5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.handlers.context import JobContext
from kessel_core.hooks.specs import hookimpl
from kessel_core.model.job import JobResult, Reason, Status

__all__ = ["ExpiryMiddleware"]


class ExpiryMiddleware:
    """A plain implementation: pluggy enters every wrapper first, so this is the last look."""

    @hookimpl
    def kessel_execute_job(self, job: JobContext) -> JobResult | None:
        """Answer for an expired job; None lets the handler run."""
        expiration = job.request.not_after
        if expiration is None:
            return None
        now = job.clock.now()
        if now < expiration:
            return None
        return JobResult(
            id=job.id,
            request=job.request,
            status=Status.FAILED,
            reason=Reason.EXPIRED,
            message=f"expired at {expiration}",
            attempt=job.attempt,
            finished_at=now,
        )


def _made(options: Mapping[str, Any]) -> object:
    if options:
        raise InvalidConfig(
            [Problem(f"middleware_options.expiry: {name}", "unknown option; it has none") for name in options]
        )
    return ExpiryMiddleware()


@hookimpl
def kessel_middleware() -> Mapping[str, Callable[[Mapping[str, Any]], object]]:
    """Offer the middleware `expiry`; it has no options."""
    return {"expiry": _made}
