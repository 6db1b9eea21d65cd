"""`kessel worker` as operators run it: real processes, a real file, real signals (D8, D9)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from kessel_core.runtime.signals import TOGETHER
from tests.process.sites import ends
from tests.until import until

LONG = 60.0

HANDLERS = """
import os, pathlib, time

def note(payload):
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {payload}\\n")
    return payload

def slow(payload):
    note("started")
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    note("ended")
"""

CONFIG = """
[kessel.worker]
grace = "60s"
[kessel.handlers]
note = "handlers:note"
slow = "handlers:slow"
"""


class Place:
    """A directory in which commands run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("KESSEL_")}
        self.environment["PYTHONPATH"] = str(directory)
        (directory / "handlers.py").write_text(HANDLERS)
        (directory / "kessel.toml").write_text(CONFIG)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "kessel_core.cli", *arguments]

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )

    def request(self, kind: str, payload: str = "null") -> None:
        done = self.call("request", kind, payload)
        assert done.returncode == 0, done

    def request_notes(self, payloads: range) -> None:
        lines = "".join(f'{{"type": "note", "payload": {payload}}}\n' for payload in payloads)
        (self.directory / "jobs.jsonl").write_text(lines)
        done = self.call("request", "--from", "jobs.jsonl")
        assert done.returncode == 0, done

    def notes(self) -> list[tuple[int, str]]:
        path = self.directory / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(line.split()[0]), line.split(" ", 1)[1]) for line in lines]

    def waiting(self) -> list[tuple[int, int]]:
        """Attempts and snoozes of the jobs that are ready."""
        jobs = json.loads(self.call("peek", "--json").stdout)
        return [(job["attempt"], job["snoozes"]) for job in jobs]

    @contextmanager
    def worker(self, *arguments: str, command: str = "worker") -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            self.command(command, *arguments),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(LONG)


eventually = partial(until, seconds=LONG, pause=0.02)

#: So far apart, in seconds, signals are requests of their own also where the first one is seen late.
APART = TOGETHER * 2.5


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_an_idle_worker_with_exit_code_0(place: Place, number: int) -> None:
    place.request("note", "1")
    with place.worker() as worker:
        eventually(lambda: len(place.notes()) == 1)
        worker.send_signal(number)
        assert worker.wait(LONG) == 0


def test_running_job_ends_within_the_grace_period(place: Place) -> None:
    place.request("slow")
    with place.worker() as worker:
        eventually(lambda: [text for _, text in place.notes()] == ["started"])
        worker.terminate()
        (place.directory / "go").touch()
        assert worker.wait(LONG) == 0
    assert [text for _, text in place.notes()] == ["started", "ended"]
    assert '"total": 0' in place.call("stats", "default", "--json").stdout


def test_s21_a_second_signal_gives_back_what_runs_at_once_and_that_is_no_attempt(place: Place) -> None:
    place.request("slow")
    with place.worker() as worker:
        eventually(lambda: len(place.notes()) == 1)
        worker.terminate()
        time.sleep(APART)
        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(LONG) == 0
    assert place.waiting() == [(0, 1)]


def test_s21_a_job_that_outlives_many_stops_is_not_buried(place: Place) -> None:
    """Its worker reported each time, so nobody is to think that the job kills workers."""
    (place.directory / "kessel.toml").write_text(CONFIG + "[kessel.jobs]\nmax_attempts = 1\n")
    place.request("slow")
    for stops in (1, 2):
        with place.worker("--grace", "0s") as worker:
            eventually(lambda number=stops: len(place.notes()) == number)
            worker.terminate()
            assert worker.wait(LONG) == 0
        assert place.waiting() == [(0, stops)]
    (place.directory / "go").touch()
    assert place.call("drain").returncode == 0
    assert [text for _, text in place.notes()] == ["started"] * 3 + ["ended"]


def test_a_service_manager_that_signals_all_processes_leaves_jobs_their_grace(place: Place) -> None:
    """D9: a worker gets the manager's SIGTERM and the supervisor's; together they are the first signal."""
    place.request("slow")
    with place.worker("--processes", "2") as supervisor:
        eventually(lambda: len(place.notes()) == 1)
        worker = place.notes()[0][0]
        os.kill(worker, signal.SIGTERM)
        supervisor.terminate()
        time.sleep(0.5)
        assert supervisor.poll() is None
        (place.directory / "go").touch()
        assert supervisor.wait(LONG) == 0
    assert [text for _, text in place.notes()] == ["started", "ended"]


def test_s21_a_second_signal_to_the_supervisor_gives_back_what_runs_at_once(place: Place) -> None:
    place.request("slow")
    with place.worker("--processes", "2") as supervisor:
        eventually(lambda: len(place.notes()) == 1)
        supervisor.terminate()
        time.sleep(APART)
        assert supervisor.poll() is None
        supervisor.terminate()
        assert supervisor.wait(LONG) == 0
    assert place.waiting() == [(0, 1)]


def test_a_drain_that_is_stopped_before_its_end_has_failed(place: Place) -> None:
    """A deployment that waits for empty queues must not go on."""
    place.request("slow")
    place.request("slow")
    with place.worker(command="drain") as drain:
        eventually(lambda: len(place.notes()) == 1)
        drain.terminate()
        time.sleep(0.2)
        (place.directory / "go").touch()
        assert drain.wait(LONG) == 1
    assert '"total": 1' in place.call("stats", "default", "--json").stdout


def test_dead_worker_process_is_replaced_and_no_job_is_lost(place: Place) -> None:
    with place.worker("--processes", "2") as supervisor:
        place.request_notes(range(10))
        eventually(lambda: len(place.notes()) == 10)
        os.kill(place.notes()[-1][0], signal.SIGKILL)
        place.request_notes(range(10, 30))
        eventually(lambda: {text for _, text in place.notes()} == {str(n) for n in range(30)})
        supervisor.terminate()
        assert supervisor.wait(LONG) == 0


def test_worker_processes_end_with_a_killed_supervisor(place: Place) -> None:
    place.request("note", "1")
    with place.worker("--processes", "2") as supervisor:
        eventually(lambda: len(place.notes()) == 1)
        pid = place.notes()[0][0]
        supervisor.kill()
        assert ends(pid)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_wrong_configuration_is_exit_code_2_before_anything_is_reserved(place: Place, processes: str) -> None:
    place.request("note", "1")
    done = place.call("worker", "--slots", "0", "--grace", "soon", "--processes", processes)
    assert done.returncode == 2
    assert "--slots" in done.stderr
    assert "--grace" in done.stderr
    assert '"total": 1' in place.call("stats", "default", "--json").stdout


@pytest.mark.parametrize("processes", ["1", "2"])
def test_worker_on_an_adapter_of_one_process_is_refused(place: Place, processes: str) -> None:
    done = place.call("worker", "--adapter", "memory://", "--processes", processes)
    assert done.returncode == 2
    assert "--adapter" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_finding_d20_demo_can_be_interrupted_and_finished_later(place: Place, number: signal.Signals) -> None:
    with subprocess.Popen(
        place.command("demo", "--json"),
        cwd=place.directory,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # What a shell starts in the background ignores SIGINT, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as demo:
        try:
            assert demo.stderr is not None
            while "working" not in (line := demo.stderr.readline()):
                assert line, "the demo ended before it worked on anything"
            demo.send_signal(number)
            code, said = demo.wait(LONG), demo.stderr.read()
            assert code == 130, said
            assert "kessel demo" in said
        finally:
            demo.kill()
    again = place.call("demo", "--json")
    assert again.returncode == 0
    assert "finishing them" in again.stderr
