"""Values as PostgreSQL's binary format has them: no text to parse on either side, and no digits lost.

The formats are those of the functions `*_send` and `*_recv` of the server; they have not changed since
version 8.4.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from kessel_core.contract import later, plain_span

__all__ = [
    "BOOL",
    "BYTES",
    "LONG",
    "LONGS",
    "MANY_BYTES",
    "MOMENT",
    "SPAN",
    "SPANS",
    "TEXT",
    "TEXTS",
    "boolean",
    "integer",
    "job_id",
    "number",
    "numbers",
    "array",
    "span",
    "text",
    "to_id",
    "to_moment",
    "to_span",
]

# The types of parameters, by the numbers of pg_type.
BOOL: Final = 16
BYTES: Final = 17
LONG: Final = 20
INT: Final = 23
TEXT: Final = 25
MANY_BYTES: Final = 1001
TEXTS: Final = 1009
LONGS: Final = 1016
MOMENT: Final = 1184
SPAN: Final = 1186
SPANS: Final = 1187

_ELEMENT: Final = {MANY_BYTES: BYTES, TEXTS: TEXT, LONGS: LONG, SPANS: SPAN}

_long: Final = struct.Struct("!q")
_int: Final = struct.Struct("!i")
_span: Final = struct.Struct("!qii")
_header: Final = struct.Struct("!iiIii")

_ESCAPED: Final = re.compile(r"\\[\\0]")
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
#: No moment that Python knows is further away from any other.
_LONGEST: Final = timedelta(days=10_000 * 366)
_DAY: Final = 86_400_000_000


def integer(value: int) -> bytes:
    """Return a bigint."""
    return _long.pack(value)


def number(value: bytes) -> int:
    """Read a smallint, an integer or a bigint."""
    return int.from_bytes(value, "big", signed=True)


def boolean(value: bytes | None) -> bool:
    """Read a boolean; NULL counts as false."""
    return value == b"\1"


def text(value: str) -> bytes:
    """Return a text; it must hold no NUL and no lone surrogate."""
    return value.encode()


def job_id(value: str) -> bytes:
    """Return an id as it is stored: it may hold a NUL, which a text of PostgreSQL may not."""
    if "\0" in value or "\\" in value:
        value = value.replace("\\", "\\\\").replace("\0", "\\0")
    return value.encode()


def to_id(value: bytes) -> str:
    """Read an id."""
    read = value.decode()
    return _ESCAPED.sub(lambda found: "\0" if found[0] == "\\0" else "\\", read) if "\\" in read else read


def microseconds(value: timedelta) -> int:
    """Return a span in microseconds, cut to ten thousand years."""
    return plain_span(min(value, _LONGEST)) // _MICROSECOND


def span(value: timedelta) -> bytes:
    """Return an interval, without days: how long one is depends on the time zone of who adds it."""
    return _span.pack(microseconds(value), 0, 0)


def to_span(value: bytes) -> timedelta:
    """Read an interval without months; those between two moments have none."""
    micros, days, _ = _span.unpack(value)
    return timedelta(microseconds=micros) + timedelta(days=days)


def to_moment(value: bytes | None) -> datetime | None:
    """Read a timestamp; one that Python cannot tell is the last that it can; NULL is None."""
    if value is None:
        return None
    (micros,) = _long.unpack(value)
    return later(_EPOCH, timedelta(microseconds=micros))


def array(kind: int, values: Iterable[bytes | None]) -> bytes:
    """Return an array of one dimension, of a type such as `TEXTS`."""
    parts = []
    count, has_null = 0, 0
    for value in values:
        count += 1
        if value is None:
            has_null = 1
            parts.append(b"\xff\xff\xff\xff")
        else:
            parts.append(_int.pack(len(value)))
            parts.append(value)
    return _header.pack(1, has_null, _ELEMENT[kind], count, 1) + b"".join(parts)


def numbers(values: Iterable[int]) -> bytes:
    """Return an array of bigints."""
    return array(LONGS, map(_long.pack, values))
