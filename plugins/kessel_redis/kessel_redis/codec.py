"""Numbers, spans and records as the scripts write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from kessel_core.contract import Entry, later, plain_span

__all__ = [
    "Counts",
    "Record",
    "micros",
    "note",
    "to_counts",
    "to_entry",
    "to_moment",
    "to_note",
    "to_record",
    "to_span",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
#: No moment that Python knows is further away from any other; and beyond it nobody looks.
_LONGEST: Final = timedelta(days=10_000 * 366)


def micros(span: timedelta) -> bytes:
    """Return a span in microseconds, cut to ten thousand years; one below zero is zero."""
    return b"%d" % max(0, plain_span(min(span, _LONGEST)) // _MICROSECOND)


def to_span(value: bytes | int) -> timedelta:
    """Read a span."""
    return timedelta(microseconds=int(value))


def to_moment(value: bytes) -> datetime:
    """Read a moment; one that Python cannot tell is the last that it can.

    A score may come as a float; beyond the year 2255 it is exact to two microseconds only.
    """
    return later(_EPOCH, timedelta(microseconds=int(float(value))))


class Counts(NamedTuple):
    """How often a job was delivered and came back, was snoozed, and kicked."""

    attempts: int = 0
    snoozes: int = 0
    kicks: int = 0


_NONE: Final = Counts()


def to_counts(value: bytes) -> Counts:
    """Read the counts of a job; an ordinary one has none."""
    return Counts(*map(int, value.split(b":"))) if value else _NONE


def note(reason: str, message: str) -> bytes:
    """Return why a job was buried."""
    coded = reason.encode()
    return b"%d:%b%b" % (len(coded), coded, message.encode())


def to_note(value: bytes) -> tuple[str, str]:
    """Read reason and message of a burial."""
    size, _, rest = value.partition(b":")
    return rest[: int(size)].decode(), rest[int(size) :].decode()


class Record(NamedTuple):
    """What is stored of a job once."""

    id: str
    enqueued: bytes
    body: bytes


def to_record(value: bytes) -> Record:
    """Read a record: 16 digits when it was enqueued, 4 digits how long its id is, the id, the body."""
    end = 20 + int(value[16:20])
    return Record(value[20:end].decode(), value[:16], value[end:])


def to_entry(key: str, value: bytes) -> Entry:
    """Read an entry: 20 digits of its version, 20 of its end or zero, the value."""
    ends = int(value[20:40])
    expires = later(_EPOCH, timedelta(microseconds=ends)) if ends else None
    return Entry(key, int(value[:20]), value[40:], expires)
