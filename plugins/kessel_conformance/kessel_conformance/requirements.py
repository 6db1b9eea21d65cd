"""What a case may need of the adapter or of the harness: one object for each, documented where it stands.

A case lists facets (`Browse`), requirements of this module (`LEASE`), or `absent(...)` of either. A need
answers two questions: `missing`, whether the case applies to this adapter at all, and `hidden`, whether this
run can look at what is declared. What is hidden is *not shown*: it is declared, and nobody knows whether it
is true.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs

from kessel_core.contract import Capabilities, Facet, FacetKind, LeaseReturn, Reach, VirtualTime

if TYPE_CHECKING:
    from kessel_conformance.harness import Harness
    from kessel_conformance.harness_base import AnyHarness

__all__ = [
    "ATTEMPTS",
    "BLOCKING_RESERVE",
    "CONNECTION",
    "COUNTS",
    "DEDUPE",
    "DELAYS",
    "DURABILITY",
    "FENCING",
    "FOLLOW",
    "KEEPS_LEASES",
    "KICKS",
    "LEASE",
    "LEASE_RETURN",
    "LOST_RESERVES",
    "MAX_BODY_BYTES",
    "NETWORK",
    "PRIORITIES",
    "RESTART",
    "RETURNS_AT_ONCE",
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
    def missing(self, harness: Any) -> str | None:
        """Return for whom the case is; None if it is for what a harness that is up opens."""

    def hidden(self, harness: Any) -> str | None:
        """Return why a harness that is up cannot look at what is declared, and what to do; None if it can."""
        return None

    def is_met(self, harness: Any) -> bool:
        """Whether a harness that is up has it, and can look at it."""
        return self.missing(harness) is None and self.hidden(harness) is None

    @property
    def shows(self) -> str | None:
        """The capability or the facet that a case with this need looks at; None: it is the harness's."""
        return None


@attrs.frozen
class HasFacet(Requirement):
    """The adapter has a facet."""

    #: A facet of the contract, or of a third party.
    kind: type[Facet]

    @property
    def name(self) -> str:
        """The facet's name."""
        return self.kind.facet_name

    @property
    def shows(self) -> str:
        """The facet's name."""
        return self.name

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return None if self.kind in harness.facets else f"for adapters with the facet {self.name}"


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

    @property
    def shows(self) -> str:
        """The field's name."""
        return self.field

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return (
            None
            if self.field in harness.capabilities.declared()
            else f"for adapters that declare {self.field}"
        )


class _Lease(Declared):
    """A lease is declared; where it must be waited for it is shown if it is short enough for that."""

    def hidden(self, harness: Harness) -> str | None:
        """As `Requirement.hidden`."""
        lease = harness.capabilities.lease
        if lease is None or harness.virtual or lease.total_seconds() <= _LONGEST_REAL_LEASE:
            return None
        longest = f"give the harness {_LONGEST_REAL_LEASE:g} s at most"
        return f"a lease of {lease.total_seconds():g} s is too long for a real clock; {longest}"


class _BodyLimit(Declared):
    """A limit is declared; it is shown if it is small enough to be tried."""

    def hidden(self, harness: Harness) -> str | None:
        """As `Requirement.hidden`."""
        limit = harness.capabilities.max_body_bytes
        if limit is None or limit <= _LARGEST_BODY:
            return None
        return f"a limit of {limit} bytes is too large to try; give the harness {_LARGEST_BODY} at most"


class _SharedReach(Requirement):
    """Jobs are seen beyond this process, so that a second adapter sees those of the first."""

    name = "reach beyond this process"
    shows = "reach"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        is_shared = harness.capabilities.reach is not Reach.PROCESS
        return None if is_shared else "for adapters whose jobs others see, too"


class _ReturnsAtOnce(Requirement):
    """The job of a worker that is gone comes back without waiting for the end of its lease."""

    name = "lease_return at once"
    shows = "lease_return"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        is_late = harness.capabilities.lease_return is LeaseReturn.LEASE_END
        return "for adapters that give back the jobs of a dead worker at once" if is_late else None


class _KeepsLeases(Requirement):
    """A job is under its lease until that is over, and it is counted so, whatever becomes of its holder."""

    name = "lease_return at the end of the lease"
    shows = "lease_return"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        declared = harness.capabilities
        keeps = declared.lease_return is LeaseReturn.LEASE_END and declared.counts
        return None if keeps else "for adapters that keep, and count, the jobs of a dead worker"


class _Restart(Requirement):
    """There is a server; what survives its end is shown if the harness has `restart`."""

    name = "restart"

    def missing(self, harness: AnyHarness) -> str | None:
        """As `Requirement.missing`."""
        return None if harness.has_server else f"for {harness.kind}s with a server"

    def hidden(self, harness: AnyHarness) -> str | None:
        """As `Requirement.hidden`."""
        return None if harness.can_restart else "the harness has no restart(); ServerHarness has one"


class _Connection(Requirement):
    """The adapter talks to a server at a port that the harness fills in, so that it may be a proxy's."""

    name = "a connection"
    shows = "reach"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return None if harness.capabilities.reach is Reach.NETWORK else "for adapters over a network"

    def hidden(self, harness: Harness) -> str | None:
        """As `Requirement.hidden`."""
        is_known = harness.values.get("port", "").isdigit()
        return None if is_known else "the harness has no {port}, so that no connection can be broken"


class _Network(Requirement):
    """Machines with clocks of their own share the jobs."""

    name = "a network"
    shows = "reach"

    def missing(self, harness: AnyHarness) -> str | None:
        """As `Requirement.missing`."""
        return None if harness.capabilities.reach is Reach.NETWORK else "for adapters over a network"

    def hidden(self, harness: AnyHarness) -> str | None:
        """As `Requirement.hidden`."""
        return "one virtual clock is everybody's; say real_clock" if harness.virtual else None


class _OnVirtualClock(Requirement):
    """The adapter takes a virtual clock; what it does with it is shown if the harness lets it be used."""

    name = "virtual clock"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return None if VirtualTime in harness.facets else "for adapters with the facet virtual_time"

    def hidden(self, harness: Harness) -> str | None:
        """As `Requirement.hidden`."""
        return None if harness.virtual else "the harness says real_clock; let another suite class do without"


@attrs.frozen
class Absent(Requirement):
    """Something is not there, so that the case checks that it is refused (S17)."""

    #: What must be missing.
    of: Requirement

    @property
    def name(self) -> str:
        """The name of what must be missing, with a "no" before it."""
        return f"no {self.of.name}"

    def missing(self, harness: AnyHarness) -> str | None:
        """As `Requirement.missing`."""
        return None if self.of.missing(harness) is not None else f"for {harness.kind}s without {self.of.name}"


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
#: A settlement brings jobs and entries along, in one transaction (S20).
FOLLOW: Final = Declared("follow")
#: What a dead worker held is under its lease until that is over, and counted so (S7, S9).
KEEPS_LEASES: Final = _KeepsLeases()
#: Kicks are counted (S22).
KICKS: Final = Declared("kicks")
#: A reservation runs out (S7).
LEASE: Final = _Lease("lease")
#: What a dead worker held comes back, at once or when its lease is over (S9).
LEASE_RETURN: Final = Declared("lease_return")
#: What a reserve took whose answer was lost is ready again within seconds (S7).
LOST_RESERVES: Final = Declared("lost_reserves")
#: Bodies have a largest size (S2).
MAX_BODY_BYTES: Final = _BodyLimit("max_body_bytes")
#: Priorities are told apart (S3, S6).
PRIORITIES: Final = Declared("priorities")
#: The order among equals is promised (S6).
TIE_BREAK: Final = Declared("tie_break")
#: What a dead worker held comes back at once (S9).
RETURNS_AT_ONCE: Final = _ReturnsAtOnce()
#: A second adapter sees the same jobs.
SHARED_REACH: Final = _SharedReach()
#: Machines with clocks of their own share the jobs.
NETWORK: Final = _Network()
#: Connections can be broken.
CONNECTION: Final = _Connection()
#: The server can be restarted with its data.
RESTART: Final = _Restart()
#: Time passes only when the suite moves it.
VIRTUAL_CLOCK: Final = _OnVirtualClock()
