"""The catalogue: every case with its clause, what it needs, and why it is there.

A case is a function of a `Bench`. It is chosen by what the adapter declares, never by its name.
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

from kessel_core.contract import Capabilities, Reach

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["SUITE_VERSION", "Case", "Level", "case", "cases", "known_version", "missing_need"]

#: Version of the catalogue; a case says since which one it counts.
SUITE_VERSION: Final = "1.0"
_FIRST_VERSION: Final = "1.0"

_MODULES: Final = (
    "delivery",
    "settling",
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
    #: Who declares the capabilities that it needs.
    CAPABILITY = "capability"
    #: Who does *not* declare them: they must be refused (S17).
    NEGATIVE = "negative"


@attrs.frozen(kw_only=True)
class Case:
    """One check."""

    #: Subject and promise, as in `delay.never_early`.
    id: str
    #: The clauses that it checks, as in `S4`.
    clauses: tuple[str, ...]
    level: Level
    #: Capabilities by name. `harness.restart` and `clock.virtual` name what the harness must have;
    #: `reach.host` is a reach beyond this process.
    needs: tuple[str, ...] = ()
    #: First suite version in which a failure counts.
    since: str = "1.0"
    #: What goes wrong in practice without it.
    why: str
    run: Callable[[Bench], None]
    #: On a real clock it mostly waits, so such cases run side by side.
    waits: bool = False


_cases: dict[str, Case] = {}


def case(
    case_id: str,
    *clauses: str,
    why: str,
    needs: Iterable[str] = (),
    refuses: str | None = None,
    since: str = "1.0",
    waits: bool = False,
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Enter a function into the catalogue.

    Args:
        case_id: Subject and promise, as in `delay.never_early`.
        clauses: The clauses that it checks.
        why: What goes wrong in practice without it.
        needs: Capabilities that must be declared, else the case is skipped by name.
        refuses: A capability that must *not* be declared: the case checks that it is refused.
        since: First suite version in which a failure counts.
        waits: On a real clock the case mostly waits.
    """
    wanted = tuple(needs)
    if refuses is not None:
        level, wanted = Level.NEGATIVE, (*wanted, f"no {refuses}")
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


def missing_need(wanted: Case, declared: Capabilities, *, virtual: bool, can_restart: bool) -> str | None:
    """Return why a case does not apply, or None if it does."""
    names = set(declared.declared())
    for need in wanted.needs:
        if need == "harness.restart":
            if not can_restart:
                return "the harness has no restart()"
        elif need == "clock.virtual":
            if not virtual:
                return "needs a virtual clock"
        elif need.startswith("no "):
            if need[3:] in names:
                return f"{need[3:]} is declared"
        elif need == "reach.host":
            if declared.reach is Reach.PROCESS:
                return "reach is this process only"
        elif need == "durability" and declared.durability == "none":
            return "durability is not declared"
        elif need not in names:
            return f"{need} is not declared"
    if "max_body_bytes" in wanted.needs and (declared.max_body_bytes or 0) > _LARGEST_BODY:
        return f"a limit of {declared.max_body_bytes} bytes is too large to try; give {_LARGEST_BODY} at most"
    if "lease" in wanted.needs and not virtual and declared.lease is not None:
        seconds = declared.lease.total_seconds()
        if wanted.waits and seconds > _LONGEST_REAL_LEASE:
            return f"a lease of {seconds:g} s is too long for a real clock; give {_LONGEST_REAL_LEASE:g} s at most"  # noqa: E501  # one line of text
    return None


_LONGEST_REAL_LEASE: Final = 10.0
_LARGEST_BODY: Final = 16 * 1024 * 1024
