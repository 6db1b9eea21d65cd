"""The one clock of an application (S18): aware now, monotonic, wait.

Nothing in the core reads time or sleeps in any other way, so that a virtual clock
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
    """What an application uses for time; every method is safe for any thread."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean something."""
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
    """The time of the machine."""

    def now(self) -> datetime:
        """Return `datetime.now(UTC)`."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait for real, by `threading.Condition.wait`."""
        # One day at most, because longer timeouts overflow on some platforms; callers loop.
        return condition.wait(None if timeout is None else min(timeout, 86_400.0))


def sleep(clock: Clock, seconds: float) -> None:
    """Let `seconds` of a clock pass."""
    nobody = threading.Condition()
    with nobody:
        clock.wait(nobody, seconds)
