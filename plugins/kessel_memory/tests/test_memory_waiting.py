"""Waiting consumers: woken by the job itself, one by one, and on a virtual clock without sleeping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from kessel_memory import timers
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.consumer import MemoryConsumer

from kessel_core import SystemClock
from kessel_core.contract import COMMIT, NO_PAUSE, Bury, Message, Reservation
from kessel_core.testing.clock import VirtualClock

Make = Callable[..., Message]
Open = Callable[..., MemoryAdapter]
# Far longer than any of these tests takes: who is not woken fails by this time.
LONG = timedelta(seconds=30)


class CountingClock(SystemClock):
    """Counts how often a wait returned."""

    def __init__(self) -> None:
        self.wakes = 0

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        try:
            return super().wait(condition, timeout)
        finally:
            self.wakes += 1


@pytest.fixture
def real() -> CountingClock:
    return CountingClock()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as pool:
        yield pool


def until(condition: Callable[[], object]) -> None:
    """Wait until something holds, as another thread brings it about."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.001)


def waiting(adapter: MemoryAdapter, count: int) -> None:
    until(lambda: len(adapter._store.waiting) == count)


def reserved(future: Future[Reservation | None]) -> Reservation:
    reservation = future.result(20)
    assert reservation is not None
    return reservation


# --- on a virtual clock ---------------------------------------------------------------------------


def test_a_wait_for_a_delayed_job_takes_no_real_time(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """S18: and ends at the very moment."""
    start = clock.now()
    adapter.enqueue(message(delay=timedelta(hours=3)))
    assert adapter.consumer(["default"]).reserve(timedelta(days=1)) is not None
    assert clock.now() == start + timedelta(hours=3)


def test_a_wait_without_a_job_ends_with_its_time(adapter: MemoryAdapter, clock: VirtualClock) -> None:
    consumer = adapter.consumer(["default"])
    for timeout in (
        timedelta(microseconds=1),
        timedelta(milliseconds=100),
        timedelta(seconds=1 / 3),
        timedelta(days=30),
    ):
        start = clock.now()
        assert consumer.reserve(timeout) is None
        assert clock.now() == start + timeout


def test_a_wait_ends_with_anothers_lease_or_with_a_pause(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """S7."""
    start = clock.now()
    adapter.enqueue(message())
    dead, consumer = adapter.consumer(["default"]), adapter.consumer(["default"])
    assert dead.reserve(NO_PAUSE) is not None
    assert consumer.reserve(timedelta(hours=1)) is not None
    assert clock.now() == start + timedelta(seconds=60)
    adapter.enqueue(message())
    adapter.pause("default", timedelta(seconds=7))
    assert dead.reserve(timedelta(hours=1)) is not None
    assert clock.now() == start + timedelta(seconds=67)


def test_a_delay_follows_the_wall_clock_and_a_lease_does_not(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """S7: no lease ends because somebody set the clock."""
    adapter.enqueue_many([message("held", priority=0), message("delayed", delay=timedelta(hours=1))])
    consumer, other = adapter.consumer(["default"]), adapter.consumer(["default"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    clock.jump_wall(timedelta(hours=1))
    reservation = other.reserve(NO_PAUSE)
    assert reservation is not None
    assert reservation.id == "delayed"
    consumer.settle(held, COMMIT)


def test_time_moved_by_another_thread_wakes_a_waiting_consumer(
    opened: Open, message: Make, pool: ThreadPoolExecutor
) -> None:
    clock = VirtualClock(auto_advance=False)
    adapter = opened(clock)
    adapter.enqueue(Message("a", "default", b"", 0, clock.now() + timedelta(hours=1)))
    future = pool.submit(adapter.consumer(["default"]).reserve, timedelta(days=1))
    until(lambda: clock.waiting)
    while not future.done():  # a nap is at most a minute, so that jumps of the clock are noticed
        until(lambda: clock.waiting or future.done())
        clock.advance(timedelta(minutes=1))
    assert reserved(future).id == "a"


# --- on a real clock ------------------------------------------------------------------------------


def test_a_job_wakes_one_waiting_consumer(
    opened: Open, message: Make, real: CountingClock, pool: ThreadPoolExecutor
) -> None:
    adapter = opened(real)
    consumers = [adapter.consumer(["default", "other"]) for _ in range(10)]
    futures = [pool.submit(consumer.reserve, LONG) for consumer in consumers]
    waiting(adapter, 10)
    assert real.wakes == 0, "nobody polls"
    adapter.enqueue(message("a"))
    until(lambda: sum(future.done() for future in futures))
    waiting(adapter, 9)
    # The one that took the job; its lease is a new bound, which another one now keeps in view.
    assert real.wakes <= 2
    adapter.close()
    assert sum(future.result(20) is not None for future in futures) == 1


def test_as_many_are_woken_as_there_are_jobs(
    opened: Open, message: Make, real: CountingClock, pool: ThreadPoolExecutor
) -> None:
    adapter = opened(real)
    futures = [pool.submit(adapter.consumer(["default"]).reserve, LONG) for _ in range(5)]
    waiting(adapter, 5)
    assert adapter.enqueue_many([message() for _ in range(5)]) == [None] * 5
    assert len({reserved(future).id for future in futures}) == 5


@pytest.mark.parametrize("way", ["delay", "lease", "pause end", "in a pause", "resume", "kick", "close"])
def test_whatever_makes_a_job_ready_wakes_a_waiting_consumer(
    opened: Open, message: Make, real: CountingClock, pool: ThreadPoolExecutor, way: str
) -> None:
    adapter = opened(real, lease=timedelta(milliseconds=150) if way == "lease" else timedelta(hours=1))
    soon = timedelta(milliseconds=150)
    holder = adapter.consumer(["default"])
    if way == "delay":
        futures = [pool.submit(adapter.consumer(["default"]).reserve, LONG) for _ in range(3)]
        waiting(adapter, 3)
        adapter.enqueue(message("a", delay=real.now() + soon))
    elif way == "in a pause":
        futures = [pool.submit(adapter.consumer(["default"]).reserve, LONG) for _ in range(3)]
        waiting(adapter, 3)
        adapter.pause("default", soon)
        adapter.enqueue(message("a"))
    else:
        adapter.enqueue(message("a"))
        held = None if way in ("pause end", "resume") else holder.reserve(NO_PAUSE)
        if way == "kick":
            assert held is not None
            holder.settle(held, Bury("error"))
        if held is None:
            adapter.pause("default", soon if way == "pause end" else timedelta(hours=1))
        futures = [pool.submit(adapter.consumer(["default"]).reserve, LONG) for _ in range(3)]
        if way != "lease":
            waiting(adapter, 3)
        if way == "resume":
            adapter.pause("default", NO_PAUSE)
        elif way == "kick":
            adapter.kick("default", "a")
        elif way == "close":
            holder.close()
    until(lambda: any(future.done() for future in futures))
    adapter.close()
    results = [future.result(20) for future in futures]
    assert [result.id for result in results if result is not None] == ["a"]


def test_those_who_wait_are_woken_one_after_another_by_due_jobs(
    opened: Open, message: Make, real: CountingClock, pool: ThreadPoolExecutor
) -> None:
    """The timekeeper that leaves with a job is followed by another."""
    adapter = opened(real)
    now = real.now()
    futures = [pool.submit(adapter.consumer(["default"]).reserve, LONG) for _ in range(4)]
    waiting(adapter, 4)
    for number in range(4):
        adapter.enqueue(message(delay=now + timedelta(milliseconds=200 - 30 * number)))
    assert len({reserved(future).id for future in futures}) == 4


def test_the_end_of_a_pause_wakes_one_for_each_job(
    opened: Open, message: Make, real: CountingClock, pool: ThreadPoolExecutor
) -> None:
    adapter = opened(real)
    futures = [pool.submit(adapter.consumer(["other"]).reserve, LONG)]  # keeps the time for all
    waiting(adapter, 1)
    futures += [pool.submit(adapter.consumer(["default"]).reserve, LONG) for _ in range(4)]
    waiting(adapter, 5)
    adapter.pause("default", timedelta(milliseconds=100))
    adapter.enqueue_many([message() for _ in range(3)])
    until(lambda: sum(future.done() for future in futures) == 3)
    waiting(adapter, 2)
    adapter.close()
    assert sum(future.result(20) is not None for future in futures[1:]) == 3


def test_cancel_ends_a_wait(opened: Open, real: CountingClock, pool: ThreadPoolExecutor) -> None:
    adapter = opened(real)
    consumer = adapter.consumer(["default"])
    future = pool.submit(consumer.reserve, LONG)
    waiting(adapter, 1)
    consumer.cancel()
    assert future.result(20) is None
    waiting(adapter, 0)


def test_a_call_for_one_who_leaves_is_passed_on(
    opened: Open, message: Make, real: CountingClock, pool: ThreadPoolExecutor
) -> None:
    """No job is left lying while somebody waits for it."""
    adapter = opened(real)
    leaving, staying = adapter.consumer(["default"]), adapter.consumer(["default"])
    first = pool.submit(leaving.reserve, LONG)
    waiting(adapter, 1)
    second = pool.submit(staying.reserve, LONG)
    waiting(adapter, 2)
    with adapter._lock:  # both before the first one can look
        adapter.enqueue(message("a"))
        leaving.cancel()
    assert first.result(20) is None
    assert reserved(second).id == "a"


@pytest.mark.parametrize("way", ["cancelled", "served"])
def test_whoever_keeps_the_time_is_followed_by_another(
    opened: Open, message: Make, real: CountingClock, pool: ThreadPoolExecutor, way: str
) -> None:
    adapter = opened(real)
    keeping, staying = adapter.consumer(["default", "other"]), adapter.consumer(["default"])
    first = pool.submit(keeping.reserve, LONG)
    waiting(adapter, 1)
    second = pool.submit(staying.reserve, LONG)
    waiting(adapter, 2)
    adapter.enqueue(message("a", delay=real.now() + timedelta(milliseconds=300)))
    if way == "cancelled":
        keeping.cancel()
    else:
        adapter.enqueue(message("b", "other"))
    first.result(20)
    assert reserved(second).id == "a"


def test_one_who_was_called_in_vain_waits_on(
    opened: Open, message: Make, real: CountingClock, pool: ThreadPoolExecutor
) -> None:
    adapter = opened(real)
    future = pool.submit(adapter.consumer(["default"]).reserve, LONG)
    waiting(adapter, 1)
    thief = adapter.consumer(["default"])
    with adapter._lock:
        adapter.enqueue(message("a"))
        assert thief.reserve(NO_PAUSE) is not None
    waiting(adapter, 1)
    adapter.enqueue(message("b"))
    assert reserved(future).id == "b"


def test_extend_by_another_thread_holds_the_job(opened: Open, message: Make, real: CountingClock) -> None:
    """S7: three leases long, while the slot's thread is busy."""
    adapter = opened(real, lease=timedelta(milliseconds=300))
    adapter.enqueue(message("a"))
    consumer, other = adapter.consumer(["default"]), adapter.consumer(["default"])
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    done = threading.Event()

    def heartbeat() -> None:
        while not done.wait(0.03):
            consumer.extend(reservation)

    beat = threading.Thread(target=heartbeat)
    beat.start()
    try:
        assert other.reserve(timedelta(milliseconds=900)) is None
    finally:
        done.set()
        beat.join()
    consumer.settle(reservation, COMMIT)


def test_an_interrupted_wait_leaves_no_trace(opened: Open, message: Make) -> None:
    class Interrupted(SystemClock):
        def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
            raise KeyboardInterrupt

    adapter = opened(Interrupted())
    consumer: MemoryConsumer = adapter.consumer(["default"])
    with pytest.raises(KeyboardInterrupt):
        consumer.reserve(LONG)
    assert not adapter._store.waiting
    assert adapter._store.timekeeper is None
    adapter.enqueue(message("a"))
    assert consumer.reserve(NO_PAUSE) is not None


class SetClock(SystemClock):
    """A real clock whose date somebody sets, which wakes nobody."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


def test_a_date_that_was_set_forward_is_noticed_by_who_waits_for_a_delayed_job(
    opened: Open, message: Make, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F34: within a minute; a shorter time here."""
    clock = SetClock()
    adapter = opened(clock)
    adapter.enqueue(message("a", delay=clock.now() + timedelta(hours=3)))
    assert adapter._store.until_next_bound() == 60.0
    monkeypatch.setattr(timers, "_LONGEST_SLEEP", 0.05)
    taken = pool.submit(adapter.consumer(["default"]).reserve, timedelta(hours=9))
    waiting(adapter, 1)
    clock.ahead = timedelta(hours=3)
    assert reserved(taken).id == "a"
