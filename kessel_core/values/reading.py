"""Single values of the kinds that options have: the only place where text becomes one of them.

`from_text` reads what is written where everything is text, `read` also what TOML and JSON have no form
for, and `fit` says whether a value is of its kind. `converter` hands the same functions to cattrs; nothing
here needs it. Each raises ValueError or TypeError in the form "expected ..., got ...".
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from types import UnionType
from typing import Any, Final

from kessel_core.values.durations import parse_duration
from kessel_core.values.secrets import quoted
from kessel_core.values.strict_json import read_json

__all__ = ["bare", "choice", "fit", "from_text", "moment_or_span", "named", "read"]


#: How errors call what is expected.
EXPECTED: Final[Mapping[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    bytes: "bytes",
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
    """Name a value in an error: its type, and the start of what it looks like."""
    return f"{type(value).__name__} {quoted(value)}"


def bare(kind: Any) -> tuple[Any, bool]:
    """Return a kind without None and without what is in its brackets, and whether None is allowed."""
    args = typing.get_args(kind)
    is_optional = False
    if typing.get_origin(kind) in (typing.Union, UnionType) and type(None) in args:
        inner = [part for part in args if part is not type(None)]
        if len(inner) == 1:
            kind, is_optional = inner[0], True
    return typing.get_origin(kind) or kind, is_optional


def read(value: object, kind: Any, *, text: bool = False) -> Any:
    """Return a value as an option's kind.

    Args:
        value: As a file, a variable, an argument or JSON gives it.
        kind: The annotation of the option.
        text: Whether everything is written as text there, so that "5" is a number and "a,b" a list.
            Spans and choices have no other form, so their text is always read.
    """
    inner, is_optional = bare(kind)
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


def from_text(text: str, kind: Any) -> Any:
    """Return what a text stands for; a text whose kind has no other form than text is returned as it is."""
    inner, _ = bare(kind)
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
        # Blank means none; an empty name between commas is a slip, which is somebody else's to tell.
        return tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if inner is Mapping:
        try:
            return read_json(text)
        except (ValueError, RecursionError):
            # The text may hold secrets, so it is not repeated.
            raise ValueError('expected a JSON object, as {"name": "value"}') from None
    return text


def moment_or_span(text: str) -> datetime | timedelta:
    """Read a span from now (`90s`, `5m`), or an ISO time with its zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        if moment.tzinfo is None:  # the model would refuse it, with advice for programs
            raise ValueError(f"is a naive time: give it a zone, as in {moment.isoformat()}+01:00")
        return moment
    try:
        return parse_duration(text)
    except ValueError:
        wanted = "a span such as 90s, 5m, 3h, 7d, or an ISO time with zone"
        raise ValueError(f"expected {wanted}, got {quoted(text)}") from None


def fit(value: object, kind: Any) -> Any:
    """Return a value if it is of its kind already; of a choice its member."""
    inner, is_optional = bare(kind)
    if (value is None and is_optional) or inner in (Any, object):
        return value
    if _is_choice(inner):
        return choice(value, inner)
    if not isinstance(value, inner) or (isinstance(value, bool) and inner is not bool):
        raise TypeError(f"expected {EXPECTED.get(inner, inner.__name__)}, got {named(value)}")
    if inner is Mapping and not all(isinstance(key, str) for key in value):
        raise TypeError("expected names as keys")
    return value


def choice(value: object, kind: type[Enum]) -> Enum:
    """Return the member of a value; a bool is the member 1 or 0 only where the member itself is one."""
    if not _is_member(value, kind):
        known = ", ".join(str(member.value) for member in kind)
        raise ValueError(f"expected one of {known}; got {quoted(value)}")
    return kind(value)


def _is_member(value: object, kind: type[Enum]) -> bool:
    # Python finds the 1 of an enum for True; nobody means that.
    if isinstance(value, bool) and not any(member.value is value for member in kind):
        return False
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _is_choice(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _seconds(number: float) -> timedelta:
    try:
        return timedelta(seconds=number)
    except (OverflowError, ValueError):
        raise ValueError(f"{number} seconds is no usable duration") from None
