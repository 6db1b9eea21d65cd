"""What a case may need of the adapter or of the harness: one object for each, documented where it stands.

A case lists facets (`Browse`), requirements of this module (`LEASE`), or `absent(...)` of either. A need that
is not met skips the case, and `missing` says why.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import attrs

from kessel_core.contract import Capabilities, Facet, FacetKind, Reach

if TYPE_CHECKING:
    from kessel_conformance.harness import Harness

__all__ = [
    "ATTEMPTS",
    "BLOCKING_RESERVE",
    "COUNTS",
    "DEDUPE",
    "DELAYS",
    "DURABILITY",
    "FENCING",
    "LEASE",
    "MAX_BODY_BYTES",
    "PRIORITIES",
    "RESTART",
    "SHARED_REACH",
    "TIE_BREAK",
    "VIRTUAL_CLOCK",
    "Absent",
    "Declared",
    "HasFacet",
    "Need",
    "Requirement",
    "absent",
    "requirement",
]

#: Seconds; a longer lease would make the cases about leases too slow where time cannot be moved.
_LONGEST_REAL_LEASE: Final = 10.0
_LARGEST_BODY: Final = 16 * 1024 * 1024


class Requirement(ABC):
    """One thing that a case may need; immutable, so safe for any thread."""

    @property
    @abstractmethod
    def name(self) -> str:
        """How reports and the page of clauses call it."""

    @abstractmethod
    def missing(self, harness: Harness) -> str | None:
        """Return why a harness that is up does not meet it, or None if it does."""


@attrs.frozen
class HasFacet(Requirement):
    """The adapter has a facet."""

    #: A facet of the contract, or of a third party.
    kind: type[Facet]

    @property
    def name(self) -> str:
        """The facet's name."""
        return self.kind.facet_name

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return None if self.kind in harness.facets else f"the facet {self.name} is not there"


@attrs.frozen
class Declared(Requirement):
    """A field of `Capabilities` has a value that declares something."""

    #: Name of the field.
    field: str = attrs.field()

    @field.validator
    def _is_known(self, _: object, value: str) -> None:
        attrs.fields_dict(Capabilities)[value]  # a KeyError names what is misspelt

    @property
    def name(self) -> str:
        """The field's name."""
        return self.field

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return None if self.field in harness.capabilities.declared() else f"{self.field} is not declared"


class _Lease(Declared):
    """A lease is declared, and where it must be waited for it is short enough for that."""

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        lease = harness.capabilities.lease
        if lease is None or harness.virtual or lease.total_seconds() <= _LONGEST_REAL_LEASE:
            return super().missing(harness)
        longest = f"give {_LONGEST_REAL_LEASE:g} s at most"
        return f"a lease of {lease.total_seconds():g} s is too long for a real clock; {longest}"


class _BodyLimit(Declared):
    """A limit is declared, and it is small enough to be tried."""

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        limit = harness.capabilities.max_body_bytes
        if limit is None or limit <= _LARGEST_BODY:
            return super().missing(harness)
        return f"a limit of {limit} bytes is too large to try; give {_LARGEST_BODY} at most"


class _SharedReach(Requirement):
    """Jobs are seen beyond this process, so that a second adapter sees those of the first."""

    name = "reach beyond this process"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        is_shared = harness.capabilities.reach is not Reach.PROCESS
        return None if is_shared else "reach is this process only"


class _Restart(Requirement):
    """The harness has `restart`."""

    name = "restart"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return None if harness.can_restart else "the harness has no restart()"


class _OnVirtualClock(Requirement):
    """The cases run on a virtual clock: the adapter has `VirtualTime`, and the harness lets it be used."""

    name = "virtual clock"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return None if harness.virtual else "needs a virtual clock"


@attrs.frozen
class Absent(Requirement):
    """Something is not there, so that the case checks that it is refused (S17)."""

    #: What must be missing.
    of: Requirement

    @property
    def name(self) -> str:
        """The name of what must be missing, with a "no" before it."""
        return f"no {self.of.name}"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return None if self.of.missing(harness) is not None else f"{self.of.name} is there"


#: What a case may list: a facet stands for `HasFacet` of it.
Need: TypeAlias = Requirement | FacetKind[Facet]


def requirement(need: Need) -> Requirement:
    """Return a need as a requirement."""
    return need if isinstance(need, Requirement) else HasFacet(cast("type[Facet]", need))


def absent(need: Need) -> Absent:
    """Return the requirement that something is not there."""
    return Absent(requirement(need))


#: Deliveries are counted (S10).
ATTEMPTS: Final = Declared("attempts")
#: A waiting reserve is woken by a job, it does not poll.
BLOCKING_RESERVE: Final = Declared("blocking_reserve")
#: `stats` counts exactly.
COUNTS: Final = Declared("counts")
#: An id that is still held is stored once.
DEDUPE: Final = Declared("dedupe")
#: Delays and pauses are kept (S4).
DELAYS: Final = Declared("delay_granularity")
#: Something survives the end of the process (S9).
DURABILITY: Final = Declared("durability")
#: The backend itself refuses old reservations (S7).
FENCING: Final = Declared("fencing")
#: A reservation runs out (S7).
LEASE: Final = _Lease("lease")
#: Bodies have a largest size (S2).
MAX_BODY_BYTES: Final = _BodyLimit("max_body_bytes")
#: Priorities are told apart (S3, S6).
PRIORITIES: Final = Declared("priorities")
#: The order among equals is promised (S6).
TIE_BREAK: Final = Declared("tie_break")
#: A second adapter sees the same jobs.
SHARED_REACH: Final = _SharedReach()
#: The server can be restarted with its data.
RESTART: Final = _Restart()
#: Time passes only when the suite moves it.
VIRTUAL_CLOCK: Final = _OnVirtualClock()
