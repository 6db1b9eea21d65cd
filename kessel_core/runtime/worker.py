"""The worker: slots that reserve and hand to the executor, the heartbeat, the graceful stop (D8, D9).

No rule about one job's fate is in here.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.messages import Reservation
from kessel_core.errors import AdapterError, AdapterUnavailable, ConfigError, LeaseLost
from kessel_core.model.settlement import NO_PAUSE, Rollback
from kessel_core.model.worker import Health, WorkerInfo
from kessel_core.runtime.executor import Case, Executor

if TYPE_CHECKING:
    from kessel_core.plugins.watchers import Watchers

__all__ = ["Worker"]


log = logging.getLogger("kessel.worker")


#: Longest single wait for a job; `cancel` ends it sooner.
RESERVE_WAIT: Final = timedelta(seconds=30)


#: Back-off after a lost connection: full jitter up to base * 2**n, capped.
BACKOFF_BASE: Final = 0.1


BACKOFF_CAP: Final = 15.0


class _Slot:
    """One thread with its own consumer (D8)."""

    def __init__(self, worker: Worker, number: int) -> None:
        self.worker = worker
        self.number = number
        self.consumer: Consumer | None = None
        self.case: Case | None = None
        self.connected = True
        #: When the queue was found unusable, on the monotonic clock; of use while not `connected`.
        self.lost_at = 0.0
        self.counts: Counter[str] = Counter()
        # Daemon, because a handler that never ends must not keep a stopped process alive.
        self.thread = threading.Thread(target=self._main, name=f"kessel-slot-{number}", daemon=True)

    def _main(self) -> None:
        worker = self.worker
        failures = 0
        try:
            while not worker.stopping:
                try:
                    if self.consumer is None:
                        self.consumer = worker.adapter.consumer(worker.queues)
                    self._serve(self.consumer)
                    return
                except BaseException as exc:  # SystemExit too: a slot that ends unseen is deaf
                    failures = 0 if self.connected else failures
                    failures += 1
                    self.case = None
                    if not isinstance(exc, AdapterError):
                        # It may still hold a job; closing gives it back.
                        self.close()
                        self.consumer = None
                    self._lost_connection(exc)
                    pause = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(failures, 20)) * random.random()  # noqa: S311  # jitter
                    if worker.draining:
                        left = self.lost_at + worker.patience - worker.clock.monotonic()
                        if left <= 0:
                            worker.gave_up = exc
                            return
                        pause = min(pause, left)
                    worker.pause(pause)
        finally:
            self.close()
            worker.slot_ended()

    def _serve(self, consumer: Consumer) -> None:
        """Reserve and run until the worker stops or, when draining, nothing is ready."""
        worker = self.worker
        run, clock = worker.executor.run, worker.clock
        wait = NO_PAUSE if worker.draining else RESERVE_WAIT
        reservation: Reservation | None = None
        while True:
            if reservation is None:
                if worker.stopping:
                    return
                # Without waiting after a lost connection, so that an empty queue is soon known to be back.
                reservation = consumer.reserve(wait if self.connected else NO_PAUSE)
                if not self.connected:
                    self._connected_again()
                if reservation is None:
                    if worker.draining:
                        return
                    continue
            if worker.stopping:  # it came together with the last settle
                consumer.settle(reservation, Rollback())
                return
            case = Case(reservation, consumer, since=clock.monotonic(), take_next=True)
            self.case = case
            run(case)
            self.case = None
            self.counts["lost" if case.lost or case.result is None else case.result.status] += 1
            reservation = case.next

    def _lost_connection(self, exc: BaseException) -> None:
        if self.connected:
            self.lost_at = self.worker.clock.monotonic()
            is_news = self.worker.changes(self, connected=False)
            if isinstance(exc, AdapterError):
                level = logging.WARNING if is_news else logging.DEBUG
                log.log(level, "slot %d: queue not usable, trying again: %s", self.number, exc)
            else:
                # Not the adapter's tree: a bug somewhere; said with its traceback, and tried again.
                log.error("slot %d: unexpected error, trying again", self.number, exc_info=exc)
        else:
            log.debug("slot %d: still not usable: %s", self.number, exc)

    def _connected_again(self) -> None:
        is_news = self.worker.changes(self, connected=True)
        log.log(logging.INFO if is_news else logging.DEBUG, "slot %d: queue usable again", self.number)

    def close(self) -> None:
        if self.consumer is not None:
            try:
                self.consumer.close()
            except Exception as exc:
                log.debug("slot %d: close failed: %s", self.number, exc)


class Worker:
    """Works on the jobs of some queues until it is told to stop. Made by `JobManager.worker`.

    `run` blocks, `stop` may be called by any thread or signal handler. One use only.
    """

    def __init__(
        self,
        *,
        adapter: QueueAdapter,
        executor: Executor,
        watchers: Watchers,
        clock: Clock,
        queues: Sequence[str],
        slots: int,
        grace: timedelta,
        heartbeat: timedelta | None = None,
        patience: timedelta = timedelta(seconds=30),
    ) -> None:
        self.adapter = adapter
        self.executor = executor
        self.clock = clock
        self.queues = tuple(queues)
        self.grace = grace
        self.stopping = False
        self.draining = False
        #: Seconds that a drain goes on trying while the queue is not usable.
        self.patience = patience.total_seconds()
        #: Why a drain gave up.
        self.gave_up: BaseException | None = None
        self._watchers = watchers
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._slots = [_Slot(self, number) for number in range(1, slots + 1)]
        self._alive = 0
        self._deadline: float | None = None
        self._beat: float | None = None
        lease = adapter.capabilities.lease
        if lease is not None:
            self._beat = (heartbeat or lease / 3).total_seconds()
            self._lease = lease.total_seconds()

    # --- control ----------------------------------------------------------------------------

    def run(self) -> None:
        """Work until `stop`, then wait for the grace period and roll back what is left."""
        self.start()
        self.join()

    def start(self) -> None:
        """Start the slots and return; `join` waits for their end.

        Raises:
            ConfigError: The adapter refuses the queues; nothing was started.
        """
        self._pid = os.getpid()
        self._make_consumers()
        count = len(self._slots)
        log.info("worker: %d slot%s on %s", count, "s" * (count > 1), ", ".join(self.queues))
        info = self._info(self.grace)
        for watcher in self._watchers.worker_started:
            watcher(worker=info)
        self._alive = len(self._slots)
        for slot in self._slots:
            slot.thread.start()
        if self._beat is not None:
            threading.Thread(target=self._heartbeat, name="kessel-heartbeat", daemon=True).start()

    def _make_consumers(self) -> None:
        # Here, so that what the adapter refuses for good is an error of the caller, and not one
        # that each slot meets again and again. Whatever else fails is tried again by the slots.
        try:
            for slot in self._slots:
                slot.consumer = self.adapter.consumer(self.queues)
        except ConfigError:
            for slot in self._slots:
                slot.close()
            raise
        except Exception as exc:
            log.debug("a slot could not be made yet: %s", exc)

    @property
    def is_forked(self) -> bool:
        """Whether this is the copy in a forked child: it has no threads, and its jobs are the parent's."""
        return self._pid != os.getpid()

    def stop(self, grace: timedelta | None = None) -> None:
        """Ask for the end and return at once: nothing more is reserved, running jobs get `grace`.

        Args:
            grace: Zero or more; None: as configured. A second call can only shorten it.
        """
        if self.is_forked:
            return
        seconds = (self.grace if grace is None else grace).total_seconds()
        with self._changed:
            deadline = self.clock.monotonic() + seconds
            self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
            first, self.stopping = not self.stopping, True
            self._changed.notify_all()
        if first:
            log.info("worker: stopping, at most %g s for running jobs", seconds)
            info = self._info(timedelta(seconds=seconds))
            for watcher in self._watchers.worker_stopping:
                watcher(worker=info)
        for slot in self._slots:
            consumer = slot.consumer
            if consumer is not None:
                try:
                    consumer.cancel()
                except Exception as exc:
                    log.warning("slot %d: waiting could not be cut short: %s", slot.number, exc)

    def join(self) -> None:
        """Wait until every slot has ended; after a stop, until its grace period is over."""
        if self.is_forked:
            return
        with self._changed:
            while self._alive:
                # Both bounded, so that a signal handler in the main thread is served on every platform.
                if self._deadline is None:
                    self._changed.wait(1.0)  # not for a time, so not by the clock
                    continue
                rest = self._deadline - self.clock.monotonic()
                if rest <= 0:
                    break
                self.clock.wait(self._changed, min(rest, 1.0))
            self.stopping = True
            self._changed.notify_all()
        self._roll_back_left()
        for slot in self._slots:
            slot.thread.join(timeout=0 if slot.case is not None else 1.0)
        log.info(
            "worker: stopped (%s)", ", ".join(f"{n} {what}" for what, n in self.counts.items()) or "no jobs"
        )

    def drain(self) -> dict[str, int]:
        """Work until nothing is ready in the queues; delayed and buried jobs stay.

        Returns:
            Attempts by how they ended: `success`, `failed`, `failed-transient`, `lost`.

        Raises:
            AdapterUnavailable: The queue was not usable for the worker's patience; `counts` says
                what was done before. A worker that is not to drain never gives up.
        """
        self.draining = True
        self.run()
        if self.gave_up is not None:
            why = str(self.gave_up) or type(self.gave_up).__name__
            raise AdapterUnavailable(
                f"gave up after {self.patience:g} s without a usable queue: {why}"
            ) from self.gave_up
        return self.counts

    @property
    def counts(self) -> dict[str, int]:
        """Attempts so far by how they ended."""
        total: Counter[str] = Counter()
        for slot in self._slots:
            total.update(slot.counts)
        return {str(what): n for what, n in sorted(total.items())}

    def health(self) -> Health:
        """Look at the slots; cheap, for any thread."""
        now = self.clock.monotonic()
        cases = [case for slot in self._slots if (case := slot.case) is not None]
        working = not self.stopping and not self.draining
        ended = [slot for slot in self._slots if slot.thread.ident is not None and not slot.thread.is_alive()]
        dead = len(ended) if working else 0
        disconnected = sum(not slot.connected for slot in self._slots)
        return Health(
            ok=not dead and not disconnected,
            running=bool(self._alive) and not self.stopping,
            slots=len(self._slots),
            busy=len(cases),
            disconnected=disconnected,
            dead=dead,
            longest=max((now - case.since for case in cases), default=0.0),
            counts=self.counts,
        )

    def _info(self, grace: timedelta) -> WorkerInfo:
        return WorkerInfo(
            queues=self.queues,
            slots=len(self._slots),
            grace=grace,
            pid=os.getpid(),
            host=socket.gethostname(),
            health=self.health,
        )

    # --- for the slots -------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until a stop."""
        with self._changed:
            if not self.stopping:
                self.clock.wait(self._changed, seconds)

    def changes(self, slot: _Slot, *, connected: bool) -> bool:
        """Note that a slot has lost the queue or has it again.

        Returns:
            Whether that is news: the first one to lose it, or the last one to have it again. A
            server that goes away and comes back is two lines, not two for each of hundreds of slots.
        """
        with self._changed:
            slot.connected = connected
            return all(other.connected for other in self._slots if other is not slot)

    def slot_ended(self) -> None:
        """Count a slot out."""
        with self._changed:
            self._alive -= 1
            self._changed.notify_all()

    # --- leases -------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        """Extend the leases of running jobs until every slot has ended (S7)."""
        assert self._beat is not None
        while True:
            with self._changed:
                if not self._alive:
                    return
                self.clock.wait(self._changed, self._beat)
                if not self._alive or (
                    self._deadline is not None and self.clock.monotonic() >= self._deadline
                ):
                    return
            for slot in self._slots:
                case = slot.case
                if case is not None:
                    self._extend(case)

    def _extend(self, case: Case) -> None:
        now = self.clock.monotonic()
        deadline = case.reservation.deadline
        if case.unextended or deadline is None or deadline - now > self._lease - (self._beat or 0.0) / 2:
            return  # given up, or it has just begun, or was just extended
        handler = case.handler
        limit = handler.timeout if handler is not None and not handler.is_async else None
        if limit is not None and now - case.since > limit.total_seconds():
            if not case.overdue:
                case.overdue = True
                log.error(
                    "job %s runs longer than its timeout; its lease is not extended any more",
                    case.id,
                    extra={"job_id": case.id},
                )
            if now < deadline:
                return
            # Too late on purpose: the adapter sees that the lease is over, and drops what the
            # backend may still hold for it. beanstalkd forgets most ends of leases by itself.
        try:
            case.consumer.extend(case.reservation)
        except LeaseLost as exc:
            case.unextended = True  # said once: a handler may run on for hours
            log.warning("%s while its handler runs", exc, extra={"job_id": case.id})
        except Exception as exc:
            # Anything: the heartbeat of the other slots must go on.
            log.warning("job %s: lease not extended: %s", case.id, exc, extra={"job_id": case.id})

    def _roll_back_left(self) -> None:
        """Give back what still runs after the grace period; its own settle will find it taken."""
        for slot in self._slots:
            case = slot.case
            if case is None or not case.claim():
                continue
            try:
                case.consumer.settle(case.reservation, Rollback())
                log.warning("job %s did not end in time; rolled back", case.id, extra={"job_id": case.id})
            except Exception as exc:
                # Anything: the jobs of the other slots must be given back, too.
                log.warning(
                    "job %s did not end in time and could not be rolled back: %s",
                    case.id,
                    exc,
                    extra={"job_id": case.id},
                )
