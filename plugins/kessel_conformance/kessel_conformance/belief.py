"""What another process believes about the time; imports nothing that could read it before."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["Belief"]

_wall, _monotonic = time.time, time.monotonic
#: Seconds; each machine counts from a moment of its own.
_ANOTHER_START: Final = 100_000.0


class Belief:
    """What this process believes about the time."""

    #: Seconds that the wall clock is ahead; less than zero: behind.
    ahead: float = 0.0
    #: Real wall and monotonic time at which both stopped; None: they go.
    stopped_at: tuple[float, float] | None = None
    _first_stop: tuple[float, float] | None = None

    @classmethod
    def wall(cls) -> float:
        """Return seconds since 1970."""
        return (_wall() if cls.stopped_at is None else cls.stopped_at[0]) + cls.ahead

    @classmethod
    def monotonic(cls) -> float:
        """Return seconds since some moment."""
        return (_monotonic() if cls.stopped_at is None else cls.stopped_at[1]) + _ANOTHER_START

    @classmethod
    def change(cls, ahead: float, *, stands: bool) -> None:
        """Set both clocks."""
        cls.ahead = ahead
        # A clock that is looked at again stands where it stood.
        cls._first_stop = cls._first_stop or ((_wall(), _monotonic()) if stands else None)
        cls.stopped_at = cls._first_stop if stands else None

    @classmethod
    def enforce(cls) -> None:
        """Show these times to everybody who asks from now on.

        `datetime.now` cannot be changed. The monotonic clock of the module `time` never stops, because
        whoever waits in real time goes by it.
        """
        time.time = cls.wall
        time.time_ns = lambda: int(cls.wall() * 1e9)
        time.monotonic = lambda: _monotonic() + _ANOTHER_START
        time.monotonic_ns = lambda: int((_monotonic() + _ANOTHER_START) * 1e9)
