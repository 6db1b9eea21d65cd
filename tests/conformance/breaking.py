"""How a mutant of the reference adapter is made: one rule of it, which is one method, is another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import attrs
from reference import Reference, Slot

from kessel_core.contract import Facet

__all__ = ["MUTANTS", "declares", "mutant", "slot_mutant", "without"]

#: Name -> what it does, and the broken adapter.
MUTANTS: dict[str, tuple[str, type[Reference]]] = {}


def mutant(name: str, what: str, base: type[Reference] = Reference, **methods: Any) -> None:
    MUTANTS[name] = (what, type(name, (base,), dict(methods)))


def slot_mutant(name: str, what: str, **methods: Callable[..., Any]) -> None:
    kind = type(f"{name}_slot", (Slot,), dict(methods))
    mutant(name, what, make_consumer=lambda self, queues: (self.refuse_if_closed(), kind(self, queues))[1])


def declares(**changes: Any) -> property:
    return property(lambda self: attrs.evolve(Reference.capabilities.fget(self), **changes))  # type: ignore[attr-defined]


def without(missing: type[Facet]) -> Any:
    return lambda self, kind: None if kind is missing else Reference.facet(self, kind)
