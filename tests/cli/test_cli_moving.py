"""`kessel move` and `kessel result`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions

from kessel_core import SystemClock
from kessel_core.cli.root import run
from kessel_core.contract import NO_PAUSE, AdapterContext, Bury, Commit, Message, Pause, Put, Settlement

Opener = Callable[..., SqliteAdapter]


@pytest.fixture
def opened() -> Iterator[Opener]:
    with ExitStack() as stack:

        def open_file(**options: Any) -> SqliteAdapter:
            adapter = SqliteAdapter(SqliteOptions(**options), AdapterContext(clock=SystemClock()))
            stack.callback(adapter.close)
            return adapter

        yield open_file


def settled(adapter: SqliteAdapter, settlement: Settlement) -> None:
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        consumer.settle(taken, settlement)


def test_commands_move_and_result(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    old = opened(path=tmp_path / "old.db")
    old.enqueue(Message("a", "q", b'{"type":"t","id":"a"}', 5))
    assert run(["move", "sqlite:///old.db", "sqlite:///new.db", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"moved": 1, "taken": 0, "double": [], "left": []}
    address = "sqlite:///new.db"
    assert run(["result", "a", "--adapter", address]) == 1
    assert "job a: no result yet; it is ready" in capsys.readouterr().err
    new = opened(path=tmp_path / "new.db")
    settled(new, Commit(puts=(Put("results", "a", b'{"id":"a","status":"success","value":3}'),)))
    assert run(["result", "a", "--adapter", address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 3
    assert run(["result", "b", "--adapter", address]) == 1
    assert "job b: no result, and no job" in capsys.readouterr().err


@pytest.fixture
def unpausable(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite as if it had no pause."""
    facet = SqliteAdapter.facet

    def without(self: SqliteAdapter, kind: Any) -> Any:
        return None if kind is Pause else facet(self, kind)

    monkeypatch.setattr(SqliteAdapter, "facet", without)


def test_move_from_what_cannot_be_paused_needs_yes(
    opened: Opener,
    unpausable: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With its workers running, one job in nine ran twice, and nothing had warned of it."""
    monkeypatch.chdir(tmp_path)
    old = opened(path=tmp_path / "old.db")
    old.enqueue(Message("a", "q", b'{"type":"t","id":"a"}', 5))
    addresses = ["sqlite:///old.db", "sqlite:///new.db"]
    assert run(["move", *addresses]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "nothing was moved" in told.err
    assert "cannot be paused" in told.err and "stop its workers first; to move all" in told.err
    assert old.stats("q").ready == 1
    assert run(["move", *addresses, "--yes"]) == 0
    assert capsys.readouterr().out == "moved 1 job\n"


def test_jobs_that_may_run_twice_are_exit_code_1_and_named(
    opened: Opener,
    unpausable: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = opened(path=tmp_path / "old.db"), opened(path=tmp_path / "new.db")
    old.enqueue_many([Message(f"job-{n}", "q", b"x", 5) for n in range(3)])
    delete = SqliteAdapter.delete
    run_by = [old, new]

    def run_by_both(self: SqliteAdapter, queue: str, job_id: str) -> None:
        while run_by and job_id == "job-1":
            delete(run_by.pop(), queue, job_id)
        delete(self, queue, job_id)

    monkeypatch.setattr(SqliteAdapter, "delete", run_by_both)
    with pytest.raises(SystemExit, match="1"):
        run(["move", "sqlite:///old.db", "sqlite:///new.db", "--yes"])
    told = capsys.readouterr()
    assert told.out == "moved 2 jobs\n"
    assert told.err == "these may be in both, and run twice: job-1\n"


def test_jobs_that_stay_are_exit_code_1_and_named(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = opened(path=tmp_path / "old.db"), opened(path=tmp_path / "new.db")
    ids = [f"job-{number}" for number in range(120)]
    old.enqueue_many([Message(job_id, "q", b"x", 5) for job_id in ids])
    new.enqueue_many([Message(job_id, "q", b"another", 5) for job_id in ids])
    with pytest.raises(SystemExit, match="1"):
        run(["move", "sqlite:///old.db", "sqlite:///new.db"])
    told = capsys.readouterr()
    assert told.out == "moved 0 jobs\n"
    assert told.err.startswith("these stay in FROM: TO says that it holds their ids")
    assert told.err.endswith("job-99 and 20 more; --json lists all\n")
    with pytest.raises(SystemExit, match="1"):
        run(["move", "sqlite:///old.db", "sqlite:///new.db", "--json"])
    assert json.loads(capsys.readouterr().out)["left"] == ids


def test_the_result_of_a_failed_job_is_shown(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """X7."""
    monkeypatch.chdir(tmp_path)
    adapter = opened(path=tmp_path / "jobs.db")
    adapter.enqueue(Message("a", "q", b"{}", 5))
    body = b'{"id":"a","status":"failed","reason":"error"}'
    settled(adapter, Bury("error", "no", puts=(Put("results", "a", body),)))
    assert run(["result", "a", "--adapter", "sqlite:///jobs.db"]) == 1
    assert "reason: error" in capsys.readouterr().out


def test_wrong_addresses_of_a_move_are_told_together_and_nothing_is_made(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    opened(path=tmp_path / "old.db").enqueue(Message("a", "q", b'{"type":"t","id":"a"}', 5))

    def told(*arguments: str) -> tuple[int, str]:
        code = run(["move", *arguments])
        return code, capsys.readouterr().err

    code, text = told("sqlite:///none.db", "sqlite:///new.db?colour=red", "--queue", "a b")
    assert code == 2
    assert [line.split(": ")[0] for line in text.splitlines()[1:]] == ["  - TO", "  - FROM", "  - --queue"]
    code, text = told("old.db", "new.db")
    assert code == 3
    assert "FROM: no plugin opens 'old.db'; write a URL, as sqlite:///jobs.db" in text
    assert "TO: " in text
    code, text = told("sqlite:///old.db", "memory://")
    assert code == 2
    assert "TO: the jobs of 'memory' live in one process only" in text
    code, text = told("sqlite:///old.db", "sqlite:///old.db")
    assert code == 2
    assert "the same" in text
    code, text = told("sqlite:///old.db", "sqlite:///new.db", "--queue", "nosuch")
    assert code == 0
    assert "FROM has no queue 'nosuch'" in text
    assert opened(path=tmp_path / "old.db").stats("q").ready == 1
    assert not (tmp_path / "none.db").exists()
