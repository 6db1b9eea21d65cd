"""Tells the threads of a worker to stop, and lets them wait until then."""

from __future__ import annotations

import threading

from kessel_core.clock import Clock

__all__ = ["StopSwitch"]


class StopSwitch:
    """One per worker; thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Notified at a stop, and when the state of a slot changes.
        self.changed = threading.Condition()
        #: Whether a stop was requested.
        self.is_on = False
        #: End of the grace period, on the monotonic clock; None: no stop was requested.
        self.deadline: float | None = None

    def turn_on(self, grace: float) -> bool:
        """Request the stop.

        Args:
            grace: Seconds for running jobs, zero or more. A later call can only shorten them.

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
        """Sleep, but at most until a stop."""
        with self.changed:
            if not self.is_on:
                self._clock.wait(self.changed, seconds)
