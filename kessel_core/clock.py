"""The only source of time in an application (S18): wall clock, monotonic clock and timed waits.

Nothing in the core reads the time or sleeps in any other way, so a virtual clock
(`kessel_core.testing.VirtualClock`) moves the whole application.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

__all__ = ["Clock", "SystemClock", "later", "plain_moment", "plain_span", "sleep"]


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
        try:
            return condition.wait(None if timeout is None else min(timeout, 86_400.0))
        except BaseException:
            # Ctrl-C may fall where the wait has let go of the lock and not taken it again (finding D20).
            try:
                condition.notify(0)  # asks whether the lock is held
            except RuntimeError:
                condition.acquire()
            raise


def later(now: datetime, span: timedelta) -> datetime:
    """Return the moment after a span; at most the last moment that a datetime can be."""
    try:
        return now + span
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def plain_span(span: timedelta) -> timedelta:
    """Return a span as a plain `timedelta`; subclasses, such as those of pendulum, may behave differently."""
    if type(span) is timedelta:
        return span
    # Read from the base class, because subclasses give other meanings to these names.
    days, seconds, rest = timedelta.days, timedelta.seconds, timedelta.microseconds
    return timedelta(days.__get__(span), seconds.__get__(span), rest.__get__(span))


def plain_moment(moment: datetime) -> datetime:
    """Return an aware time as a plain `datetime` in UTC.

    Raises:
        OverflowError: In UTC it is outside the years 1 to 9999.
    """
    if type(moment) is datetime:
        return moment.astimezone(UTC)
    offset = moment.utcoffset() or timedelta(0)
    local = datetime(  # naive, because the offset is subtracted below
        moment.year,
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond,
    )
    return (local - plain_span(offset)).replace(tzinfo=UTC)


def sleep(clock: Clock, seconds: float) -> None:
    """Sleep for this many seconds of the given clock, zero or more."""
    never_notified = threading.Condition()
    with never_notified:
        clock.wait(never_notified, seconds)
