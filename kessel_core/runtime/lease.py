"""One held job: extending its lease, settling it, giving it back; all guarded by one lock.

The slot's thread asks for the exact attempt and settles. The heartbeat extends. A stopping worker gives the
job back. Only the first to claim the lease ends it; the consumer itself is used by the slot's thread alone,
except for `extend` (rule 3 of the contract).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from math import inf
from typing import Final

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.messages import Reservation
from kessel_core.errors import AdapterError, AdapterUnavailable, EnqueueRejected, LeaseLost
from kessel_core.features.progress import Reported
from kessel_core.model.retry import RetryPolicy
from kessel_core.model.settlement import Settlement
from kessel_core.runtime.descriptors import UNWATCHED, Descriptors
from kessel_core.runtime.following import FollowUp
from kessel_core.runtime.held import GIVEN_BACK, LEASE_LOST, NOT_TOLD, SETTLED, SettleResult
from kessel_core.values.logs import get_logger

__all__ = ["SETTLES_FOR", "Lease"]

log = get_logger("kessel.worker")

#: Pauses between attempts to settle while the backend is unavailable and the lease still holds.
_SETTLE_RETRY: Final = RetryPolicy(base=timedelta(milliseconds=50), cap=timedelta(seconds=1))
#: How long to try at most, in seconds. A restart of a server is over by then; and a slot that tries on looks
#: busy, while it should say that it has lost the queue.
SETTLES_FOR: Final = 30.0
#: The try after which the log says that the queue is away: most are back by then.
_TOLD_AFTER: Final = 6
#: How much of the body of an unsettled job is logged, in bytes: nothing else may identify the job.
_BODY_LIMIT: Final = 2000


class Lease:
    """A job that a slot holds. Created by the slot's thread for one delivery.

    Once descriptors of the process are lost, nothing here calls the adapter any more: the job comes back when
    its lease ends, or with the end of the process.
    """

    # In the class, because one is made for every job, and few are ever set.
    #: Set once the queue says that the lease is lost; then it is not extended any more.
    _is_lost = False
    _is_overdue = False
    #: Set at the end of a grace period: a settlement that waits for the queue is given up.
    _is_hurried = False
    #: What such a settlement waits with; None: none does.
    _pausing: threading.Condition | None = None
    #: When the handler exceeds its timeout, on the monotonic clock; None: never.
    _overdue_at: float | None = None
    #: A follow-up was refused, so the slot settles once more.
    _is_refused = False
    #: As in `HeldJob`.
    has_ended = False
    #: What the handler reported (S27); None: nothing.
    reported: Reported | None = None

    def __init__(
        self,
        adapter: QueueAdapter,
        consumer: Consumer,
        reservation: Reservation,
        clock: Clock,
        descriptors: Descriptors = UNWATCHED,
        settles_for: float = SETTLES_FOR,
    ) -> None:
        self._adapter = adapter
        #: What the slot took the job with.
        self.consumer: Final = consumer
        #: The delivery.
        self.reservation: Final = reservation
        self._clock = clock
        self._descriptors = descriptors
        #: How many seconds a settlement is tried again, at most.
        self._settles_for = settles_for
        #: Acquired once and never released: whoever gets it ends the lease.
        self._claimed = threading.Lock()
        #: The jobs that the handler asked for, in order (S20).
        self.asked: list[FollowUp] = []
        #: When the slot took the job, on the monotonic clock.
        self.since = clock.monotonic()

    # --- the slot's thread -------------------------------------------------------------------

    def begin(self, longest: float) -> None:
        """Record that the handler starts; after so many seconds the lease is no longer extended."""
        self._overdue_at = self._clock.monotonic() + longest

    def attempt(self) -> int:
        """Return the exact number of this attempt, or the best estimate (S10); raises nothing."""
        return self._asked("attempts", self.consumer.attempt, self.reservation.attempt)

    def kicks(self) -> int:
        """Return how many times the job was kicked, or the best estimate (S22); raises nothing."""
        return self._asked("kicks", self.consumer.kicks, self.reservation.kicks)

    def _asked(self, what: str, ask: Callable[[Reservation], int], estimate: int) -> int:
        if not self._descriptors.check():
            return estimate
        try:
            return ask(self.reservation)
        except Exception as exc:
            # Any exception; one that is not an AdapterError is a bug, so it is logged with its traceback.
            level, trace = (logging.DEBUG, None) if isinstance(exc, AdapterError) else (logging.ERROR, exc)
            log.log(
                level,
                "job %s: number of %s not known: %s",
                self.reservation.id,
                what,
                exc,
                exc_info=trace,
                extra={"job_id": self.reservation.id},
            )
            return estimate

    def settle(
        self, settlement: Settlement, *, take_next: bool, before: Callable[[], None] | None = None
    ) -> SettleResult:
        """End the lease, once; tries again while the backend is unavailable and the lease still holds.

        Raises nothing: a job that cannot be settled is logged, and comes back when its lease ends.
        """
        if not self._descriptors.check() or not (self._claimed.acquire(blocking=False) or self._is_refused):
            return GIVEN_BACK  # by a stopping worker, or nothing may be told the queue any more
        try:
            return self._settle(settlement, take_next, before)
        except EnqueueRejected as exc:
            self._is_refused = True
            return SettleResult(False, refused=exc)
        except LeaseLost as exc:
            job_id = self.reservation.id
            log.warning("%s; the job will be delivered again", exc, extra={"job_id": job_id})
            return LEASE_LOST
        except Exception as exc:
            self._report_unsettled(settlement, exc)
            return NOT_TOLD

    def _settle(
        self, settlement: Settlement, take_next: bool, before: Callable[[], None] | None
    ) -> SettleResult:
        tried, end = 0, None
        while True:
            try:
                if before is not None:
                    before()
                if take_next:
                    following = self.consumer.settle_and_reserve(self.reservation, settlement)
                    return SETTLED if following is None else SettleResult(True, following)
                self.consumer.settle(self.reservation, settlement)
                return SETTLED
            except AdapterUnavailable as exc:
                now = self._clock.monotonic()
                if end is None:
                    end = now + self._settles_for
                    if self.reservation.deadline is not None:
                        end = min(end, self.reservation.deadline)
                tried += 1
                pause = _SETTLE_RETRY.ceiling(tried).total_seconds()
                if self._is_hurried or now + pause >= end:
                    raise
                if tried == _TOLD_AFTER:
                    job_id = self.reservation.id
                    log.warning("job %s is not settled yet: %s", job_id, exc, extra={"job_id": job_id})
                self._pause(pause)

    def _pause(self, seconds: float) -> None:
        """Wait, at most until the end of the grace period of a stop."""
        if self._pausing is None:
            self._pausing = threading.Condition()
        with self._pausing:
            if not self._is_hurried:
                self._clock.wait(self._pausing, seconds)

    def _hurry(self) -> None:
        self._is_hurried = True
        if (pausing := self._pausing) is not None:
            with pausing:
                pausing.notify_all()

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

    @property
    def is_held(self) -> bool:
        """Whether the job is still held here, as far as is known, and this process may use the queue."""
        return not self._is_lost and not self._claimed.locked() and self._descriptors.check()

    def extend(self) -> None:
        """Renew the lease, on request of the handler.

        Raises:
            LeaseLost: This worker no longer holds the job.
            AdapterUnavailable: The queue cannot be reached.
        """
        if not self._descriptors.check():
            raise LeaseLost(self.reservation.id, "the descriptors of its process were closed")
        self.consumer.extend(self.reservation)

    def give_back(self) -> bool:
        """Give the job back because its slot did not end in time; the delivery does not count (S21).

        One that its slot settles, and cannot because the queue is away, is left to the end of its lease.

        Returns:
            Whether its handler still runs; False: its slot settles it, and ends at once.
        """
        if not self._descriptors.check() or not self._claimed.acquire(blocking=False):
            self._hurry()
            return False
        job_id = self.reservation.id
        try:
            self._adapter.give_back(self.reservation)
        except Exception as exc:
            # Any exception, because the jobs of the other slots must be given back, too.
            log.warning(
                "job %s did not end in time and could not be given back: %s",
                job_id,
                exc,
                extra={"job_id": job_id},
            )
        else:
            log.warning("job %s did not end in time; given back", job_id, extra={"job_id": job_id})
        return True

    # --- the heartbeat -----------------------------------------------------------------------

    def is_due(self, now: float, every: float, sooner: float = inf) -> bool:
        """Return whether to extend the lease: a third of it has passed, or will have at the next beat (S7).

        Args:
            now: The monotonic clock, in seconds.
            every: Seconds until the next beat, which may be due sooner than this lease needs.
            sooner: Extend after this many seconds, if they are less than a third of the lease.
        """
        reservation = self.reservation
        deadline, length = reservation.deadline, reservation.lease
        if self._is_lost or self._claimed.locked() or deadline is None or length is None:
            return False
        if not self._descriptors.check():
            return False
        whole = length.total_seconds()
        if whole - (deadline - now) < min(whole / 3, sooner) - every / 2:
            return False  # it began, or was extended, only recently
        if self._overdue_at is not None and now > self._overdue_at:
            self._report_overdue()
            # Extended too late on purpose: the adapter sees that the lease is over, and makes the backend
            # release the job. beanstalkd often fails to notice the end of a lease by itself.
            return now >= deadline
        return True

    def note_extension(self, outcome: Exception | None) -> None:
        """Take note of what became of an extension; None: it was made. Raises nothing."""
        if outcome is None or self._claimed.locked():  # made, or the job was settled meanwhile
            return
        job_id = self.reservation.id
        if isinstance(outcome, LeaseLost):
            self._is_lost = True  # logged once, because the handler may run on for hours
            log.warning("%s while its handler runs", outcome, extra={"job_id": job_id})
        else:
            log.warning("job %s: lease not extended: %s", job_id, outcome, extra={"job_id": job_id})

    def _report_overdue(self) -> None:
        if self._is_overdue:
            return
        self._is_overdue = True
        log.error(
            "job %s runs longer than its timeout; its lease is not extended any more",
            self.reservation.id,
            extra={"job_id": self.reservation.id},
        )
