"""The jobs of one memory adapter, or of all that share a name: what comes in and goes out, under one lock.

Everything is called with `lock` held; only `wait_and_take` lets go of it, inside `Clock.wait`. What time does
is in `timers.py`, who is woken in `waiting.py`, what operators do in `operations.py`. One object and not
three, because this is the path by which the speed of everything else is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from heapq import heappop, heappush
from typing import Final, NoReturn

from kessel_core import Clock
from kessel_core.contract import (
    COMMIT,
    Bury,
    Commit,
    EnqueueRejected,
    IdHeld,
    JobState,
    LeaseLost,
    Message,
    Reservation,
    Settlement,
    Snooze,
    later,
)
from kessel_memory.entries import Entries
from kessel_memory.forks import begin_anew_after_fork
from kessel_memory.options import MemoryOptions
from kessel_memory.queue import Burial, Job, MemoryQueue, ReadyEntry, Waiter
from kessel_memory.timers import NEVER, NOISE, Timers

__all__ = ["Store"]

#: Queues that are not worth looking through for idle ones.
_FEW: Final = 64
# Looked up once: a member of an enum costs more than a name, and this one is wanted for every job.
_RESERVED: Final = JobState.RESERVED


class Store(Timers):
    """All queues of one memory adapter, or of all adapters that share a name."""

    def __init__(self, options: MemoryOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        self.options = options
        self.jobs: dict[str, Job] = {}
        #: Small facts beside the jobs (S19).
        self.entries = Entries(clock, self.lock)
        #: How many adapters have it open.
        self.handles = 0
        self._prune_at = _FEW
        self._lease = options.lease.total_seconds()
        self._lease_span = options.lease
        self._capacity = NEVER if options.capacity is None else options.capacity
        self._max_body = NEVER if options.max_body_bytes is None else options.max_body_bytes
        begin_anew_after_fork(self)

    def begin_anew(self) -> None:
        """Begin anew in a forked child, without jobs, entries, and those who wait in the parent."""
        super().begin_anew()
        self.jobs.clear()
        self.entries.begin_anew()

    def queue(self, name: str) -> MemoryQueue:
        """Return the queue of that name, new if need be."""
        found = self.queues.get(name)
        if found is None:
            if len(self.queues) >= self._prune_at:
                for idle in [queue.name for queue in self.queues.values() if queue.is_idle]:
                    del self.queues[idle]
                self._prune_at = 2 * len(self.queues) + _FEW
            found = self.queues[name] = MemoryQueue(name)
        return found

    def put(self, message: Message) -> None:
        """Store one job, unless its id is held already.

        Raises:
            EnqueueRejected: The body is too large, or the store is full.
        """
        job_id = message.id
        jobs = self.jobs
        if job_id in jobs:
            self._refuse_held(job_id)
        if len(message.body) > self._max_body:
            self._check_size(message)
        if len(jobs) >= self._capacity:
            self._refuse_full(job_id)
        now = self.clock.now()
        is_due = self.next_due is not None and now >= self.next_due
        if is_due or (self.next_mono is not NEVER and self.clock.monotonic() >= self.next_mono):
            self.tick()
        queue = self.queues.get(message.queue) or self.queue(message.queue)
        self.last_number = number = self.last_number + 1
        job = Job(message, queue, number, now)
        delay = message.delay
        if delay is None or delay <= now:
            heappush(queue.ready, (message.priority, number, job))
            if queue.waiters:
                self.wake_one(queue)
        else:
            self.delay(job, delay)
        # Last, so that an interrupted call leaves no id behind whose job would never be delivered.
        jobs[job_id] = job

    def _check_size(self, message: Message) -> None:
        if len(message.body) > self._max_body:
            why = f"its body of {len(message.body)} bytes is larger than {self._max_body}"
            raise EnqueueRejected(message.id, why, reason="too-large")

    def _refuse_full(self, job_id: str) -> NoReturn:
        raise EnqueueRejected(job_id, f"the memory queue holds its {self._capacity} jobs", reason="full")

    def _refuse_held(self, job_id: str) -> None:
        self.catch_up()  # its delay or lease may be over
        state = self.jobs[job_id].state
        assert state is not None
        raise IdHeld(job_id, str(state))

    def take(self, queues: Sequence[MemoryQueue], mono: float) -> Reservation | None:
        """Reserve the next ready job of some queues, without waiting, at a moment of the monotonic clock."""
        if mono >= self.next_mono or (self.next_due is not None and self.clock.now() >= self.next_due):
            self.tick()
        best: ReadyEntry | None = None
        for queue in queues:
            ready = queue.ready
            while ready and ready[0][2].state is None:
                heappop(ready)
                queue.dead_ready -= 1
            if ready and queue.paused_until is None and (best is None or ready[0] < best):
                best = ready[0]
        if best is None:
            return None
        job = best[2]
        queue = job.queue
        attempt, deadline = job.attempt + 1, mono + self._lease
        message = job.message
        reservation = Reservation(
            message.id,
            queue.name,
            message.body,
            attempt,
            deadline,
            self._lease_span,
            job.snoozes,
            kicks=job.kicks,
        )
        if deadline < self.next_mono:
            self.set_bound(deadline)
        # A signal's handler may raise after a call, and not between these: a job is never nowhere.
        queue.reserved[reservation] = job
        job.state, job.attempt, job.deadline = _RESERVED, attempt, deadline
        heappop(queue.ready)
        return reservation

    def settle(self, reservation: Reservation, settlement: Settlement, mono: float) -> None:
        """End a reservation at a moment of the monotonic clock, and store what it brings along (S20).

        Raises:
            LeaseLost: It holds nothing any more.
            EnqueueRejected: What it brings along is refused; nothing was changed.
        """
        job = self._held(reservation, mono)
        is_plain = settlement is COMMIT  # as it nearly always is: it brings nothing along
        if not is_plain and isinstance(settlement, (Commit, Bury)) and settlement.follow:
            self._check_follow_ups(settlement)
        del job.queue.reserved[reservation]
        try:
            if isinstance(settlement, Commit):
                self.forget(job)
                if not is_plain:
                    self._bring_along(settlement)
            elif isinstance(settlement, Bury):
                burial = Burial(settlement.reason, settlement.message, self.clock.now())
                job.queue.buried[job.message.id] = job
                job.state, job.burial = JobState.BURIED, burial
                self._bring_along(settlement)
            else:
                if isinstance(settlement, Snooze):
                    job.attempt -= 1
                    job.snoozes += 1
                self._roll_back(job, settlement.pause)
        except BaseException:  # a signal's handler has raised
            if job.state is _RESERVED:
                job.queue.reserved[reservation] = job
            raise

    def _check_follow_ups(self, settlement: Commit | Bury) -> None:
        """Raise EnqueueRejected if not all follow-ups can be stored."""
        new = {one.id: one for one in settlement.follow if one.id not in self.jobs}
        # A commit makes room for one of them.
        room = self._capacity - len(self.jobs) + isinstance(settlement, Commit)
        for number, message in enumerate(new.values(), 1):
            self._check_size(message)
            if number > room:
                self._refuse_full(message.id)

    def _bring_along(self, settlement: Commit | Bury) -> None:
        for message in settlement.follow:
            if message.id not in self.jobs:
                self.put(message)
        for put in settlement.puts:
            self.entries.put(put.space, put.key, put.value, ttl=put.ttl)

    def extend(self, reservation: Reservation) -> None:
        """Renew a lease to its full length.

        Raises:
            LeaseLost: It holds nothing any more.
        """
        mono = self.clock.monotonic()
        job = self._held(reservation, mono)
        job.deadline = reservation.deadline = mono + self._lease
        reserved = job.queue.reserved
        del reserved[reservation]
        reserved[reservation] = job

    def drop(self, reservation: Reservation) -> None:
        """Make a job ready again whose consumer gave up; nothing happens if it holds none."""
        try:
            job = self._held(reservation, self.clock.monotonic())
        except LeaseLost:
            return
        del job.queue.reserved[reservation]
        try:
            self.catch_up()  # as in a rollback
            self.make_ready(job)
        except BaseException:
            if job.state is _RESERVED:
                job.queue.reserved[reservation] = job
            raise

    def _held(self, reservation: Reservation, mono: float) -> Job:
        if mono >= self.next_mono:
            self.tick()
        queue = self.queues.get(reservation.queue)
        job = queue.reserved.get(reservation) if queue is not None else None
        if job is None:
            raise LeaseLost(reservation.id, "it ran out, or the job was settled already")
        return job

    def forget(self, job: Job) -> None:
        """Make a job nobody's; what is left of it in a heap is dead."""
        job.state = None
        self.jobs.pop(job.message.id, None)

    def _roll_back(self, job: Job, pause: timedelta) -> None:
        if pause <= timedelta(0):
            self.catch_up()  # what time made ready before this has its place before it (S6)
            self.make_ready(job)
            return
        self.delay(job, later(self.clock.now(), pause))

    def wait_and_take(self, waiter: Waiter, timeout: float) -> Reservation | None:
        """Wait until a job of the waiter's queues is ready, the time is over, or it is cancelled."""
        reservation = None
        end = self.clock.monotonic() + timeout
        try:
            while not waiter.cancelled:
                left = end - self.clock.monotonic()
                if left < NOISE:
                    break
                if self.join(waiter):
                    left = min(left, self.until_next_bound())
                self.clock.wait(waiter.condition, left)
                self.leave(waiter)
                if not waiter.cancelled:
                    reservation = self.take(waiter.queues, self.clock.monotonic())
                    if reservation is not None:
                        break
        finally:
            self.leave(waiter)
            self.hand_on(waiter, took=reservation is not None, is_time_awaited=self.is_time_awaited)
        return reservation
