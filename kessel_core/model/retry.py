"""The pause before a retry (S11): exponential with full jitter and a cap. Pure; randomness is passed in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import attrs

__all__ = ["RetryPolicy"]


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How long to wait before the next attempt.

    The pause after attempt n is uniform in [0, min(cap, base * 2**(n-1))]: "full jitter", which
    spreads a burst of failures best (Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015).

    Raises:
        ValueError: `base` is negative, or `cap` is below it.
    """

    #: Longest pause after the first attempt; zero or more.
    base: timedelta = timedelta(seconds=2)
    #: Upper limit of every pause; not below `base`.
    cap: timedelta = timedelta(minutes=15)

    def __attrs_post_init__(self) -> None:
        """Refuse a policy that makes no sense."""
        if self.base < timedelta(0):
            raise ValueError("retry base must not be negative")
        if self.cap < self.base:
            raise ValueError("retry cap must not be below the base")

    def ceiling(self, attempt: int) -> timedelta:
        """Return the longest pause after that attempt.

        Raises:
            ValueError: The attempt is below 1.
        """
        if attempt < 1:
            raise ValueError(f"attempts count from 1, got {attempt}")
        # 2**62 microseconds exceed any cap; the bound keeps the arithmetic finite.
        doublings = min(attempt - 1, 62)
        if self.base.total_seconds() * 2.0**doublings >= self.cap.total_seconds():
            return self.cap
        return self.base * (1 << doublings)

    def next_pause(self, attempt: int, random: Callable[[], float]) -> timedelta:
        """Return the pause after that attempt.

        Args:
            attempt: The attempt that failed, from 1.
            random: Returns numbers in [0, 1), like `random.random`.

        Raises:
            ValueError: The attempt is below 1.
        """
        return self.ceiling(attempt) * random()
