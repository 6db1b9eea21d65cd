"""The memory adapter: the contract of kessel, over one `Store`.

On `QueueAdapter` and not on `BaseAdapter`: one lock for everything, and no call more than it takes, because
what this adapter costs is the floor under the speed of kessel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Final, TypeVar, cast

from kessel_core.contract import (
    AdapterContext,
    AdapterError,
    AdapterUnavailable,
    Attempts,
    Browse,
    Buried,
    Capabilities,
    Delete,
    Durability,
    EnqueueError,
    Facet,
    FacetKind,
    Find,
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
    Snooze,
    StoredJob,
    VirtualTime,
)
from kessel_core.contract import Store as EntryStore
from kessel_memory import operations
from kessel_memory.consumer import MemoryConsumer
from kessel_memory.entries import MemoryStore
from kessel_memory.forks import OPENING
from kessel_memory.options import MemoryOptions
from kessel_memory.store import Store

__all__ = ["MemoryAdapter"]

F = TypeVar("F", bound=Facet)

#: Named stores of this process, for as long as somebody has them open.
_shared: Final[dict[str, Store]] = {}
# Many messages are stored in portions, so that workers get their turn in between.
_PORTION: Final = 1000
#: All jobs, where a listing needs a limit.
_ALL: Final = 2**31 - 1


class MemoryAdapter(Browse, Buried, Delete, Find, Pause, VirtualTime, QueueAdapter):
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
        self._entry_store = MemoryStore(self._store.entries)
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
            follow=True,
            kicks=True,
            counts=True,
            blocking_reserve=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        """Everything, within one process."""
        return self._capabilities

    def facet(self, kind: FacetKind[F]) -> F | None:
        """As `QueueAdapter.facet`; the store is an object of its own."""
        if kind is EntryStore:
            return cast("F", self._entry_store)
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
                    except (AdapterUnavailable, EnqueueError) as exc:
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
            self._consumers = [known for known in self._consumers if not known.is_closed]
            self._consumers.append(consumer)
            return consumer

    def give_back(self, reservation: Reservation) -> None:
        """As `QueueAdapter.give_back`."""
        with self._lock:
            self._store.settle(reservation, Snooze(), self._store.clock.monotonic())

    # operations

    def queues(self) -> list[str]:
        """Return the names of the queues that hold jobs, are consumed or are paused, sorted."""
        with self._lock:
            return operations.names(self._store)

    def stats(self, queue: str) -> QueueStats:
        """As `QueueAdapter.stats`; exact, and as quick for a million jobs as for one."""
        with self._lock:
            return operations.counts(self._store, queue)

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """As `Browse.peek`; reserved jobs are shown by the end of their lease."""
        with self._lock:
            return operations.listing(self._store, queue, state, limit)

    def each(self, queue: str, state: JobState) -> Iterator[StoredJob]:
        """As `Browse.each`; they are shown one by one."""
        with self._lock:
            jobs = list(operations.in_state(self._store, queue, state, _ALL))
        for job in jobs:
            with self._lock:
                shown = operations.shown(self._store, job, queue, state)
            if shown is not None:
                yield shown

    def find(self, job_id: str) -> StoredJob | None:
        """As `Find.find`."""
        with self._lock:
            return operations.find(self._store, job_id)

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """As `Buried.buried`."""
        return self.peek(queue, JobState.BURIED, limit)

    def each_buried(self, queue: str) -> Iterator[StoredJob]:
        """As `Buried.each_buried`."""
        return self.each(queue, JobState.BURIED)

    def kick(self, queue: str, job_id: str) -> None:
        """As `Buried.kick`."""
        with self._lock:
            operations.kick(self._store, queue, job_id)

    def delete(self, queue: str, job_id: str) -> None:
        """As `Delete.delete`."""
        with self._lock:
            operations.delete(self._store, queue, job_id)

    def delete_shown(self, job: StoredJob) -> None:
        """As `Delete.delete_shown`; it looks and deletes under one lock."""
        with self._lock:
            super().delete_shown(job)

    def purge(self, queue: str) -> int:
        """As `QueueAdapter.purge`."""
        with self._lock:
            return operations.purge(self._store, queue)

    def pause(self, queue: str, duration: timedelta) -> None:
        """As `Pause.pause`."""
        with self._lock:
            operations.pause(self._store, queue, duration)

    def next_change(self, queues: Sequence[str]) -> datetime | None:
        """As `VirtualTime.next_change`."""
        with self._lock:
            return self._store.next_change(queues)

    def close(self) -> None:
        """As `QueueAdapter.close`; jobs that nobody else shares are gone."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for consumer in self._consumers:
                consumer.cancel()
        self._entry_store.close()  # without the lock, because a fork takes the two in another order
        with OPENING:
            self._store.handles -= 1
            if self._store.handles == 0 and _shared.get(self._options.name) is self._store:
                del _shared[self._options.name]


def _opened(options: MemoryOptions, context: AdapterContext) -> Store:
    with OPENING:
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
