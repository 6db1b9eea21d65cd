"""What a case for stores may need of the store or of the harness; as `kessel_conformance.requirements`."""

from __future__ import annotations

from typing import Final

import attrs

from kessel_conformance.requirements import Requirement
from kessel_conformance.stores.harness import StoreHarness
from kessel_core.contract import Reach, StoreCapabilities

__all__ = [
    "CONNECTION",
    "DURABILITY",
    "MAX_VALUE_BYTES",
    "OTHER_PROCESS",
    "SHARED_REACH",
    "VIRTUAL_TIME",
    "WAKES",
]

_LARGEST_VALUE: Final = 16 * 1024 * 1024


@attrs.frozen
class _Declared(Requirement):
    """A field of `StoreCapabilities` has a value that declares something."""

    #: Name of the field.
    field: str = attrs.field()

    @field.validator
    def _is_known(self, _: object, value: str) -> None:
        attrs.fields_dict(StoreCapabilities)[value]  # a KeyError names what is misspelt

    @property
    def name(self) -> str:
        """The field's name."""
        return self.field

    @property
    def shows(self) -> str:
        """The field's name."""
        return self.field

    def missing(self, harness: StoreHarness) -> str | None:
        """As `Requirement.missing`."""
        return (
            None if self.field in harness.capabilities.declared() else f"for stores that declare {self.field}"
        )


class _ValueLimit(_Declared):
    """A limit is declared; it is shown if it is small enough to be tried."""

    def hidden(self, harness: StoreHarness) -> str | None:
        """As `Requirement.hidden`."""
        limit = harness.capabilities.max_value_bytes
        if limit is None or limit <= _LARGEST_VALUE:
            return None
        return f"a limit of {limit} bytes is too large to try; give the harness {_LARGEST_VALUE} at most"


class _VirtualTime(_Declared):
    """A virtual clock is taken; what is done with it is shown if the harness lets it be used."""

    def missing(self, harness: StoreHarness) -> str | None:
        """As `Requirement.missing`."""
        return None if harness.capabilities.virtual_time else "for stores that declare virtual_time"

    def hidden(self, harness: StoreHarness) -> str | None:
        """As `Requirement.hidden`."""
        return None if harness.virtual else "the harness says real_clock; let another suite class do without"


class _SharedReach(Requirement):
    """Entries are seen beyond this process."""

    name = "reach beyond this process"
    shows = "reach"

    def missing(self, harness: StoreHarness) -> str | None:
        """As `Requirement.missing`."""
        is_shared = harness.capabilities.reach is not Reach.PROCESS
        return None if is_shared else "for stores that other processes see, too"


class _Connection(Requirement):
    """The store talks to a server at a port that the harness fills in, so that it may be a proxy's."""

    name = "a connection"
    shows = "reach"

    def missing(self, harness: StoreHarness) -> str | None:
        """As `Requirement.missing`."""
        return None if harness.capabilities.reach is Reach.NETWORK else "for stores over a network"

    def hidden(self, harness: StoreHarness) -> str | None:
        """As `Requirement.hidden`."""
        is_known = harness.values.get("port", "").isdigit()
        return None if is_known else "the harness has no {port}, so that no connection can be broken"


class _OtherProcess(Requirement):
    """Another process can open the same store."""

    name = "another process"

    def missing(self, harness: StoreHarness) -> str | None:
        """As `Requirement.missing`."""
        return None

    def hidden(self, harness: StoreHarness) -> str | None:
        """As `Requirement.hidden`."""
        try:
            harness.opening("any")
        except LookupError as exc:
            return str(exc)
        return None


#: Connections can be broken.
CONNECTION: Final = _Connection()
#: Another process can be started that has the same store open.
OTHER_PROCESS: Final = _OtherProcess()
#: Something survives the end of the process (S19c).
DURABILITY: Final = _Declared("durability")
#: Values have a largest size.
MAX_VALUE_BYTES: Final = _ValueLimit("max_value_bytes")
#: Another process sees the same entries.
SHARED_REACH: Final = _SharedReach()
#: All time comes from the application's clock.
VIRTUAL_TIME: Final = _VirtualTime("virtual_time")
#: A wait is woken by a write, it does not poll (S19e).
WAKES: Final = _Declared("wakes")
