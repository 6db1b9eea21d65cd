"""The catalogue: every case with its clause, what it needs, and why it is there.

A case is a function of a `Bench`. It is selected by what the adapter can do, never by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from kessel_conformance.requirements import Absent, Need, Requirement, requirement

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench
    from kessel_conformance.harness import Harness

__all__ = ["SUITE_VERSION", "Case", "Level", "case", "cases", "known_version"]

#: Version of the catalogue; a case says since which one it counts.
SUITE_VERSION: Final = "1.0"
_FIRST_VERSION: Final = "1.0"

_MODULES: Final = (
    "enqueueing",
    "delivery",
    "consumers",
    "settling",
    "snoozing",
    "results",
    "order",
    "delay",
    "lease",
    "operations",
    "durable",
    "refusal",
    "manager",
    "model",
)
_ID: Final = re.compile(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*")


class Level(StrEnum):
    """Who has to pass a case."""

    #: Every adapter.
    CORE = "core"
    #: Who declares the capabilities and has the facets that it needs.
    CAPABILITY = "capability"
    #: Who has *not* got them: they must be refused (S17).
    NEGATIVE = "negative"


@attrs.frozen(kw_only=True)
class Case:
    """One check."""

    #: Subject and promise, as in `delay.never_early`.
    id: str
    #: The clauses that it checks, as in `S4`.
    clauses: tuple[str, ...]
    level: Level
    #: What must be there, or must not.
    needs: tuple[Requirement, ...] = ()
    #: First suite version in which a failure counts.
    since: str = "1.0"
    #: What goes wrong in practice without it.
    why: str
    run: Callable[[Bench], None]
    #: On a real clock it mostly waits, so such cases run side by side.
    waits: bool = False

    def skip_reason(self, harness: Harness) -> str | None:
        """Return why the case does not apply to a harness that is up, or None if it does."""
        return next(filter(None, (need.missing(harness) for need in self.needs)), None)


_cases: dict[str, Case] = {}


def case(
    case_id: str,
    *clauses: str,
    why: str,
    needs: Iterable[Need] = (),
    since: str = "1.0",
    waits: bool = False,
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Enter a function into the catalogue.

    Args:
        case_id: Subject and promise, as in `delay.never_early`.
        clauses: The clauses that it checks.
        why: What goes wrong in practice without it.
        needs: Facets and requirements that must be met, else the case is skipped by name; with
            `absent(...)` among them it checks that something is refused.
        since: First suite version in which a failure counts.
        waits: On a real clock the case mostly waits.
    """
    wanted = tuple(requirement(need) for need in needs)
    if any(isinstance(need, Absent) for need in wanted):
        level = Level.NEGATIVE
    else:
        level = Level.CAPABILITY if wanted else Level.CORE

    def enter(function: Callable[[Bench], None]) -> Callable[[Bench], None]:
        if _ID.fullmatch(case_id) is None or case_id in _cases:
            raise ValueError(f"case id {case_id!r} is malformed or taken")
        _cases[case_id] = Case(
            id=case_id,
            clauses=clauses,
            level=level,
            needs=wanted,
            since=since,
            why=why,
            run=function,
            waits=waits,
        )
        return function

    return enter


@cache
def _loaded() -> None:
    for name in _MODULES:
        import_module(f"kessel_conformance.cases.{name}")


def cases() -> Mapping[str, Case]:
    """Return the whole catalogue, by id."""
    _loaded()
    return MappingProxyType(_cases)


def known_version(text: str) -> tuple[int, ...]:
    """Read a suite version.

    Raises:
        ValueError: It is none, or this suite does not know it.
    """
    if re.fullmatch(r"\d+\.\d+", text) is None:
        raise ValueError(f"expected a suite version such as {SUITE_VERSION}, got {text!r}")
    # An older one than the first would leave nothing that counts.
    if not ordered(_FIRST_VERSION) <= ordered(text) <= ordered(SUITE_VERSION):
        raise ValueError(f"this is suite {SUITE_VERSION}, it does not know {text}")
    return ordered(text)


def ordered(version: str) -> tuple[int, ...]:
    """Turn a version into what compares by number."""
    return tuple(map(int, version.split(".")))
