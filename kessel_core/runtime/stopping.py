"""How a worker is told to stop, and how its threads wait meanwhile."""

from __future__ import annotations

import threading

from kessel_core.clock import Clock

__all__ = ["StopSwitch"]


class StopSwitch:
    """One for a worker; safe for any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Notified at a stop, and by whoever has news for those that wait for one.
        self.changed = threading.Condition()
        #: Whether the stop was asked for.
        self.is_on = False
        #: When the grace period ends, on the monotonic clock; None: no stop was asked for.
        self.deadline: float | None = None

    def turn_on(self, grace: float) -> bool:
        """Ask for the stop.

        Args:
            grace: Seconds for running jobs. A later call can only shorten them.

        Returns:
            Whether this was the first call.
        """
        with self.changed:
            deadline = self._clock.monotonic() + grace
            self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)
            first, self.is_on = not self.is_on, True
            self.changed.notify_all()
            return first

    @property
    def is_overdue(self) -> bool:
        """Whether the grace period is over."""
        return self.deadline is not None and self._clock.monotonic() >= self.deadline

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than until a stop."""
        with self.changed:
            if not self.is_on:
                self._clock.wait(self.changed, seconds)
