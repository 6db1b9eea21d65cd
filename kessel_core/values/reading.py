"""Reads single values of the types that options have: the only place where text is converted to them.

`from_text` converts text from places where everything is text, `read` also values from TOML and JSON, and
`fit` checks that a value has its type. `converter` passes the same functions to cattrs, but nothing here
needs it. All raise ValueError or TypeError in the form "expected ..., got ...".
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from types import UnionType
from typing import Any, Final

from kessel_core.values.annotations import underlying
from kessel_core.values.durations import parse_duration
from kessel_core.values.secrets import quoted
from kessel_core.values.strict_json import read_json

__all__ = ["bare", "choice", "fit", "from_text", "is_deep", "moment_or_span", "named", "read"]


#: No configuration is nested more deeply; what reads and shows it needs no limits of its own.
_DEEPEST: Final = 50

#: The names of the expected types in messages.
EXPECTED: Final[Mapping[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    bytes: "bytes",
    type(None): "null",
    dict: "an object",
    list: "a list",
    tuple: "a list",
    Mapping: "a table",
    timedelta: "a duration such as '90s' or '5m'",
}

_WORDS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def named(value: object) -> str:
    """Describe a value in a message: its type, and the start of its repr."""
    return f"{type(value).__name__} {quoted(value)}"


def bare(annotation: Any) -> tuple[Any, bool]:
    """Return an annotation without names, notes, None and type arguments, and whether None is allowed."""
    annotation = underlying(annotation)
    args = typing.get_args(annotation)
    is_optional = False
    if typing.get_origin(annotation) in (typing.Union, UnionType) and type(None) in args:
        inner = [part for part in args if part is not type(None)]
        if len(inner) == 1:
            annotation, is_optional = underlying(inner[0]), True
    return typing.get_origin(annotation) or annotation, is_optional


def read(value: object, annotation: Any, *, text: bool = False) -> Any:
    """Convert a value to the type of an option.

    Args:
        value: The value from a file, a variable, an argument or JSON.
        annotation: The annotation of the option.
        text: Whether its source has only text, so that "5" is a number and "a,b" a list. Durations and
            choices are always text.

    Raises:
        ValueError: The value is out of range or cannot be parsed.
        TypeError: It has another type.
    """
    inner, is_optional = bare(annotation)
    if value is None and is_optional:
        return None
    if isinstance(value, str):
        if text or inner is timedelta or _is_choice(inner):
            value = from_text(value, inner)
    elif inner is timedelta and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = _seconds(value)
    elif inner is tuple and isinstance(value, list):
        value = tuple(value)
    return fit(value, inner)


def from_text(text: str, annotation: Any) -> Any:
    """Convert text to an annotated type; returned unchanged if the type has no special text form.

    Raises:
        ValueError: The text cannot be parsed.
    """
    inner, _ = bare(annotation)
    if inner is bool:
        word = _WORDS.get(text.strip().lower())
        if word is None:
            raise ValueError(f"expected true or false, got {quoted(text)}")
        return word
    if inner in (int, float):
        try:
            number = inner(text)
        except ValueError:
            raise ValueError(f"expected {EXPECTED[inner]}, got {quoted(text)}") from None
        if number - number != 0:
            raise ValueError(f"expected a number, got {quoted(text)}")
        return number
    if inner is timedelta:
        return parse_duration(text)
    if _is_choice(inner):
        wanted = text.strip().lower()
        same = (m for m in inner if isinstance(m.value, str) and m.value.lower() == wanted)
        return choice(text, inner) if _is_member(text, inner) else next(same, text)
    if inner is tuple:
        # Blank means an empty list; empty names between commas are left for the rules to report.
        return tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if inner is Mapping:
        try:
            table = read_json(text)
        except (ValueError, RecursionError):
            # The text may hold secrets, so the message does not repeat it.
            raise ValueError('expected a JSON object, as {"name": "value"}') from None
        if is_deep(table):
            raise ValueError("is nested too deeply")
        return table
    return text


def is_deep(value: object) -> bool:
    """Return whether tables and lists are nested more deeply than anybody writes a configuration."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, (Mapping, list))
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
        if not level:
            return False
    return True


def moment_or_span(text: str) -> datetime | timedelta:
    """Parse a span from now (`90s`, `5m`), or an ISO time with a zone.

    Raises:
        ValueError: The text is neither, or the time has no zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        if moment.tzinfo is None:  # the model would refuse it, too, but with advice for code
            raise ValueError(f"is a naive time: give it a zone, as in {moment.isoformat()}+01:00")
        return moment
    try:
        return parse_duration(text)
    except ValueError:
        wanted = "a span such as 90s, 5m, 3h, 7d, or an ISO time with zone"
        raise ValueError(f"expected {wanted}, got {quoted(text)}") from None


def fit(value: object, annotation: Any) -> Any:
    """Return a value if it has the annotated type; for a choice, its member.

    Raises:
        TypeError: It has another type.
        ValueError: It is not one of the choices.
    """
    inner, is_optional = bare(annotation)
    if (value is None and is_optional) or inner in (Any, object):
        return value
    if _is_choice(inner):
        return choice(value, inner)
    if not isinstance(value, inner) or (isinstance(value, bool) and inner is not bool):
        raise TypeError(f"expected {EXPECTED.get(inner, inner.__name__)}, got {named(value)}")
    if inner is Mapping and not all(isinstance(key, str) for key in value):
        raise TypeError("expected names as keys")
    return value


def choice(value: object, annotation: type[Enum]) -> Enum:
    """Return the member with this value; True and False never mean 1 and 0.

    Raises:
        ValueError: There is no such member.
    """
    if not _is_member(value, annotation):
        known = ", ".join(str(member.value) for member in annotation)
        raise ValueError(f"expected one of {known}; got {quoted(value)}")
    return annotation(value)


def _is_member(value: object, annotation: type[Enum]) -> bool:
    # Python takes True for 1, which is never what was meant.
    if isinstance(value, bool) and not any(member.value is value for member in annotation):
        return False
    try:
        annotation(value)
    except ValueError:
        return False
    return True


def _is_choice(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _seconds(number: float) -> timedelta:
    try:
        return timedelta(seconds=number)
    except (OverflowError, ValueError):
        raise ValueError(f"{quoted(number)} seconds is not a usable duration") from None
