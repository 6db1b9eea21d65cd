"""The only source of time in an application (S18): wall clock, monotonic clock and timed waits.

Nothing in the core reads the time or sleeps in any other way, so a virtual clock
(`kessel_core.testing.VirtualClock`) moves the whole application.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

__all__ = ["Clock", "SystemClock"]


@runtime_checkable
class Clock(Protocol):
    """What an application uses for time; every method is thread-safe."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards; only differences between them are meaningful."""
        ...

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a condition that the caller holds.

        Args:
            condition: Held by the caller; released while waiting, held again on return.
            timeout: Longest wait in seconds of this clock; None waits until notified.

        Returns:
            False if the time ran out, True if the condition was notified (or may have been).
        """
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return `datetime.now(UTC)`."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait in real time, with `threading.Condition.wait`."""
        # One day at most, because longer timeouts overflow on some platforms; callers loop.
        return condition.wait(None if timeout is None else min(timeout, 86_400.0))


def sleep(clock: Clock, seconds: float) -> None:
    """Sleep for this many seconds of the given clock, zero or more."""
    never_notified = threading.Condition()
    with never_notified:
        clock.wait(never_notified, seconds)
