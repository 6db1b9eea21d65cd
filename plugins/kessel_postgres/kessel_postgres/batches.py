"""Many jobs as few transactions: how they are split, what is told of them, who gets which error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from kessel_core.contract import AdapterError, EnqueueRejected, EnqueueUnknown, Message

__all__ = ["chunks", "error_for", "kinds_of"]

#: Most jobs, and about how many bytes, that one transaction of `enqueue_many` stores.
_CHUNK: Final = 5_000
_CHUNK_BYTES: Final = 16 * 1024 * 1024


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


def chunks(rows: Sequence[tuple[int, tuple[Any, ...]]]) -> Iterator[list[tuple[int, tuple[Any, ...]]]]:
    """Split jobs into transactions."""
    chunk: list[tuple[int, tuple[Any, ...]]] = []
    size = 0
    for one in rows:
        chunk.append(one)
        size += len(one[1][-1])
        if len(chunk) >= _CHUNK or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def error_for(job_id: str, exc: AdapterError) -> AdapterError:
    """Return the error of a transaction, which names its first job, for another job of it."""
    match exc:
        case EnqueueRejected():
            copy: AdapterError = EnqueueRejected(job_id, exc.why, exc.reason)
        case EnqueueUnknown():
            copy = EnqueueUnknown(job_id, exc.why)
        case _:
            return exc
    copy.__cause__ = exc.__cause__
    return copy
