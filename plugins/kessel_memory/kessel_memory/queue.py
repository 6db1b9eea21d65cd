"""The nouns of a store: a queue in memory with its jobs by state, and a consumer that waits for some queues.

A job leaves the middle of a heap by losing its state. Such dead entries are skipped when they come to the
top, and never make up more than half of a heap.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias

from kessel_core.contract import JobState, Message, Reservation

__all__ = ["Burial", "DelayedEntry", "Job", "MemoryQueue", "ReadyEntry", "Waiter", "first_entries"]

# Looked up once: a member of an enum costs more than a name, and this one is wanted for every job.
_READY: Final = JobState.READY

#: Dead entries of a heap that are not worth clearing away.
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
        "kicks",
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

    def __init__(self, message: Message, queue: MemoryQueue, number: int, enqueued_at: datetime) -> None:
        self.message = message
        self.queue = queue
        #: Place among equals (S6).
        self.number = number
        self.enqueued_at = enqueued_at
        self.attempt = 0
        self.snoozes = 0
        self.kicks = 0
        self.state = _READY


#: Priority, place among equals, job; numbers are unique, so that jobs are never compared.
ReadyEntry: TypeAlias = tuple[int, int, Job]
#: Due time, place among equals, job.
DelayedEntry: TypeAlias = tuple[datetime, int, Job]


class Waiter:
    """A consumer as the store sees it: what it reserves from, and how it is woken."""

    __slots__ = ("cancelled", "condition", "queues")

    def __init__(self, queues: tuple[MemoryQueue, ...], lock: threading.RLock) -> None:
        self.queues = queues
        self.condition = threading.Condition(lock)
        self.cancelled = False


class MemoryQueue:
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

    def unreserved(self) -> Iterator[Job]:
        """Yield every job that is ready, delayed or buried."""
        for _, _, job in self.ready:
            if job.state is not None:
                yield job
        for _, _, job in self.delayed:
            if job.state is not None:
                yield job
        yield from self.buried.values()

    def clear_dead(self) -> None:
        """Keep dead entries below half of each heap; the cost is shared by those who died."""
        if self.dead_ready > _FEW and self.dead_ready * 2 > len(self.ready):
            self.ready[:] = [entry for entry in self.ready if entry[2].state is not None]
            heapify(self.ready)
            self.dead_ready = 0
        if self.dead_delayed > _FEW and self.dead_delayed * 2 > len(self.delayed):
            self.delayed[:] = [entry for entry in self.delayed if entry[2].state is not None]
            heapify(self.delayed)
            self.dead_delayed = 0


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
