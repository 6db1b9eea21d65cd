"""JSON values: what a payload may be, and every mistake in one with its path (S2)."""

from __future__ import annotations

import collections.abc
import math
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias, Union

from kessel_core.errors import Problem

if TYPE_CHECKING:  # every producer imports this module, and few have such values
    from decimal import Decimal
    from pathlib import PurePath
    from uuid import UUID

__all__ = [
    "MAX_DEPTH",
    "JsonInput",
    "JsonValue",
    "Place",
    "is_utf8",
    "json_problems",
    "shown",
    "text_problem",
]

# A Union, because `|` would leave the quoted names as plain strings.
JsonValue: TypeAlias = Union[None, bool, int, float, str, list["JsonValue"], dict[str, "JsonValue"]]  # noqa: UP007, RUF036


class AttrsObject(Protocol):
    """What a type checker sees of objects of attrs classes."""

    __attrs_attrs__: ClassVar[Any]


class DataclassObject(Protocol):
    """What a type checker sees of objects of dataclasses."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class ModelObject(Protocol):
    """What a type checker sees of models of pydantic."""

    def model_dump(self) -> Any:
        """Return the model as values that JSON has."""
        ...


# What callers pass. To a type checker a `dict[str, int]` is not a `dict[str, JsonValue]`, because dicts are
# invariant; so this asks for read-only types. A TypedDict is a mapping to `object`. A value that passes the
# type checker without being a JSON value, such as a tuple, is refused at run time (S2). Typed objects are
# written as JSON before they are checked; see `values.unstructuring`.
JsonInput: TypeAlias = Union[  # noqa: RUF036
    None,
    bool,
    int,
    float,
    str,
    Sequence["JsonInput"],
    Mapping[str, object],
    AttrsObject,
    DataclassObject,
    ModelObject,
    Enum,
    "Decimal",
    "UUID",
    date,
    time,
    timedelta,
    "PurePath",
]

#: The path to a value in a request, from its root `$`.
Place: TypeAlias = tuple[str | int, ...]

#: Deepest nesting of lists and objects in a payload (S2); well below the limit of any JSON parser.
MAX_DEPTH: Final = 100
# Python refuses to parse integers of more digits (sys.int_info.default_max_str_digits), so they could
# not be read back.
_MAX_INT_BITS: Final = 14_284  # the most bits that never need more than 4300 digits


def json_problems(value: object, place: Place = ("$",)) -> list[Problem]:
    """Return every reason why a value would not survive JSON and come back equal (S2)."""
    return [] if _is_plain(value, 0) else list(_walk(value, place, 0, set()))


_ATOMS: Final = frozenset({type(None), bool})


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value is certainly valid: the fast path that ordinary payloads take.

    False only means that the full walk must decide.
    """
    cls = type(value)
    if cls is str:
        return bool(value.isascii())
    if cls is int:
        return bool(-(2**63) < value < 2**63)
    if cls in _ATOMS:
        return True
    if cls is float:
        return math.isfinite(value)
    if depth >= MAX_DEPTH:
        return False
    if cls is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii() or not _is_plain(item, depth + 1):
                return False
        return True
    if cls is list:
        for item in value:  # noqa: SIM110  # a loop is twice as fast
            if not _is_plain(item, depth + 1):
                return False
        return True
    return False


def _walk(value: object, place: Place, depth: int, above: set[int]) -> Iterator[Problem]:
    """Yield every mistake; `above` holds the identities of the containers around the value."""
    if isinstance(value, (dict, list)):
        yield from _walk_inside(value, place, depth, above)
    elif (message := _atom_problem(value)) is not None:
        yield Problem(place, message)


def _walk_inside(
    value: dict[Any, Any] | list[Any], place: Place, depth: int, above: set[int]
) -> Iterator[Problem]:
    if id(value) in above:
        yield Problem(place, "contains itself")
        return
    if depth >= MAX_DEPTH:
        yield Problem(place, f"nested deeper than {MAX_DEPTH} levels")
        return
    above.add(id(value))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, (*place, index), depth + 1, above)
    else:
        texts: set[str] = set()
        for key, item in value.items():
            if not isinstance(key, str):
                yield Problem(place, f"keys must be text, got {shown(key)}")
            elif (text := str.__str__(key)) in texts:  # of a class that compares in its own way
                yield Problem(place, f"several keys are written as {text!r:.40}")
            elif not is_utf8(key):
                yield Problem(place, f"key {key!r:.40} has a lone surrogate")
            else:
                texts.add(text)
                yield from _walk(item, (*place, key), depth + 1, above)
    above.discard(id(value))


_HINTS: Final = {
    tuple: "use a list",
    set: "use a list",
    frozenset: "use a list",
    collections.deque: "use a list",
    bytes: "use text, for example base64",
    bytearray: "use text, for example base64",
    datetime: "give it a time zone, as datetime.now(UTC) has, or use ISO-8601 text",
    types.GeneratorType: "use list(...)",
    range: "use list(...)",
    complex: "use a list of two numbers",
    collections.abc.Iterator: "use list(...)",
    types.FunctionType: "functions cannot be stored; give the callback of a request by its scheme",
    type: "give an object of it",
    BaseException: "use its text",
}
#: What may be done about any other object.
_ANY_HINT: Final = (
    "use dicts and lists, or make its class an attrs class or a dataclass, or let a plugin offer it with "
    "kessel_payload_types"
)


def _atom_problem(value: object) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return None if is_utf8(value) else "text with a lone surrogate cannot be stored as UTF-8"
    if isinstance(value, int):
        too_long = value.bit_length() > _MAX_INT_BITS
        return "integers of more than 4300 digits cannot be read back" if too_long else None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} is not a JSON number"
    return f"{type(value).__name__} is not a JSON value: {_hint(value)}"


def _hint(value: object) -> str:
    if (decimal := sys.modules.get("decimal")) is not None and isinstance(value, decimal.Decimal):
        return "it is no finite number"
    return next((hint for cls, hint in _HINTS.items() if isinstance(value, cls)), _ANY_HINT)


def text_problem(value: object) -> str | None:
    """Return why a value is not text that can be stored, or None if it is."""
    return _atom_problem(value) if isinstance(value, str) else f"expected text, got {type(value).__name__}"


def is_utf8(text: str) -> bool:
    """Return whether text can be stored: it has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(text: str, limit: int) -> str:
    """Return text cut to a limit, with escapes for what UTF-8 cannot write, as in some paths."""
    text = text[:limit]
    return text if is_utf8(text) else text.encode("utf-8", "backslashreplace").decode()[:limit]


def shown(value: object) -> str:
    """Return the type and the first characters of any value, for a message."""
    try:
        return f"{type(value).__name__} {value!r:.40}"
    except Exception:  # an integer too long to be shown, or an object with a bug
        return type(value).__name__
