"""`kessel move` and `kessel result`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions

from kessel_core import SystemClock
from kessel_core.cli.root import run
from kessel_core.contract import NO_PAUSE, AdapterContext, Bury, Commit, Message, Settlement

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
    assert run(["move", "sqlite:///old.db", "sqlite:///new.db?keep_results=7d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"moved": 1, "double": []}
    address = "sqlite:///new.db?keep_results=7d"
    assert run(["result", "a", "--adapter", address]) == 1
    new = opened(path=tmp_path / "new.db", keep_results=timedelta(days=7))
    settled(new, Commit(b'{"id":"a","status":"success","value":3}'))
    capsys.readouterr()
    assert run(["result", "a", "--adapter", address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 3
    assert run(["result", "a", "--adapter", "sqlite:///new.db"]) == 2


def test_the_result_of_a_failed_job_is_shown(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """X7."""
    monkeypatch.chdir(tmp_path)
    adapter = opened(path=tmp_path / "jobs.db", keep_results=timedelta(days=7))
    adapter.enqueue(Message("a", "q", b"{}", 5))
    settled(adapter, Bury("fatal", "no", b'{"id":"a","status":"failed","reason":"fatal"}'))
    assert run(["result", "a", "--adapter", "sqlite:///jobs.db?keep_results=7d"]) == 0
    assert "reason: fatal" in capsys.readouterr().out


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
