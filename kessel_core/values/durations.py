"""Durations as people write them: `500ms`, `90s`, `5m`, `3h`, `7d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from kessel_core.values.secrets import quoted

__all__ = ["duration_text", "parse_duration"]


_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


_DURATION: Final = re.compile(r"\s*(\d{1,14})(?:\.(\d{1,6}))?\s*(ms|s|m|h|d)?\s*", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Parse a duration; a number without a unit is seconds.

    Raises:
        ValueError: The text is not a duration, or is longer than a timedelta can be.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"expected a duration such as 500ms, 90s, 5m, 3h or 7d, got {quoted(text)}")
    unit, millionths = _UNITS[found[3] or "s"], (found[2] or "").ljust(6, "0")
    try:
        return int(found[1]) * unit + int(millionths) * unit / 1_000_000  # exact, as floats are not
    except OverflowError:
        raise ValueError(f"{quoted(text)} is too long a duration") from None


def duration_text(value: timedelta) -> str:
    """Format a span for `parse_duration`, in the largest unit that gives a whole number."""
    milliseconds = round(value / _UNITS["ms"], 3)
    if not milliseconds:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        length = _UNITS[unit] / _UNITS["ms"]
        if milliseconds % length == 0:
            return f"{milliseconds / length:.0f}{unit}"
    return f"{milliseconds:.3f}".rstrip("0").rstrip(".") + "ms"
