"""The worker: its slots, the graceful stop, its health (D8, D9). Decides nothing about jobs."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.errors import AdapterUnavailable, ConfigError
from kessel_core.model.worker import Health, WorkerInfo
from kessel_core.plugins.watchers import Watchers
from kessel_core.runtime.heartbeat import Heartbeat
from kessel_core.runtime.idleness import Idleness
from kessel_core.runtime.lease import Lease
from kessel_core.runtime.pipeline import Pipeline
from kessel_core.runtime.slot import Slot, SlotPlan
from kessel_core.runtime.stopping import StopSwitch
from kessel_core.values.logs import get_logger

__all__ = ["Worker"]

log = get_logger("kessel.worker")


class Worker:
    """Runs the jobs of some queues until it is told to stop. Created by `JobManager.worker`.

    `run` blocks; `stop`, `health` and `counts` may be used from any thread. A worker can be run only once.
    """

    def __init__(
        self,
        *,
        adapter: QueueAdapter,
        pipeline: Pipeline,
        watchers: Watchers,
        clock: Clock,
        queues: Sequence[str],
        slots: int,
        grace: timedelta,
        heartbeat: timedelta | None = None,
        patience: timedelta = timedelta(seconds=30),
    ) -> None:
        #: Names of the queues that it serves.
        self.queues = tuple(queues)
        #: How long running jobs may take after a stop.
        self.grace = grace
        self._adapter = adapter
        self._pipeline = pipeline
        self._watchers = watchers
        self._clock = clock
        self._count = slots
        self._heartbeat_every = heartbeat
        self._patience = patience
        self._pid = os.getpid()
        self._stop = StopSwitch(clock)
        self._slots: list[Slot] = []
        self._alive = 0
        self._is_draining = False
        self._idleness = Idleness(adapter, self.queues, clock)

    # --- control ----------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop`, then wait for running jobs and give back what is left after the grace period.

        Raises:
            ConfigError: The adapter refuses the queues; nothing was started.
        """
        self.start()
        self.join()

    def start(self) -> None:
        """Start the slots and return; `join` waits until they have ended.

        Raises:
            ConfigError: The adapter refuses the queues; nothing was started.
        """
        self._pid = os.getpid()
        heartbeat = Heartbeat(
            self._leases, self._stop, lambda: not self._alive, self._clock, self._heartbeat_every
        )
        plan = SlotPlan(
            adapter=self._adapter,
            pipeline=self._pipeline,
            clock=self._clock,
            queues=self.queues,
            stop=self._stop,
            heartbeat=heartbeat,
            drains_for=self._patience.total_seconds() if self._is_draining else None,
            on_connection=self._note_connection,
            on_end=self._note_end,
        )
        self._slots = [Slot(number, plan) for number in range(1, self._count + 1)]
        self._connect()
        log.info("worker: %d slot%s on %s", self._count, "s" * (self._count > 1), ", ".join(self.queues))
        info = self._info(self.grace)
        for watcher in self._watchers.worker_started:
            watcher(worker=info)
        self._alive = self._count
        for slot in self._slots:
            slot.thread.start()

    def _connect(self) -> None:
        # Here, so that a configuration that the adapter refuses is raised to the caller, and not met by
        # every slot again and again. The slots retry after any other failure.
        try:
            for slot in self._slots:
                slot.connect()
        except ConfigError:
            for slot in self._slots:
                slot.close()
            raise
        except Exception as exc:
            log.debug("a slot could not be made yet: %s", exc)

    @property
    def is_forked(self) -> bool:
        """Whether this is the copy in a forked child: it has no threads, its jobs are the parent's."""
        return self._pid != os.getpid()

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_on

    def stop(self, grace: timedelta | None = None) -> None:
        """Request the stop and return at once: no more jobs are reserved, running ones get `grace`.

        Args:
            grace: Zero or more; None: as configured. A second call can only shorten it.
        """
        if self.is_forked:
            return
        span = self.grace if grace is None else grace
        if self._stop.turn_on(span.total_seconds()):
            log.info("worker: stopping, at most %g s for running jobs", span.total_seconds())
            info = self._info(span)
            for watcher in self._watchers.worker_stopping:
                watcher(worker=info)
        for slot in self._slots:
            slot.cancel()

    def join(self) -> None:
        """Wait until every slot has ended; after a stop, until its grace period is over."""
        if self.is_forked:
            return
        changed = self._stop.changed
        with changed:
            while self._alive:
                # Both waits are bounded, so that signal handlers run in the main thread on every platform.
                if self._stop.deadline is None:
                    changed.wait(1.0)  # in real time: the end of this wait means nothing
                    continue
                rest = self._stop.deadline - self._clock.monotonic()
                if rest <= 0:
                    break
                self._clock.wait(changed, min(rest, 1.0))
            self._stop.is_on = True
            changed.notify_all()
        for lease in self._leases():
            lease.give_back()
        for slot in self._slots:
            slot.thread.join(timeout=0 if slot.lease is not None else 1.0)
        log.info(
            "worker: stopped (%s)", ", ".join(f"{n} {what}" for what, n in self.counts.items()) or "no jobs"
        )

    def drain(self) -> dict[str, int]:
        """Run until nothing is ready in the queues; delayed and buried jobs stay.

        Returns:
            Number of attempts by how they ended: `success`, `failed`, `failed-transient`, `snoozed`, `lost`.

        Raises:
            AdapterUnavailable: The queue was not usable for the worker's patience; `counts` says
                what was done before. Only `drain` gives up, `run` never does.
            ConfigError: The adapter refuses the queues; nothing was started.
        """
        self._is_draining = True
        self.run()
        for slot in self._slots:
            if slot.gave_up is not None:
                why = str(slot.gave_up) or type(slot.gave_up).__name__
                raise AdapterUnavailable(
                    f"gave up after {self._patience.total_seconds():g} s without a usable queue: {why}"
                ) from slot.gave_up
        return self.counts

    @property
    def counts(self) -> dict[str, int]:
        """Number of attempts so far by how they ended; thread-safe."""
        total: Counter[str] = Counter()
        for slot in self._slots:
            total.update(slot.counts)
        return {str(what): n for what, n in sorted(total.items())}

    def health(self) -> Health:
        """Return the health of the worker; thread-safe. Cheap: the queue is asked every few seconds at most.

        A slot that idles beside waiting jobs shows at the second look, some seconds after the first.
        """
        now = self._clock.monotonic()
        leases = list(self._leases())
        is_working = not self._stop.is_on and not self._is_draining
        ended = [slot for slot in self._slots if slot.thread.ident is not None and not slot.thread.is_alive()]
        dead = len(ended) if is_working else 0
        disconnected = sum(not slot.connected for slot in self._slots)
        counts = self.counts
        reason = ""
        if dead or disconnected:
            reason = f"{dead} slots have ended, {disconnected} cannot reach the queue"
        elif is_working and self._alive:
            idle = self._count - len(leases)
            reason = self._idleness.reason(idle, (len(leases), sum(counts.values())))
        return Health(
            ok=not reason,
            reason=reason,
            running=bool(self._alive) and not self._stop.is_on,
            slots=self._count,
            busy=len(leases),
            disconnected=disconnected,
            dead=dead,
            longest=max((now - lease.since for lease in leases), default=0.0),
            counts=counts,
        )

    def _info(self, grace: timedelta) -> WorkerInfo:
        return WorkerInfo(
            queues=self.queues,
            slots=self._count,
            grace=grace,
            pid=os.getpid(),
            host=socket.gethostname(),
            health=self.health,
        )

    # --- reports of the slots ---------------------------------------------------------------------

    def _leases(self) -> Iterator[Lease]:
        for slot in self._slots:
            if (lease := slot.lease) is not None:
                yield lease

    def _note_connection(self, slot: Slot, is_connected: bool) -> bool:
        """Record that a slot has lost the queue or has it back.

        Returns:
            Whether to log it: for the first slot that loses it and the last one that has it back, so that
            a server restart is two log lines and not two for each of hundreds of slots.
        """
        with self._stop.changed:
            slot.connected = is_connected
            return all(other.connected for other in self._slots if other is not slot)

    def _note_end(self, slot: Slot) -> None:
        with self._stop.changed:
            self._alive -= 1
            self._stop.changed.notify_all()
