"""The consuming side of the contract: one slot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta

from kessel_core.contract.messages import Reservation
from kessel_core.errors import (
    AdapterError,
)
from kessel_core.model.settlement import NO_PAUSE, Settlement

__all__ = ["Consumer"]


class Consumer(ABC):
    """The consuming side for one slot.

    Made by `QueueAdapter.consumer`; all methods but `extend` and `cancel` are called by one
    thread only. It holds at most one reservation at a time.
    """

    @abstractmethod
    def reserve(self, timeout: timedelta) -> Reservation | None:
        """Take the next ready job of the queues and hold it for one lease.

        Among ready jobs the lowest priority number goes first, equals by the declared tie_break
        (S6). Nothing is delivered before its delay (S4); every delivery counts as an attempt (S10).

        Args:
            timeout: Longest wait, zero or more. An adapter may wait up to its granularity longer.

        Returns:
            The reservation; None when nothing became ready in time or after `cancel`.

        Raises:
            AdapterUnavailable: The connection is gone; calling again reconnects.
            ProtocolError: What answers is not the expected backend.
        """

    @abstractmethod
    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """End the reservation: commit, rollback, snooze or bury (S8, S21).

        The job keeps its own priority, whatever it comes back from. A snooze takes this delivery out
        of the count of attempts, and counts it as a snooze.

        Raises:
            LeaseLost: The lease ran out, or the connection that held it was lost. Nothing was
                settled, except that after a connection lost in mid-call a commit may have been done.
            AdapterUnavailable: The backend cannot be asked now, and the lease still holds;
                calling again is right.
            AdapterError: The backend refused.
        """

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        """Settle, and take the next job if one is ready at once, without waiting.

        An adapter may do both in one round trip or one transaction. The default does one after
        the other.

        Returns:
            The next reservation, or None. A failure to reserve after a good settle returns None:
            the next `reserve` reports it.

        Raises:
            As `settle`; then nothing was reserved.
        """
        self.settle(reservation, settlement)
        try:
            return self.reserve(NO_PAUSE)
        except AdapterError:
            return None

    @abstractmethod
    def extend(self, reservation: Reservation) -> None:
        """Renew the lease to its full length from now, and move `reservation.deadline` on.

        The one call, beside `cancel`, that another thread may make, also while the slot's thread
        settles; it never interferes with that settle.

        Raises:
            LeaseLost: The lease has ended, or the job was settled meanwhile.
            AdapterUnavailable: Could not ask; the lease goes on until its deadline.
        """

    def attempt(self, reservation: Reservation) -> int:
        """Return the exact number of deliveries that count, this one included; may ask the backend (S10).

        Called only when the job did not end well. The default trusts `reservation.attempt`.

        Raises:
            AdapterError: Could not ask; the caller goes on with `reservation.attempt`.
        """
        return reservation.attempt

    @abstractmethod
    def cancel(self) -> None:
        """Make a waiting `reserve` return None soon, and later ones at once. For any thread.

        A held reservation is not touched: settle and extend go on working. Idempotent.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up the consumer and its connection. Idempotent.

        A reservation that is still held comes back as the adapter's `lease_return` says; an
        adapter that can should give it back at once.
        """
