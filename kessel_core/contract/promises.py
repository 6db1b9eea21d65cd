"""What an adapter promises, with values that the conformance suite tests."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

import attrs

__all__ = ["Attempts", "Capabilities", "Durability", "LeaseReturn", "Reach", "TieBreak"]


class Reach(StrEnum):
    """Who can see the jobs of an adapter."""

    #: Only the process that opened it.
    PROCESS = "process"
    #: Every process of one machine.
    HOST = "host"
    #: Every machine that can reach the server.
    NETWORK = "network"


class Durability(StrEnum):
    """What an acknowledged job survives."""

    #: Nothing: it is gone when this process ends.
    NONE = "none"
    #: The death of any process, the backend's included.
    PROCESS_CRASH = "process-crash"
    #: Loss of power.
    POWER = "power"


class TieBreak(StrEnum):
    """The order of ready jobs of equal priority (S6)."""

    #: Always in the order of enqueueing: a job that was delayed, rolled back or kicked takes its old
    #: place, ahead of younger ones.
    ENQUEUED = "enqueued"
    #: In the order of becoming ready: such a job queues behind those that were ready before it.
    READY = "ready"


class LeaseReturn(StrEnum):
    """When the jobs of a dead worker come back."""

    #: As soon as the backend sees that the worker is gone.
    AT_ONCE = "at-once"
    #: When the lease is over.
    LEASE_END = "lease-end"


class Attempts(StrEnum):
    """How durable the count of deliveries is (S10)."""

    #: Lost when the backend's process ends.
    SERVER = "server"
    #: As durable as the job.
    DURABLE = "durable"


@attrs.frozen(kw_only=True)
class Capabilities:
    """What an adapter promises about its operations. None, False or 'none' means: not declared.

    Operations beyond the core contract are facets; see `QueueAdapter.facet`.
    """

    #: Who can see the jobs.
    reach: Reach
    #: What an acknowledged enqueue survives (S9).
    durability: Durability = Durability.NONE
    #: Delays are rounded up to a multiple of this; None: delays are not supported (S4).
    delay_granularity: timedelta | None = None
    #: Longest delay; None: no limit.
    longest_delay: timedelta | None = None
    #: Lowest and highest priority number that is distinguished; None: priorities are ignored (S3, S6).
    priorities: tuple[int, int] | None = None
    #: Order of ready jobs of equal priority; None: no order is promised (S6).
    tie_break: TieBreak | None = None
    #: Longest body in bytes; None: no limit (S2).
    max_body_bytes: int | None = None
    #: Length of a lease; None: a reservation never runs out while the process lives (S7).
    lease: timedelta | None = None
    #: When a dead worker's jobs come back; None: never, they are gone with the process (S9).
    lease_return: LeaseReturn | None = None
    #: The backend itself refuses to settle an outdated reservation, not only the client (S7).
    fencing: bool = False
    #: How durable the count of deliveries is; None: deliveries are not counted (S10).
    attempts: Attempts | None = None
    #: Enqueueing an id whose job is still in the adapter, in any queue and state, stores nothing: `IdHeld`.
    dedupe: bool = False
    #: `stats` is exact.
    counts: bool = False
    #: A waiting `reserve` is woken by a job that becomes ready; it does not poll.
    blocking_reserve: bool = False

    def declared(self) -> tuple[str, ...]:
        """Return the names of what is declared, in the order of the fields."""
        return tuple(
            field.name
            for field in attrs.fields(type(self))
            if getattr(self, field.name) not in (None, False, Durability.NONE)
        )
