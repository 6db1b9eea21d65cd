"""What processes tell each other in notifications; `waiting` reads them."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

__all__ = ["ALL", "told_delayed", "told_entry", "told_ready"]

#: Wakes all who wait for a queue, or for an entry.
ALL: Final = 1_000_000


def told_ready(queue: str, count: int = 1) -> str:
    """Return the notification of jobs that are ready."""
    return f"r:{count}:{queue}"


def told_delayed(queue: str, span: timedelta) -> str:
    """Return the notification of a job that becomes ready after a span."""
    return f"d:{span // timedelta(microseconds=1)}:{queue}"


def told_entry(space: str, key: str) -> str:
    """Return the notification of an entry that was changed."""
    return f"e:{space}:{key}"
