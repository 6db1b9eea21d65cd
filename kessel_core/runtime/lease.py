"""One held job: who extends its lease, who ends it, who gives it back; all under one lock.

The slot's thread asks for the exact attempt and settles. The heartbeat extends. A stopping worker gives
back. Whoever claims first ends the lease, and no other does; the consumer itself is only ever used by the
slot's thread, but for `extend` (rule 3 of the contract).
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from math import inf
from typing import Final, Protocol

import attrs

from kessel_core.clock import Clock, sleep
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.messages import Reservation
from kessel_core.errors import AdapterError, AdapterUnavailable, LeaseLost
from kessel_core.model.retry import RetryPolicy
from kessel_core.model.settlement import Settlement

__all__ = ["LOST", "SETTLED", "Ended", "HeldJob", "Lease"]

log = logging.getLogger("kessel.worker")

#: Pauses between tries to settle while the backend is away and the lease still holds.
_AGAIN: Final = RetryPolicy(base=timedelta(milliseconds=50), cap=timedelta(seconds=1))
_TRIES: Final = 6
#: Bytes of a body that the log gets: the job comes back when its lease ends, but nothing else names it.
_BODY_LIMIT: Final = 2000


@attrs.frozen
class Ended:
    """What became of a try to settle."""

    #: Whether the queue took the settlement.
    is_settled: bool
    #: The reservation that came with it.
    following: Reservation | None = None


SETTLED: Final = Ended(True)
LOST: Final = Ended(False)


class HeldJob(Protocol):
    """What the pipeline needs of a job that it works on; a job without a queue has another one."""

    @property
    def reservation(self) -> Reservation:
        """The delivery."""
        ...

    def begin(self, longest: timedelta) -> None:
        """Note that the handler starts, and how long it may run."""
        ...

    def extend(self) -> None:
        """Renew the lease."""
        ...

    def attempt(self) -> int:
        """Return the exact number of this delivery, or the best that is known; raises nothing."""
        ...

    def settle(self, settlement: Settlement, *, take_next: bool) -> Ended:
        """End the lease."""
        ...


class Lease:
    """A job that a slot holds. Made by the slot's thread for one delivery."""

    def __init__(
        self, adapter: QueueAdapter, consumer: Consumer, reservation: Reservation, clock: Clock
    ) -> None:
        self._adapter = adapter
        self._consumer = consumer
        #: The delivery.
        self.reservation: Final = reservation
        self._clock = clock
        #: Taken once and never let go: whoever gets it ends the lease.
        self._claimed = threading.Lock()
        #: The queue said that it is lost; there is nothing to extend.
        self._is_lost = False
        self._is_overdue = False
        #: When the handler will have run for too long, on the monotonic clock; None: never.
        self._overdue_at: float | None = None
        #: When the slot took the job, on the monotonic clock.
        self.since = clock.monotonic()

    # --- the slot's thread -------------------------------------------------------------------

    def begin(self, longest: timedelta) -> None:
        """Note that the handler starts; after `longest` its lease is not extended any more."""
        self._overdue_at = self._clock.monotonic() + longest.total_seconds()

    def attempt(self) -> int:
        """Return the exact number of this delivery, or the best that is known (S10); raises nothing."""
        try:
            return self._consumer.attempt(self.reservation)
        except Exception as exc:
            # Anything, but only the adapter's own errors are no news.
            level, trace = (logging.DEBUG, None) if isinstance(exc, AdapterError) else (logging.ERROR, exc)
            log.log(
                level,
                "job %s: number of attempts not known: %s",
                self.reservation.id,
                exc,
                exc_info=trace,
                extra={"job_id": self.reservation.id},
            )
            return self.reservation.attempt

    def settle(self, settlement: Settlement, *, take_next: bool) -> Ended:
        """End the lease, once; tries on while the backend is away and the lease still holds.

        Raises nothing: what cannot be settled is logged, and comes back when its lease ends.
        """
        if not self._claim():
            return LOST  # a stopping worker has given it back
        try:
            return self._settle(settlement, take_next)
        except LeaseLost as exc:
            job_id = self.reservation.id
            log.warning("%s; the job will be delivered again", exc, extra={"job_id": job_id})
        except Exception as exc:
            self._report_unsettled(settlement, exc)
        return LOST

    def _settle(self, settlement: Settlement, take_next: bool) -> Ended:
        tried = 0
        while True:
            try:
                if take_next:
                    following = self._consumer.settle_and_reserve(self.reservation, settlement)
                    return SETTLED if following is None else Ended(True, following)
                self._consumer.settle(self.reservation, settlement)
                return SETTLED
            except AdapterUnavailable:
                tried += 1
                pause = _AGAIN.ceiling(tried).total_seconds()
                if tried == _TRIES or not self._holds_for(pause):
                    raise
                sleep(self._clock, pause)

    def _holds_for(self, seconds: float) -> bool:
        deadline = self.reservation.deadline
        return deadline is None or self._clock.monotonic() + seconds < deadline

    def _report_unsettled(self, settlement: Settlement, error: Exception) -> None:
        log.error(
            "job %s in queue %s could not be settled (%s): %s; body %r",
            self.reservation.id,
            self.reservation.queue,
            type(settlement).__name__.lower(),
            error,
            self.reservation.body[:_BODY_LIMIT],
            extra={"job_id": self.reservation.id, "queue": self.reservation.queue},
        )

    # --- any thread --------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Return True to the first caller only: it ends the lease."""
        return self._claimed.acquire(blocking=False)

    def extend(self) -> None:
        """Renew the lease; what a handler asks for.

        Raises:
            LeaseLost: The job is not ours any longer.
            AdapterUnavailable: The queue cannot be asked now.
        """
        self._consumer.extend(self.reservation)

    def give_back(self) -> None:
        """Give the job back for a slot that did not end in time; its delivery does not count (S21)."""
        if not self._claim():
            return
        job_id = self.reservation.id
        try:
            self._adapter.give_back(self.reservation)
        except Exception as exc:
            # Anything: the jobs of the other slots must be given back, too.
            log.warning(
                "job %s did not end in time and could not be given back: %s",
                job_id,
                exc,
                extra={"job_id": job_id},
            )
        else:
            log.warning("job %s did not end in time; given back", job_id, extra={"job_id": job_id})

    # --- the heartbeat -----------------------------------------------------------------------

    def beat(self, now: float, every: float, sooner: float = inf) -> None:
        """Extend the lease if a third of it is gone (S7), or nearly: the next beat must not be too late.

        Args:
            now: The monotonic clock.
            every: Seconds to the next beat; it may come sooner than this lease needs, for another one.
            sooner: Seconds after which the lease is extended if they are less than its third.
        """
        reservation = self.reservation
        deadline, length = reservation.deadline, reservation.lease
        if self._is_lost or self._claimed.locked() or deadline is None or length is None:
            return
        whole = length.total_seconds()
        if whole - (deadline - now) < min(whole / 3, sooner) - every / 2:
            return  # it has just begun, or was just extended
        if self._overdue_at is not None and now > self._overdue_at:
            self._report_overdue()
            if now < deadline:
                return
            # Too late on purpose: the adapter sees that the lease is over, and drops what the
            # backend may still hold for it. beanstalkd forgets most ends of leases by itself.
        try:
            self._consumer.extend(reservation)
        except LeaseLost as exc:
            self._is_lost = True  # said once: a handler may run on for hours
            log.warning("%s while its handler runs", exc, extra={"job_id": reservation.id})
        except Exception as exc:
            # Anything: the heartbeat of the other slots must go on.
            log.warning(
                "job %s: lease not extended: %s", reservation.id, exc, extra={"job_id": reservation.id}
            )

    def _report_overdue(self) -> None:
        if self._is_overdue:
            return
        self._is_overdue = True
        log.error(
            "job %s runs longer than its timeout; its lease is not extended any more",
            self.reservation.id,
            extra={"job_id": self.reservation.id},
        )
