"""Whole workers in processes of their own, on one SQLite file: faults 34, 35 and 37 of the catalogue.

The clock of the machine cannot be set by a test, so each process reads how far it was set from a
file: in all of them the wall clock jumps at once, and the monotonic clock goes on, as it would.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from kessel_core import JobManager, SystemClock
from kessel_core.contract import JobState
from tests.until import until

LONG = 60.0
LEASE = 3.0
URL = f"sqlite:///jobs.db?lease={LEASE:g}s"

PROGRAM = """
import os, signal, sys, time
from datetime import timedelta
from pathlib import Path
from kessel_core import Config, JobManager, JobsConfig, WorkerConfig, build_plugins, hookimpl
from kessel_core import SystemClock
from kessel_core.runtime.signals import on_signals
from kessel_core.contract import BaseConsumer

url, point = sys.argv[1:]
true_now, true_reserve = SystemClock.now, BaseConsumer.reserve
journal = os.open("journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def say(*words):
    os.write(journal, (" ".join(map(str, words)) + "\\n").encode())

def reached(name):
    if name == point:
        os.kill(os.getpid(), signal.SIGKILL)

def now(self):
    return true_now(self) + timedelta(hours=int(Path("hours").read_text()))

def reserve(self, timeout):
    found = true_reserve(self, timeout)
    if found is not None:
        reached("after reserve")
    return found

SystemClock.now, BaseConsumer.reserve = now, reserve

class Points:
    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job):
        reached("before handler")
        result = yield
        reached("after handler")
        return result

    @hookimpl
    def kessel_job_settled(self, result, settlement):
        say(type(settlement).__name__.lower(), result.request.type, result.attempt, os.getpid())
        reached("after commit")

def slow(payload, job):
    say("started", job.type, job.attempt, os.getpid())
    reached("in handler")
    while not Path("go").exists():
        time.sleep(0.01)

handlers = {"slow": slow, "good": lambda payload: None}
config = Config(jobs=JobsConfig(max_attempts=3), worker=WorkerConfig(grace=timedelta(milliseconds=100)))
plugins = build_plugins(extra={"points": Points()})
with JobManager(url, handlers=handlers, config=config, plugins=plugins) as manager:
    worker = manager.worker(slots=1)
    with on_signals(lambda count: worker.stop()):
        worker.run()
"""


class Place:
    """A directory with one file of jobs, and the workers that a test starts on it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack
        (directory / "program.py").write_text(PROGRAM)
        self.set_clock(0)

    def set_clock(self, hours: int) -> None:
        """Set the wall clock of all processes, at one moment."""
        (self.directory / "new").write_text(f"{hours}")
        (self.directory / "new").rename(self.directory / "hours")

    def worker(self, point: str = "") -> subprocess.Popen[str]:
        """Start a worker, which kills itself when it comes to the point; it ends with the test."""
        process = subprocess.Popen(
            [sys.executable, "program.py", URL, point],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._stack.callback(process.communicate, timeout=LONG)
        self._stack.callback(process.kill)
        return process

    def journal(self, what: str, kind: str = "slow") -> list[tuple[int, int]]:
        """Attempt and process of each job of which the workers said this."""
        path = self.directory / "journal"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(line[2]), int(line[3])) for line in lines if line[:2] == [what, kind]]

    def let_go(self) -> None:
        """Let handlers come to their end."""
        (self.directory / "go").touch()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    true_now = SystemClock.now
    with ExitStack() as stack:
        found = Place(tmp_path, stack)
        hours = tmp_path / "hours"
        shifted = lambda clock: true_now(clock) + timedelta(hours=int(hours.read_text()))  # noqa: E731
        monkeypatch.setattr(SystemClock, "now", shifted)
        yield found


@pytest.fixture
def manager(place: Place) -> Iterator[JobManager]:
    """Requests and looks; it runs no job."""
    with JobManager(URL, only_requests=True) as opened:
        yield opened


eventually = partial(until, seconds=LONG, pause=0.02)


def stop_outside_of_a_transaction(process: subprocess.Popen[str]) -> None:
    """Stop it where it does not hold the file's lock, as it does for a moment while it extends a lease."""
    end = time.monotonic() + LONG
    while True:
        os.kill(process.pid, signal.SIGSTOP)
        with closing(sqlite3.connect("jobs.db", timeout=0.1, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                assert time.monotonic() < end
            else:
                connection.execute("ROLLBACK")
                return
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.05)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("hours", [1, -1])
def test_F34_a_clock_that_is_set_takes_no_job_from_a_living_worker_and_keeps_none_of_a_dead_one(
    place: Place, manager: JobManager, hours: int
) -> None:
    """S7: deadlines go by the monotonic clock; delays and expirations alone follow the wall clock."""
    first, second = place.worker(), place.worker()
    manager.request("slow", expiration=timedelta(minutes=30))
    eventually(lambda: place.journal("started"))
    holder = place.journal("started")[0][1]
    manager.request("good", delay=timedelta(minutes=30))

    place.set_clock(hours)
    # The other worker looks at the file meanwhile; the lease as it was before the jump ends meanwhile.
    manager.request("good")
    eventually(lambda: place.journal("commit", "good"))
    time.sleep(LEASE + 1)
    assert len(place.journal("started")) == 1, "taken from its living worker"
    place.let_go()
    eventually(lambda: place.journal("commit"))
    assert place.journal("commit") == [(1, holder)], "a running job was cut by its expiration"
    delayed = manager.adapter.stats("default").delayed
    assert delayed == (0 if hours > 0 else 1), "a delay is a time of the wall clock"

    (place.directory / "go").unlink()
    manager.request("slow")
    eventually(lambda: len(place.journal("started")) == 2)
    holder = place.journal("started")[1][1]
    place.set_clock(2 * hours)
    (first if first.pid == holder else second).kill()
    # After a jump back it would, by the wall clock alone, come back in an hour.
    eventually(lambda: len(place.journal("started")) == 3)
    assert place.journal("started")[2][0] == 2
    assert place.journal("started")[2][1] != holder


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("point", "starts"),
    [("after reserve", 1), ("before handler", 1), ("in handler", 2), ("after handler", 2)],
)
def test_F35_a_worker_that_dies_before_its_commit_is_followed_by_one_more_delivery(
    place: Place, manager: JobManager, point: str, starts: int
) -> None:
    """S9, S10, I4."""
    place.let_go()
    manager.request("slow")
    assert place.worker(point).wait(LONG) == -signal.SIGKILL
    assert manager.adapter.stats("default").reserved == 1
    heir = place.worker()
    eventually(lambda: place.journal("commit"))
    assert place.journal("commit") == [(2, heir.pid)]
    assert len(place.journal("started")) == starts
    assert manager.adapter.stats("default").total == 0


@pytest.mark.timeout(100)
def test_F35_a_worker_that_dies_after_its_commit_is_not_followed_by_another_delivery(
    place: Place, manager: JobManager
) -> None:
    place.let_go()
    manager.request("slow")
    assert place.worker("after commit").wait(LONG) == -signal.SIGKILL
    assert manager.adapter.stats("default").total == 0
    heir = place.worker()
    manager.request("good")
    eventually(lambda: place.journal("commit", "good") == [(1, heir.pid)])
    assert len(place.journal("started")) == 1


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("number", "code", "attempt"),
    [
        (signal.SIGINT, 0, 1),
        (signal.SIGTERM, 0, 1),
        (signal.SIGHUP, 0, 1),
        (signal.SIGPIPE, None, 1),
    ],
)
def test_F37_a_signal_in_the_middle_of_a_job_loses_and_doubles_nothing(
    place: Place, manager: JobManager, number: signal.Signals, code: int | None, attempt: int
) -> None:
    """S21: snoozed where the worker is told to stop, back at lease end where it dies, else done."""
    process = place.worker()
    manager.request("slow")
    eventually(lambda: place.journal("started"))
    process.send_signal(number)
    if code is None:
        time.sleep(0.2)
        assert process.poll() is None
        place.let_go()
    else:
        assert process.wait(LONG) == code
        state = JobState.READY if code == 0 else JobState.RESERVED
        assert [job.attempt for job in manager.adapter.peek("default", state)] == [attempt - 1]
        place.let_go()
        process = place.worker()
    eventually(lambda: place.journal("commit"))
    assert place.journal("commit") == [(attempt, process.pid)]
    assert manager.adapter.stats("default").total == 0


@pytest.mark.timeout(100)
def test_F37_a_worker_that_was_stopped_past_its_lease_commits_nothing_when_it_goes_on(
    place: Place, manager: JobManager
) -> None:
    """S7: its lease has run out by the monotonic clock, and the job is another worker's."""
    stopped = place.worker()
    manager.request("slow")
    eventually(lambda: place.journal("started"))
    stop_outside_of_a_transaction(stopped)
    heir = place.worker()
    eventually(lambda: len(place.journal("started")) == 2)
    place.let_go()
    eventually(lambda: place.journal("commit"))
    os.kill(stopped.pid, signal.SIGCONT)
    # It works on, and says nothing of a commit of the job that it lost.
    heir.kill()
    manager.request("good")
    eventually(lambda: place.journal("commit", "good") == [(1, stopped.pid)])
    assert place.journal("commit") == [(2, heir.pid)]
