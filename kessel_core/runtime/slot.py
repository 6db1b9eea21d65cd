"""One slot: a thread with its own consumer, which reserves jobs and passes them to the pipeline (D8)."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context
from datetime import timedelta
from typing import Final

import attrs

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.messages import Reservation
from kessel_core.errors import AdapterError
from kessel_core.model.retry import RetryPolicy
from kessel_core.model.settlement import NO_PAUSE, Snooze
from kessel_core.model.worker import SLOT_THREAD
from kessel_core.runtime.descriptors import Descriptors
from kessel_core.runtime.heartbeat import Heartbeat
from kessel_core.runtime.held import Trouble
from kessel_core.runtime.lease import Lease
from kessel_core.runtime.pipeline import Pipeline
from kessel_core.runtime.stopping import INSIDE, StopSwitch
from kessel_core.runtime.threads import new_thread
from kessel_core.values.logs import get_logger

__all__ = ["Slot", "SlotPlan"]

log = get_logger("kessel.worker")

#: Longest single wait for a job; `cancel` ends it sooner.
RESERVE_WAIT: Final = timedelta(seconds=30)
#: Pauses after a lost connection.
_BACKOFF: Final = RetryPolicy(base=timedelta(milliseconds=200), cap=timedelta(seconds=15))


@attrs.frozen(kw_only=True, eq=False)
class SlotPlan:
    """What all slots of a worker share."""

    #: The open adapter.
    adapter: QueueAdapter
    #: Processes the reserved jobs.
    pipeline: Pipeline
    #: The application's clock.
    clock: Clock
    #: Names of the queues to serve.
    queues: Sequence[str]
    #: Tells the slots to stop.
    stop: StopSwitch
    #: Without them no slot touches the queue any more.
    descriptors: Descriptors
    #: Extends the leases.
    heartbeat: Heartbeat
    #: When draining: how long a slot keeps trying while the queue is not usable, in seconds; it ends when
    #: nothing is ready. None: not draining, so it runs until the worker stops.
    drains_for: float | None
    #: How many seconds a settlement is tried again while the queue is away, at most.
    settles_for: float
    #: Called when a slot loses the queue or has it back; returns whether that is worth a log line.
    on_connection: Callable[[Slot, bool], bool]
    #: Called when a slot has ended.
    on_end: Callable[[Slot], None]


class Slot:
    """Runs one job at a time until its worker stops. Other threads may read the public attributes."""

    def __init__(self, number: int, plan: SlotPlan) -> None:
        self.number = number
        self._plan = plan
        self._consumer: Consumer | None = None
        #: The lease of the running job; None: it is idle.
        self.lease: Lease | None = None
        #: Whether the queue was usable at the last call; written by `SlotPlan.on_connection`.
        self.connected = True
        #: When it took its last job, and since when it waits for one, on the monotonic clock; None: it never
        #: took one; it does not wait.
        self.taken_at: float | None = None
        self.idle_since: float | None = None
        #: Number of attempts by how they ended: a status, or `lost`.
        self.counts: Counter[str] = Counter()
        #: Number of attempts that the queue took no settlement of, by queue and why.
        self.troubles: Counter[tuple[str, Trouble]] = Counter()
        #: Why it gave up: the error of a queue that was not usable for too long.
        self.gave_up: BaseException | None = None
        self.thread = new_thread(self._run, f"{SLOT_THREAD}{number}", plan.clock)

    def connect(self) -> None:
        """Create the consumer; called before the thread starts.

        Raises:
            ConfigError: The adapter refuses the queues.
            AdapterError: It cannot be created now; the slot tries again.
        """
        self._consumer = self._plan.adapter.consumer(self._plan.queues)

    def cancel(self) -> None:
        """End a waiting `reserve`; thread-safe, raises nothing."""
        consumer = self._consumer
        if consumer is None:
            return
        try:
            consumer.cancel()
        except Exception as exc:
            log.warning("slot %d: waiting could not be cut short: %s", self.number, exc)

    def close(self) -> None:
        """Close the consumer; a job that it still holds comes back. Raises nothing."""
        consumer, self._consumer = self._consumer, None
        if consumer is None or self._plan.descriptors.are_lost:
            return
        try:
            consumer.close()
        except Exception as exc:
            log.debug("slot %d: close failed: %s", self.number, exc)

    # --- in its thread -----------------------------------------------------------------------

    def _run(self) -> None:
        # A thread may get the context of who started it; jobs must not.
        Context().run(self._work)

    def _work(self) -> None:
        plan, failures, lost_at = self._plan, 0, 0.0
        INSIDE.set(plan.stop)
        try:
            while not plan.stop.is_on:
                try:
                    if self._consumer is None:
                        self.connect()
                    self._serve()
                    return
                except BaseException as exc:  # SystemExit too: a slot must not end unnoticed
                    self.lease = self.idle_since = None
                    if self.connected:
                        failures, lost_at = 0, plan.clock.monotonic()
                    failures += 1
                    self._report_lost(exc)
                    if not isinstance(exc, AdapterError):
                        self.close()  # it may still hold a job; closing gives it back
                    pause = _BACKOFF.next_pause(failures, random.random).total_seconds()
                    if plan.drains_for is not None:
                        left = lost_at + plan.drains_for - plan.clock.monotonic()
                        if left <= 0:
                            self.gave_up = exc
                            return
                        pause = min(pause, left)
                    plan.stop.sleep(pause)
        finally:
            self.idle_since = None
            self.close()
            plan.on_end(self)

    def _serve(self) -> None:
        """Reserve and run jobs until the worker stops or, when draining, nothing is ready."""
        plan, consumer = self._plan, self._consumer
        assert consumer is not None
        notice = plan.heartbeat.notice
        run, stop, drains = plan.pipeline.run, plan.stop, plan.drains_for is not None
        wait = NO_PAUSE if drains else RESERVE_WAIT
        reservation: Reservation | None = None
        noticed: timedelta | None = None  # nearly always the same object, so comparing it is cheap
        while True:
            if reservation is None:
                if stop.is_on:
                    return
                if self.idle_since is None:
                    self.idle_since = plan.clock.monotonic()
                # Without waiting after a lost connection, so that even an empty queue shows that it is back.
                reservation = consumer.reserve(wait if self.connected else NO_PAUSE)
                if not self.connected:
                    self._report_back()
                if reservation is None:
                    if drains:
                        return
                    continue
            if reservation.lease is not noticed and reservation.lease is not None:
                noticed = reservation.lease
                notice(noticed)
            lease = Lease(plan.adapter, consumer, reservation, plan.clock, plan.descriptors, plan.settles_for)
            if reservation.deadline is not None and lease.since >= reservation.deadline:
                # The answer came late, or the process stood still: others may have the job by now.
                log.warning("slot %d: the lease of %s ended before it started", self.number, reservation.id)
                self.counts["lost"] += 1
                self.troubles[reservation.queue, Trouble.LEASE_LOST] += 1
                reservation = None
                continue
            self.lease, self.idle_since, self.taken_at = lease, None, lease.since
            # Looked at after the lease is to be seen: of a stop that comes meanwhile, either this sees the
            # stop, or whoever gives back what is left at the end of the grace period sees the lease.
            if stop.is_on:
                lease.settle(Snooze(), take_next=False)
                self.lease = None
                return
            result, settled = run(lease, take_next=True)
            self.lease = None
            self.counts[result.status if settled.is_settled else "lost"] += 1
            if settled.trouble is not None:
                self.troubles[reservation.queue, settled.trouble] += 1
            reservation = settled.following

    def _report_lost(self, exc: BaseException) -> None:
        if not self.connected:
            log.debug("slot %d: still not usable: %s", self.number, exc)
            return
        is_news = self._plan.on_connection(self, False)
        if isinstance(exc, AdapterError):
            level = logging.WARNING if is_news else logging.DEBUG
            log.log(level, "slot %d: queue not usable, trying again: %s", self.number, exc)
        else:
            # Not an AdapterError, so a bug somewhere: logged with its traceback, and tried again.
            log.error("slot %d: unexpected error, trying again", self.number, exc_info=exc)

    def _report_back(self) -> None:
        is_news = self._plan.on_connection(self, True)
        log.log(logging.INFO if is_news else logging.DEBUG, "slot %d: queue usable again", self.number)
