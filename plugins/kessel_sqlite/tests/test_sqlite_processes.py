"""Several processes on one file, killed at random; every run prints its seed.

`KESSEL_SEED` repeats a run, `KESSEL_CHAOS=1` makes it as large as the release wants it.
"""

from __future__ import annotations

import collections
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import pytest
from kessel_sqlite import pace, wake
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core.contract import COMMIT, NO_PAUSE, Message
from tests.chaos import IS_LARGE, drawn_seed

JOBS = 20_000 if IS_LARGE else 1_500
KILLS = 60 if IS_LARGE else 12

_COMMON = """
import os, sys
from datetime import timedelta
from kessel_core.contract import AdapterContext, Commit, COMMIT, Message, Rollback
from contextlib import suppress
from kessel_core import IdHeld, SystemClock
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions
options = SqliteOptions(path=sys.argv[1], lease=timedelta(seconds=1), durability=sys.argv[3])
adapter = SqliteAdapter(options, AdapterContext(clock=SystemClock()))
out = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def say(*words):
    # One write, which a kill cannot cut in two.
    os.write(out, (" ".join(map(str, words)) + "\\n").encode())
"""

#: Goes through its range from where an earlier, killed one got to; singles and batches in turn.
PRODUCER = (
    _COMMON
    + """
name, first, end = sys.argv[4], int(sys.argv[5]), int(sys.argv[6])
n = first
while n < end:
    size = 1 if n % 3 else min(20, end - n)
    names = [f"{name}-{k}" for k in range(n, n + size)]
    messages = [Message(one, "q", one.encode(), k % 3) for k, one in enumerate(names)]
    say("try", *names)
    # What a killed run has stored is held already.
    if size == 1:
        with suppress(IdHeld):
            adapter.enqueue(messages[0])
    else:
        assert all(isinstance(one, IdHeld) for one in adapter.enqueue_many(messages) if one)
    say("ok", *names)
    n += size
"""
)

WORKER = (
    _COMMON
    + """
consumer = adapter.consumer(["q"])
turn = 0
while True:
    taken = consumer.reserve(timedelta(seconds=30))
    while taken is not None:
        turn += 1
        assert taken.body.decode() == taken.id
        say("start", taken.id, taken.attempt)
        if turn % 7 == 0:
            consumer.settle(taken, Rollback(timedelta(milliseconds=turn % 50)))
            say("rollback", taken.id)
            break
        say("committing", taken.id)
        if turn % 2:
            consumer.settle(taken, COMMIT)
            say("done", taken.id)
            break
        held, taken = taken, consumer.settle_and_reserve(taken, COMMIT)
        say("done", held.id)
"""
)


@pytest.fixture
def seed() -> int:
    """A seed that is printed, so that a failure can be repeated."""
    return drawn_seed()


class Zoo:
    """Starts programs, and ends whatever it started."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: What the programs open the file with.
        self.durability = "process-crash"
        self.logs: list[Path] = []
        self.running: dict[subprocess.Popen[bytes], tuple[str, ...]] = {}

    def start(self, code: str, *arguments: object) -> subprocess.Popen[bytes]:
        log = self.path.with_name(f"log-{len(self.logs)}")
        self.logs.append(log)
        words = [sys.executable, "-c", code, str(self.path), str(log), self.durability, *map(str, arguments)]
        process = subprocess.Popen(words, stderr=subprocess.PIPE)
        self.running[process] = (code, *map(str, arguments))
        return process

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
        process.send_signal(number)
        process.wait(30)
        assert process.stderr is not None
        process.stderr.close()
        del self.running[process]

    def end_all(self) -> None:
        """End all that still runs."""
        for process in list(self.running):
            self.end(process)

    def words(self) -> Iterator[list[str]]:
        """Yield what they all wrote, log by log."""
        for log in self.logs:
            if log.exists():
                yield from (line.split() for line in log.read_text().splitlines())


@pytest.fixture
def zoo(path: Path) -> Iterator[Zoo]:
    """Where processes live, and end with the test."""
    with ExitStack() as stack:
        zoo = Zoo(path)
        stack.callback(zoo.end_all)
        yield zoo


def integrity(path: Path) -> str:
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("durability", ["process-crash", "power"])
def test_F18_F31_F35_chaos_two_producers_and_three_workers_lose_nothing(
    zoo: Zoo, path: Path, opened: Callable[..., SqliteAdapter], seed: int, durability: str
) -> None:
    """I1, I2, I3, I4, I8: killed at random points all along, then the history is checked."""
    chance = random.Random(seed)
    zoo.durability = durability
    adapter = opened(durability=durability)
    began = time.monotonic()
    ranges = {"a": (0, JOBS // 2), "b": (JOBS // 2, JOBS)}
    producers = {name: zoo.start(PRODUCER, name, *ends) for name, ends in ranges.items()}
    workers = [zoo.start(WORKER) for _ in range(3)]

    def acknowledged(name: str) -> int:
        return sum(len(words) - 1 for words in zoo.words() if words[0] == "ok" and words[1][0] == name)

    kills = 0
    end = time.monotonic() + 240
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.02, 0.25))
        if kills < KILLS:
            kills += 1
            name = chance.choice(["a", "b", "w", "w"])
            if name == "w":
                index = chance.randrange(3)
                zoo.end(workers[index])
                workers[index] = zoo.start(WORKER)
            elif producers[name].poll() is None:
                zoo.end(producers[name])
                # What it had not acknowledged is enqueued again; dedupe stores nothing while a job is held.
                first, last = ranges[name]
                done = {w for words in zoo.words() if words[0] == "ok" for w in words[1:]}
                while first < last and f"{name}-{first}" in done:
                    first += 1
                producers[name] = zoo.start(PRODUCER, name, first, last)
            continue
        if any(producer.poll() is None for producer in producers.values()):
            continue
        if adapter.stats("q").total == 0:
            break
    for worker in workers:
        zoo.end(worker)
    for producer in producers.values():
        assert producer.stderr is not None
        assert producer.wait(10) == 0, producer.stderr.read().decode()
    assert adapter.stats("q").total == 0, adapter.stats("q")
    assert integrity(path) == "ok"

    history = list(zoo.words())
    tried = {name for words in history if words[0] == "try" for name in words[1:]}
    stored = {name for words in history if words[0] == "ok" for name in words[1:]}
    enqueues = collections.Counter(name for words in history if words[0] == "try" for name in words[1:])
    started = collections.Counter(words[1] for words in history if words[0] == "start")
    committed = collections.Counter(words[1] for words in history if words[0] == "done")
    committing = collections.Counter(words[1] for words in history if words[0] == "committing")
    assert stored == {f"{name}-{n}" for name, ends in ranges.items() for n in range(*ends)}
    assert set(started) <= tried, "I2: an execution without an enqueue"
    assert stored <= set(committing), "I1: lost"
    for name, count in committed.items():
        # An unacknowledged enqueue that is repeated after its job was done makes a second job.
        assert count <= enqueues[name], f"I3: {name} was done {count} times"
    again = sum(started.values()) - len(started)
    rolled_back = sum(words[0] == "rollback" for words in history)
    repeated = sum(count - 1 for count in enqueues.values())
    assert again <= rolled_back + repeated + 3 * kills, "I4: deliveries without a cause"
    print(
        f"{durability}: {JOBS:,} jobs, {kills} kills, {sum(started.values()):,} deliveries ({again:,} again),"
        f" {repeated:,} enqueued twice, {time.monotonic() - began:.0f} s"
    )


@pytest.mark.timeout(120)
def test_F35_points_after_reserve_deliver_again_and_after_commit_do_not(
    zoo: Zoo, opened: Callable[..., SqliteAdapter]
) -> None:
    adapter = opened(lease=timedelta(seconds=1))
    code = (
        _COMMON
        + """
import signal
consumer = adapter.consumer([sys.argv[4]])
taken = consumer.reserve(timedelta(0))
if sys.argv[4] == "reserved":
    os.kill(os.getpid(), signal.SIGKILL)
consumer.settle(taken, COMMIT)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    for queue in ("reserved", "committed"):
        adapter.enqueue(Message(queue, queue, b"", 5))
        zoo.start(code, queue).wait(30)
    with closing(adapter.consumer(["reserved", "committed"])) as consumer:
        again = consumer.reserve(timedelta(seconds=10))
        assert again is not None
        assert (again.id, again.attempt) == ("reserved", 2)
        assert consumer.settle_and_reserve(again, COMMIT) is None
    assert adapter.stats("committed").total == 0


@pytest.mark.timeout(120)
def test_F37_a_worker_stopped_past_its_lease_commits_nothing_when_it_goes_on(
    zoo: Zoo, path: Path, opened: Callable[..., SqliteAdapter]
) -> None:
    adapter = opened(lease=timedelta(seconds=1))
    adapter.enqueue(Message("a", "q", b"", 5))
    code = (
        _COMMON
        + """
from kessel_core import LeaseLost
consumer = adapter.consumer(["q"])
taken = consumer.reserve(timedelta(0))
say("held")
sys.stdin.readline()
try:
    consumer.settle(taken, COMMIT)
except LeaseLost:
    say("lost")
"""
    )
    read, write = os.pipe()
    log = path.with_name("stopped")
    words = [sys.executable, "-c", code, str(path), str(log), zoo.durability]
    process = subprocess.Popen(words, stdin=read)
    os.close(read)
    try:
        end = time.monotonic() + 30
        # Not only till the log is there: it is made before anything is held.
        while not (log.exists() and log.read_text()) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        with closing(adapter.consumer(["q"])) as consumer:
            taken = consumer.reserve(timedelta(seconds=20))
            assert taken is not None
            os.write(write, b"\n")
            process.send_signal(signal.SIGCONT)
            assert process.wait(30) == 0
            assert log.read_text().split() == ["held", "lost"]
            assert adapter.stats("q").reserved == 1
            consumer.settle(taken, COMMIT)
    finally:
        process.kill()
        process.wait(30)
        os.close(write)


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives notice of writes")
def test_a_waiting_consumer_notices_a_job_of_another_process_by_its_write(
    zoo: Zoo, opened: Callable[..., SqliteAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else would wake it for an hour: neither its own wait nor a look without a notice."""
    monkeypatch.setattr(pace, "_SURE", 3600.0)
    monkeypatch.setattr(pace, "_SETTLING", 0.02)
    adapter = opened()
    with closing(adapter.consumer(["q"])) as consumer:
        consumer.reserve(NO_PAUSE)
        zoo.start(PRODUCER, "a", 1, 2)
        taken = consumer.reserve(timedelta(hours=1))
        assert taken is not None
        consumer.settle(taken, COMMIT)


@pytest.mark.timeout(60)
def test_without_notices_a_waiting_consumer_polls_for_jobs_of_other_processes(
    zoo: Zoo, opened: Callable[..., SqliteAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else would wake it for an hour."""
    monkeypatch.setattr(wake, "watch", lambda path: None)
    adapter = opened()
    with closing(adapter.consumer(["q"])) as consumer:
        consumer.reserve(NO_PAUSE)
        zoo.start(PRODUCER, "a", 1, 2)
        taken = consumer.reserve(timedelta(hours=1))
        assert taken is not None
        consumer.settle(taken, COMMIT)


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives notice of writes")
def test_a_consumer_that_waits_for_long_looks_only_now_and_then(
    opened: Callable[..., SqliteAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speed: an idle worker costs nothing. A file that is polled is looked at 66 times a second."""
    looks: list[float] = []
    real = wake.FileLine._look

    def counted(line: wake.FileLine, source: wake.Source) -> pace.Seen:
        looks.append(time.monotonic())
        return real(line, source)

    monkeypatch.setattr(wake.FileLine, "_look", counted)
    monkeypatch.setattr(pace, "_SETTLING", 0.02)
    adapter = opened()
    with closing(adapter.consumer(["q"])) as consumer:
        assert consumer.reserve(timedelta(seconds=1)) is None
    assert 1 < len(looks) < 40


@pytest.mark.timeout(60)
def test_a_waiting_consumer_notices_an_earlier_delayed_job_and_many_wake_for_many(
    opened: Callable[..., SqliteAdapter],
) -> None:
    """Nothing but the jobs would wake them for an hour."""
    adapter = opened()
    other = opened()
    taken: list[str] = []

    def consume() -> None:
        with closing(adapter.consumer(["q"])) as consumer:
            found = consumer.reserve(timedelta(hours=1))
            if found is not None:
                taken.append(found.id or "")
                consumer.settle(found, COMMIT)

    threads = [threading.Thread(target=consume, daemon=True) for _ in range(10)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30
    while len(adapter.line._waiters) < len(threads):
        assert time.monotonic() < end
        time.sleep(0.005)
    now = adapter.context.clock.now()
    other.enqueue(Message("far", "q", b"", 5, now + timedelta(minutes=50)))
    other.enqueue(Message("near", "q", b"", 5, now + timedelta(milliseconds=200)))
    other.enqueue_many([Message(f"{n}", "q", b"", 5) for n in range(9)])
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == sorted([*(f"{n}" for n in range(9)), "near"])
