"""How single values are read from JSON: each strictly, so that nothing is cut, rounded or guessed.

Each raises ValueError or TypeError in the form "expected ..., got ...".
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import cattrs

from kessel_core.values.reading import EXPECTED, choice, named, read
from kessel_core.values.secrets import quoted

__all__ = ["SINGLE", "choices", "exactly", "key_reader", "literal", "refused"]

#: Reads a value as what an annotation says; given both.
Hook: typing.TypeAlias = Callable[[Any, Any], Any]


def refused(annotation: Any, why: str) -> Exception:
    """Make the error that payloads cannot be of some kind, for whoever starts the application."""
    return cattrs.StructureHandlerNotFoundError(why, annotation)


def exactly(annotation: type) -> Hook:
    """Return what takes values of a class, and of no other."""

    def check(value: Any, wanted: Any) -> Any:
        if wanted is not annotation and isinstance(wanted, type) and issubclass(wanted, Enum):
            return choice(value, wanted)  # cattrs finds this check for StrEnum and IntEnum, too
        if type(value) is not annotation:
            raise TypeError(f"expected {EXPECTED[annotation]}, got {named(value)}")
        return value

    return check


def choices(annotation: Any) -> Hook:
    """Return what reads a member of an enum; one whose values are not JSON is refused."""
    if not all(isinstance(member.value, (str, int, float, type(None))) for member in annotation):
        raise refused(annotation, f"the values of {annotation.__name__} are no JSON values")
    return choice


def literal(annotation: Any) -> Hook:
    """Return what reads one of some literal values."""
    known = [(one, one.value if isinstance(one, Enum) else one) for one in typing.get_args(annotation)]
    if not all(isinstance(plain, (str, int, type(None))) for _, plain in known):
        raise refused(annotation, f"{annotation} names what is no JSON value")

    def check(value: Any, _: Any) -> Any:
        for one, plain in known:
            if type(plain) is type(value) and plain == value:
                return one
        raise ValueError(f"expected one of {', '.join(repr(one) for _, one in known)}; got {quoted(value)}")

    return check


def _number(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, got {named(value)}")
    return float(value)


def _moment(value: Any, _: Any) -> datetime:
    if not isinstance(value, (str, datetime)):
        raise TypeError(f"expected an ISO-8601 time, got {named(value)}")
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if moment.utcoffset() is None:
        # As S2 has it for requests: which moment it is would depend on the machine that reads it.
        raise ValueError(f"expected a time with its zone, as 2026-01-31T12:00:00Z, got {quoted(str(value))}")
    return moment


def _day(value: Any, _: Any) -> date:
    if type(value) is date:  # of TOML; a datetime is one as well, and says more
        return value
    if not isinstance(value, str):
        raise TypeError(f"expected an ISO-8601 date, got {named(value)}")
    return date.fromisoformat(value)


def _time_of_day(value: Any, _: Any) -> time:
    if isinstance(value, time):
        return value
    if not isinstance(value, str):
        raise TypeError(f"expected an ISO-8601 time of day, got {named(value)}")
    return time.fromisoformat(value)


def _decimal(value: Any, _: Any) -> Decimal:
    # Not of a float: it is not the number any more that somebody wrote.
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"expected a decimal number as text, got {named(value)}")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"expected a decimal number as text, got {quoted(value)}") from None
    if not number.is_finite():
        raise ValueError(f"expected a decimal number as text, got {quoted(value)}")
    return number


def _uuid(value: Any, _: Any) -> UUID:
    if not isinstance(value, str):
        raise TypeError(f"expected a UUID as text, got {named(value)}")
    return UUID(value)


def _path(value: Any, _: Any) -> Path:
    if not isinstance(value, (str, Path)):
        raise TypeError(f"expected a path, got {named(value)}")
    return Path(value)


#: The classes of single values, and what reads each.
SINGLE: Final[Mapping[type, Hook]] = {
    str: exactly(str),
    int: exactly(int),
    bool: exactly(bool),
    float: _number,
    datetime: _moment,
    timedelta: read,
    date: _day,
    time: _time_of_day,
    Decimal: _decimal,
    UUID: _uuid,
    Path: _path,
    type(None): exactly(type(None)),
}
#: Of these the text is all that JSON has, so they may be keys of an object as well.
_TEXTS: Final = (datetime, date, time, Decimal, UUID, Path)


def key_reader(annotation: Any) -> Hook:
    """Return what reads a key of a JSON object, which is always text.

    Raises:
        StructureHandlerNotFoundError: Texts cannot stand for values of this annotation.
    """
    if annotation in (str, Any, object):
        return SINGLE[str] if annotation is str else lambda key, _: key
    if annotation is int:
        return _int_key
    if annotation in _TEXTS:
        return SINGLE[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        if all(isinstance(member.value, str) for member in annotation):
            return choice
        if all(type(member.value) is int or isinstance(member.value, int) for member in annotation):
            return lambda key, wanted: choice(_int_key(key, int), wanted)
    if typing.get_origin(annotation) is typing.Literal and all(
        isinstance(one, str) for one in typing.get_args(annotation)
    ):
        return literal(annotation)
    raise refused(annotation, f"keys of JSON objects are text, which cannot stand for {annotation!r}")


def _int_key(key: Any, _: Any) -> int:
    try:
        number = int(key)
    except (TypeError, ValueError):
        number = None
    if number is None or str(number) != key:
        raise ValueError(f"expected a whole number as a key, got {key!r:.60}")
    return number
