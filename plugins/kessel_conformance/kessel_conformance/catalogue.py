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
    "lost",
    "scale",
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
    #: Nothing else may use its server meanwhile.
    alone: bool = False
    #: Capabilities that it looks at where they are declared, beside those that it needs.
    looks_at: tuple[str, ...] = ()

    @property
    def shows(self) -> tuple[str, ...]:
        """Names of what it shows to be true: capabilities, facets, or else what it needs of the harness."""
        named = [need.shows for need in self.needs if need.shows is not None]
        return (*named, *self.looks_at) or tuple(need.name for need in self.needs)

    def skip_reason(self, harness: Harness) -> str | None:
        """Return for which adapters the case is; None if that of a harness that is up is one of them."""
        return next(filter(None, (need.missing(harness) for need in self.needs)), None)

    def hidden(self, harness: Harness) -> tuple[str, tuple[str, ...]] | None:
        """Say what a case that applies cannot look at on a harness that is up.

        Returns:
            The reason, and the names of what is therefore not shown; None if the case can be run.
        """
        reasons = {need: reason for need in self.needs if (reason := need.hidden(harness)) is not None}
        if not reasons:
            return None
        named = tuple(need.shows for need in reasons if need.shows is not None)
        return "; ".join(reasons.values()), named or self.shows


_cases: dict[str, Case] = {}


def case(
    case_id: str,
    *clauses: str,
    why: str,
    needs: Iterable[Need] = (),
    since: str = "1.0",
    waits: bool = False,
    alone: bool = False,
    looks_at: Iterable[str] = (),
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Enter a function into the catalogue.

    Args:
        case_id: Subject and promise, as in `delay.never_early`.
        clauses: The clauses that it checks.
        why: What goes wrong in practice without it.
        needs: Facets and requirements that must be met, else the case does not apply, or is not shown; with
            `absent(...)` among them it checks that something is refused.
        since: First suite version in which a failure counts.
        waits: On a real clock the case mostly waits.
        alone: Nothing else may use its server meanwhile: it restarts it, or counts what is there.
        looks_at: Names of capabilities that it looks at where they are declared, beside those in `needs`.
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
            alone=alone,
            looks_at=tuple(looks_at),
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
