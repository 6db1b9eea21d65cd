"""What the way of a job knows of one that is held: how to settle it, and what came of that."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from kessel_core.contract.messages import Reservation
from kessel_core.errors import EnqueueRejected
from kessel_core.features.progress import Reported
from kessel_core.model.settlement import Settlement
from kessel_core.runtime.following import FollowUp

__all__ = ["GIVEN_BACK", "LEASE_LOST", "NOT_TOLD", "SETTLED", "HeldJob", "SettleResult", "Trouble"]


class Trouble(Enum):
    """Why the queue took no settlement; the job is delivered again."""

    #: The lease had ended.
    LEASE_LOST = auto()
    #: The queue could not be told in time, or failed.
    NOT_TOLD = auto()


class SettleResult(NamedTuple):  # not attrs: created for every job
    """The result of settling."""

    #: Whether the queue accepted the settlement.
    is_settled: bool
    #: The next reservation, if it was taken in the same call.
    following: Reservation | None = None
    #: Why nothing was settled: a job that was to follow is refused (S20). The lease still holds.
    refused: EnqueueRejected | None = None
    #: Why nothing was settled otherwise; None also if a stopping worker has given the job back.
    trouble: Trouble | None = None


SETTLED: Final = SettleResult(True)
GIVEN_BACK: Final = SettleResult(False)
LEASE_LOST: Final = SettleResult(False, trouble=Trouble.LEASE_LOST)
NOT_TOLD: Final = SettleResult(False, trouble=Trouble.NOT_TOLD)


class HeldJob(Protocol):
    """What the pipeline needs to know of a held job; a `Lease`, or its stand-in for a job without a queue."""

    @property
    def reservation(self) -> Reservation:
        """The delivery."""
        ...

    @property
    def asked(self) -> list[FollowUp]:
        """The jobs that the handler asked for, in order (S20)."""
        ...

    #: Whether the handler and its middleware have ended: what is asked for from now on is not stored.
    has_ended: bool
    #: What the handler reported (S27); None: nothing.
    reported: Reported | None

    @property
    def is_held(self) -> bool:
        """Whether the job is still held here, as far as is known, and this process may use the queue."""
        ...

    def begin(self, longest: float) -> None:
        """Record that the handler starts, and how many seconds it may run."""
        ...

    def extend(self) -> None:
        """Renew the lease."""
        ...

    def attempt(self) -> int:
        """Return the exact number of this attempt, or the best estimate; raises nothing."""
        ...

    def kicks(self) -> int:
        """Return how many times the job was kicked, or the best estimate; raises nothing."""
        ...

    def settle(
        self, settlement: Settlement, *, take_next: bool, before: Callable[[], None] | None = None
    ) -> SettleResult:
        """Settle the job and end the lease; raises nothing.

        Args:
            settlement: How.
            take_next: Whether the next job may be reserved in the same call.
            before: What has to succeed first; see `FollowUps.with_settlement`.
        """
        ...
