"""The built-in retry policy: answers `kessel_retry_pause` after every other plugin (S11)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from kessel_core.handlers.context import JobContext
from kessel_core.hooks.specs import hookimpl
from kessel_core.model.retry import RetryPolicy

__all__ = ["RetryMiddleware"]


class RetryMiddleware:
    """Pauses by a `RetryPolicy`."""

    def __init__(self, policy: RetryPolicy, draw: Callable[[], float] = random.random) -> None:
        self._policy = policy
        self._draw = draw

    @hookimpl(trylast=True)
    def kessel_retry_pause(self, job: JobContext) -> timedelta:
        """Draw the pause after the attempt that failed."""
        return self._policy.next_pause(job.attempt, self._draw)


def _made(options: Mapping[str, Any]) -> object:
    return RetryMiddleware(RetryPolicy(**options))


@hookimpl
def kessel_middleware() -> Mapping[str, Callable[[Mapping[str, Any]], object]]:
    """Offer `retry`; its options are `base` and `cap`, from the section `jobs`."""
    return {"retry": _made}
