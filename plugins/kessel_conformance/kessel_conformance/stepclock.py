"""A virtual clock that one thread moves: time passes only by `advance`, and by waiting."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["StepClock"]

# Any time will do; this one has a fraction, so that cutting to whole seconds shows.
_START: Final = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


class StepClock:
    """Time in whole microseconds, so that no comparison depends on rounding.

    Simpler than `kessel_core.testing.VirtualClock`, which coordinates the threads of a whole
    application: here a wait that would time out moves the time at once.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._start = start
        self._passed = timedelta(0)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the virtual time, aware, in UTC."""
        return self._start + self._passed

    def monotonic(self) -> float:
        """Return the seconds passed, plus some that no wall clock shows."""
        return 1000.0 + self._passed.total_seconds()

    def advance(self, span: timedelta) -> None:
        """Let time pass."""
        with self._lock:
            self._passed += span

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Let `timeout` seconds pass at once; without a timeout wait for real, for another thread."""
        if timeout is None:
            return condition.wait(None)
        # Up, never to zero: a waiter that asks for less than a microsecond would spin for ever.
        self.advance(timedelta(microseconds=max(0, math.ceil(timeout * 1e6))))
        return False
