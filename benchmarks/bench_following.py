"""Measure what the end of a job brings along: follow-ups, callback jobs, kept results; and the wait for one.

Usage: python benchmarks/bench_following.py [--jobs N] [--rounds N] [--waits N]

Each figure stands beside its floor, the bare statements that do the same: `sqlite3` and greenstalk without
kessel. Both sides take turns in short rounds, and the median of the ratios counts. Kessel's side is a whole
worker with one slot, handlers included, and the job that follows is run, too; every commit is synced to the
disk, and beanstalkd is on another core. SQLite tells other processes of a commit by nothing but a counter, so
the floor of that wait is a loop that looks at it every 15 ms.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import greenstalk
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import Config, JobContext, JobManager, JobRequest, ResultsConfig

FIRST, SECOND = b'{"v":1,"type":"first"}' + b" " * 120, b'{"v":1,"type":"second"}' + b" " * 120
LONG = timedelta(seconds=30)
#: What a job brings along.
KINDS = ("nothing", "a follow-up", "a callback job", "a kept result")


# --- the bare statements ---------------------------------------------------------------------------------


class Bare:
    """What somebody would write without kessel, in a file of its own."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE jobs"
            " (seq INTEGER PRIMARY KEY, queue TEXT, priority INTEGER, token INTEGER, body BLOB)",
            "CREATE INDEX ready ON jobs (queue, priority) WHERE token IS NULL",
            "CREATE TABLE results (id TEXT PRIMARY KEY, body BLOB)",
        ):
            self.connection.execute(statement)

    def insert(self, body: bytes) -> None:
        statement = "INSERT INTO jobs (queue, priority, body) VALUES ('q', 65536, ?)"
        self.connection.execute(statement, (body,))

    def fill(self, count: int) -> None:
        self.connection.execute("BEGIN")
        for _ in range(count):
            self.insert(FIRST)
        self.connection.execute("COMMIT")

    def drain(self, kind: str) -> None:
        """Claim, store what follows, delete: in one transaction a job, until there is none."""
        while self.step(kind):
            pass

    def step(self, kind: str, result_id: str | None = None) -> bool:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        rows = execute(
            "UPDATE jobs SET token = 1 WHERE seq = (SELECT seq FROM jobs WHERE token IS NULL AND queue = 'q'"
            " ORDER BY priority, seq LIMIT 1) RETURNING seq, body"
        ).fetchall()
        for seq, body in rows:
            if kind == "a kept result":
                execute("INSERT INTO results VALUES (?, ?)", (result_id or f"{time.time_ns()}", SECOND))
            elif kind != "nothing" and body == FIRST:
                self.insert(SECOND)
            execute("DELETE FROM jobs WHERE seq = ?", (seq,))
        execute("COMMIT")
        return bool(rows)


def bare_beanstalk(client: greenstalk.Client, kind: str) -> None:
    """Reserve, put what follows, delete, until there is none."""
    with suppress(greenstalk.TimedOutError):
        while True:
            job = client.reserve(0)
            if kind != "nothing" and job.body == FIRST:
                client.put(SECOND)
            client.delete(job)


# --- kessel ----------------------------------------------------------------------------------------------


def first(payload: object, job: JobContext) -> None:
    if payload == "a follow-up":
        job.follow_up("second")


HANDLERS = {"first": first, "second": lambda payload: None}


def config(kind: str = "nothing") -> Config:
    keep = timedelta(hours=1) if kind == "a kept result" else None
    return Config(results=ResultsConfig(keep=keep))


@contextmanager
def managers(url: str) -> Iterator[dict[str, JobManager]]:
    with (
        JobManager(url, handlers=HANDLERS, config=config()) as plain,
        JobManager(plain.adapter, handlers=HANDLERS, config=config("a kept result"))
        if url.startswith("sqlite")
        else plain as keeping,
    ):
        yield dict.fromkeys(KINDS, plain) | {"a kept result": keeping}


def requests(kind: str, count: int) -> list[JobRequest]:
    callback = "job:second" if kind == "a callback job" else None
    return [JobRequest(type="first", payload=kind, callback=callback) for _ in range(count)]


# --- draining ------------------------------------------------------------------------------------------


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(
    name: str,
    kinds: tuple[str, ...],
    url: str,
    floor: Callable[[str, int], Callable[[], object]],
    jobs: int,
    rounds: int,
) -> None:
    """Print microseconds a job of both sides; `floor` fills the bare queue and returns what drains it."""
    with managers(url) as by_kind:
        for kind in kinds:
            manager = by_kind[kind]
            bare, ours = [], []
            for number in range(rounds + 1):
                manager.request_many(requests(kind, jobs))
                sides = [
                    (bare, floor(kind, jobs)),
                    (ours, lambda manager=manager: manager.worker(slots=1).drain()),
                ]
                for times, work in sides if number % 2 else reversed(sides):
                    spent = seconds(work) / jobs * 1e6
                    if number:  # the first round warms up
                        times.append(spent)
            ratio = statistics.median(b / k for b, k in zip(bare, ours, strict=True))
            print(
                f"{name}, a job that brings along {kind + ':':16} bare {statistics.median(bare):7.1f} us,"
                f" kessel {statistics.median(ours):7.1f} us, {ratio:.2f}x"
            )


@contextmanager
def on_two_cores(server: Beanstalkd) -> Iterator[None]:
    """Keep this process on one core and the server on another: a round trip depends on where they run."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cores) < 2:
        yield
        return
    assert server.process is not None
    os.sched_setaffinity(server.process.pid, cores[1:2])
    os.sched_setaffinity(0, cores[:1])
    try:
        yield
    finally:
        for pid in (0, server.process.pid):
            os.sched_setaffinity(pid, cores)


def draining(folder: Path, server: Beanstalkd, jobs: int, rounds: int) -> None:
    bare = Bare(folder / "bare.db")

    def floor_sqlite(kind: str, count: int) -> Callable[[], object]:
        bare.fill(count)
        return lambda: bare.drain(kind)

    compare("SQLite", KINDS, f"sqlite:///{folder}/jobs.db", floor_sqlite, jobs, rounds)
    place = ("127.0.0.1", server.port)
    with (
        on_two_cores(server),
        greenstalk.Client(place, encoding=None, use="bare", watch=["bare"]) as client,
    ):

        def floor_beanstalk(kind: str, count: int) -> Callable[[], object]:
            for _ in range(count):
                client.put(FIRST)
            return lambda: bare_beanstalk(client, kind)

        url = f"beanstalk://127.0.0.1:{server.port}"
        compare("beanstalkd", KINDS[:3], url, floor_beanstalk, jobs, rounds)


# --- waiting for a result ------------------------------------------------------------------------------

#: Another process that waits for results, and writes a line with the time at which it has each.
_WAITER = """
import sys, time
from datetime import timedelta
from kessel_core import JobManager
url, store, count = sys.argv[1:]
with JobManager(url, store=store, only_requests=True) as manager:
    print("ready", flush=True)
    for n in range(int(count)):
        manager.result(f"r{n}", timedelta(seconds=30))
        print(time.perf_counter(), flush=True)
"""
#: The same with bare statements: it looks whether somebody has written every 15 ms.
_BARE_WAITER = """
import sqlite3, sys, time
path, count = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None)
print("ready", flush=True)
seen = None
for n in range(int(count)):
    while not connection.execute("SELECT body FROM results WHERE id = ?", (f"r{n}",)).fetchall():
        while (now := connection.execute("PRAGMA data_version").fetchone()) == seen:
            time.sleep(0.015)
        seen = now
    print(time.perf_counter(), flush=True)
"""


def elsewhere(script: str, arguments: list[str], count: int, do: Callable[[int], float]) -> list[float]:
    """Return the milliseconds from the end of each job to the return of who waits in another process.

    `do` ends the job of a number, and returns when its end began.
    """
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        found = []
        for number in range(count):
            time.sleep(random.uniform(0.02, 0.04))  # the other side waits, in any phase
            began = do(number)
            found.append((float(process.stdout.readline()) - began) * 1e3)
        return found
    finally:
        process.kill()
        process.communicate()


class Ends:
    """An application whose worker notes when each handler ended, right before the settlement."""

    def __init__(self, url: str, store: str = "adapter") -> None:
        self.ended: list[float] = []
        self.manager = JobManager(
            url, store=store, handlers={"job": self.job}, config=config("a kept result")
        ).connect()
        self.manager.start(slots=1)

    def job(self, payload: object) -> None:
        self.ended.append(time.perf_counter())

    def run(self, number: int) -> float:
        self.manager.request(JobRequest(type="job", id=f"r{number}"))
        while len(self.ended) <= number:
            time.sleep(0.0005)
        return self.ended[number]

    def here(self, count: int) -> list[float]:
        """Return the milliseconds to the return of a thread of this process that waits."""
        found = []
        for number in range(count):
            returned: list[float] = []

            def wait(job_id: str = f"r{number}", returned: list[float] = returned) -> None:
                self.manager.result(job_id, LONG)
                returned.append(time.perf_counter())

            thread = threading.Thread(target=wait)
            thread.start()
            time.sleep(0.005)
            began = self.run(number)
            thread.join()
            found.append((returned[0] - began) * 1e3)
        return found

    def close(self) -> None:
        self.manager.close()


def handed_over(count: int, work: Callable[[], object]) -> list[float]:
    """Return the milliseconds from the begin of some work to the return of a thread that it wakes."""
    found = []
    for _ in range(count):
        condition, returned = threading.Condition(), [0.0]

        def wait(condition: threading.Condition = condition, returned: list[float] = returned) -> None:
            with condition:
                condition.wait(30)
            returned[0] = time.perf_counter()

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.005)
        began = time.perf_counter()
        work()
        with condition:
            condition.notify_all()
        thread.join()
        found.append((returned[0] - began) * 1e3)
    return found


def said(name: str, floor: list[float], kessel: list[float]) -> None:
    def at(times: list[float], percent: int) -> float:
        return statistics.quantiles(times, n=100)[percent - 1]

    print(
        f"from settle to result(), {name + ':':42} p50 {at(floor, 50):6.2f} ms bare, {at(kessel, 50):6.2f} ms"
        f" kessel; p99 {at(floor, 99):6.2f} and {at(kessel, 99):6.2f} ms"
    )


def waiting(folder: Path, port: int, count: int) -> None:
    bare = Bare(folder / "bare-results.db")

    def bare_end(number: int | None = None) -> float:
        bare.insert(FIRST)
        began = time.perf_counter()
        bare.step("a kept result", None if number is None else f"r{number}")
        return began

    ends = Ends("memory://")
    said("memory, same process", handed_over(count, lambda: None), ends.here(count))
    ends.close()
    path = folder / "results.db"
    ends = Ends(f"sqlite:///{path}")

    def bare_commit() -> None:
        bare.step("a kept result")

    bare.fill(count)
    said("SQLite, same process", handed_over(count, bare_commit), ends.here(count))
    ends.close()
    floor = elsewhere(_BARE_WAITER, [str(folder / "bare-results.db"), str(count)], count, bare_end)
    path = folder / "elsewhere.db"
    ends = Ends(f"sqlite:///{path}")
    ours = elsewhere(_WAITER, [f"sqlite:///{path}", "adapter", str(count)], count, ends.run)
    ends.close()
    said("SQLite, another process", floor, ours)
    url, store = f"beanstalk://127.0.0.1:{port}", f"sqlite:///{folder}/store.db"
    ends = Ends(url, store)
    ours = elsewhere(_WAITER, [url, store, str(count)], count, ends.run)
    ends.close()
    said("beanstalkd, SQLite store, another process", floor, ours)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=500, help="jobs of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--waits", type=int, default=200, help="results that are waited for")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores")
    server = Beanstalkd()
    server.start()
    try:
        with tempfile.TemporaryDirectory() as name:
            draining(Path(name), server, options.jobs, options.rounds)
            waiting(Path(name), server.port, options.waits)
    finally:
        server.kill()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
