"""A strict JSON parser: it refuses what other parsers reject, or read differently.

No duplicate keys in an object, no NaN or Infinity, no number beyond the range of floats. The wire, the
command and the configuration use it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeAlias

__all__ = ["read_json"]


class _Refused(ValueError):
    """JSON that parsers disagree on."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("an object has the same key twice")
    return found


def _constant(text: str) -> NoReturn:
    raise _Refused(f"{text} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if number - number != 0.0:
        raise _Refused(f"{text:.20} is beyond the range of numbers")
    return number


# Created once: for a small text that would take most of the time.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
_Scan: TypeAlias = Callable[[str, int], tuple[Any, int]]
#: What `raw_decode` calls: a call less for each job.
_scan: Final[_Scan] = _DECODER.scan_once  # type: ignore[attr-defined]  # not in the stubs


def read_json(text: str) -> Any:
    """Parse one JSON value, optionally surrounded by whitespace. Thread-safe.

    Raises:
        ValueError: The text is not JSON, or only for lenient parsers; says what is wrong and where.
        RecursionError: It is nested more deeply than Python can parse.
    """
    if text.startswith("{"):
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            pass  # a value is missing; below it is told where
        else:
            if end == len(text):
                return value
    return _DECODER.decode(text)  # surrounded by whitespace, or invalid
