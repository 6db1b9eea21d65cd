"""Moving waiting jobs from one adapter to another, here from one SQLite file to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions

from kessel_core import CapabilityMissing, ConfigError, EnqueueRejected, EnqueueUnknown
from kessel_core.client import pausing
from kessel_core.client.moving import Moved, move_jobs
from kessel_core.contract import COMMIT, NO_PAUSE, AdapterContext, Browse, Delete, Facet, JobState, Message
from kessel_core.testing.clock import VirtualClock

Opener = Callable[..., SqliteAdapter]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def opened(clock: VirtualClock, tmp_path: Path) -> Iterator[Opener]:
    with ExitStack() as stack:

        def open_file(name: str, **options: Any) -> SqliteAdapter:
            adapter = SqliteAdapter(
                SqliteOptions(path=tmp_path / name, **options), AdapterContext(clock=clock)
            )
            stack.callback(adapter.close)
            return adapter

        yield open_file


@pytest.fixture
def adapter(opened: Opener) -> SqliteAdapter:
    return opened("source.db")


@pytest.fixture
def target(opened: Opener) -> SqliteAdapter:
    return opened("target.db", max_body_bytes=100)


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


@pytest.mark.parametrize("pause", [timedelta(minutes=50), None])
def test_a_pause_of_the_source_is_put_back(
    adapter: SqliteAdapter,
    target: SqliteAdapter,
    clock: VirtualClock,
    pause: timedelta | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if the move ends early; meanwhile the source is paused, so that no worker takes a job.

    Never for less than it was: a move that is killed must not end the pause of an operator.
    """
    monkeypatch.setattr(pausing, "SystemClock", lambda: clock)
    fill(adapter, clock)
    if pause is not None:
        adapter.pause("q", pause)
    seen: list[timedelta | None] = []
    move_jobs(adapter, target, ["q"], Moved(), lambda _: seen.append(adapter.stats("q").paused))
    assert len(seen) == 3
    least = pause or timedelta(0)
    assert all(one is not None and least < one <= least + timedelta(minutes=1) for one in seen)
    assert adapter.stats("q").paused == pause
    assert target.stats("q").paused is None
    target.purge("q")
    fill(adapter, clock)
    with pytest.raises(KeyboardInterrupt):
        move_jobs(adapter, target, ["q"], Moved(), interrupted)
    assert adapter.stats("q").paused == pause


def interrupted(_: Moved) -> None:
    raise KeyboardInterrupt


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
        if message.id == "c":  # beside b, which is stored and not removed yet
            raise error

    monkeypatch.setattr(target, "enqueue", interrupted)
    moved = Moved()
    with pytest.raises(type(error)):
        move_jobs(adapter, target, ["q"], moved)
    assert moved.count == 1
    assert (list(moved.pending), moved.double) == (["c"], [])
    assert [job.id for job in adapter.peek("q", JobState.READY, 9)] == ["b", "c"]
    assert [job.id for job in target.peek("q", JobState.READY, 9)] == ["a", "c"]  # b was taken back
    monkeypatch.undo()
    # Again, until it is done: here the ids make the double one harmless.
    again = Moved()
    move_jobs(adapter, target, ["q"], again)
    assert again == Moved(count=2)
    assert [job.id for job in target.peek("q", JobState.READY, 9)] == ["a", "c", "b"]


def test_a_move_onto_itself_is_refused_and_loses_nothing(
    adapter: SqliteAdapter, opened: Opener, clock: VirtualClock, tmp_path: Path
) -> None:
    """Every job would be removed as its own copy; the path may also be another one to the same file."""
    fill(adapter, clock)
    before = adapter.stats("q")
    (tmp_path / "link.db").symlink_to(tmp_path / "source.db")
    for same in (adapter, opened("source.db"), opened("link.db")):
        with pytest.raises(ConfigError, match="the same"):
            move_jobs(adapter, same, ["q"], Moved())
    assert adapter.stats("q") == before


def test_a_move_to_a_paused_queue_is_no_move_onto_itself(
    adapter: SqliteAdapter, target: SqliteAdapter, clock: VirtualClock
) -> None:
    fill(adapter, clock)
    target.pause("q", timedelta(hours=1))
    moved = Moved()
    move_jobs(adapter, target, ["q"], moved)
    assert moved.count == 3


def test_jobs_that_their_source_named_get_ids_that_are_not_in_the_target(
    adapter: SqliteAdapter, target: SqliteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two beanstalkd may both have a job 17 without an id of its own; the second must not be lost."""
    monkeypatch.setattr(SqliteAdapter, "capabilities", attrs.evolve(adapter.capabilities, dedupe=False))
    target.enqueue(Message("@17", "q", b"of another server", 5))
    for body in (b'{"type":"first"}', b"\xff"):
        adapter.enqueue(Message("@17", "q", body, 5))
        moved = Moved()
        move_jobs(adapter, target, ["q"], moved)
        assert moved == Moved(count=1)
    bodies = {job.body for job in target.peek("q", JobState.READY, 9)}
    assert bodies == {b"of another server", b'{"type":"first"}', b"\xff"}


@pytest.mark.parametrize("lacking", [Browse, Delete])
def test_S17_a_source_that_cannot_show_or_remove_its_jobs_is_refused(
    adapter: SqliteAdapter, target: SqliteAdapter, monkeypatch: pytest.MonkeyPatch, lacking: type[Facet]
) -> None:
    facet = SqliteAdapter.facet
    monkeypatch.setattr(
        SqliteAdapter, "facet", lambda self, kind: None if kind is lacking else facet(self, kind)
    )
    with pytest.raises(CapabilityMissing, match=lacking.facet_name):
        move_jobs(adapter, target, ["q"], Moved())
