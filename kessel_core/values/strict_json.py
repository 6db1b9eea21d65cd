"""The one strict reader of JSON: what some readers take and others do not, or not as the same, is refused.

No key twice in an object, no NaN or Infinity, no number beyond the range of floats. The wire, the command and
the configuration read through it.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

__all__ = ["read_json"]


class _Refused(ValueError):
    """JSON for some readers and not, or not the same, for others."""


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


# Made once: most of the time for a small text would be its start.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def read_json(text: str) -> Any:
    """Read one JSON value, with blanks around it or not. Safe for any thread.

    Raises:
        ValueError: The text is not JSON, or only for lenient readers; says what and where.
        RecursionError: It is nested more deeply than Python reads.
    """
    if text.startswith("{"):
        value, end = _DECODER.raw_decode(text)
        if end == len(text):
            return value
    return _DECODER.decode(text)  # blanks around it, or something to be refused
