"""What the processes of an adapter over a network tell each other, as text; `ServerLine.hear` reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from kessel_core.model.message import Message

__all__ = ["EVERY_WAITER", "kinds_of", "told_delayed", "told_entry", "told_ready"]

#: Wakes all who wait for a queue, or for an entry.
EVERY_WAITER: Final = 1_000_000


def told_ready(queue: str, count: int = 1) -> str:
    """Return what tells of jobs that are ready."""
    return f"r:{count}:{queue}"


def told_delayed(queue: str, span: timedelta) -> str:
    """Return what tells of a job that becomes ready after a span."""
    return f"d:{span // timedelta(microseconds=1)}:{queue}"


def told_entry(space: str, key: str) -> str:
    """Return what tells of an entry that was changed."""
    return f"e:{space}:{key}"


def kinds_of(messages: Iterable[Message], now: datetime) -> tuple[Counter[str], dict[str, datetime]]:
    """Return how many jobs of each queue are ready, and when the first of the others is due."""
    ready: Counter[str] = Counter()
    first_due: dict[str, datetime] = {}
    for message in messages:
        if message.delay is None or message.delay <= now:
            ready[message.queue] += 1
        else:
            first_due[message.queue] = min(message.delay, first_due.get(message.queue, message.delay))
    return ready, first_due
