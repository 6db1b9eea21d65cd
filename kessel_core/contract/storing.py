"""What backends that store in transactions tell: of a batch, and of a write that failed (S14, S19)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    EnqueueRejected,
    EnqueueUnknown,
    StoreRejected,
    StoreUnknown,
)
from kessel_core.model.message import Message

__all__ = ["Written", "error_for", "in_portions", "refuse_large", "refused_write", "unknown_write"]

_T = TypeVar("_T")

#: What a transaction is to write: the id of a job, or space and key of an entry; None: neither.
Written: TypeAlias = str | tuple[str, str] | None


def refused_write(written: Written, why: str, reason: str) -> AdapterError:
    """Return the error of something that is surely not stored, and why.

    Args:
        written: What was to be written; for None it is `AdapterUnavailable`.
        why: For people.
        reason: For programs, as in `EnqueueRejected` and `StoreRejected`.
    """
    match written:
        case None:
            return AdapterUnavailable(why)
        case str(job_id):
            return EnqueueRejected(job_id, why, reason)
        case (space, key):
            return StoreRejected(space, key, why, reason=reason)


def unknown_write(written: str | tuple[str, str], why: str) -> AdapterError:
    """Return the error of something that may or may not be stored."""
    return EnqueueUnknown(written, why) if isinstance(written, str) else StoreUnknown(*written, why)


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


def in_portions(
    things: Sequence[_T], size: Callable[[_T], int], *, most: int, most_bytes: int
) -> Iterator[list[_T]]:
    """Split a batch into transactions.

    Args:
        things: What is to be stored, in order.
        size: Returns the bytes of one of them.
        most: How many a portion has at most.
        most_bytes: A portion ends with the one that brings it to so many bytes.
    """
    portion: list[_T] = []
    total = 0
    for one in things:
        portion.append(one)
        total += size(one)
        if len(portion) >= most or total >= most_bytes:
            yield portion
            portion, total = [], 0
    if portion:
        yield portion


def refuse_large(message: Message, most_bytes: int) -> None:
    """Raise EnqueueRejected for a job whose body is longer than that."""
    if len(message.body) > most_bytes:
        why = f"its body has {len(message.body)} bytes, the limit is {most_bytes}"
        raise EnqueueRejected(message.id, why, "too-large")
