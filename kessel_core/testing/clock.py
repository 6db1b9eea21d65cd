"""A clock that tests move: three hours pass in no time (S18)."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["VirtualClock"]

# A Monday morning, so that printed times look like times. The fraction is there because code that
# cuts to whole seconds should not pass by luck.
_START: Final = datetime(2026, 1, 5, 9, 0, 0, 250_000, tzinfo=UTC)
# No process has just been started: code that takes 0.0 for "never" should not pass either.
_MONOTONIC_START: Final = 1000.0
_MICROSECOND: Final = timedelta(microseconds=1)
_ZERO: Final = timedelta(0)
#: Real seconds; enough for the other threads to run, too little to be felt in a test.
_A_MOMENT: Final = 0.000_01


class VirtualClock:
    """A `Clock` whose time stands still until a test, or a wait, moves it.

    `now` and `monotonic` move together, in whole microseconds. Safe for any thread.

    Args:
        start: First time, aware.
        auto_advance: What a wait with a timeout does. True: nobody else is going to move the time,
            so it jumps to the end of the wait at once, and a wait without a timeout, which would
            last for ever, is an error. False: the wait blocks for real, until it is notified or
            another thread has moved the time past its end.

    Raises:
        ValueError: `start` is naive.

    Example:
        >>> clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
        >>> clock.advance(timedelta(hours=3))
        >>> clock.now()
        datetime.datetime(2026, 1, 1, 3, 0, tzinfo=datetime.timezone.utc)
    """

    def __init__(self, start: datetime = _START, *, auto_advance: bool = True) -> None:
        self.auto_advance = auto_advance
        self._lock = threading.Lock()
        self._now = _aware(start).astimezone(UTC)
        self._passed = _ZERO
        self._monotonic = _MONOTONIC_START
        #: Blocked waits by number: condition, and when it ends on the scale of `_passed`.
        self._blocked: dict[int, tuple[threading.Condition, timedelta | None]] = {}
        self._tickets = 0
        self._moves = 0
        self._reader = _Reader()

    def now(self) -> datetime:
        """Return the virtual time, in UTC."""
        self._reader.look(self._moves)
        return self._now

    def monotonic(self) -> float:
        """Return the seconds that have passed since some moment; `jump_wall` does not change it."""
        self._reader.look(self._moves)
        return self._monotonic

    def advance(self, span: timedelta) -> None:
        """Let time pass, and wake the waits that it ends.

        Raises:
            ValueError: The span is negative; time never goes back, only `jump_wall` does.
        """
        if span < _ZERO:
            raise ValueError(f"time cannot go back by {-span}; use jump_wall for a clock that is set back")
        with self._lock:
            self._move(span)
            passed = self._passed
            due = [
                condition for condition, end in self._blocked.values() if end is not None and end <= passed
            ]
        _notify(due)

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until a moment on the wall clock.

        Raises:
            ValueError: The moment is naive, or already past.
        """
        self.advance(_aware(moment) - self._now)

    def jump_wall(self, span: timedelta) -> None:
        """Set the wall clock forward or, with a negative span, back; `monotonic` goes on as before.

        What an operator, or a time server, does to a machine. All blocked waits are woken, so that
        they look at the time again.
        """
        with self._lock:
            self._moves += 1
            self._now += span
            blocked = [condition for condition, _ in self._blocked.values()]
        _notify(blocked)

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a condition that the caller holds, as `Clock.wait` says.

        Raises:
            RuntimeError: With `auto_advance`, a wait without a timeout.
        """
        if self.auto_advance:
            if timeout is None:
                raise RuntimeError(
                    "a wait without a timeout would last for ever on a VirtualClock that moves by itself;"
                    " use VirtualClock(auto_advance=False) where several threads take part"
                )
            with self._lock:
                self._move(_span(timeout))
            condition.wait(_A_MOMENT)  # lets go of it, as every wait does: another thread may need it
            return False
        with self._lock:
            # The timeout was worked out from what this thread read since it last waited. If the time
            # was moved in between, it is out of date, and nobody may ever move the time that far again.
            if self._reader.is_behind(self._moves):
                return True
            end = None if timeout is None else self._passed + _span(timeout)
            if end is not None and end <= self._passed:
                return False
            self._tickets = ticket = self._tickets + 1
            self._blocked[ticket] = condition, end
        # Whoever moves the time notifies only after getting hold of the condition, that is when
        # this thread waits already: no call is missed.
        try:
            condition.wait()
        finally:
            with self._lock:
                del self._blocked[ticket]
        return end is None or self._passed < end

    @property
    def waiting(self) -> int:
        """How many waits are blocked; for tests that move the time once a thread waits."""
        with self._lock:
            return len(self._blocked)

    def _move(self, span: timedelta) -> None:
        self._moves += 1
        self._now += span
        self._passed += span
        self._monotonic = _MONOTONIC_START + self._passed.total_seconds()


class _Reader(threading.local):
    """Remembers, thread by thread, how often the time had been moved at the first look since a wait."""

    first: int | None = None

    def look(self, moves: int) -> None:
        if self.first is None:
            self.first = moves

    def is_behind(self, moves: int) -> bool:
        first, self.first = self.first, None
        return first is not None and first != moves


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} is naive: give it a time zone, for example UTC")
    return moment


def _span(seconds: float) -> timedelta:
    # Up, because a wait may be late but never early. Sums of float seconds are a little off, so what
    # is within a thousandth of a microsecond counts as whole; yet no wait that asks for time gets none.
    if seconds <= 0:
        return _ZERO
    return max(_MICROSECOND, timedelta(microseconds=math.ceil(seconds * 1_000_000 - 0.001)))


def _notify(conditions: list[threading.Condition]) -> None:
    for condition in conditions:
        with condition:
            condition.notify_all()
