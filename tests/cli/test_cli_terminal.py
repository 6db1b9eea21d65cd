"""What people see and are asked on a terminal; and what no request is in a queue."""

from __future__ import annotations

import io
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from kessel_core import SystemClock, build_plugins
from kessel_core.cli.demo import command
from kessel_core.contract import AdapterContext, Message


class Terminal(io.StringIO):
    """Standard input of somebody who answers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def foreign_body(kessel: Any) -> None:
    """A body in the default queue that is no request."""
    context = AdapterContext(clock=SystemClock())
    adapter = build_plugins().chosen_adapter("sqlite:///kessel.db").open(context)
    adapter.enqueue(Message(id="foreign", queue="default", body=b"\xff{not json", priority=1))
    adapter.close()


def test_body_that_is_no_request_is_shown_as_it_is(kessel: Any, foreign_body: None) -> None:
    """S13: operators can look at what nobody can decode."""
    assert "(undecodable)" in kessel.ok("peek").out
    assert kessel.ok("peek", "--json").json[0]["body"] == "\\xff{not json"
    kessel.ok("drain")
    assert "(undecodable)" in kessel.ok("buried", "list").out
    shown = kessel.ok("buried", "show", "foreign").out
    assert "undecodable" in shown
    assert "\\xff{not json" in shown


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1)])
def test_purge_asks_and_does_what_is_answered(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    kessel.ok("request", "x")
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    done = kessel("purge", "default")
    assert "Remove 1 job of queue default for good?" in done.out + done.err
    assert done.code == (1 if left else 0)
    assert kessel.ok("stats", "default", "--json").json[0]["total"] == left


def test_s8_purge_asks_with_the_number_of_those_that_it_will_remove(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The running jobs stay, so they are not among those that are asked about."""
    kessel.ok("request", "x")
    kessel.ok("request", "x")
    context = AdapterContext(clock=SystemClock())
    with closing(build_plugins().chosen_adapter("sqlite:///kessel.db").open(context)) as adapter:
        assert adapter.consumer(["default"]).reserve(timedelta(0)) is not None
        monkeypatch.setattr("sys.stdin", Terminal("y\n"))
        done = kessel.ok("purge", "default")
    assert "Remove 1 job of queue default for good?" in done.err
    assert done.out == "removed 1 job of queue default\n"


def test_delete_of_all_buried_jobs_asks(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kessel.ok("request", "shop.unheard-of")
    kessel.ok("drain")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert "deleted 1 buried job" in kessel.ok("buried", "delete", "--all").out


def test_bars_are_shown_on_a_terminal(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    kessel.write("jobs.jsonl", '{"type": "x"}\n')
    assert "requesting" in kessel.ok("request", "--from", "jobs.jsonl").err
    done = kessel.ok("demo")
    assert "working" in done.err
    assert "302/302" in done.err


@pytest.mark.parametrize(
    ("adapter", "expected"), [("sqlite:///demo.db", "are left"), ("memory://", "are gone")]
)
def test_interrupted_demo_says_what_is_left(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, adapter: str, expected: str
) -> None:
    monkeypatch.setattr(command, "LOOK_SECONDS", -1.0)  # the pause that the signal falls into

    def interrupted(self: object, seconds: float = 0.0) -> None:
        if seconds < 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(command._Pauses, "__call__", interrupted)
    done = kessel("demo", "--adapter", adapter)
    assert done.code == 130
    assert expected in done.err


def test_demo_without_the_examples_says_what_to_install(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel.plugins]\ndisabled = ["handlers-example"]\n')
    done = kessel.ok("demo", "--json")
    assert "pip install kessel-handlers-example" in done.err


def test_demo_without_sqlite_runs_in_memory(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel.plugins]\ndisabled = ["sqlite"]\n')
    out = kessel.ok("demo", "--log-level", "error").out
    assert "demo.flaky" in out
    assert "Next:" not in out


def test_doctor_warns_of_an_adapter_that_nobody_else_can_reach(kessel: Any) -> None:
    findings = kessel.ok("doctor", "--adapter", "memory://", "--json").json
    assert any(f["level"] == "warning" and "one process" in f["detail"] for f in findings)


def test_doctor_warns_when_no_type_has_a_handler(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel.plugins]\ndisabled = ["handlers-example"]\n')
    findings = kessel.ok("doctor", "--json").json
    assert any(f["level"] == "warning" and f["subject"] == "handlers" for f in findings)


def test_adapters_says_what_to_install_when_there_is_none(kessel: Any) -> None:
    names = '"sqlite", "memory", "beanstalk", "postgres", "redis"'
    kessel.write("kessel.toml", f"[kessel.plugins]\ndisabled = [{names}]\n")
    assert "pip install kessel-sqlite" in kessel.ok("adapters").out
    assert kessel.ok("adapters", "--json").json == []


def test_stats_shows_a_pause(kessel: Any) -> None:
    from datetime import timedelta

    adapter = build_plugins().chosen_adapter("sqlite:///kessel.db").open(AdapterContext(clock=SystemClock()))
    adapter.pause("default", timedelta(hours=1))
    adapter.close()
    assert kessel.ok("stats", "--json").json[0]["paused"] > 3000
    assert "for 59 min" in kessel.ok("stats").out
