"""The supervisor in this very process: what it decides, and that it leaves nothing behind."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kessel_core.runtime import supervisor as module
from kessel_core.runtime.supervisor import Supervisor
from kessel_core.testing import VirtualClock
from tests.descriptors import numbers

LONG = timedelta(seconds=60)

CHILD = """
import os, pathlib, signal, sys, time
mode, notes = sys.argv[1], pathlib.Path(sys.argv[2])
if mode.startswith("exit-"):
    sys.exit(int(mode.removeprefix("exit-")))
if mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif mode == "second":
    left = ["once"]
    signal.signal(signal.SIGTERM, lambda *_: left.pop() if left else sys.exit(0))
with open(notes, "a") as file:
    file.write(f"{os.getpid()}\\n")
while True:
    time.sleep(0.05)
"""


class Stage:
    """A supervisor about to run here, and a thread that watches and acts meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"

    def run(
        self, mode: str, act: Callable[[list[int]], None] | None, *, starts: int = 2, grace: timedelta = LONG
    ) -> int:
        """Run two workers of that mode; `act` is called once so many have started, with their pids."""
        command = [sys.executable, "-c", CHILD, mode, str(self.notes)]
        thread = threading.Thread(target=self._watch, args=(act, starts), daemon=True)
        thread.start()
        code = Supervisor(command, 2, grace=grace).run()
        thread.join(LONG.total_seconds())
        return code

    def _watch(self, act: Callable[[list[int]], None] | None, starts: int) -> None:
        if act is not None:
            self.wait(starts)
            act(self.pids())

    def pids(self) -> list[int]:
        return [int(line) for line in self.notes.read_text().split()] if self.notes.exists() else []

    def wait(self, starts: int) -> None:
        end = time.monotonic() + LONG.total_seconds()
        while len(self.pids()) < starts and time.monotonic() < end:
            time.sleep(0.01)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@contextmanager
def handlers_restored() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    yield
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    assert after == before


def stop(_: list[int]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_stop_ends_all_workers_and_restores_the_signals(stage: Stage) -> None:
    with handlers_restored():
        assert stage.run("willing", stop) == 0
    for pid in stage.pids():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_second_signal_is_handed_on(stage: Stage) -> None:
    def twice(pids: list[int]) -> None:
        stop(pids)
        time.sleep(0.3)
        stop(pids)

    assert stage.run("second", twice) == 0


def test_a_second_stop_shortens_the_wait_to_what_giving_back_takes() -> None:
    clock = VirtualClock()
    keeper = Supervisor(["unused"], 1, grace=timedelta(minutes=10), clock=clock)

    def left() -> float:
        assert keeper._kill_at is not None
        return keeper._kill_at - clock.monotonic()

    keeper._stop()
    assert left() == pytest.approx(600 + module.SLACK.total_seconds())
    clock.advance(timedelta(minutes=1))
    keeper._stop()
    assert left() == pytest.approx(module.SLACK.total_seconds())


def test_a_replacement_is_started_when_its_pause_is_over_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = VirtualClock()
    keeper = Supervisor(["unused"], 2, grace=LONG, clock=clock)
    started: list[float] = []
    fake = SimpleNamespace(pid=1)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: started.append(clock.monotonic()) or fake)
    begin = clock.monotonic()
    keeper._workers[0].due, keeper._workers[1].due = begin + 2.0, begin + 5.0
    for _ in range(6):
        keeper._start_due(0)
        clock.advance(timedelta(seconds=1))
    assert started == [begin + 2.0, begin + 5.0]
    for worker in keeper._workers:
        assert worker.begun is not None
        os.close(worker.begun)


class Staged:
    """A supervisor of processes that are not there, on a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, processes: int = 1, **options: Any) -> None:
        self.clock = VirtualClock()
        self.keeper = Supervisor(["unused"], processes, grace=LONG, clock=self.clock, **options)
        #: What each process was started with.
        self.commands: list[list[str]] = []
        self.passed: list[tuple[int, ...]] = []
        #: How the processes have ended; None: they run.
        self.code: int | None = None
        self.kills = 0
        #: The signals that they got.
        self.told: list[int] = []
        #: Whether the machine has no process left.
        self.refuses = False
        #: Whether each process says that it has begun; None: it has no child that keeps the way to say so.
        self.begins: bool | None = None
        self.inherited: list[int] = []
        monkeypatch.setattr(subprocess, "Popen", self.start)

    def start(self, command: list[str], *, pass_fds: tuple[int, ...], **_: Any) -> Any:
        if self.refuses:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        self.commands.append(command)
        self.passed.append(pass_fds)
        if self.begins is not None:
            self.inherited.append(os.dup(int(command[command.index("--begun-fd") + 1])))
            os.write(self.inherited[-1], b"1" * self.begins)
        return self

    pid = 7

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, number: int) -> None:
        self.told.append(number)

    def kill(self) -> None:
        self.kills += 1

    def live(self, seconds: float) -> None:
        """Start what is due, and let it die after that time, and its pause pass."""
        self.code = None
        self.keeper._start_due(0)
        self.clock.advance(timedelta(seconds=seconds))
        self.code = 9
        self.keeper._collect()
        self.clock.advance(timedelta(seconds=module.LONGEST_PAUSE))


@pytest.mark.parametrize("grace", [timedelta(0), timedelta(seconds=7)])
def test_d9_further_stops_never_postpone_the_end(grace: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = Staged(monkeypatch)
    staged.keeper._grace = grace
    staged.keeper._start_due(0)
    begin = staged.clock.monotonic()
    while not staged.kills:
        assert staged.clock.monotonic() - begin <= (grace + module.SLACK).total_seconds()
        staged.keeper._stop()
        staged.clock.advance(timedelta(seconds=1))
        staged.keeper._kill_late()
    staged.keeper._stop()
    staged.clock.advance(LONG)
    staged.keeper._kill_late()
    assert staged.kills == 1


def test_d9_the_longest_grace_does_not_keep_workers_from_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    staged = Staged(monkeypatch)
    staged.keeper._grace = timedelta.max
    staged.keeper._start_due(0)
    staged.keeper._stop()
    staged.keeper._kill_late()
    assert (staged.told, staged.kills) == ([signal.SIGTERM], 0)


def test_d8_a_replacement_that_cannot_be_started_is_tried_again_after_a_pause_that_grows(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the machine has no process left for a while; the other workers go on."""
    staged = Staged(monkeypatch, 2)
    staged.live(1.0)
    caplog.clear()
    staged.refuses = True
    before = numbers()
    for _ in range(3):
        staged.keeper._start_due(0)
        staged.clock.advance(timedelta(seconds=module.LONGEST_PAUSE))
    assert numbers() <= before
    first = [vars(record)["pause_seconds"] for record in caplog.records if vars(record)["worker"] == 1]
    assert first == [1.0, 2.0, 4.0]
    staged.refuses, staged.code = False, None
    staged.keeper._start_due(0)
    assert len(staged.keeper.running) == 2
    staged.code = 9
    staged.keeper._collect()


def test_d12_a_worker_that_cannot_even_be_started_once_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    staged = Staged(monkeypatch)
    staged.refuses = True
    before = numbers()
    with pytest.raises(BlockingIOError):
        staged.keeper._start_due(0)
    assert numbers() <= before


def test_a_pause_depends_on_how_long_this_very_process_lived(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on how long the machine has been up: a worker that dies at its start must not be a busy loop."""
    staged = Staged(monkeypatch)
    for seconds in (1.0, 1.0, 9.9, 10.0, 1.0):
        staged.live(seconds)
    pauses = [vars(record)["pause_seconds"] for record in caplog.records if record.levelname == "WARNING"]
    assert pauses == [0.5, 1.0, 2.0, 0.5, 1.0]


def test_a_process_that_died_leaves_no_descriptor_in_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives for months, and replaces each worker that dies."""
    staged = Staged(monkeypatch, 2)
    staged.live(1.0)
    before = numbers()
    for _ in range(3):
        staged.live(1.0)
    assert len(staged.commands) == 8
    assert numbers() <= before


def test_s38_each_process_and_its_replacement_answers_at_a_listener_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the supervisor asks one process must not be answered by another one."""
    with socket.socket() as first, socket.socket() as second:
        staged = Staged(monkeypatch, 2, listeners=[first, second])
        for _ in range(2):
            staged.live(1.0)
        own = [first.fileno(), second.fileno()]
    told = [int(command[command.index("--health-fd") + 1]) for command in staged.commands]
    assert told == own * 2
    assert all(number in passed for number, passed in zip(told, staged.passed, strict=True))


@pytest.mark.parametrize("begins", [False, True])
def test_d12_a_child_that_a_process_leaves_behind_changes_nothing_about_what_its_exit_code_means(
    monkeypatch: pytest.MonkeyPatch, begins: bool
) -> None:
    """It keeps the other end of the pipe open; the supervisor must neither wait for it nor be misled."""
    staged = Staged(monkeypatch)
    staged.begins = begins
    staged.keeper._start_due(0)
    staged.code = 2
    staged.keeper._collect()
    for number in staged.inherited:
        os.close(number)
    assert staged.keeper.is_stopping is not begins
    assert staged.keeper._code() == (0 if begins else 2)


def test_d9_a_process_that_is_slow_to_die_is_killed_and_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may wait for a disk; meanwhile the supervisor looks ten times a second."""
    staged = Staged(monkeypatch)
    staged.begins = True
    staged.keeper._start_due(0)
    staged.keeper._stop()
    staged.clock.advance(LONG + module.SLACK)
    for _ in range(3):
        staged.keeper._kill_late()
    assert staged.kills == 1
    assert caplog.text.count("it is killed") == 1
    staged.code = -9
    staged.keeper._collect()
    assert staged.keeper._code() == 1
    assert "failed while it stopped" not in caplog.text  # the kill is told, not what it did to the process


def test_death_is_logged_with_how_and_when_the_next_one_comes(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)

    def kill_one(pids: list[int]) -> None:
        os.kill(pids[0], signal.SIGKILL)
        stage.wait(3)
        stop(pids)

    with caplog.at_level(logging.INFO, "kessel.supervisor"):
        assert stage.run("willing", kill_one) == 0
    [died] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert vars(died)["how"] == "SIGKILL"


def test_pause_grows_while_workers_die_young_and_starts_anew_after_a_healthy_life(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)
    worker = module._WorkerProcess(1, pause=0.02)
    pauses: list[float] = []
    keeper = Supervisor(["unused"], 1, grace=LONG)
    keeper._workers = [worker]
    for healthy in (False, False, False, True):
        monkeypatch.setattr(module, "HEALTHY_SECONDS", 0.0 if healthy else 1e9)
        worker.process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
        worker.process.wait()
        caplog.clear()
        keeper._collect()
        [record] = caplog.records
        assert vars(record)["how"] == "exit code 7"
        pauses.append(vars(record)["pause_seconds"])
    assert pauses == [0.02, 0.04, 0.05, module.FIRST_PAUSE]


@pytest.mark.parametrize("code", [2, 3])
def test_wrong_configuration_is_not_tried_again(stage: Stage, code: int) -> None:
    """D12: the code of the worker is the code of the supervisor."""
    assert stage.run(f"exit-{code}", None) == code


def test_worker_that_does_not_end_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLACK", timedelta(milliseconds=50))
    assert stage.run("deaf", stop, grace=timedelta(milliseconds=50)) == 1


def test_way_of_dying_is_named_even_for_unknown_signals() -> None:
    assert module._how(-4096) == "signal 4096"
