"""Payload classes of others: how one is made of JSON, and how it is written as JSON. Imports none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from kessel_core.model.json import JsonValue

__all__ = ["MODELS", "PayloadType"]


@attrs.frozen(kw_only=True, eq=False)
class PayloadType:
    """How payloads of some classes are read and written; what `kessel_payload_types` offers.

    All three functions are called by any thread, so they must be thread-safe.

    Example:
        >>> from fractions import Fraction
        >>> fractions = PayloadType(
        ...     matches=lambda kind: issubclass(kind, Fraction),
        ...     structure=lambda value, kind: kind(value),
        ...     unstructure=str,
        ... )
    """

    #: Whether a class is one of them.
    matches: Callable[[type], bool]
    #: Makes an object of a JSON value; called with the value and the class. What it raises makes the job
    #: `bad-payload`; the message is for people.
    structure: Callable[[JsonValue, Any], Any]
    #: Returns the JSON value that `structure` makes an equal object of.
    unstructure: Callable[[Any], JsonValue]

    def takes(self, kind: object) -> bool:
        """Return whether an annotation, or the class of a value, is one of them."""
        return isinstance(kind, type) and bool(self.matches(kind))


def _is_model(kind: type) -> bool:
    return callable(getattr(kind, "model_validate", None)) and callable(getattr(kind, "model_dump", None))


#: Models of pydantic and what looks like them, known by their methods.
MODELS: Final = PayloadType(
    matches=_is_model,
    structure=lambda value, kind: kind.model_validate(value),
    unstructure=lambda model: model.model_dump(mode="json", by_alias=True),
)
