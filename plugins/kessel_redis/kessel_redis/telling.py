"""What processes tell each other in messages; `waiting` reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from kessel_core.contract import Message

__all__ = ["ALL", "kinds_of", "told_delayed", "told_entry", "told_of", "told_ready"]

#: Wakes all who wait for a queue, or for an entry.
ALL: Final = 1_000_000


def told_ready(queue: str, count: int = 1) -> str:
    """Return the message of jobs that are ready."""
    return f"r:{count}:{queue}"


def told_delayed(queue: str, span: timedelta) -> str:
    """Return the message of a job that becomes ready after a span."""
    return f"d:{span // timedelta(microseconds=1)}:{queue}"


def told_of(stored: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return the messages of jobs, each by its queue and the span until it is due, as the scripts read it.

    One of each queue for all that are ready, and one for the first of the others.
    """
    ready: Counter[str] = Counter()
    first: dict[str, int] = {}
    for queue, span in stored:
        if span == b"0":
            ready[queue] += 1
        else:
            first[queue] = min(int(span), first.get(queue, int(span)))
    delayed = (told_delayed(queue, timedelta(microseconds=span)) for queue, span in first.items())
    return [*(told_ready(queue, count) for queue, count in ready.items()), *delayed]


def told_entry(space: str, key: str) -> str:
    """Return the message of an entry that was changed."""
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
