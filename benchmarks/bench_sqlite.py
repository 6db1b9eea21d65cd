"""Compare kessel-sqlite with a bare `sqlite3` loop that uses the same pragmas.

    python benchmarks/bench_sqlite.py            # everything, half a minute; --million adds the largest fill
    python benchmarks/bench_sqlite.py --check    # exit 1 if a target is missed

The two sides take turns in short rounds, and the median of the ratios counts, because the speed of a disk
varies over longer times than a round. The bare loop has an index on (queue, priority), or it would scan.
"""

from __future__ import annotations

import argparse
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions
from measuring import Side, drain, in_turn

from kessel_core import SystemClock
from kessel_core.contract import COMMIT, NO_PAUSE, AdapterContext, Durability, Message

BODY = b'{"v":1,"type":"addition","payload":{"operands":[1,2]}}' + b" " * 100
ROUNDS = 7
#: Name of a measurement -> (figure, target); a figure at or above its target meets it.
Ratios = dict[str, tuple[float, float]]


class Bare:
    """What somebody would write without kessel."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(f"PRAGMA synchronous = {synchronous}")
        self.connection.execute(
            "CREATE TABLE jobs"
            " (seq INTEGER PRIMARY KEY, queue TEXT, priority INTEGER, token INTEGER, body BLOB)"
        )
        self.connection.execute("CREATE INDEX ready ON jobs (queue, priority) WHERE token IS NULL")

    def insert(self, count: int) -> None:
        execute = self.connection.execute
        for _ in range(count):
            execute("INSERT INTO jobs (queue, priority, body) VALUES (?, ?, ?)", ("q", 65536, BODY))

    def drain(self, count: int) -> None:
        """Claim and delete, in one transaction per job."""
        execute = self.connection.execute
        for n in range(count):
            execute("BEGIN IMMEDIATE")
            ((seq, _),) = execute(
                "UPDATE jobs SET token = ? WHERE seq ="
                " (SELECT seq FROM jobs WHERE token IS NULL AND queue = ? ORDER BY priority, seq LIMIT 1)"
                " RETURNING seq, body",
                (n, "q"),
            ).fetchall()
            execute("DELETE FROM jobs WHERE seq = ?", (seq,))
            execute("COMMIT")


class Kessel:
    """The adapter, with one slot."""

    def __init__(self, path: Path, durability: Durability) -> None:
        options = SqliteOptions(path=path, durability=durability)
        self.adapter = SqliteAdapter(options, AdapterContext(clock=SystemClock()))
        self.consumer = self.adapter.consumer(["q"])
        self.made = 0

    def messages(self, count: int, delay: datetime | None = None) -> list[Message]:
        first, self.made = self.made, self.made + count
        return [Message(f"{n:036}", "q", BODY, 65536, delay) for n in range(first, self.made)]

    def insert(self, messages: list[Message]) -> None:
        enqueue = self.adapter.enqueue
        for message in messages:
            enqueue(message)

    def drain(self, count: int) -> None:
        taken = self.consumer.reserve(NO_PAUSE)
        done = 0
        while taken is not None:
            done += 1
            if done == count:
                self.consumer.settle(taken, COMMIT)
                return
            taken = self.consumer.settle_and_reserve(taken, COMMIT)
        raise AssertionError(f"{done} of {count} jobs")

    def cycle(self, messages: list[Message]) -> None:
        """Enqueue these messages, then drain as many."""
        self.insert(messages)
        self.drain(len(messages))

    def many(self, messages: list[Message]) -> None:
        assert not any(self.adapter.enqueue_many(messages))

    def close(self) -> None:
        self.consumer.close()
        self.adapter.close()


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def loops(folder: Path, durability: Durability, count: int, ratios: Ratios) -> None:
    """Compare the loops."""
    bare = Bare(folder / f"bare-{durability}.db", "FULL" if durability is Durability.POWER else "NORMAL")
    ours = Kessel(folder / f"kessel-{durability}.db", durability)
    times: dict[str, list[float]] = {"bare insert": [], "insert": [], "bare drain": [], "drain": []}
    for number in range(ROUNDS):
        messages = ours.messages(count)
        pairs: list[tuple[str, Callable[[], None]]] = [
            ("bare insert", lambda: bare.insert(count)),
            ("insert", partial(ours.insert, messages)),
            ("bare drain", lambda: bare.drain(count)),
            ("drain", lambda: ours.drain(count)),
        ]
        order = pairs if number % 2 else [pairs[1], pairs[0], pairs[3], pairs[2]]
        for name, work in order:
            times[name].append(seconds(work) / count)
    for name, target in (("insert", 0.6), ("drain", 0.5)):
        ratio = statistics.median(b / k for b, k in zip(times[f"bare {name}"], times[name], strict=True))
        ratios[f"{name} at {durability}"] = ratio, target
        print(
            f"{name:>7} {durability!s:>14}: bare {statistics.median(times[f'bare {name}']) * 1e6:7.1f} us,"
            f" kessel {statistics.median(times[name]) * 1e6:7.1f} us, {ratio:.2f}x (target {target}x)"
        )
    ours.close()
    bare.connection.close()


def slots(folder: Path, durability: Durability, count: int, ratios: Ratios) -> None:
    """Compare eight slots of one process with one: a file has one writer, so they should lose nothing."""
    ours = Kessel(folder / f"slots-{durability}.db", durability)
    drains = {
        number: Side(partial(drain, ours.adapter), lambda: ours.many(ours.messages(count)), number)
        for number in (1, 8)
    }
    rounds = [in_turn(drains, count, 1) for _ in range(ROUNDS)]
    ratio = statistics.median(found[8].rate / found[1].rate for found in rounds)
    ratios[f"8 slots at {durability}"] = ratio, 1.0
    best = {number: max(found[number] for found in rounds) for number in drains}
    print(
        f"8 slots {durability!s:>14}: {best[8].rate:,.0f} jobs per second, one slot {best[1].rate:,.0f},"
        f" {ratio:.2f}x (target 1x); own CPU {best[8].own:.0f} and {best[1].own:.0f} us"
    )
    ours.close()


def many(folder: Path, ratios: Ratios) -> None:
    ours = Kessel(folder / "many.db", Durability.POWER)
    singles, bulks = [], []
    for _ in range(ROUNDS):
        few, messages = ours.messages(300), ours.messages(10_000)
        singles.append(seconds(partial(ours.insert, few)) / len(few))
        bulks.append(seconds(partial(ours.many, messages)) / 10_000)
    ratio = statistics.median(s / b for s, b in zip(singles, bulks, strict=True))
    ratios["enqueue_many of 10,000"] = ratio, 30
    each = statistics.median(bulks)
    print(f"enqueue_many: {each * 1e6:.1f} us per job, {ratio:.0f}x of single enqueues (target 30x)")
    ours.close()


def fills(folder: Path, sizes: list[int], ratios: Ratios) -> None:
    """Measure enqueue, claim and commit with this many ready, delayed and buried jobs each in the file."""
    files = {size: filled(folder / f"fill-{size}.db", size) for size in sizes}
    # Let the disk finish writing, or that is what gets measured.
    os.sync()
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(3 * ROUNDS):
        for size, ours in files.items():
            times[size].append(seconds(partial(ours.cycle, ours.messages(100))) / 100)
    medians = {size: statistics.median(rounds) for size, rounds in times.items()}
    for size, ours in files.items():
        print(f"with {size:>9,} ready, delayed and buried each: {medians[size] * 1e6:.0f} us per job")
        ours.close()
    ratios["cost with many jobs"] = min(medians.values()) * 1.5 / max(medians.values()), 1.0


def filled(path: Path, size: int) -> Kessel:
    ours = Kessel(path, Durability.POWER)
    connection = ours.adapter.engine.link().connection
    assert connection is not None
    far = int((time.time() + 86_400) * 1e6)
    connection.execute("BEGIN IMMEDIATE")
    for state, due, buried_at in ((0, None, None), (1, far, None), (3, None, 1)):
        connection.executemany(
            "INSERT INTO kessel_jobs (id, queue, state, priority, due, buried_at, enqueued_at, body)"
            " VALUES (?, 'q', ?, 65536, ?, ?, 0, ?)",
            ((f"{state}-{n:032}", state, due and due + n, buried_at, BODY) for n in range(size)),
        )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return ours


_CHILD = """
import sys, time
from kessel_core.contract import AdapterContext, Message
from kessel_core import SystemClock
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions
options = SqliteOptions(path=sys.argv[1], durability="process-crash")
adapter = SqliteAdapter(options, AdapterContext(clock=SystemClock()))
for n in range(int(sys.argv[2])):
    time.sleep(0.017 + (n % 13) / 1000)
    adapter.enqueue(Message(f"c{n}", "q", repr(time.monotonic()).encode(), 5))
"""


def wakes(folder: Path, ratios: Ratios) -> None:
    """Measure the latency of a job from another process to a waiting slot, and the cost of idle slots."""
    path = folder / "wake.db"
    options = SqliteOptions(path=path, durability=Durability.PROCESS_CRASH)
    adapter = SqliteAdapter(options, AdapterContext(clock=SystemClock()))
    consumer = adapter.consumer(["q"])
    count = 300
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(path), str(count)])
    late: list[float] = []
    while len(late) < count:
        taken = consumer.reserve(timedelta(seconds=20))
        assert taken is not None
        late.append(time.monotonic() - float(taken.body))
        consumer.settle(taken, COMMIT)
    child.wait()
    late.sort()
    p50, p99 = late[count // 2], late[int(count * 0.99)]
    ratios["wake by another process"] = 0.001 / p50, 1.0
    print(f"wake by another process: p50 {p50 * 1e3:.2f} ms (target 1 ms), p99 {p99 * 1e3:.2f} ms")

    idle = [adapter.consumer(["q"]) for _ in range(100)]
    threads = [threading.Thread(target=one.reserve, args=(timedelta(seconds=60),)) for one in idle]
    for thread in threads:
        thread.start()
    time.sleep(1)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(5)
    after = resource.getrusage(resource.RUSAGE_SELF)
    share = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 5
    ratios["idle slots"] = 0.002 / max(share, 1e-9), 1.0
    print(f"100 idle slots: {share:.3%} of a core (target 0.2 %)")
    for one in idle:
        one.cancel()
    for thread in threads:
        thread.join()
    for one in (*idle, consumer):
        one.close()
    adapter.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--million", action="store_true", help="also fill with a million jobs in each state")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--folder", help="where to put the files; default: a temporary folder")
    arguments = parser.parse_args()
    ratios: Ratios = {}
    print(f"{datetime.now(UTC):%Y-%m-%d}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        loops(folder, Durability.POWER, 300, ratios)
        loops(folder, Durability.PROCESS_CRASH, 2000, ratios)
        slots(folder, Durability.POWER, 500, ratios)
        slots(folder, Durability.PROCESS_CRASH, 3000, ratios)
        many(folder, ratios)
        fills(folder, [10, 10_000, *([1_000_000] if arguments.million else [])], ratios)
        wakes(folder, ratios)
    missed = [name for name, (figure, target) in ratios.items() if figure < target]
    print(f"missed: {', '.join(missed)}" if missed else "all targets are met")
    return 1 if missed and arguments.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
