"""Spans as a backend can keep them."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from kessel_core.clock import plain_span
from kessel_core.model.settlement import NO_PAUSE

__all__ = ["rounded_up"]

_MICROSECOND: Final = timedelta(microseconds=1)


def rounded_up(span: timedelta, granularity: timedelta | None) -> timedelta:
    """Round a span up to a multiple of the granularity: late is allowed, early never (S4).

    A negative span counts as zero; without a granularity nothing is rounded. The result is a plain
    `timedelta`, whatever subclass was given.
    """
    span = plain_span(span)
    if granularity is None or granularity <= _MICROSECOND or span <= NO_PAUSE:
        return max(span, NO_PAUSE)
    try:
        return -(-span // granularity) * granularity
    except OverflowError:  # within one step of the longest possible span
        return span
