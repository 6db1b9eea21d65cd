"""The jobs of one memory queue: heaps, counts, leases and waiting consumers, under one lock.

Rules that keep it quick and right:

1.  Everything is called with `lock` held; only `wait_and_take` lets go of it, inside `Clock.wait`.
2.  `tick` is the one place where time changes anything. It runs before every operation once a bound
    has passed (`next_due` on the wall clock, `next_mono` on the monotonic one); the bounds may be
    too early, never too late.
3.  A job leaves the middle of a heap by losing its state; such dead entries are skipped when they
    come to the top, and never make up more than half of a heap.
4.  A job that becomes ready wakes one waiting consumer. One waiting consumer, the timekeeper, also
    waits for the bounds; the others wait for their call only.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias

from kessel_core import Clock
from kessel_core.contract import (
    Bury,
    Commit,
    EnqueueRejected,
    JobState,
    LeaseLost,
    Message,
    Reservation,
    Settlement,
    Snooze,
    TieBreak,
    UnknownJob,
)
from kessel_memory.options import MemoryOptions

__all__ = ["Burial", "Job", "Store", "StoreQueue", "Waiter", "first_entries"]

_READY: Final = JobState.READY
_DELAYED: Final = JobState.DELAYED
_RESERVED: Final = JobState.RESERVED
_BURIED: Final = JobState.BURIED

_NEVER: Final = math.inf
_FAR: Final = datetime.max.replace(tzinfo=UTC)
# Sums of float seconds are a little off; spans shorter than this are rounding, not time.
_NOISE: Final = 1e-7
# A jump of the wall clock wakes nobody, so that a wait for a date looks at it once a minute.
_LONGEST_NAP: Final = 60.0
_MICROSECOND: Final = timedelta(microseconds=1)
_FEW: Final = 64


class Burial:
    """Why and when a job was buried."""

    __slots__ = ("at", "message", "reason")

    def __init__(self, reason: str, message: str, at: datetime) -> None:
        self.reason = reason
        self.message = message
        self.at = at


class Job:
    """One job that the store holds. Plain slots, because a million of them may wait."""

    __slots__ = (
        "attempt",
        "burial",
        "deadline",
        "due",
        "enqueued_at",
        "message",
        "number",
        "queue",
        "snoozes",
        "state",
    )

    #: None: gone, so that what is left of it in a heap does not count.
    state: JobState | None
    #: When it becomes ready; only while it is delayed.
    due: datetime
    #: End of the lease on the monotonic scale; only while it is reserved.
    deadline: float
    #: Only while it is buried.
    burial: Burial

    def __init__(self, message: Message, queue: StoreQueue, number: int, enqueued_at: datetime) -> None:
        self.message = message
        self.queue = queue
        #: Place among equals (S6).
        self.number = number
        self.enqueued_at = enqueued_at
        self.attempt = 0
        self.snoozes = 0
        self.state = _READY


#: Priority, place among equals, job; numbers are unique, so that jobs are never compared.
ReadyEntry: TypeAlias = tuple[int, int, Job]
#: Due time, place among equals, job.
DelayedEntry: TypeAlias = tuple[datetime, int, Job]


class Waiter:
    """A consumer as the store sees it: what it reserves from, and how it is woken."""

    __slots__ = ("cancelled", "condition", "queues")

    def __init__(self, queues: tuple[StoreQueue, ...], lock: threading.RLock) -> None:
        self.queues = queues
        self.condition = threading.Condition(lock)
        self.cancelled = False


class StoreQueue:
    """One named queue."""

    __slots__ = (
        "buried",
        "consumers",
        "dead_delayed",
        "dead_ready",
        "delayed",
        "name",
        "paused_until",
        "ready",
        "reserved",
        "waiters",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        #: Heaps, and how many of their entries are dead.
        self.ready: list[ReadyEntry] = []
        self.dead_ready = 0
        self.delayed: list[DelayedEntry] = []
        self.dead_delayed = 0
        #: In the order of their lease ends: all leases are equally long, and an extended one goes last.
        self.reserved: dict[Reservation, Job] = {}
        #: Oldest burial first. Ordered, because taking the first out of a dict again and again is slow.
        self.buried: OrderedDict[str, Job] = OrderedDict()
        #: On the monotonic scale; None: not paused.
        self.paused_until: float | None = None
        #: Longest waiting first.
        self.waiters: dict[Waiter, None] = {}
        #: How many consumers are open.
        self.consumers = 0

    @property
    def ready_count(self) -> int:
        """How many jobs are ready."""
        return len(self.ready) - self.dead_ready

    @property
    def delayed_count(self) -> int:
        """How many jobs are delayed."""
        return len(self.delayed) - self.dead_delayed

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if the queue were forgotten."""
        return not (
            self.ready_count
            or self.delayed_count
            or self.reserved
            or self.buried
            or self.consumers
            or self.paused_until is not None
        )

    def live_delayed(self) -> DelayedEntry | None:
        """Return the delayed job that is due first."""
        delayed = self.delayed
        while delayed and delayed[0][2].state is None:
            heappop(delayed)
            self.dead_delayed -= 1
        return delayed[0] if delayed else None

    def bury_dead(self) -> None:
        """Keep dead entries below half of each heap; the cost is shared by those who died."""
        if self.dead_ready > _FEW and self.dead_ready * 2 > len(self.ready):
            self.ready[:] = [entry for entry in self.ready if entry[2].state is not None]
            heapify(self.ready)
            self.dead_ready = 0
        if self.dead_delayed > _FEW and self.dead_delayed * 2 > len(self.delayed):
            self.delayed[:] = [entry for entry in self.delayed if entry[2].state is not None]
            heapify(self.delayed)
            self.dead_delayed = 0


class Store:
    """All queues of one memory adapter, or of all adapters that share a name."""

    def __init__(self, options: MemoryOptions, clock: Clock) -> None:
        self.options = options
        self.clock = clock
        # Reentrant: a signal handler that cancels a consumer may have interrupted its own thread here.
        self.lock = threading.RLock()
        self.jobs: dict[str, Job] = {}
        self.queues: dict[str, StoreQueue] = {}
        self.results: OrderedDict[str, bytes] = OrderedDict()
        self.waiting: dict[Waiter, None] = {}
        self.timekeeper: Waiter | None = None
        self.next_due: datetime | None = None
        self.next_mono = _NEVER
        #: How many adapters have it open.
        self.handles = 0
        self._number = 0
        self._prune_at = _FEW
        self._lease = options.lease.total_seconds()
        self._lease_span = options.lease
        self._renumbers = options.tie_break is TieBreak.READY
        self._capacity = _NEVER if options.capacity is None else options.capacity
        self._max_body = _NEVER if options.max_body_bytes is None else options.max_body_bytes

    # --- in and out, the quick ones ------------------------------------------------------------

    def put(self, message: Message) -> None:
        """Store one job, unless its id is held already.

        Raises:
            EnqueueRejected: The body is too large, or the store is full.
        """
        job_id = message.id
        jobs = self.jobs
        if job_id in jobs:
            return
        if len(message.body) > self._max_body:
            why = f"its body of {len(message.body)} bytes is larger than {self._max_body}"
            raise EnqueueRejected(job_id, why, reason="too-large")
        if len(jobs) >= self._capacity:
            raise EnqueueRejected(job_id, f"the memory queue holds its {self._capacity} jobs", reason="full")
        now = self.clock.now()
        is_due = self.next_due is not None and now >= self.next_due
        if is_due or (self.next_mono is not _NEVER and self.clock.monotonic() >= self.next_mono):
            self.tick()
        queue = self.queues.get(message.queue) or self.queue(message.queue)
        self._number = number = self._number + 1
        job = Job(message, queue, number, now)
        delay = message.delay
        if delay is None or delay <= now:
            heappush(queue.ready, (message.priority, number, job))
            if queue.waiters:
                self._wake(queue)
        else:
            self._delay(job, delay)
        # Last, so that an interrupted call leaves no id behind whose job would never be delivered.
        jobs[job_id] = job

    def take(self, queues: Sequence[StoreQueue]) -> Reservation | None:
        """Reserve the next ready job of some queues, without waiting."""
        mono = self.clock.monotonic()
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
        heappop(queue.ready)
        job.state = _RESERVED
        job.attempt = attempt = job.attempt + 1
        job.deadline = deadline = mono + self._lease
        message = job.message
        reservation = Reservation(
            message.id, queue.name, message.body, attempt, deadline, self._lease_span, job.snoozes
        )
        queue.reserved[reservation] = job
        if deadline < self.next_mono:
            self._bound(deadline)
        return reservation

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """End a reservation.

        Raises:
            LeaseLost: It holds nothing any more.
        """
        job = self._held(reservation)
        del job.queue.reserved[reservation]
        if isinstance(settlement, Commit):
            self._forget(job)
            if settlement.result is not None:
                self._keep(job, settlement.result)
        elif isinstance(settlement, Bury):
            job.state = _BURIED
            job.burial = Burial(settlement.reason, settlement.message, self.clock.now())
            job.queue.buried[job.message.id] = job
            if settlement.result is not None:
                self._keep(job, settlement.result)
        else:
            if isinstance(settlement, Snooze):
                job.attempt -= 1
                job.snoozes += 1
            self._roll_back(job, settlement.pause)

    def extend(self, reservation: Reservation) -> None:
        """Renew a lease to its full length.

        Raises:
            LeaseLost: It holds nothing any more.
        """
        job = self._held(reservation)
        job.deadline = reservation.deadline = self.clock.monotonic() + self._lease
        reserved = job.queue.reserved
        del reserved[reservation]
        reserved[reservation] = job

    def drop(self, reservation: Reservation) -> None:
        """Make a job ready again whose consumer gave up; nothing happens if it holds none."""
        try:
            job = self._held(reservation)
        except LeaseLost:
            return
        del job.queue.reserved[reservation]
        self.catch_up()  # as in a rollback
        self._make_ready(job)

    def _held(self, reservation: Reservation) -> Job:
        if self.clock.monotonic() >= self.next_mono:
            self.tick()
        queue = self.queues.get(reservation.queue)
        job = queue.reserved.get(reservation) if queue is not None else None
        if job is None:
            raise LeaseLost(reservation.id, "it ran out, or the job was settled already")
        return job

    def _forget(self, job: Job) -> None:
        job.state = None
        self.jobs.pop(job.message.id, None)

    def _keep(self, job: Job, result: bytes) -> None:
        limit = self.options.keep_results
        if limit:
            self.results[job.message.id] = result
            if len(self.results) > limit:
                self.results.popitem(last=False)

    def _roll_back(self, job: Job, pause: timedelta) -> None:
        if pause <= timedelta(0):
            self.catch_up()  # what time made ready before this has its place before it (S6)
            self._make_ready(job)
            return
        try:
            due = self.clock.now() + pause
        except OverflowError:
            due = _FAR
        self._delay(job, due)

    # --- what becomes ready, and when ------------------------------------------------------------

    def catch_up(self) -> None:
        """Call `tick` if a bound has passed."""
        is_due = self.next_due is not None and self.clock.now() >= self.next_due
        if is_due or self.clock.monotonic() >= self.next_mono:
            self.tick()

    def tick(self) -> None:
        """Make ready what time has made ready, in the order of the moments when it did."""
        now, mono = self.clock.now(), self.clock.monotonic()
        over = mono + _NOISE
        back: list[DelayedEntry] = []
        resumed: list[StoreQueue] = []
        next_due: datetime | None = None
        next_mono = _NEVER
        for queue in self.queues.values():
            while (entry := queue.live_delayed()) is not None and entry[0] <= now:
                back.append(heappop(queue.delayed))
            if entry is not None and (next_due is None or entry[0] < next_due):
                next_due = entry[0]
            while queue.reserved:
                reservation, job = next(iter(queue.reserved.items()))
                if job.deadline > over:
                    next_mono = min(next_mono, job.deadline)
                    break
                del queue.reserved[reservation]
                back.append((now - timedelta(seconds=mono - job.deadline), job.number, job))
            if queue.paused_until is not None:
                if queue.paused_until > over:
                    next_mono = min(next_mono, queue.paused_until)
                else:
                    queue.paused_until = None
                    resumed.append(queue)
        self.next_due, self.next_mono = next_due, next_mono - _NOISE if next_mono < _NEVER else _NEVER
        back.sort()
        for _, _, job in back:
            self._make_ready(job)
        for queue in resumed:
            self.wake_all(queue)

    def _make_ready(self, job: Job) -> None:
        if self._renumbers:
            self._number = job.number = self._number + 1
        job.state = _READY
        queue = job.queue
        heappush(queue.ready, (job.message.priority, job.number, job))
        if queue.waiters:
            self._wake(queue)

    def _delay(self, job: Job, due: datetime) -> None:
        job.state = _DELAYED
        job.due = due
        heappush(job.queue.delayed, (due, job.number, job))
        if self.next_due is None or due < self.next_due:
            self.next_due = due
            self._remind()

    def _bound(self, moment: float) -> None:
        self.next_mono = moment - _NOISE
        self._remind()

    def _remind(self) -> None:
        if self.timekeeper is not None:
            self.timekeeper.condition.notify()

    def next_change(self, names: Iterable[str]) -> datetime | None:
        """Return when time alone next makes a job of these queues deliverable."""
        self.catch_up()
        now, mono = self.clock.now(), self.clock.monotonic()

        def on_the_wall(moment: float) -> datetime:
            return now + max(_MICROSECOND, _rounded_up(moment - mono - _NOISE))

        found: datetime | None = None
        for name in names:
            queue = self.queues.get(name)
            if queue is None:
                continue
            entry = queue.live_delayed()
            moments = [entry[0]] if entry is not None else []
            if queue.reserved:
                moments.append(on_the_wall(next(iter(queue.reserved.values())).deadline))
            if queue.paused_until is not None:
                resumes = on_the_wall(queue.paused_until)
                moments = [resumes] if queue.ready_count else [max(moment, resumes) for moment in moments]
            found = min(moments if found is None else [found, *moments], default=None)
        return found

    # --- waiting ---------------------------------------------------------------------------------

    def wait_and_take(self, waiter: Waiter, timeout: float) -> Reservation | None:
        """Wait until a job of the waiter's queues is ready, the time is over, or it is cancelled."""
        reservation = None
        end = self.clock.monotonic() + timeout
        try:
            while not waiter.cancelled:
                left = end - self.clock.monotonic()
                if left < _NOISE:
                    break
                self.waiting[waiter] = None
                for queue in waiter.queues:
                    queue.waiters[waiter] = None
                if self.timekeeper is None:
                    self.timekeeper = waiter
                    left = min(left, self._nap())
                self.clock.wait(waiter.condition, left)
                self._dismiss(waiter)
                if not waiter.cancelled:
                    reservation = self.take(waiter.queues)
                    if reservation is not None:
                        break
        finally:
            self._dismiss(waiter)
            self._pass_on(waiter, took=reservation is not None)
        return reservation

    def _nap(self) -> float:
        nap = _NEVER
        if self.next_due is not None:
            nap = min(_LONGEST_NAP, (self.next_due - self.clock.now()).total_seconds())
        if self.next_mono < _NEVER:
            nap = min(nap, self.next_mono + _NOISE - self.clock.monotonic())
        return max(0.0, nap)

    def _dismiss(self, waiter: Waiter) -> None:
        if self.timekeeper is waiter:
            self.timekeeper = None
        if self.waiting.pop(waiter, waiter) is None:
            for queue in waiter.queues:
                queue.waiters.pop(waiter, None)

    def _pass_on(self, waiter: Waiter, *, took: bool) -> None:
        # Whoever leaves may have been called for a job that it did not take, and may have been the
        # timekeeper: the next in line must not sleep through either.
        if not took:
            for queue in waiter.queues:
                if queue.waiters and queue.ready_count and queue.paused_until is None:
                    self._wake(queue)
        if (
            self.timekeeper is None
            and self.waiting
            and (self.next_due is not None or self.next_mono < _NEVER)
        ):
            self._call(next(iter(self.waiting)))

    def _wake(self, queue: StoreQueue) -> None:
        if queue.paused_until is None:
            self._call(next(iter(queue.waiters)))

    def wake_all(self, queue: StoreQueue) -> None:
        """Wake as many waiting consumers as the queue has ready jobs."""
        for waiter in list(queue.waiters)[: queue.ready_count]:
            self._call(waiter)

    def _call(self, waiter: Waiter) -> None:
        self._dismiss(waiter)
        waiter.condition.notify()

    def cancel(self, waiter: Waiter) -> None:
        """Make its waiting, and any later one, end."""
        waiter.cancelled = True
        waiter.condition.notify()

    # --- operations --------------------------------------------------------------------------------

    def queue(self, name: str) -> StoreQueue:
        """Return the queue of that name, new if need be."""
        found = self.queues.get(name)
        if found is None:
            if len(self.queues) >= self._prune_at:
                for idle in [queue.name for queue in self.queues.values() if queue.is_idle]:
                    del self.queues[idle]
                self._prune_at = 2 * len(self.queues) + _FEW
            found = self.queues[name] = StoreQueue(name)
        return found

    def kick(self, name: str, job_id: str) -> None:
        """Make a buried job ready again."""
        job = self._job(name, job_id)
        if job.state is not _BURIED:
            raise UnknownJob(job_id, name)
        del job.queue.buried[job_id], job.burial
        job.attempt = 0
        self._make_ready(job)

    def delete(self, name: str, job_id: str) -> None:
        """Remove a job that nobody has reserved."""
        job = self._job(name, job_id)
        queue = job.queue
        if job.state is _RESERVED:
            raise UnknownJob(job_id, name)
        if job.state is _BURIED:
            del queue.buried[job_id]
        elif job.state is _READY:
            queue.dead_ready += 1
        else:
            queue.dead_delayed += 1
        self._forget(job)
        queue.bury_dead()

    def _job(self, name: str, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None or job.queue.name != name:
            raise UnknownJob(job_id, name)
        return job

    def purge(self, name: str) -> int:
        """Remove all jobs of a queue that nobody has reserved."""
        queue = self.queues.get(name)
        if queue is None:
            return 0
        count = 0
        for job in self.unreserved(queue):
            self._forget(job)
            count += 1
        queue.ready, queue.delayed, queue.buried = [], [], OrderedDict()
        queue.dead_ready = queue.dead_delayed = 0
        return count

    @staticmethod
    def unreserved(queue: StoreQueue) -> Iterator[Job]:
        """Every job of a queue that is ready, delayed or buried."""
        for _, _, job in queue.ready:
            if job.state is not None:
                yield job
        for _, _, job in queue.delayed:
            if job.state is not None:
                yield job
        yield from queue.buried.values()

    def pause(self, name: str, duration: timedelta) -> None:
        """Deliver nothing from a queue for a while; zero resumes."""
        if duration > timedelta(0):
            queue = self.queue(name)
            queue.paused_until = self.clock.monotonic() + duration.total_seconds()
            if queue.paused_until < self.next_mono:
                self._bound(queue.paused_until)
        elif name in self.queues:
            self.queues[name].paused_until = None
            self.wake_all(self.queues[name])


def first_entries(heap: Sequence[ReadyEntry] | Sequence[DelayedEntry], limit: int) -> Iterator[Job]:
    """Yield the first jobs of a heap in their order, without changing or sorting it.

    An entry is only looked at once the one above it has been yielded, so that the cost depends
    on `limit` and not on the length of the heap.
    """
    frontier: list[tuple[ReadyEntry | DelayedEntry, int]] = [(heap[0], 0)] if heap else []
    while frontier and limit > 0:
        entry, index = heappop(frontier)
        if entry[2].state is not None:
            limit -= 1
            yield entry[2]
        for below in (2 * index + 1, 2 * index + 2):
            if below < len(heap):
                heappush(frontier, (heap[below], below))


def _rounded_up(seconds: float) -> timedelta:
    return timedelta(microseconds=math.ceil(seconds * 1_000_000))
