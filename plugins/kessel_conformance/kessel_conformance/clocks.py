"""Clocks that bring out what an adapter does with time, as a loaded machine does it now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Protocol

from kessel_core import Clock, SystemClock
from kessel_core.testing import VirtualClock

__all__ = ["LateClock", "late_clock"]


class LateClock(Clock, Protocol):
    """A clock between whose readings time passes, so that two within one call differ. Thread-safe."""

    #: How much passes before each reading, while `late` is open.
    step: timedelta
    #: Whether it passes now.
    is_late: bool

    @contextmanager
    def late(self) -> Iterator[None]:
        """Let time pass before each reading."""
        self.is_late = True
        try:
            yield
        finally:
            self.is_late = False


class _LateVirtual(VirtualClock, LateClock):
    def __init__(self, step: timedelta) -> None:
        super().__init__()
        self.step, self.is_late = step, False

    def now(self) -> datetime:
        if self.is_late:
            self.advance(self.step)
        return super().now()

    def monotonic(self) -> float:
        if self.is_late:
            self.advance(self.step)
        return super().monotonic()


class _LateSystem(SystemClock, LateClock):
    def __init__(self, step: timedelta) -> None:
        self.step, self.is_late = step, False

    def now(self) -> datetime:
        if self.is_late:
            time.sleep(self.step.total_seconds())
        return super().now()

    def monotonic(self) -> float:
        if self.is_late:
            time.sleep(self.step.total_seconds())
        return super().monotonic()


def late_clock(step: timedelta, *, virtual: bool) -> LateClock:
    """Return a clock that can be late: a virtual one moves itself, a real one keeps its reader waiting."""
    return _LateVirtual(step) if virtual else _LateSystem(step)
