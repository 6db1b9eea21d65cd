"""Many jobs: what has gone leaves no garbage, and no operation looks at all jobs.

Counted in entries and comparisons, not in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from kessel_memory.adapter import MemoryAdapter
from kessel_memory.queue import first_entries

from kessel_core.contract import COMMIT, NO_PAUSE, Bury, JobState, Message
from kessel_core.testing.clock import VirtualClock

Make = Callable[..., Message]
MANY = 5_000


class Priority(int):
    """A number that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        Priority.compared += 1
        return int(self) < int(other)

    def __eq__(self, other: object) -> bool:
        Priority.compared += 1
        return int(self) == other

    __hash__ = int.__hash__


def test_deleted_jobs_make_up_at_most_half_of_a_heap(adapter: MemoryAdapter, message: Make) -> None:
    for number in range(MANY):
        adapter.enqueue(message(f"r{number}"))
        adapter.enqueue(message(f"d{number}", delay=timedelta(hours=1)))
    for number in range(MANY - 1, 0, -1):  # the last ones first: they are deep in the heaps
        adapter.delete("default", f"r{number}")
        adapter.delete("default", f"d{number}")
    queue = adapter._store.queues["default"]
    assert adapter.stats("default").total == 2
    assert max(len(queue.ready), len(queue.delayed)) < 200
    assert len(adapter._store.jobs) == 2


def test_leases_leave_nothing_behind(adapter: MemoryAdapter, message: Make) -> None:
    consumer = adapter.consumer(["default"])
    for _ in range(MANY):
        adapter.enqueue(message())
        reservation = consumer.reserve(NO_PAUSE)
        assert reservation is not None
        consumer.extend(reservation)
        consumer.settle(reservation, COMMIT)
    store = adapter._store
    assert not store.jobs
    assert not store.queues["default"].reserved


def test_names_of_queues_that_are_empty_again_are_forgotten(adapter: MemoryAdapter, message: Make) -> None:
    for number in range(1000):
        adapter.enqueue(message("a", f"queue-{number}"))
        adapter.purge(f"queue-{number}")
    assert len(adapter._store.queues) < 200


def test_a_job_costs_logarithmically_many_comparisons(adapter: MemoryAdapter, message: Make) -> None:
    for number in range(MANY):
        adapter.enqueue(message(priority=Priority(number * 7919 % MANY)))
    consumer = adapter.consumer(["default"])
    before = Priority.compared
    for _ in range(100):
        adapter.enqueue(message(priority=Priority(MANY // 2)))
        reservation = consumer.reserve(NO_PAUSE)
        assert reservation is not None
        consumer.settle(reservation, Bury("error"))
        adapter.stats("default")
    # log2(5000) is 12.3; a pop compares about twice that, and tuples compare for == and for <.
    assert Priority.compared - before < 100 * 100


def test_peek_looks_at_few_entries() -> None:
    looked = []

    class Heap(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            looked.append(index)
            return super().__getitem__(index)

    class Held:
        state = JobState.READY

    heap = Heap((number, number, Held()) for number in range(MANY))
    assert list(first_entries(heap, 3)) == [entry[2] for entry in list(heap)[:3]]
    assert len(looked) < 10


def test_many_jobs_that_are_due_at_once_come_in_their_order(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """S4, S6."""
    for number in range(MANY):
        adapter.enqueue(message(f"{number}", delay=timedelta(seconds=1 + number * 7919 % MANY)))
    clock.advance(timedelta(hours=2))
    assert adapter.stats("default").ready == MANY
    shown = adapter.peek("default", JobState.READY, MANY)
    assert [int(job.id) * 7919 % MANY for job in shown] == list(range(MANY))
