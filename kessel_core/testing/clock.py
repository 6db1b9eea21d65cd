"""A clock that tests control: three hours pass in an instant (S18)."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["VirtualClock", "span_of"]

# A Monday morning, so that printed times look plausible; with a fraction, so that code that truncates to
# whole seconds does not pass by luck.
_START: Final = datetime(2026, 1, 5, 9, 0, 0, 250_000, tzinfo=UTC)
# Not zero, so that code that takes 0.0 for "never" does not pass by luck either.
_MONOTONIC_START: Final = 1000.0
_MICROSECOND: Final = timedelta(microseconds=1)
_ZERO: Final = timedelta(0)
#: Real seconds; enough for other threads to run, too short to slow down a test.
_A_MOMENT: Final = 0.000_01
#: Waits for no time, one after the other: far more than it takes until another thread has had its turn.
_MOST_FOR_NO_TIME: Final = 100_000


class VirtualClock:
    """A `Clock` whose time stands still until a test, or a wait, moves it.

    `now` and `monotonic` move together, in whole microseconds. Thread-safe.

    Args:
        start: The initial time, aware.
        auto_advance: What a wait with a timeout does. True: nobody else will move the time, so it jumps
            to the end of the wait at once, and a wait without a timeout, which would last for ever, is an
            error. False: the wait blocks in real time, until it is notified or another thread has moved
            the time past its end.

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
        #: Waits since the time has moved.
        self._for_no_time = 0
        self._reader = _Reader()

    def now(self) -> datetime:
        """Return the virtual time, in UTC."""
        self._reader.look(self._moves)
        return self._now

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment; `jump_wall` does not affect them."""
        self._reader.look(self._moves)
        return self._monotonic

    def advance(self, span: timedelta) -> None:
        """Let time pass, and wake the waits whose timeout it reaches.

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
        """Set the wall clock forward or, with a negative span, back; `monotonic` is not affected.

        As an operator or a time server does on a real machine. All blocked waits are woken, so that
        they check the time again.
        """
        with self._lock:
            self._moves += 1
            self._now += span
            blocked = [condition for condition, _ in self._blocked.values()]
        _notify(blocked)

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a condition that the caller holds, as `Clock.wait` says.

        Raises:
            RuntimeError: With `auto_advance`, a wait without a timeout, or with one beyond the year 9999;
                and after a hundred thousand waits for no time at all, because whoever looks again and again
                at the same moment does so for ever.
        """
        if self.auto_advance:
            try:
                with self._lock:
                    self._for_no_time += 1
                    self._move(timedelta.max if timeout is None else span_of(timeout))
                    is_endless = self._for_no_time > _MOST_FOR_NO_TIME
            except OverflowError as exc:
                raise RuntimeError(
                    "a wait without a timeout, or beyond the year 9999, would last for ever on a VirtualClock"
                    " that moves by itself; use VirtualClock(auto_advance=False) where several threads take"
                    " part"
                ) from exc
            if is_endless:
                raise RuntimeError(
                    f"{_MOST_FOR_NO_TIME} waits in a row were for no time at all, at {self._now}: what should"
                    " be there by now is not, and the VirtualClock does not move"
                )
            condition.wait(_A_MOMENT)  # releases it, as every wait does: another thread may need it
            return False
        with self._lock:
            # The caller computed the timeout from a time that it read after its last wait. If the time has
            # moved since, the timeout is out of date, and the time may never be moved that far again.
            if self._reader.is_behind(self._moves):
                return True
            end = None if timeout is None else self._end_of(span_of(timeout))
            if end is not None and end <= self._passed:
                return False
            self._tickets = ticket = self._tickets + 1
            self._blocked[ticket] = condition, end
        # Moving the time notifies only after acquiring the condition, that is when this thread is
        # already waiting, so no notification is missed.
        try:
            condition.wait()
        finally:
            with self._lock:
                del self._blocked[ticket]
        return end is None or self._passed < end

    @property
    def waiting(self) -> int:
        """Number of blocked waits; for tests that move the time once a thread waits."""
        with self._lock:
            return len(self._blocked)

    def _end_of(self, span: timedelta) -> timedelta | None:
        try:
            return self._passed + span
        except OverflowError:
            return None  # never

    def _move(self, span: timedelta) -> None:
        self._now += span
        self._passed += span
        self._monotonic = _MONOTONIC_START + self._passed.total_seconds()
        if span:
            self._for_no_time = 0
        self._moves += 1  # last: who has read any of it before looks again


class _Reader(threading.local):
    """Remembers for each thread how often the time had been moved when it was first read after a wait."""

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


def span_of(seconds: float) -> timedelta:
    """Return the span of virtual time that a wait of so many seconds takes."""
    # Rounded up, because a wait may be late but never early. Sums of float seconds are slightly off, so a
    # value within a thousandth of a microsecond counts as whole; but a positive timeout never becomes zero.
    if seconds <= 0:
        return _ZERO
    if seconds >= timedelta.max.total_seconds():
        return timedelta.max
    return max(_MICROSECOND, timedelta(microseconds=math.ceil(seconds * 1_000_000 - 0.001)))


def _notify(conditions: list[threading.Condition]) -> None:
    for condition in conditions:
        with condition:
            condition.notify_all()
