"""Sixteen threads on one memory adapter; the history must show no loss, no invention, no second holder."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import IdHeld, LeaseLost, SystemClock
from kessel_core.contract import COMMIT, AdapterContext, Bury, Message, Reservation, Rollback

PRODUCERS = 8
CONSUMERS = 8
JOBS = 400
QUEUES = ("one", "two", "three")
# Ends a run that hangs; nothing waits for it in a good one.
LIMIT = timedelta(seconds=60)


class History:
    """What the threads saw, written under a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.acknowledged: dict[str, bytes] = {}
        self.holders: Counter[str] = Counter()
        self.deliveries: Counter[str] = Counter()
        self.rolled_back: Counter[str] = Counter()
        self.committed: Counter[str] = Counter()
        self.buried: Counter[str] = Counter()
        self.problems: list[str] = []
        self.all_gone = threading.Event()

    def delivered(self, reservation: Reservation) -> None:
        job_id = str(reservation.id)
        with self.lock:
            self.deliveries[job_id] += 1
            self.holders[job_id] += 1
            if self.holders[job_id] > 1:
                self.problems.append(f"{job_id} has two holders")
            if reservation.body != b"body of " + job_id.encode():
                self.problems.append(f"{job_id} has a wrong body")
            if reservation.attempt != self.deliveries[job_id]:
                self.problems.append(
                    f"{job_id}: attempt {reservation.attempt} at delivery {self.deliveries[job_id]}"
                )

    def released(self, reservation: Reservation, into: Counter[str]) -> None:
        with self.lock:
            self.holders[str(reservation.id)] -= 1
            into[str(reservation.id)] += 1


def produce(adapter: MemoryAdapter, history: History, number: int) -> None:
    random = Random(number)
    clock = SystemClock()
    for job in range(JOBS):
        job_id = f"{number}-{job}"
        delay = clock.now() + timedelta(milliseconds=random.randint(1, 30)) if random.random() < 0.2 else None
        message = Message(
            job_id, random.choice(QUEUES), b"body of " + job_id.encode(), random.randint(0, 5), delay
        )
        adapter.enqueue(message)
        with history.lock:
            history.acknowledged[job_id] = message.body


def consume(adapter: MemoryAdapter, history: History, number: int) -> None:
    random = Random(1000 + number)
    consumer = adapter.consumer(random.sample(QUEUES, k=3))
    reservation: Reservation | None = None
    while not history.all_gone.is_set():
        if reservation is None:
            reservation = consumer.reserve(timedelta(milliseconds=random.choice([0, 1, 50])))
            if reservation is None:
                continue
        history.delivered(reservation)
        choice = random.random()
        # Released in the history before the settle, because the next holder may be quicker than we are.
        if choice < 0.15 and reservation.attempt < 4:
            history.released(reservation, history.rolled_back)
            pause = timedelta(milliseconds=random.choice([0, 0, 5]))
            reservation = consumer.settle_and_reserve(reservation, Rollback(pause))
        elif choice < 0.2:
            history.released(reservation, history.buried)
            consumer.settle(reservation, Bury("error"))
            reservation = None
        else:
            history.released(reservation, history.committed)
            reservation = consumer.settle_and_reserve(reservation, COMMIT)
    if reservation is not None:
        history.problems.append(f"{reservation.id} was delivered after all had gone")
    consumer.close()


@pytest.fixture(autouse=True)
def switching_often() -> Iterator[None]:
    """Lets threads interleave at nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Crew:
    """Threads that run until the work is done; the first error of any ends all."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.errors: list[BaseException] = []
        self.threads: list[threading.Thread] = []

    def start(
        self, work: Callable[[MemoryAdapter, History, int], None], adapter: MemoryAdapter, count: int
    ) -> None:
        def guarded(number: int) -> None:
            try:
                work(adapter, self.history, number)
            except BaseException as exc:
                self.errors.append(exc)
                self.history.all_gone.set()

        for number in range(count):
            self.threads.append(threading.Thread(target=guarded, args=(number,)))
            self.threads[-1].start()

    def finish(self, is_done: Callable[[], bool]) -> None:
        clock = SystemClock()
        end = clock.monotonic() + LIMIT.total_seconds()
        while not is_done() and clock.monotonic() < end and not self.history.all_gone.wait(0.005):
            pass
        self.history.all_gone.set()
        for thread in self.threads:
            thread.join()
        assert not self.errors
        assert self.history.problems == []


def test_sixteen_threads_lose_nothing_and_hold_nothing_twice() -> None:
    """S7, S9, S10: every acknowledged job is settled once, and every delivery but the first has its cause."""
    adapter = MemoryAdapter(MemoryOptions(), AdapterContext(clock=SystemClock()))
    history = History()
    crew = Crew(history)
    crew.start(consume, adapter, CONSUMERS)
    crew.start(produce, adapter, PRODUCERS)

    def is_done() -> bool:
        stats = [adapter.stats(queue) for queue in QUEUES]
        with history.lock:
            return len(history.acknowledged) == PRODUCERS * JOBS and not sum(
                s.total - s.buried for s in stats
            )

    crew.finish(is_done)
    assert len(history.acknowledged) == PRODUCERS * JOBS
    assert set(history.deliveries) == set(history.acknowledged)
    for job_id in history.acknowledged:
        assert history.committed[job_id] + history.buried[job_id] == 1, job_id
        assert history.deliveries[job_id] == 1 + history.rolled_back[job_id], job_id
    assert {job.id for queue in QUEUES for job in adapter.buried(queue, 10_000)} == set(history.buried)
    adapter.close()


def stall(adapter: MemoryAdapter, history: History, number: int) -> None:
    random = Random(number)
    pause = threading.Event()
    consumer = adapter.consumer(["default"])
    while not history.all_gone.is_set():
        reservation = consumer.reserve(timedelta(milliseconds=20))
        if reservation is None:
            continue
        with history.lock:
            history.deliveries[str(reservation.id)] += 1
        pause.wait(random.choice([0, 0, 0.001, 0.05]))
        try:
            consumer.settle(reservation, COMMIT)
        except LeaseLost:
            into = history.rolled_back
        else:
            into = history.committed
        with history.lock:
            into[str(reservation.id)] += 1
    consumer.close()


def test_a_holder_that_stalls_past_its_lease_never_settles_the_next_ones_delivery() -> None:
    """S7: each job is committed exactly once, and each lost lease was one delivery."""
    adapter = MemoryAdapter(
        MemoryOptions(lease=timedelta(milliseconds=20)), AdapterContext(clock=SystemClock())
    )
    history = History()
    ids = [str(number) for number in range(200)]
    adapter.enqueue_many([Message(job_id, "default", b"", 0) for job_id in ids])
    crew = Crew(history)
    crew.start(stall, adapter, 16)
    crew.finish(lambda: adapter.stats("default").total == 0)
    assert history.committed == Counter(ids)
    assert history.deliveries == history.committed + history.rolled_back
    assert sum(history.rolled_back.values()) > 0, "some did stall"
    adapter.close()


def test_sixteen_producers_of_the_same_ids_store_each_once() -> None:
    """`dedupe`."""
    adapter = MemoryAdapter(MemoryOptions(), AdapterContext(clock=SystemClock()))
    history = History()
    crew = Crew(history)
    ids = [str(number) for number in range(500)]

    def repeat(adapter: MemoryAdapter, history: History, number: int) -> None:
        for job_id in Random(number).sample(ids, k=len(ids)):
            with suppress(IdHeld):
                adapter.enqueue(Message(job_id, "default", b"", 0))

    crew.start(repeat, adapter, 16)
    crew.finish(lambda: not any(thread.is_alive() for thread in crew.threads))
    assert adapter.stats("default").ready == len(ids)
    adapter.close()
