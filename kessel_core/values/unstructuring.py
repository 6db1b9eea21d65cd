"""Typed objects into JSON values: the inverse of `converter`, by the class of each value.

JSON itself is returned as it is. What has no form in JSON is left where it is, for the checks of the model
to name with its path. Never loads cattrs.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import cache, partial
from typing import Any, Final

import attrs

from kessel_core.clock import plain_span
from kessel_core.values.late import importing
from kessel_core.values.payload_types import MODELS, PayloadType

__all__ = ["unstructured"]


def unstructured(value: Any, types: tuple[PayloadType, ...] = ()) -> Any:
    """Return a value with every typed object in it as JSON; the very same value if there is none.

    Args:
        value: JSON values with attrs classes, dataclasses, named tuples, members of enums, decimals, UUIDs,
            times, paths, models of pydantic or objects of `types` in them. Inside of such an object tuples,
            sets and deques become lists, and keys become text; outside they are left as they are.
        types: What plugins offer; asked before the built-in ones.

    Raises:
        RecursionError: It contains itself.
        Exception: What a `PayloadType` raises.
    """
    return _Walk(types).json(value)


#: Beyond so many seconds a float has no microseconds any more: 272 years.
_COARSE: Final = 2**33


def _seconds(span: timedelta) -> float | str:
    """Return the number of seconds; text for a span of more than zero that no float holds exactly."""
    span = plain_span(span)
    whole = span.days * 86_400 + span.seconds
    if not span.microseconds:
        return whole
    return span.total_seconds() if whole < _COARSE else f"{whole}.{span.microseconds:06}s"


@cache
def _singles() -> tuple[tuple[type, Callable[[Any], Any]], ...]:
    """Return classes of single values, and what writes their text or number; the first that fits counts."""
    with importing():  # here, because every producer imports this module, and few have such values
        from decimal import Decimal
        from pathlib import PurePath
        from uuid import UUID

    return (
        # A time without zone, and what is no number, are left: nobody could read them back.
        (datetime, lambda value: value if value.utcoffset() is None else value.isoformat()),
        (date, lambda value: value.isoformat()),
        (time, lambda value: value.isoformat()),
        (timedelta, _seconds),
        (Decimal, lambda value: str(value) if value.is_finite() else value),
        (UUID, str),
        (PurePath, str),
    )


@attrs.frozen
class _Walk:
    types: tuple[PayloadType, ...]

    def json(self, value: Any) -> Any:
        """Look for typed objects in lists and dicts."""
        kind = type(value)
        if kind in (str, int, float, bool, type(None)):
            return value
        if kind is not dict and kind is not list and (write := self._writer(value)) is not None:
            return write(value)
        if isinstance(value, dict):  # an OrderedDict, too
            made = {key: self.json(item) for key, item in value.items()}
            return made if any(made[key] is not item for key, item in value.items()) else value
        if isinstance(value, list):
            items = [self.json(item) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return value

    def _inside(self, value: Any) -> Any:
        """Write what a typed object holds."""
        if isinstance(value, Mapping):
            made = {self._key(key): self._inside(item) for key, item in value.items()}
            # Left as it is where two keys became one, such as 1 and "1": the checks name what is no text.
            return made if len(made) == len(value) else value
        if isinstance(value, (list, set, frozenset, deque)) or type(value) is tuple:
            return [self._inside(item) for item in value]
        return self.json(value)

    def _writer(self, value: Any) -> Callable[[Any], Any] | None:
        kind = type(value)
        for offered in (*self.types, MODELS):
            if offered.takes(kind):
                return partial(self._offered, offered)
        if isinstance(value, Enum):
            return lambda member: self._inside(member.value)
        if attrs.has(kind) and not isinstance(value, type):
            return partial(self._fields, attrs.fields(kind))
        if dataclasses.is_dataclass(kind):
            return partial(self._fields, dataclasses.fields(kind))
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return lambda named: [self._inside(item) for item in named]
        return next((write for known, write in _singles() if isinstance(value, known)), None)

    def _offered(self, offered: PayloadType, value: Any) -> Any:
        made = offered.unstructure(value)
        return made if type(made) is type(value) else self._inside(made)

    def _fields(self, fields: Any, value: Any) -> dict[str, Any]:
        return {field.name: self._inside(getattr(value, field.name)) for field in fields if field.init}

    def _key(self, key: Any) -> Any:
        made = self.json(key)
        # As `converter` reads them: numbers as keys have only their text in JSON.
        return str(made) if isinstance(made, int) and not isinstance(made, bool) else made
