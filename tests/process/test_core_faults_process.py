"""Faults that need a process of their own to happen in; the numbers are those of the fault catalogue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from kessel_core import Config, JobManager, JobsConfig
from tests.until import until

LONG = 60.0

PROGRAM = """
import ctypes, logging, os, pathlib, signal, sys, threading, time
from kessel_core import Config, JobManager, JobsConfig
from kessel_core.runtime.signals import on_signals

def slow(payload):
    pathlib.Path("started").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)

HANDLERS = {
    "leave": lambda payload: os._exit(0),
    "kill": lambda payload: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda payload: ctypes.string_at(0),
    "slow": slow,
    "good": lambda payload: pathlib.Path("good").touch(),
}

logging.basicConfig(level="INFO")
config = Config(jobs=JobsConfig(max_attempts=2))
with JobManager("sqlite:///jobs.db?lease=1s", handlers=HANDLERS, config=config) as manager:
    worker = manager.worker(slots=1)
    if sys.argv[1] == "drain":
        worker.drain()
    else:
        with on_signals(lambda count: worker.stop()):
            worker.run()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "program.py", what],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def manager(**handlers: object) -> JobManager:
    config = Config(jobs=JobsConfig(max_attempts=2))
    return JobManager("sqlite:///jobs.db?lease=1s", handlers=handlers, config=config)


eventually = partial(until, seconds=LONG, pause=0.02)


@pytest.mark.parametrize("poison", ["leave", "kill", "crash"])
def test_f40_f46_s10_a_job_that_kills_its_worker_is_buried_and_others_are_done(
    place: Path, poison: str
) -> None:
    deaths: list[int] = []

    def drained() -> bool:
        with started("drain") as process:
            process.communicate(timeout=LONG)
        deaths.append(process.returncode)
        return opened.adapter.stats("default").buried == 1

    with manager() as opened:
        opened.request(poison, priority=1)
        opened.request("good")
        eventually(drained, pause=0.3)
        (buried,) = opened.adapter.buried("default")
        assert (buried.reason, opened.adapter.stats("default").total) == ("worker-lost", 1)
    assert (place / "good").exists()
    expected = {"leave": 0, "kill": -signal.SIGKILL, "crash": -signal.SIGSEGV}[poison]
    assert deaths.count(expected) >= 2


def test_f37_s7_a_worker_that_was_stopped_past_its_lease_commits_nothing(place: Path) -> None:
    with started("run") as process, manager(slow=lambda payload: "by the other") as other:
        try:
            other.request("slow")
            eventually((place / "started").exists)
            eventually(other.workers)  # not in the middle of writing that, with the lock of the file
            os.kill(process.pid, signal.SIGSTOP)
            eventually(lambda: other.worker(slots=1).drain().get("success"))
            other.request("slow", delay=timedelta(days=1))
            (place / "go").touch()
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.1)
            process.terminate()
            _, said = process.communicate(timeout=LONG)
        finally:
            process.kill()
        assert process.returncode == 0
        assert "lease lost" in said
        assert "1 lost" in said
        assert other.adapter.stats("default").total == 1


def test_f36_i10_a_closed_manager_leaves_no_thread_behind(place: Path) -> None:
    async def later(payload: object) -> None: ...

    before = set(threading.enumerate())
    with manager(later=later) as opened:
        worker = opened.start(slots=3)
        opened.request("later")
        eventually(lambda: worker.counts)
    eventually(lambda: not [t for t in set(threading.enumerate()) - before if t.is_alive()])
