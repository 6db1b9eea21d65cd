"""The built-in retry policy: answers `kessel_retry_pause` after every plugin (S11).

It is set in the section `jobs`, and nowhere else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

from kessel_core.handlers.context import JobContext
from kessel_core.hooks.specs import hookimpl
from kessel_core.model.retry import RetryPolicy

__all__ = ["RetryPause"]


class RetryPause:
    """Pauses according to a `RetryPolicy`; part of every chain, after the plugins. Thread-safe."""

    def __init__(self, policy: RetryPolicy, draw: Callable[[], float] = random.random) -> None:
        self._policy = policy
        self._draw = draw

    @hookimpl(trylast=True)
    def kessel_retry_pause(self, job: JobContext) -> timedelta:
        """Return a random pause after the attempt that failed."""
        return self._policy.next_pause(job.attempt, self._draw)
