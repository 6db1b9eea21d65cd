"""`kessel demo`: all of it in one process, twice in a row, and after an interruption."""

from __future__ import annotations

from typing import Any

import pytest

from kessel_core.cli.demo.plugin import Watch
from kessel_core.cli.demo.report import report

ADAPTERS = ["sqlite:///demo.db", "memory://"]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_demo_ends_well_with_every_kind_of_fate(kessel: Any, adapter: str) -> None:
    done = kessel.ok("demo", "--adapter", adapter, "--json")
    types = done.json["types"]
    reasons = sorted(job["reason"] for job in done.json["buried"])
    assert sum(fate["done"] for fate in types.values()) >= 250
    assert types["addition"]["expired"] == 12
    assert types["demo.flaky"]["done"] == 12
    assert types["demo.flaky"]["retries"] == 24
    assert reasons == ["error", "no-handler"]
    assert done.json["reports"]


def test_demo_runs_twice_and_shows_table_report_and_next_commands(kessel: Any) -> None:
    kessel.ok("demo", "--json")
    assert (kessel.directory / "kessel-demo.db").exists()
    out = kessel.ok("demo").out
    for text in (
        "order.process",
        "medication.check",
        "Buried",
        "no-handler",
        "Derived report",
        "kessel worker",
    ):
        assert text in out, text


def test_jobs_of_a_stopped_demo_are_found_and_finished(kessel: Any) -> None:
    for number in range(3):
        payload = f'{{"operands": [{number}, 1]}}'
        kessel.ok("request", "addition", payload, "-q", "kessel-demo", "-a", "sqlite:///kessel-demo.db")
    done = kessel.ok("demo", "--json")
    assert "found 3 jobs" in done.err
    assert done.json["types"]["addition"]["done"] == 3


def test_demo_never_touches_the_configured_queues(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel]\nadapter = "sqlite:///real.db"\n')
    kessel.ok("demo", "--json")
    assert not (kessel.directory / "real.db").exists()


def test_next_commands_work_where_kessel_is_not_on_the_path(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make demo` runs `.venv/bin/kessel`; what it proposes must be what one can type."""
    monkeypatch.setattr("sys.argv", [".venv/bin/kessel", "demo"])
    monkeypatch.setenv("PATH", str(kessel.directory))
    _, _, proposed = kessel.ok("demo").out.partition("Next:\n")
    lines = proposed.splitlines()
    assert all(line.startswith("  .venv/bin/kessel ") for line in lines)
    reasons = ("why they are buried", "what the queues hold", "work on it", "everything else")
    assert len({line.index(why) for line in lines for why in reasons if why in line}) == 1, "in one column"


def test_next_commands_have_no_secret_of_the_address_and_can_be_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a demo prints is copied into chats and logs; and a `&` ends a command."""
    report(Watch(), "postgresql://me:hunter2@db/jobs?schema=a&pooler=true", "kessel-demo", as_json=False)
    out = capsys.readouterr().out
    assert "hunter2" not in out
    assert " -a 'postgresql://***@db/jobs?schema=a&pooler=true' -q kessel-demo " in out
