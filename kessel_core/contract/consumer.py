"""The consuming side of the contract, for one slot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta

from kessel_core.contract.messages import Reservation
from kessel_core.errors import AdapterError
from kessel_core.model.settlement import NO_PAUSE, Settlement

__all__ = ["Consumer"]


class Consumer(ABC):
    """The consuming side for one slot.

    Created by `QueueAdapter.consumer`. All methods except `extend` and `cancel` are called by one
    thread only. It holds at most one reservation at a time.
    """

    @abstractmethod
    def reserve(self, timeout: timedelta) -> Reservation | None:
        """Take the next ready job of the queues and hold it for one lease.

        Among ready jobs the lowest priority number goes first, equal ones in the order of the declared
        `tie_break` (S6). Nothing is delivered before its delay (S4), and every delivery counts as an
        attempt (S10).

        Args:
            timeout: Longest wait, zero or more. An adapter may wait up to its granularity longer.

        Returns:
            The reservation; None if nothing became ready in time, or after `cancel`.

        Raises:
            AdapterUnavailable: The connection is gone; calling again reconnects.
            ProtocolError: The server that answers is not the expected backend.
        """

    @abstractmethod
    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """End the reservation: commit, rollback, snooze or bury (S8, S21).

        A job that comes back keeps its own priority. A snooze takes this delivery out of the count of
        attempts, and counts it as a snooze. Where `follow` is declared, a commit or burial also stores what
        it brings along, in one transaction (S20).

        Raises:
            EnqueueRejected: A follow-up is refused for good; nothing was changed, and the lease holds.
            LeaseLost: The lease ran out, or the connection that held it was lost. Nothing was
                settled; only if the connection was lost during the call may a commit have been done.
            AdapterUnavailable: The backend cannot be reached, and the lease still holds;
                the caller should try again.
            AdapterError: The backend refused.
        """

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        """Settle, and take the next job if one is ready at once, without waiting.

        An adapter may do both in one round trip or one transaction. The default does one after
        the other. After `cancel` it settles, and takes nothing.

        Returns:
            The next reservation, or None. A failure to reserve after a successful settle returns None:
            the next `reserve` reports it.

        Raises:
            AdapterError: The same errors as `settle`; nothing was reserved.
        """
        self.settle(reservation, settlement)
        try:
            return self.reserve(NO_PAUSE)
        except AdapterError:
            return None

    @abstractmethod
    def extend(self, reservation: Reservation) -> None:
        """Renew the lease to its full length from now, and move `reservation.deadline` on.

        Apart from `cancel` the only call that another thread may make, even while the slot's thread
        settles; it never interferes with that settle.

        Raises:
            LeaseLost: The lease has ended, or the job has been settled meanwhile.
            AdapterUnavailable: The backend cannot be reached; the lease holds until its deadline.
        """

    def attempt(self, reservation: Reservation) -> int:
        """Return the exact number of deliveries that count, including this one; may ask the backend (S10).

        Called only when an attempt did not succeed. The default returns `reservation.attempt`.

        Raises:
            AdapterError: The backend could not be asked; the caller uses `reservation.attempt`.
        """
        return reservation.attempt

    def kicks(self, reservation: Reservation) -> int:
        """Return how many times the job was kicked after a burial; may ask the backend (S22).

        Called only for a job that has a callback, when it ends. The default returns `reservation.kicks`.

        Raises:
            AdapterError: The backend could not be asked; the caller uses `reservation.kicks`.
        """
        return reservation.kicks

    @abstractmethod
    def cancel(self) -> None:
        """Make a waiting `reserve` return None soon, and later ones at once. Thread-safe, idempotent.

        A held reservation is not affected: settle and extend still work, and `settle_and_reserve` settles
        and returns None.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the consumer and its connection. Idempotent.

        A job that is still held comes back as the adapter's `lease_return` says; an adapter that
        can should roll it back at once.
        """
