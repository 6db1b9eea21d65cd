"""The memory adapter: the contract of `kessel_core.adapter`, over one `Store`."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import ClassVar, Final, TypeVar

from kessel_core.contract import (
    AdapterContext,
    AdapterError,
    AdapterUnavailable,
    Attempts,
    Browse,
    Buried,
    Capabilities,
    CapabilityMissing,
    Consumer,
    Delete,
    Durability,
    EnqueueRejected,
    Facet,
    FacetKind,
    InvalidConfig,
    JobState,
    LeaseReturn,
    Message,
    Pause,
    Problem,
    QueueAdapter,
    QueueStats,
    Reach,
    Reservation,
    Results,
    Settlement,
    Snooze,
    StoredJob,
    VirtualTime,
)
from kessel_memory.options import MemoryOptions
from kessel_memory.store import Job, Store, Waiter, first_entries

__all__ = ["MemoryAdapter", "MemoryConsumer"]

F = TypeVar("F", bound=Facet)

#: Named stores of this process, for as long as somebody has them open.
_shared: Final[dict[str, Store]] = {}
_shared_lock: Final = threading.Lock()
# Many messages are stored in portions, so that workers get their turn in between.
_PORTION: Final = 1000


class MemoryConsumer(Consumer):
    """The consuming side for one slot."""

    def __init__(self, store: Store, queues: Sequence[str]) -> None:
        self._store = store
        self._lock = store.lock
        self._reservation: Reservation | None = None
        self._closed = False
        with self._lock:
            self._queues = tuple(store.queue(name) for name in queues)
            for queue in self._queues:
                queue.consumers += 1
            self._waiter = Waiter(self._queues, self._lock)

    def reserve(self, timeout: timedelta) -> Reservation | None:
        """As `Consumer.reserve`; woken by the job itself, never polls."""
        with self._lock:
            if self._waiter.cancelled:
                return None
            self._reservation = reservation = self._store.take(self._queues)
            if reservation is None and timeout:
                self._reservation = reservation = self._store.wait_and_take(
                    self._waiter, timeout.total_seconds()
                )
            return reservation

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """As `Consumer.settle`."""
        with self._lock:
            self._store.settle(reservation, settlement)

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        """As `Consumer.settle_and_reserve`; both under one lock."""
        with self._lock:
            self._store.settle(reservation, settlement)
            if self._waiter.cancelled:
                return None
            self._reservation = reservation = self._store.take(self._queues)  # type: ignore[assignment]
            return reservation

    def extend(self, reservation: Reservation) -> None:
        """As `Consumer.extend`."""
        with self._lock:
            self._store.extend(reservation)

    def cancel(self) -> None:
        """As `Consumer.cancel`; also safe inside a signal handler."""
        with self._lock:
            self._store.cancel(self._waiter)

    def close(self) -> None:
        """As `Consumer.close`; a reservation that is still held goes back at once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._store.cancel(self._waiter)
            for queue in self._queues:
                queue.consumers -= 1
            if self._reservation is not None:
                self._store.drop(self._reservation)
                self._reservation = None


class MemoryAdapter(Browse, Buried, Delete, Pause, VirtualTime, Results, QueueAdapter):
    """Jobs in the memory of this process; they are gone with it, or when the last adapter closes.

    Args:
        options: How it behaves; adapters that share a name must agree.
        context: Its clock is the only source of time; adapters that share a name share it, too.

    Raises:
        InvalidConfig: The name is already open with other options or another clock.
    """

    name: ClassVar[str] = "memory"

    def __init__(self, options: MemoryOptions, context: AdapterContext) -> None:
        self._options = options
        self._closed = False
        self._consumers: list[MemoryConsumer] = []
        self._store = _opened(options, context)
        self._lock = self._store.lock
        self._capabilities = Capabilities(
            reach=Reach.PROCESS,
            durability=Durability.NONE,
            delay_granularity=timedelta(microseconds=1),
            priorities=(0, 4294967295),
            tie_break=options.tie_break,
            max_body_bytes=options.max_body_bytes,
            lease=options.lease,
            # A consumer that is closed gives its job back at once; a thread that dies does not close it.
            lease_return=LeaseReturn.LEASE_END,
            fencing=True,
            attempts=Attempts.SERVER,
            dedupe=True,
            counts=True,
            blocking_reserve=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        """Everything, within one process."""
        return self._capabilities

    def facet(self, kind: FacetKind[F]) -> F | None:
        """As `QueueAdapter.facet`; results are there only if some are kept."""
        if kind is Results and not self._options.keep_results:
            return None
        return super().facet(kind)

    # producer side

    def enqueue(self, message: Message) -> None:
        """As `QueueAdapter.enqueue`; rejects what is too large, and everything while it is full."""
        with self._lock:
            if self._closed:
                raise AdapterUnavailable("the memory adapter is closed")
            self._store.put(message)

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """As `QueueAdapter.enqueue_many`."""
        outcomes: list[AdapterError | None] = []
        for start in range(0, len(messages), _PORTION):
            with self._lock:
                for message in messages[start : start + _PORTION]:
                    try:
                        if self._closed:
                            raise AdapterUnavailable("the memory adapter is closed")
                        self._store.put(message)
                    except (AdapterUnavailable, EnqueueRejected) as exc:
                        outcomes.append(exc)
                    else:
                        outcomes.append(None)
        return outcomes

    # consuming side

    def make_consumer(self, queues: tuple[str, ...]) -> MemoryConsumer:
        """As `QueueAdapter.make_consumer`."""
        with self._lock:
            if self._closed:
                raise AdapterUnavailable("the memory adapter is closed")
            consumer = MemoryConsumer(self._store, queues)
            self._consumers = [known for known in self._consumers if not known._closed]
            self._consumers.append(consumer)
            return consumer

    def give_back(self, reservation: Reservation) -> None:
        """As `QueueAdapter.give_back`."""
        with self._lock:
            self._store.settle(reservation, Snooze())

    # operations

    def queues(self) -> list[str]:
        """Return the names of the queues that hold jobs, are consumed or are paused, sorted."""
        with self._lock:
            self._store.catch_up()
            return sorted(queue.name for queue in self._store.queues.values() if not queue.is_idle)

    def stats(self, queue: str) -> QueueStats:
        """As `QueueAdapter.stats`; exact, and as quick for a million jobs as for one."""
        with self._lock:
            self._store.catch_up()
            found = self._store.queues.get(queue)
            if found is None:
                return QueueStats(queue=queue)
            rest = None
            if found.paused_until is not None:
                rest = timedelta(seconds=found.paused_until - self._store.clock.monotonic())
            return QueueStats(
                queue=queue,
                ready=found.ready_count,
                delayed=found.delayed_count,
                reserved=len(found.reserved),
                buried=len(found.buried),
                paused=rest,
            )

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """As `QueueAdapter.peek`; reserved jobs are shown by the end of their lease."""
        with self._lock:
            self._store.catch_up()
            found = self._store.queues.get(queue)
            if found is None:
                return []
            jobs: Iterable[Job]
            match state:
                case JobState.READY:
                    jobs = first_entries(found.ready, limit)
                case JobState.DELAYED:
                    jobs = first_entries(found.delayed, limit)
                case JobState.RESERVED:
                    jobs = found.reserved.values()
                case JobState.BURIED:
                    jobs = found.buried.values()
            return [self._stored(job, state) for job in islice(jobs, max(0, limit))]

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """As `QueueAdapter.buried`."""
        return self.peek(queue, JobState.BURIED, limit)

    def _stored(self, job: Job, state: JobState) -> StoredJob:
        due = reason = message = buried_at = None
        if state is JobState.DELAYED:
            due = job.due
        elif state is JobState.RESERVED:
            clock = self._store.clock
            due = clock.now() + timedelta(seconds=job.deadline - clock.monotonic())
        elif state is JobState.BURIED:
            reason, message, buried_at = job.burial.reason, job.burial.message, job.burial.at
        return StoredJob(
            id=job.message.id,
            queue=job.queue.name,
            state=state,
            body=job.message.body,
            priority=job.message.priority,
            attempt=job.attempt,
            snoozes=job.snoozes,
            enqueued_at=job.enqueued_at,
            due=due,
            reason=reason,
            message=message,
            buried_at=buried_at,
        )

    def kick(self, queue: str, job_id: str) -> None:
        """As `QueueAdapter.kick`."""
        with self._lock:
            self._store.catch_up()
            self._store.kick(queue, job_id)

    def delete(self, queue: str, job_id: str) -> None:
        """As `QueueAdapter.delete`."""
        with self._lock:
            self._store.catch_up()
            self._store.delete(queue, job_id)

    def purge(self, queue: str) -> int:
        """As `QueueAdapter.purge`."""
        with self._lock:
            self._store.catch_up()
            return self._store.purge(queue)

    def pause(self, queue: str, duration: timedelta) -> None:
        """As `QueueAdapter.pause`."""
        with self._lock:
            self._store.catch_up()
            self._store.pause(queue, duration)

    def next_change(self, queues: Sequence[str]) -> datetime | None:
        """As `QueueAdapter.next_change`."""
        with self._lock:
            return self._store.next_change(queues)

    def result(self, job_id: str) -> bytes | None:
        """As `Results.result`; only the latest `keep_results` are kept.

        Raises:
            CapabilityMissing: None are.
        """
        if not self._options.keep_results:
            raise CapabilityMissing(Results.facet_name, self.name, "set keep_results")
        with self._lock:
            return self._store.results.get(job_id)

    def close(self) -> None:
        """As `QueueAdapter.close`; jobs that nobody else shares are gone."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for consumer in self._consumers:
                consumer.cancel()
        with _shared_lock:
            self._store.handles -= 1
            if self._store.handles == 0 and _shared.get(self._options.name) is self._store:
                del _shared[self._options.name]


def _opened(options: MemoryOptions, context: AdapterContext) -> Store:
    with _shared_lock:
        store = _shared.get(options.name) if options.name else None
        if store is None:
            store = Store(options, context.clock)
            if options.name:
                _shared[options.name] = store
        elif store.options != options or store.clock is not context.clock:
            what = "another clock" if store.options == options else f"other options: {store.options}"
            why = f"memory://{options.name} is already open in this process with {what}"
            raise InvalidConfig([Problem(("name",), why)], "invalid options of the adapter 'memory'")
        store.handles += 1
        return store
