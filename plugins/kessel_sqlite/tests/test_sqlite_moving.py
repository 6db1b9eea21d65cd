"""Moving jobs, and the commands that the plugin adds."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.moving import Moved, move_jobs

from kessel_core.adapter import COMMIT, NO_PAUSE, Commit, JobState, Message
from kessel_core.cli.root import run
from kessel_core.errors import CapabilityMissing, EnqueueRejected, EnqueueUnknown
from kessel_core.testing.clock import VirtualClock

Opener = Callable[..., SqliteAdapter]


@pytest.fixture
def target(opened: Opener, clock: VirtualClock, tmp_path: Path) -> SqliteAdapter:
    return opened(clock, path=tmp_path / "target.db", max_body_bytes=100)


def fill(adapter: SqliteAdapter, clock: VirtualClock) -> None:
    due = clock.now() + timedelta(hours=1)
    adapter.enqueue_many(
        [
            Message("a", "q", b'{"type":"t","id":"a"}', 5),
            Message("b", "q", b"not a request", 3),
            Message("c", "q", b'{"type":"t","id":"c"}', 7, due),
            Message("d", "other", b'{"type":"t","id":"d"}', 5),
        ]
    )


def test_a_move_keeps_ids_priorities_delays_and_bodies(
    adapter: SqliteAdapter, target: SqliteAdapter, clock: VirtualClock
) -> None:
    fill(adapter, clock)
    before = {(queue, state): adapter.peek(queue, state, 9) for queue in ("q", "other") for state in JobState}
    moved = Moved()
    move_jobs(adapter, target, ["q", "other"], moved)
    after = {(queue, state): target.peek(queue, state, 9) for queue, state in before}
    assert after == before
    assert moved == Moved(count=4)
    assert adapter.queues() == []


def test_what_a_worker_holds_stays(
    adapter: SqliteAdapter, target: SqliteAdapter, clock: VirtualClock
) -> None:
    fill(adapter, clock)
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        moved = Moved()
        move_jobs(adapter, target, ["q"], moved)
        assert moved.count == 2
        consumer.settle(taken, COMMIT)
    assert adapter.stats("q").paused is None
    assert adapter.stats("other").ready == 1


def test_a_job_that_the_target_refuses_stays_and_so_does_the_rest(
    adapter: SqliteAdapter, target: SqliteAdapter
) -> None:
    adapter.enqueue_many(
        [Message(name, "q", b"x" * size, 5) for name, size in (("a", 9), ("b", 999), ("c", 9))]
    )
    moved = Moved()
    with pytest.raises(EnqueueRejected):
        move_jobs(adapter, target, ["q"], moved)
    assert moved == Moved(count=1)
    assert [job.id for job in adapter.peek("q", JobState.READY, 9)] == ["b", "c"]
    assert [job.id for job in target.peek("q", JobState.READY, 9)] == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EnqueueUnknown("b", "the connection was lost")])
def test_an_interruption_loses_nothing_and_names_what_may_be_double(
    adapter: SqliteAdapter,
    target: SqliteAdapter,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    adapter.enqueue_many([Message(name, "q", b"x", 5) for name in "abc"])
    store = target.enqueue

    def interrupted(message: Message) -> None:
        store(message)
        if message.id == "b":
            raise error

    monkeypatch.setattr(target, "enqueue", interrupted)
    moved = Moved()
    with pytest.raises(type(error)):
        move_jobs(adapter, target, ["q"], moved)
    assert moved.count == 1
    assert [*moved.double, moved.current] in (["b", None], ["b"])
    assert [job.id for job in adapter.peek("q", JobState.READY, 9)] == ["b", "c"]
    monkeypatch.undo()
    # Again, until it is done: here the ids make the double one harmless.
    move_jobs(adapter, target, ["q"], moved)
    assert [job.id for job in target.peek("q", JobState.READY, 9)] == ["a", "b", "c"]


def test_S17_a_source_that_cannot_show_its_jobs_is_refused(
    adapter: SqliteAdapter, target: SqliteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    import attrs

    lacking = attrs.evolve(adapter.capabilities, peek=False)
    monkeypatch.setattr(SqliteAdapter, "capabilities", lacking)
    with pytest.raises(CapabilityMissing):
        move_jobs(adapter, target, ["q"], Moved())


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
    with closing(new.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        consumer.settle(taken, Commit(b'{"id":"a","status":"success","value":3}'))
    capsys.readouterr()
    assert run(["result", "a", "--adapter", address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 3
    assert run(["result", "a", "--adapter", "sqlite:///new.db"]) == 2
