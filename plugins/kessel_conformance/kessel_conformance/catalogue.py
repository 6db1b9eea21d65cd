"""The catalogues: every case with its clause, what it needs, and why it is there.

There is one for adapters and one for stores. A case is a function of a bench. It is selected by what the
adapter or the store can do, never by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from kessel_conformance.requirements import Absent, Need, Requirement, requirement

__all__ = [
    "ADAPTERS",
    "STORES",
    "SUITE_VERSION",
    "Case",
    "Catalogue",
    "Level",
    "case",
    "cases",
    "catalogue_of",
    "known_version",
]

#: What is run: a function of a bench, which is `Bench` for adapters and `StoreBench` for stores.
_Function: TypeAlias = Callable[[Any], None]
_F = TypeVar("_F", bound=_Function)

#: Version of the catalogues; a case says since which one it counts.
SUITE_VERSION: Final = "1.0"
_FIRST_VERSION: Final = "1.0"

_MODULES: Final = (
    "enqueueing",
    "queues",
    "names",
    "many",
    "delivery",
    "consumers",
    "killing",
    "sharing",
    "racing",
    "meeting",
    "settling",
    "holding",
    "burying",
    "snoozing",
    "retrying",
    "following",
    "forking",
    "bringing",
    "waking",
    "drowsing",
    "hearing",
    "overhearing",
    "polling",
    "oversleeping",
    "order",
    "keeping",
    "repeating",
    "delay",
    "times",
    "moments",
    "returning",
    "lease",
    "lease_ends",
    "ended",
    "operations",
    "ages",
    "shown",
    "showing",
    "looking",
    "pausing",
    "afterwards",
    "opening",
    "closing",
    "passing",
    "durable",
    "lost",
    "unanswered",
    "strangers",
    "restarting",
    "unheard",
    "reconnecting",
    "files",
    "torn",
    "midway",
    "scale",
    "clocks",
    "jumping",
    "refusal",
    "manager",
    "model",
    "full",
)
_STORE_MODULES: Final = ("keeping", "expecting", "ending", "durable", "scanning", "waiting", "lost", "model")
_ID: Final = re.compile(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*")


class Level(StrEnum):
    """Who has to pass a case."""

    #: Everybody.
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
    #: Who has to pass it; follows from `needs`.
    level: Level
    #: What must be there, or must not.
    needs: tuple[Requirement, ...] = ()
    #: First suite version in which a failure counts.
    since: str = "1.0"
    #: What goes wrong in practice without it.
    why: str
    #: The check itself, a function of a `Bench`.
    run: _Function
    #: On a real clock it mostly waits, so such cases run side by side.
    waits: bool = False
    #: Nothing else may use its server or its files meanwhile.
    alone: bool = False
    #: It measures milliseconds, so on a real clock no other case may work meanwhile.
    quiet: bool = False
    #: Capabilities that it looks at where they are declared, beside those that it needs.
    looks_at: tuple[str, ...] = ()
    #: It needs real time, whatever clock the adapter takes, so it runs beside the others on every clock.
    real_time: bool = False

    @property
    def shows(self) -> tuple[str, ...]:
        """Names of what it shows to be true: capabilities, facets, or else what it needs of the harness."""
        named = [need.shows for need in self.needs if need.shows is not None]
        return (*named, *self.looks_at) or tuple(need.name for need in self.needs)

    def skip_reason(self, harness: Any) -> str | None:
        """Return for whom the case is; None if it is for what a harness that is up opens."""
        return next(filter(None, (need.missing(harness) for need in self.needs)), None)

    def hidden(self, harness: Any) -> tuple[str, tuple[str, ...]] | None:
        """Say what a case that applies cannot look at on a harness that is up.

        Returns:
            The reason, and the names of what is therefore not shown; None if the case can be run.
        """
        reasons = {need: reason for need in self.needs if (reason := need.hidden(harness)) is not None}
        if not reasons:
            return None
        named = tuple(need.shows for need in reasons if need.shows is not None)
        return "; ".join(reasons.values()), named or self.shows


class Catalogue:
    """The cases for one kind of thing, by id.

    Args:
        package: Where the modules are that enter cases.
        modules: Their names, in the order in which cases are listed and run.
    """

    def __init__(self, package: str, modules: Iterable[str]) -> None:
        self._modules = [f"{package}.{name}" for name in modules]
        self._cases: dict[str, Case] = {}

    def cases(self) -> Mapping[str, Case]:
        """Return all of them."""
        for name in self._modules:
            import_module(name)
        # Whoever imports one of the modules by itself has its cases entered before those of the others.
        place = {name: number for number, name in enumerate(self._modules)}
        ordered = sorted(self._cases.values(), key=lambda one: place.get(one.run.__module__, len(place)))
        self._cases = {one.id: one for one in ordered}
        return MappingProxyType(self._cases)

    def case(
        self,
        case_id: str,
        *clauses: str,
        why: str,
        needs: Iterable[Need] = (),
        since: str = "1.0",
        waits: bool = False,
        alone: bool = False,
        quiet: bool = False,
        real_time: bool = False,
        looks_at: Iterable[str] = (),
    ) -> Callable[[_F], _F]:
        """Enter a function into the catalogue.

        Args:
            case_id: Subject and promise, as in `delay.never_early`.
            clauses: The clauses that it checks.
            why: What goes wrong in practice without it.
            needs: Facets and requirements that must be met, else the case does not apply, or is not shown;
                with `absent(...)` among them it checks that something is refused.
            since: First suite version in which a failure counts.
            waits: On a real clock the case mostly waits.
            alone: Nothing else may use its server or its files meanwhile: it restarts it, counts what is
                there, or sets the wall clock, by which leases of other cases may be counted.
            quiet: It measures milliseconds, so on a real clock no other case may work meanwhile.
            real_time: It needs real time, whatever clock is given; as `Bench.in_real_time` provides it.
            looks_at: Names of capabilities that it looks at where they are declared, beside those in `needs`.
        """
        wanted = tuple(requirement(need) for need in needs)
        if any(isinstance(need, Absent) for need in wanted):
            level = Level.NEGATIVE
        else:
            level = Level.CAPABILITY if wanted else Level.CORE

        def enter(function: _F) -> _F:
            if _ID.fullmatch(case_id) is None or case_id in self._cases:
                raise ValueError(f"case id {case_id!r} is malformed or taken")
            self._cases[case_id] = Case(
                id=case_id,
                clauses=clauses,
                level=level,
                needs=wanted,
                since=since,
                why=why,
                run=function,
                waits=waits,
                alone=alone,
                quiet=quiet,
                real_time=real_time,
                looks_at=tuple(looks_at),
            )
            return function

        return enter


ADAPTERS: Final = Catalogue("kessel_conformance.cases", _MODULES)
STORES: Final = Catalogue("kessel_conformance.stores.cases", _STORE_MODULES)
#: Those of adapters, which authors of adapters use, too.
case: Final = ADAPTERS.case
cases: Final = ADAPTERS.cases


def catalogue_of(kind: str) -> Catalogue:
    """Return the catalogue for an `adapter` or a `store`."""
    return {"adapter": ADAPTERS, "store": STORES}[kind]


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
