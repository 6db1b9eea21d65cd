"""`--processes` with real processes and real signals, around a stand-in for the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

LONG = 60.0

# Writes its pid to a file of its own; ends on SIGTERM, on a second signal at once, or with its parent.
CHILD = """
import os, pathlib, signal, sys, threading
from kessel_core.runtime.signals import on_signals
from kessel_core.runtime.supervisor import stop_with_parent
mode, folder = sys.argv[1], pathlib.Path(sys.argv[2])
over = threading.Event()
def note(text):
    with open(folder / "notes", "a") as file:
        file.write(f"{os.getpid()} {text}\\n")
def stop(count):
    note(f"stop {count}")
    if mode != "stubborn" or count > 1:
        over.set()
stop_with_parent(int(sys.argv[sys.argv.index("--parent-fd") + 1]), lambda: (note("orphan"), over.set()))
if mode == "misconfigured":
    sys.exit(2)
if mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("start")
    over.wait()
with on_signals(stop, supervised=True):
    note("start")
    over.wait()
note("end")
"""

PARENT = """
import logging, sys
from datetime import timedelta
from kessel_core.cli.logs import configure
from kessel_core.runtime.supervisor import Supervisor
import kessel_core.runtime.supervisor as module
module.SLACK = timedelta(seconds=float(sys.argv[4]))
configure("info")
command = [sys.executable, "-c", sys.argv[3], *sys.argv[1:3]]
sys.exit(Supervisor(command, 2, grace=timedelta(seconds=float(sys.argv[5]))).run())
"""

#: The same, where a signal comes to another thread than the main one once there is a file `signal`.
ELSEWHERE = (
    """
import pathlib, signal, sys, threading, time
def elsewhere():
    while not pathlib.Path(sys.argv[2], "signal").exists():
        time.sleep(0.02)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    threading.Event().wait()
threading.Thread(target=elsewhere, daemon=True).start()
"""
    + PARENT
)


class Run:
    """A supervisor under test and what its workers noted."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._notes = folder / "notes"

    def notes(self, word: str) -> list[int]:
        """Return the pids that noted something starting with the word."""
        text = self._notes.read_text() if self._notes.exists() else ""
        lines = [line.split(" ", 1) for line in text.splitlines()]
        return [int(pid) for pid, note in lines if note.startswith(word)]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, bounded."""
        end = time.monotonic() + LONG
        while not condition():
            assert time.monotonic() < end, (self._notes.read_text(), self.process.poll())
            time.sleep(0.02)

    def started(self, count: int) -> list[int]:
        """Wait for so many starts and return their pids."""
        self.wait_for(lambda: len(self.notes("start")) >= count or self.process.poll() is not None)
        return self.notes("start")


@contextmanager
def supervising(
    folder: Path, mode: str, slack: float = LONG, grace: float = LONG, parent: str = PARENT
) -> Iterator[Run]:
    process = subprocess.Popen(
        [sys.executable, "-c", parent, mode, str(folder), CHILD, str(slack), str(grace)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    run = Run(folder, process)
    try:
        yield run
    finally:
        process.kill()
        process.wait(LONG)
        for pid in run.notes("start"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_every_worker_once_and_exit_code_is_0(tmp_path: Path, number: int) -> None:
    """D9: the supervisor hands the signal on and waits."""
    with supervising(tmp_path, "willing") as run:
        workers = run.started(2)
        run.process.send_signal(number)
        assert run.process.wait(LONG) == 0
        assert sorted(run.notes("end")) == sorted(workers)
        assert sorted(run.notes("stop 1")) == sorted(workers)


def test_a_signal_that_does_not_end_the_wait_of_the_main_thread_is_seen_all_the_same(tmp_path: Path) -> None:
    """D9: as one that comes between Python's last look and the wait, or to another thread."""
    with supervising(tmp_path, "willing", parent=ELSEWHERE) as run:
        workers = run.started(2)
        (tmp_path / "signal").touch()
        assert run.process.wait(LONG) == 0
        assert sorted(run.notes("stop 1")) == sorted(workers)


def test_second_signal_reaches_the_workers_as_the_second(tmp_path: Path) -> None:
    """D9: a second signal stops at once."""
    with supervising(tmp_path, "stubborn") as run:
        workers = run.started(2)
        run.process.terminate()
        run.wait_for(lambda: len(run.notes("stop 1")) == 2)
        time.sleep(0.2)  # real: two signals within some milliseconds are one request (finding A1)
        assert run.process.poll() is None
        run.process.terminate()
        assert run.process.wait(LONG) == 0
        assert sorted(run.notes("stop 2")) == sorted(workers)


def test_each_worker_has_a_session_of_its_own(tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches it only through the supervisor, so it is not taken for a second signal."""
    with supervising(tmp_path, "willing") as run:
        workers = run.started(2)
        assert [os.getsid(pid) for pid in workers] == workers
        run.process.terminate()
        assert run.process.wait(LONG) == 0


def test_dead_worker_is_replaced(tmp_path: Path) -> None:
    """D8: however it died; the others go on."""
    with supervising(tmp_path, "willing") as run:
        first, second = run.started(2)
        os.kill(first, signal.SIGKILL)
        assert run.started(3)[2] not in (first, second)
        os.kill(second, 0)
        run.process.terminate()
        assert run.process.wait(LONG) == 0


def test_workers_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """A killed supervisor leaves no worker behind that nobody watches."""
    with supervising(tmp_path, "willing") as run:
        workers = run.started(2)
        run.process.kill()
        run.wait_for(lambda: sorted(run.notes("end")) == sorted(workers))
        assert sorted(run.notes("orphan")) == sorted(workers)


def test_worker_that_does_not_end_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    """I10: a stop ends in bounded time, and says by its exit code that force was needed."""
    with supervising(tmp_path, "deaf", slack=0.2, grace=0.2) as run:
        run.started(2)
        run.process.terminate()
        assert run.process.wait(LONG) == 1


def test_wrong_configuration_ends_the_supervisor_with_its_code(tmp_path: Path) -> None:
    """A worker that cannot run as configured is not started again and again."""
    with supervising(tmp_path, "misconfigured") as run:
        assert run.process.wait(LONG) == 2
