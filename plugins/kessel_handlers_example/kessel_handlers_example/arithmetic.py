"""`addition` and `multiplication` over `{"operands": [a, b]}`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import attrs

from kessel_core import Fatal, handler

__all__ = ["Operands", "addition", "multiplication"]


def _two(instance: object, attribute: object, value: list[int | float]) -> None:
    if len(value) != 2:
        raise ValueError(f"expected two operands, got {len(value)}")
    for index, operand in enumerate(value):
        if isinstance(operand, bool) or not isinstance(operand, (int, float)):
            raise ValueError(f"operand {index} must be a number, got {operand!r:.60}")


@attrs.frozen
class Operands:
    """The payload of both handlers."""

    #: Two numbers; integers stay integers.
    operands: list[object] = attrs.field(validator=_two)

    def pair(self) -> tuple[float, float]:
        """Return both numbers."""
        first, second = self.operands
        return first, second  # type: ignore[return-value]  # _two has checked them


@handler("addition", max_attempts=3)
def addition(payload: Operands) -> float:
    """Return the sum.

    Raises:
        Fatal: It is out of range.
    """
    return _finite(payload, operator.add)


@handler("multiplication", max_attempts=3)
def multiplication(payload: Operands) -> float:
    """Return the product.

    Raises:
        Fatal: It is out of range.
    """
    return _finite(payload, operator.mul)


def _finite(payload: Operands, operation: Callable[[float, float], float]) -> float:
    try:
        result = operation(*payload.pair())
    except OverflowError as exc:  # a huge integer together with a float
        raise Fatal(f"the result is out of range: {exc}") from exc
    if isinstance(result, float) and not math.isfinite(result):
        raise Fatal("the result is out of range")
    return result
