"""Strict JSON: what two readers would read differently, or not at all, is refused."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

__all__ = ["read_strict"]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.20} is beyond the range of numbers")
    return number


_decoder: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def read_strict(text: str) -> Any:
    """Read a JSON text.

    Raises:
        ValueError: It is not JSON, an object has a key twice, or a number is none or too large.
        RecursionError: It nests too deeply.
    """
    if text.startswith("{"):
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    return _decoder.decode(text)  # blanks around it, or something to be refused
