"""Moments and spans as people read them: local time to the second, a span in its largest unit."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

__all__ = ["span_text", "when"]


def when(moment: datetime) -> str:
    """Format a moment in local time with its zone, to the second."""
    with suppress(OverflowError, ValueError, OSError):  # the very end of the calendar has no local time
        moment = moment.astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S%z")


def span_text(span: timedelta) -> str:
    """Format a span in its largest unit: s, min, h or days."""
    seconds = int(span.total_seconds())
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:  # "90 min" says more than "1 h"
            return f"{seconds // size:,} {unit}"
    return f"{seconds} s"
