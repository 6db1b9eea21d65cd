"""The worker: its slots, the graceful stop, its health (D8, D9). Decides nothing about jobs.

Longer than 350 lines: starting, stopping and waiting share one state and are read together.
"""

from __future__ import annotations

import _thread
import atexit
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Final

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.errors import AdapterUnavailable, ConfigError, DescriptorsLost, KesselError
from kessel_core.features.history import Recorder
from kessel_core.model.worker import BusyJob, Health, WorkerInfo
from kessel_core.plugins.watchers import Watchers
from kessel_core.runtime.descriptors import LOST, Descriptors
from kessel_core.runtime.health import counts_of, health_of
from kessel_core.runtime.heartbeat import Heartbeat
from kessel_core.runtime.idleness import Idleness
from kessel_core.runtime.lease import SETTLES_FOR, Lease
from kessel_core.runtime.pipeline import Pipeline
from kessel_core.runtime.reporting import Reporter, ReportPlan, busy_jobs
from kessel_core.runtime.slot import Slot, SlotPlan
from kessel_core.runtime.stopping import INSIDE, StopSwitch, start, uninterrupted
from kessel_core.values.logs import get_logger

__all__ = ["Worker", "end_all"]

log = get_logger("kessel.worker")

AT_ONCE: Final = timedelta(0)
#: Workers that were started here and may still hold jobs when the interpreter ends.
_started: weakref.WeakSet[Worker] = weakref.WeakSet()


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
        deaf_after: timedelta = timedelta(seconds=60),
        reporting: ReportPlan | None = None,
        recorder: Recorder | None = None,
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
        #: None: it reports nothing.
        self._reporting = reporting
        self._reporter: Reporter | None = None
        #: None: nothing is written down of its jobs.
        self._recorder = recorder
        self._pid = os.getpid()
        #: Acquired once and never released, by the only start.
        self._claimed = threading.Lock()
        self._is_started = False
        #: Whether the watchers were told of the start; only then they are told of the stop.
        self._is_known = False
        self._has_ended = False
        self._stop = StopSwitch(clock)
        self._descriptors = Descriptors(self._note_loss)
        #: A lock for each announcement of a stop that another thread makes; released when it is made.
        self._announcing: list[_thread.LockType] = []
        #: The grace period of a stop that the watchers were not told of yet; whoever takes it tells them.
        self._untold: list[timedelta] = []
        #: Held while slots are started, too, so that nobody waits for one that is about to begin.
        self._joining = threading.Lock()
        self._slots: list[Slot] = []
        self._alive = 0
        self._is_draining = False
        self._idleness = Idleness(adapter, self.queues, clock, deaf_after)

    # --- control ----------------------------------------------------------------------------

    def run(self, *, ready: Callable[[], object] | None = None) -> None:
        """Run until `stop`, then wait for running jobs and give back what is left after the grace period.

        An exception that a signal handler raises meanwhile, such as the KeyboardInterrupt of Ctrl-C, is a
        stop: it is raised again when running jobs have ended or were given back. A second one gives back
        at once.

        Args:
            ready: As for `start`.

        Raises:
            KesselError: It was started before, which goes on as it was.
            ConfigError: The adapter refuses the queues; nothing was started.
            DescriptorsLost: A job closed what was not its own; the process cannot go on.
            RuntimeError: The system has no thread left for a slot; those that had begun were stopped.
        """
        self._claim()
        self._run(ready)

    def _run(self, ready: Callable[[], object] | None = None) -> None:
        try:
            self._begin(ready)
            self.join()
        except BaseException:
            end_all([self])
            raise

    def start(self, *, ready: Callable[[], object] | None = None) -> None:
        """Start the slots and return; `join` waits until they have ended.

        Args:
            ready: Called when nothing can refuse the worker any more, before it takes a job.

        Raises:
            KesselError: It was started before, which goes on as it was.
            ConfigError: The adapter refuses the queues; nothing was started.
            RuntimeError: The system has no thread left for a slot; `stop` and `join` end those that began.
        """
        self._claim()
        self._begin(ready)

    def _claim(self) -> None:
        # The slots of a second start would replace those of the first, whose leases nobody extended then.
        if not self._claimed.acquire(blocking=False):
            raise KesselError("a worker can be run only once: ask the manager for another one")

    def _begin(self, ready: Callable[[], object] | None) -> None:
        self._pid = os.getpid()
        _started.add(self)
        heartbeat = Heartbeat(
            self._adapter,
            self._leases,
            self._stop,
            lambda: not self._alive,
            self._clock,
            self._heartbeat_every,
        )
        patience = self._patience.total_seconds()
        plan = SlotPlan(
            adapter=self._adapter,
            pipeline=self._pipeline,
            clock=self._clock,
            queues=self.queues,
            stop=self._stop,
            descriptors=self._descriptors,
            heartbeat=heartbeat,
            drains_for=patience if self._is_draining else None,
            settles_for=min(SETTLES_FOR, patience) if self._is_draining else SETTLES_FOR,
            on_connection=self._note_connection,
            on_end=self._note_end,
        )
        self._slots = [Slot(number, plan) for number in range(1, self._count + 1)]
        self._connect()
        log.info("worker: %d slot%s on %s", self._count, "s" * (self._count > 1), ", ".join(self.queues))
        info = self._info(self.grace)
        try:
            for watcher in self._watchers.worker_started:
                watcher(worker=info)
        finally:
            self._is_known = True
            self._tell_of_stop()  # one that came meanwhile
        if ready is not None:
            ready()
        self._descriptors.open()
        self._is_started = True
        uninterrupted(self._start_slots, "kessel-start")

    def _start_slots(self) -> None:
        with self._joining:
            left, self._alive = list(self._slots), self._count
            try:
                while left and not self._stop.is_on:
                    left[0].thread.start()
                    del left[0]
                if not left:
                    self._start_reporter()
            finally:  # there was no thread left for one, or a stop came meanwhile
                for slot in left:
                    slot.close()
                    self._note_end(slot)

    def _start_reporter(self) -> None:
        if self._reporting is not None:
            self._reporter = Reporter(
                self._reporting,
                queues=self.queues,
                slots=self._count,
                leases=self._leases,
                counts=lambda: self.counts,
                disconnected=self._disconnected,
                stop=self._stop,
                is_over=lambda: not self._alive,
                descriptors=self._descriptors,
                clock=self._clock,
                waits=self._is_draining,
            )
            self._reporter.start()

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
    def is_over(self) -> bool:
        """Whether it was told to stop, by whomever, and every slot has ended."""
        return self._stop.is_on and not self._alive  # a slot that is stuck in its handler has not ended

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_on

    def stop(self, grace: timedelta | None = None) -> None:
        """Request the stop and return at once: no more jobs are reserved, running ones get `grace`.

        For any thread, any signal handler, and any job, also of this worker.

        Args:
            grace: Zero or more; None: as configured. A second call can only shorten it.
        """
        if self.is_forked:
            return
        span = self.grace if grace is None else grace
        if threading.current_thread() is not threading.main_thread():
            self._stop_here(span)
            return
        self._stop.turn_on(span.total_seconds())
        # This may be a signal handler that interrupted the holder of a lock which is needed below. Not by
        # `threading`, which has locks of its own.
        done = _thread.allocate_lock()
        done.acquire()
        self._announcing.append(done)
        _thread.start_new_thread(start, (self._announce, "kessel-stop", span, done))

    def _stop_here(self, span: timedelta) -> None:
        """Do what `stop` does, in this thread, which has interrupted nobody who holds a lock."""
        self._stop.turn_on(span.total_seconds())
        self._announce(span)

    def _announce(self, span: timedelta, done: _thread.LockType | None = None) -> None:
        """Let everybody know of the stop."""
        try:
            if self._stop.announce():
                self._untold.append(span)
            self._tell_of_stop()
            for slot in self._slots:
                slot.cancel()
        finally:
            if done is not None:
                done.release()

    def _tell_of_stop(self) -> None:
        """Tell the watchers of the stop, once, and not before they know of the start."""
        if not self._is_known:
            return  # told after the start
        try:
            span = self._untold.pop()
        except IndexError:  # there is none, or somebody else tells it
            return
        if not self._has_ended:  # as after a drain
            log.info("worker: stopping, at most %g s for running jobs", span.total_seconds())
        info = self._info(span)
        for watcher in self._watchers.worker_stopping:
            watcher(worker=info)

    @property
    def is_inside(self) -> bool:
        """Whether this is called by one of its own jobs, which must not wait for its end."""
        return INSIDE.get() is self._stop and not self.is_forked

    @property
    def is_full_inside(self) -> bool:
        """Whether this is called by one of its own jobs, and no slot is left to run another one."""
        return self.is_inside and all(slot.lease is not None for slot in self._slots)

    def join(self) -> None:
        """Wait until every slot has ended; after a stop, until its grace period is over.

        Raises:
            KesselError: A job of this worker called it, which would wait for itself; or an async handler,
                with which all others would wait.
            DescriptorsLost: A job closed what was not its own; the process cannot go on.
        """
        self._finish()
        if self.has_lost_descriptors:
            raise DescriptorsLost(LOST)

    @property
    def has_lost_descriptors(self) -> bool:
        """Whether it has ended, or ends, because a job closed descriptors that were not its own."""
        return self._descriptors.are_lost

    def _finish(self) -> None:
        """Wait until every slot has ended."""
        if self.is_forked or not self._is_started:
            return
        if self.is_inside:
            raise KesselError("a job cannot wait for the end of its own worker; stop() returns at once")
        if self._pipeline.is_in_loop:
            raise KesselError(
                "an async handler cannot wait for a worker here, because all async handlers would wait with "
                "it; use asyncio.to_thread"
            )
        uninterrupted(self._wait, "kessel-join")

    def _wait(self) -> None:
        """Wait for the end, and give back what is left at it."""
        with self._joining:
            self._wait_for_slots()
            while self._announcing:
                self._announcing.pop().acquire(timeout=1.0)

    def _wait_for_slots(self) -> None:
        changed = self._stop.changed
        with changed:
            while self._alive:
                # Both waits are bounded, so that signal handlers run in the main thread on every platform.
                deadline = self._stop.deadline
                if deadline is None:
                    changed.wait(1.0)  # in real time: the end of this wait means nothing
                    continue
                rest = deadline - self._clock.monotonic()
                if rest <= 0:
                    break
                self._clock.wait(changed, min(rest, 1.0))
            self._stop.is_on = True
            changed.notify_all()
        # Asked once: a slot that takes a job only now sees the stop, and settles it by itself.
        stuck = [slot for slot in self._slots if (lease := slot.lease) is not None and lease.give_back()]
        # An async handler that went on would run beside the next delivery of its job.
        self._pipeline.cut_off([slot.thread for slot in self._slots])
        # A slot whose job is over ends at once, or as soon as it has said that it cannot settle it.
        end = time.monotonic() + 1.0
        for slot in self._slots:
            if slot.thread.ident is None:
                continue  # it was not started: there was no thread left, or the stop came first
            is_stuck = self.has_lost_descriptors or slot in stuck
            slot.thread.join(timeout=0 if is_stuck else max(0.0, end - time.monotonic()))
        if self._reporter is not None:
            self._reporter.join()
        if self._recorder is not None:
            self._recorder.flush()
        self._descriptors.close()
        if not self._has_ended:
            self._has_ended = True
            log.info(
                "worker: stopped (%s)",
                ", ".join(f"{n} {what}" for what, n in self.counts.items()) or "no jobs",
            )

    def drain(self) -> dict[str, int]:
        """Run until nothing is ready in the queues; delayed and buried jobs stay.

        Returns:
            Number of attempts by how they ended: `success`, `failed`, `failed-transient`, `snoozed`, `lost`.

        Raises:
            KesselError: It was started before, which goes on as it was.
            AdapterUnavailable: The queue was not usable for the worker's patience; `counts` says
                what was done before. Only `drain` gives up, `run` never does.
            ConfigError: The adapter refuses the queues; nothing was started.
        """
        self._claim()
        self._is_draining = True
        self._run()
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
        return counts_of(self._slots)

    def health(self, *, looks: bool = True) -> Health:
        """Return the health of the worker (S38); thread-safe. The queue is asked every few seconds at most.

        What takes time, a slot that idles beside waiting jobs, is seen only if somebody asks again and again:
        at least twice in `worker.deaf_after`.

        Args:
            looks: Whether the queue may be asked, which takes as long as it takes to answer; False: only what
                is known by now is told, at once.
        """
        return health_of(
            self._slots,
            count=self._count,
            idleness=self._idleness,
            clock=self._clock,
            is_alive=bool(self._alive),
            is_stopping=self._stop.is_on,
            is_draining=self._is_draining,
            has_lost_descriptors=self.has_lost_descriptors,
            looks=looks,
        )

    @property
    def running(self) -> tuple[BusyJob, ...]:
        """The jobs that it runs, those that run longest first; thread-safe."""
        return busy_jobs(self._leases(), self._clock)

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

    def _disconnected(self) -> int:
        return sum(not slot.connected for slot in self._slots)

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

    def _note_loss(self) -> None:
        here = threading.current_thread()
        mine = [slot.lease for slot in self._slots if slot.thread is here and slot.lease is not None]
        # Another thread may notice it first, such as the one that reports; it was one of those that run.
        blamed = mine or list(self._leases())
        log.error(
            "%s; the worker ends, and its running jobs are delivered again",
            LOST,
            extra={"job_id": blamed[0].reservation.id if len(blamed) == 1 else None},
        )
        if self._recorder is not None:
            self._recorder.abandon()
        self._stop_here(AT_ONCE)

    @property
    def _runs_here(self) -> bool:
        return self._is_started and not self.is_forked and self._alive > 0


def end_all(workers: Sequence[Worker], grace: timedelta | None = None) -> None:
    """Stop workers, and wait for their end; interrupted meanwhile, give back at once what they run.

    Args:
        workers: Any number.
        grace: As for `Worker.stop`.
    """
    for worker in workers:
        worker.stop(grace)
    try:
        for worker in workers:
            worker._finish()
    except BaseException:
        for worker in workers:
            worker.stop(AT_ONCE)
        for worker in workers:
            worker._finish()
        raise


@atexit.register
def _end_with_process() -> None:
    """Give back what runs, because the interpreter ends; no thread can be started any more.

    All are told before one is waited for: what one gives back, another would begin.
    """
    running = [worker for worker in list(_started) if worker._runs_here]
    for worker in running:
        worker._stop_here(AT_ONCE)
    for worker in running:
        worker._wait()
