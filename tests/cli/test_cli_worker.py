"""`kessel worker` in this process: how it ends (D9). Real processes are in tests/process."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from kessel_core import Worker
from kessel_core.runtime.supervisor import Supervisor

HANDLERS = """
import os, signal

def stop(payload):
    os.kill(os.getpid(), signal.SIGTERM)

def orphan(descriptor):
    os.close(descriptor)
"""

#: An adapter that opens, and then is gone.
DEAF = """
import attrs
from kessel_core.contract import AdapterSpec, Capabilities, QueueAdapter, QueueStats, Reach
from kessel_core import AdapterUnavailable
from kessel_core import hookimpl

class Deaf(QueueAdapter):
    name = "deaf"
    capabilities = Capabilities(reach=Reach.HOST)
    def enqueue(self, message): raise AdapterUnavailable("nobody answers")
    def make_consumer(self, queues): raise AdapterUnavailable("nobody answers")
    def give_back(self, reservation): raise AdapterUnavailable("nobody answers")
    def queues(self): return []
    def stats(self, queue): return QueueStats(queue=queue)
    def purge(self, queue): return 0
    def close(self): pass

@attrs.frozen
class Options:
    pass

@hookimpl
def kessel_adapters():
    return [AdapterSpec(name="deaf", schemes=("deaf",), options=Options, open=lambda o, c: Deaf())]
"""


@pytest.fixture
def handlers(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Types `stop` and `orphan`, from a module of this run alone."""
    name = f"handlers_{os.getpid()}_{kessel.directory.name.replace('-', '_')}"
    kessel.write(f"{name}.py", HANDLERS)
    monkeypatch.syspath_prepend(str(kessel.directory))
    kessel.write("kessel.toml", f'[kessel.handlers]\nstop = "{name}:stop"\norphan = "{name}:orphan"\n')


def test_signal_stops_it_with_exit_code_0(kessel: Any, handlers: None) -> None:
    kessel.ok("request", "stop")
    done = kessel.ok("worker", "--slots", "2")
    assert "worker: stopping, at most 30 s for running jobs" in done.err


def test_log_json_is_one_object_a_line_with_the_fields_of_each_record(kessel: Any, handlers: None) -> None:
    job_id = kessel.ok("request", "stop", "--json").json["id"]
    done = kessel.ok("worker", "--slots", "2", "--log-json")
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert "worker: stopping, at most 30 s for running jobs" in [line["message"] for line in lines]
    (ended,) = [line for line in lines if line["logger"] == "kessel.jobs"]
    assert (ended["job_id"], ended["job_type"], ended["status"], ended["attempt"]) == (
        job_id,
        "stop",
        "success",
        1,
    )


def test_drain_of_an_unusable_queue_is_exit_code_1_after_its_patience(kessel: Any, site: Any) -> None:
    site.install("deaf", DEAF)
    done = kessel("drain", "--adapter", "deaf", "--patience", "50ms")
    assert done.code == 1
    assert "gave up after 0.05 s without a usable queue" in done.err
    assert "Traceback" not in done.err


def test_end_of_the_supervisor_stops_it(kessel: Any, handlers: None) -> None:
    reading, writing = os.pipe()
    kessel.ok("request", "orphan", str(writing))
    done = kessel.ok("worker", "--parent-fd", str(reading))
    assert "the supervisor is gone" in done.err
    os.close(reading)


def test_parent_that_is_none_is_wrong_usage(kessel: Any) -> None:
    assert kessel("worker", "--parent-fd", "9999").code == 2


def test_worker_that_ends_by_itself_is_exit_code_1(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """D9: never "alive but deaf", and never a silent end either."""
    monkeypatch.setattr(Worker, "run", lambda self, **_: None)
    done = kessel("worker")
    assert done.code == 1
    assert "ended by itself" in done.err


def test_processes_run_under_a_supervisor_whose_code_is_passed_on(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(self: Supervisor) -> int:
        commands.append(self.command)
        return 1

    monkeypatch.setattr(Supervisor, "run", run)
    monkeypatch.setattr("sys.argv", ["kessel", "worker", "--processes", "3"])
    assert kessel("worker", "--processes", "3").code == 1
    assert commands[0][-4:] == ["--processes", "3", "--processes", "1"]


@pytest.mark.parametrize("command", ["worker", "drain"])
def test_s12_a_worker_without_any_handler_does_not_start(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Started in a wrong directory, it would bury every job of everybody."""
    kessel.ok("request", "addition")
    monkeypatch.setenv("KESSEL_PLUGINS_DISABLED", "handlers-example")
    done = kessel(command)
    assert done.code == 2
    assert "handlers: no job type has a handler" in done.err
    assert kessel.ok("stats", "--json").json[0]["ready"] == 1


def test_a_worker_says_where_its_jobs_are_and_which_it_can_run(kessel: Any) -> None:
    err = kessel.ok("drain", "--adapter", "sqlite:///here.db").err
    place = kessel.directory / "here.db"
    assert f"jobs of {place}, handlers for addition, medication.check" in err
