"""JSON values: what a payload may be, and every mistake in one with its path (S2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias, Union

from kessel_core.errors import Problem

__all__ = ["JsonInput", "JsonValue", "MAX_DEPTH", "json_problems"]


# A Union, because `|` between classes leaves the names in quotes as plain texts.
JsonValue: TypeAlias = Union[None, bool, int, float, str, list["JsonValue"], dict[str, "JsonValue"]]  # noqa: UP007, RUF036


# What callers give. To a type checker a `dict[str, int]` is no `dict[str, JsonValue]`, because others might
# put text into it; so this asks only for what can be read. To type checkers a
# TypedDict is a mapping to any object. What passes it and is no JSON value all the same, such as a
# tuple, is refused at run time (S2).
JsonInput: TypeAlias = Union[None, bool, int, float, str, Sequence["JsonInput"], Mapping[str, object]]  # noqa: UP007, RUF036


#: Deepest nesting of lists and objects in a payload (S2); well below what any JSON reader refuses.
MAX_DEPTH: Final = 100


# Python refuses to read integers of more digits (sys.int_info.default_max_str_digits), so what
# is accepted here could not be read back elsewhere.
_MAX_INT_BITS: Final = 14_284  # the most that surely have no more than 4300 digits


def json_problems(value: object, path: str = "$") -> list[Problem]:
    """Return everything that keeps a value from being a JSON value that comes back equal (S2)."""
    problems: list[Problem] = []
    if not _is_plain(value, 0):
        problems.extend(_walk(value, path, 0, set()))
    return problems


_ATOMS: Final = frozenset({type(None), bool})


def _is_plain(value: object, depth: int) -> bool:
    """Whether a value is surely fine: the quick pass that ordinary payloads take.

    A False only means that the careful walk must look.
    """
    kind = type(value)
    if kind is str:
        return value.isascii()  # type: ignore[attr-defined,no-any-return]  # kind is str
    if kind is int:
        return -(2**63) < value < 2**63  # type: ignore[operator]  # kind is int
    if kind in _ATOMS:
        return True
    if kind is float:
        return value - value == 0.0  # type: ignore[operator,no-any-return]  # false for NaN and infinities
    if depth >= MAX_DEPTH:
        return False
    if kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]  # kind is dict
            if type(key) is not str or not key.isascii() or not _is_plain(item, depth + 1):
                return False
        return True
    if kind is list:
        for item in value:  # type: ignore[attr-defined]  # noqa: SIM110  # kind is list; a loop is twice as fast
            if not _is_plain(item, depth + 1):
                return False
        return True
    return False


def _walk(value: object, path: str, depth: int, above: set[int]) -> Iterator[Problem]:
    if value is None or value is True or value is False:
        return
    if isinstance(value, str):
        if not _is_utf8(value):
            yield Problem(path, "text with a lone surrogate cannot be stored as UTF-8")
        return
    if isinstance(value, int):
        if value.bit_length() > _MAX_INT_BITS:
            yield Problem(path, "integers of more than 4300 digits cannot be read back")
        return
    if isinstance(value, float):
        if value - value != 0.0:
            yield Problem(path, f"{value} is not a JSON number")
        return
    if not isinstance(value, (dict, list)):
        yield Problem(path, _not_json(value))
        return
    if id(value) in above:
        yield Problem(path, "contains itself")
        return
    if depth >= MAX_DEPTH:
        yield Problem(path, f"nested deeper than {MAX_DEPTH} levels")
        return
    above.add(id(value))
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield Problem(path, f"keys must be text, got {_shown(key)}")
            elif not _is_utf8(key):
                yield Problem(path, f"key {key!r:.40} has a lone surrogate")
            else:
                yield from _walk(
                    item, f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]", depth + 1, above
                )
    else:
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]", depth + 1, above)
    above.discard(id(value))


def _shown(value: object) -> str:
    try:
        return f"{type(value).__name__} {value!r:.40}"
    except Exception:  # an integer too long to be shown, or an object with a bug
        return type(value).__name__


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_HINTS: Final = {
    tuple: "use a list",
    set: "use a list",
    frozenset: "use a list",
    bytes: "use text, for example base64",
    bytearray: "use text, for example base64",
    datetime: "use ISO-8601 text",
}


def _not_json(value: object) -> str:
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(value, kind)), "")
    return f"{type(value).__name__} is not a JSON value" + (f": {hint}" if hint else "")


def _text_problem(value: object) -> str | None:
    if not isinstance(value, str):
        return f"expected text, got {type(value).__name__}"
    return None if _is_utf8(value) else "text with a lone surrogate cannot be stored as UTF-8"
