"""What a failed write tells of its jobs (S14), and what is removed or synced without being asked for."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite import adapter as module
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.edge import is_busy, leaves_connection_sound, translated
from kessel_sqlite.link import Link

from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    EnqueueRejected,
    EnqueueUnknown,
    ProtocolError,
    SystemClock,
)
from kessel_core.contract import NO_PAUSE, Bury, Commit, JobState, Message, Put
from kessel_core.testing.clock import VirtualClock
from tests.until import until

Opener = Callable[..., SqliteAdapter]
SECOND = timedelta(seconds=1)


def message(name: str, body: bytes = b"x", queue: str = "q", **fields: Any) -> Message:
    return Message(name, queue, body, 5, **fields)


def failure(code: int, text: str = "it failed") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_X"
    return error


#: As SQLite gives it: the primary code in the low byte, more about it above.
IOERR_FSYNC = sqlite3.SQLITE_IOERR | 4 << 8


@pytest.mark.parametrize(
    ("code", "of_a_job", "of_nothing"),
    [
        (sqlite3.SQLITE_IOERR, EnqueueUnknown, AdapterUnavailable),
        (IOERR_FSYNC, EnqueueUnknown, AdapterUnavailable),
        (sqlite3.SQLITE_FULL, EnqueueRejected, AdapterUnavailable),
        (sqlite3.SQLITE_READONLY, EnqueueRejected, AdapterUnavailable),
        (sqlite3.SQLITE_TOOBIG, EnqueueRejected, AdapterUnavailable),
        (sqlite3.SQLITE_BUSY, AdapterUnavailable, AdapterUnavailable),
        (sqlite3.SQLITE_LOCKED, AdapterUnavailable, AdapterUnavailable),
        (sqlite3.SQLITE_CANTOPEN, AdapterUnavailable, AdapterUnavailable),
        (sqlite3.SQLITE_NOTADB, ProtocolError, ProtocolError),
        (sqlite3.SQLITE_CORRUPT, ProtocolError, ProtocolError),
        (sqlite3.SQLITE_ERROR, AdapterUnavailable, AdapterUnavailable),
    ],
)
def test_S14_only_after_an_io_error_a_job_may_be_stored(
    path: Path, code: int, of_a_job: type[AdapterError], of_nothing: type[AdapterError]
) -> None:
    assert type(translated(failure(code), str(path), SECOND, "a")) is of_a_job
    assert type(translated(failure(code), str(path), SECOND, None)) is of_nothing


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (sqlite3.SQLITE_FULL, "full"),
        (sqlite3.SQLITE_READONLY, "read-only"),
        (sqlite3.SQLITE_TOOBIG, "too-large"),
    ],
)
def test_S14_a_refusal_says_why_by_its_word(path: Path, code: int, reason: str) -> None:
    error = translated(failure(code), str(path), SECOND, "a")
    assert isinstance(error, EnqueueRejected)
    assert (error.job_id, error.reason) == ("a", reason)
    assert all(getattr(error, "__notes__", [])), "an empty note is no advice"


def test_tables_that_are_gone_are_an_error_of_the_file_and_other_errors_are_not(path: Path) -> None:
    gone = failure(sqlite3.SQLITE_ERROR, "no such table: kessel_jobs")
    assert isinstance(translated(gone, str(path), SECOND, None), ProtocolError)
    other = translated(failure(sqlite3.SQLITE_ERROR), str(path), SECOND, None)
    assert str(other) == f"{path}: it failed (SQLITE_X)"


def test_only_a_held_lock_is_waited_for_and_only_whole_refusals_leave_a_sound_connection() -> None:
    busy = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_BUSY | 2 << 8)
    assert [is_busy(failure(code)) for code in busy] == [True, True, True]
    assert not is_busy(failure(sqlite3.SQLITE_IOERR))
    sound = (*busy, sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG)
    assert all(leaves_connection_sound(failure(code)) for code in sound)
    for code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_ERROR):
        assert not leaves_connection_sound(failure(code))


def test_after_an_error_a_transaction_is_rolled_back_or_the_connection_is_closed(path: Path) -> None:
    link = Link()
    link.connection = sqlite3.connect(path, isolation_level=None)
    link.connection.execute("CREATE TABLE t (a)")
    link.connection.execute("BEGIN")
    link.connection.execute("INSERT INTO t VALUES (1)")
    link.recover(failure(sqlite3.SQLITE_FULL))
    assert link.connection is not None
    assert not link.connection.in_transaction
    assert link.connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    link.recover(failure(sqlite3.SQLITE_IOERR))
    assert link.connection is None
    link.recover(failure(sqlite3.SQLITE_IOERR))  # again, which changes nothing


class Chunks:
    """Replaces the transactions of `enqueue_many`, of two jobs each, by what a test says of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *results: AdapterError | None) -> None:
        self.stored: list[list[str]] = []
        self._left = list(results)
        real = SqliteAdapter._store
        monkeypatch.setattr(module, "_CHUNK", 2)

        def store(adapter: SqliteAdapter, chunk: Any, outcomes: Any) -> AdapterError | None:
            self.stored.append([row[0] for _, row in chunk])
            result = self._left.pop(0)
            return real(adapter, chunk, outcomes) if result is None else result

        monkeypatch.setattr(SqliteAdapter, "_store", store)


def told(outcomes: list[AdapterError | None]) -> list[tuple[type, str] | None]:
    """What each job is told, and of which job that is."""
    return [None if one is None else (type(one), getattr(one, "job_id", "")) for one in outcomes]


def test_S14_when_the_file_is_locked_the_jobs_of_later_transactions_are_not_told_as_stored(
    adapter: SqliteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not tried either: each would wait for the whole timeout."""
    chunks = Chunks(monkeypatch, None, AdapterUnavailable("locked"), None)
    outcomes = adapter.enqueue_many([message(name) for name in "abcde"])
    assert chunks.stored == [["a", "b"], ["c", "d"]]
    assert told(outcomes) == [None, None, *[(AdapterUnavailable, "")] * 3]
    assert [job.id for job in adapter.peek("q", JobState.READY, 9)] == ["a", "b"]


@pytest.mark.parametrize(
    "error", [EnqueueUnknown("x", "io"), EnqueueRejected("x", "full", "full")], ids=["unknown", "rejected"]
)
def test_S14_a_failed_transaction_tells_each_of_its_jobs_and_no_other(
    adapter: SqliteAdapter, monkeypatch: pytest.MonkeyPatch, error: EnqueueUnknown | EnqueueRejected
) -> None:
    error.__cause__ = failure(sqlite3.SQLITE_IOERR)
    chunks = Chunks(monkeypatch, None, error, None)
    outcomes = adapter.enqueue_many([message(name) for name in "abcde"])
    assert len(chunks.stored) == 3
    assert told(outcomes) == [None, None, (type(error), "c"), (type(error), "d"), None]
    again = outcomes[2]
    assert isinstance(again, (EnqueueUnknown, EnqueueRejected))
    assert (again.why, again.__cause__) == (error.why, error.__cause__)
    if isinstance(error, EnqueueRejected):
        assert isinstance(again, EnqueueRejected)
        assert again.reason == error.reason


def test_a_transaction_ends_before_its_bodies_grow_too_large(
    adapter: SqliteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = Chunks(monkeypatch, *[None] * 4)
    monkeypatch.setattr(module, "_CHUNK", 1000)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 10)
    assert not any(adapter.enqueue_many([message(name, b"x" * size) for name, size in
                                         (("a", 9), ("b", 1), ("c", 10), ("d", 3), ("e", 3))]))  # fmt: skip
    assert chunks.stored == [["a", "b"], ["c"], ["d", "e"]]


def test_many_jobs_wake_as_many_who_wait_and_a_later_one_who_would_look_too_late(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    waiters = [adapter.line.join(frozenset({queue})) for queue in ("q", "q", "q", "r", "s")]
    planner = waiters[3]
    planner.planned = clock.now() + timedelta(minutes=10)
    due = clock.now() + timedelta(minutes=5)
    adapter.enqueue_many(
        [
            message("a"),
            message("b"),
            message("c", queue="r", delay=due + SECOND),
            message("d", queue="r", delay=due),
        ]
    )
    assert [one.woken for one in waiters] == [True, True, False, True, False]
    planner.woken, planner.planned = False, due
    adapter.enqueue_many([message("e", queue="r", delay=due), message("f", queue="r", delay=due + SECOND)])
    assert not planner.woken
    planner.planned = due + SECOND  # the first of them is too early for that, whatever comes behind it
    jobs = message("g", queue="r", delay=due), message("h", queue="r", delay=due + 2 * SECOND)
    adapter.enqueue_many(jobs)
    assert planner.woken


def test_who_waits_looks_again_when_its_queue_is_paused_and_when_it_is_resumed(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    """Under virtual time nobody else tells: it would wait on until the pause would have been over."""
    waiter = adapter.line.join(frozenset({"q"}))
    waiter.planned = clock.now() + timedelta(hours=1)
    for pause in (timedelta(hours=1), NO_PAUSE):
        waiter.woken = False
        adapter.pause("q", pause)
        assert waiter.woken


class Unwatched(SystemClock):
    """Real time for an adapter that looks for no commits of others: only what it is told wakes who waits."""


@pytest.mark.parametrize("is_last", [False, True], ids=["settle_and_reserve", "settle"])
@pytest.mark.parametrize(
    "settlement",
    [
        Commit(follow=(message("next", queue="r"),), puts=(Put("s", "k", b"v"),)),
        Bury("error", "broken", follow=(message("next", queue="r"),), puts=(Put("s", "k", b"v"),)),
    ],
    ids=["commit", "bury"],
)
def test_s20_who_waits_for_what_a_settlement_brings_along_is_woken_by_it(
    opened: Opener, settlement: Commit | Bury, is_last: bool
) -> None:
    """S25: such as who waits for a result; and S19: `wakes` holds where no watcher looks."""
    adapter = opened(Unwatched())
    adapter.enqueue(message("a"))
    with ThreadPoolExecutor(2) as pool, closing(adapter.consumer(["q"])) as consumer:
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        with closing(adapter.consumer(["r"])) as other:
            entry = pool.submit(adapter.store.wait, "s", "k", timeout=20 * SECOND)
            job = pool.submit(other.reserve, 20 * SECOND)
            until(lambda: not adapter.line.is_empty and not adapter.line.entries.is_empty)
            end = consumer.settle if is_last else consumer.settle_and_reserve
            end(held, settlement)
            found, taken = entry.result(10), job.result(10)
    assert found is not None and found.value == b"v"
    assert taken is not None and taken.id == "next"


@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize(("durability", "synced"), [("power", True), ("process-crash", False)])
def test_S9_the_directory_of_a_new_file_is_synced_if_it_is_to_survive_a_power_failure(
    opened: Opener,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    durability: str,
    synced: bool,
    is_link: bool,
) -> None:
    """Its entry in the directory would be lost otherwise, and the jobs with it."""
    home = path.parent.stat()
    if is_link:
        (path.parent / "elsewhere").mkdir()
        home = (path.parent / "elsewhere").stat()
        path.symlink_to(Path("elsewhere") / path.name)
    directories: list[tuple[int, int]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            directories.append((status.st_dev, status.st_ino))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    opened(durability=durability)
    assert directories == ([(home.st_dev, home.st_ino)] if synced else [])
    opened(durability=durability)
    assert len(directories) == synced, "it is there already"


def test_S14_no_more_jobs_of_a_batch_are_tried_once_the_file_is_away(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try would wait for as long as the first one."""
    monkeypatch.setattr(module, "_CHUNK", 1)
    adapter = opened()
    tried: list[object] = []

    def store(chunk: object, outcomes: object) -> AdapterError:
        tried.append(chunk)
        return AdapterUnavailable("locked")

    monkeypatch.setattr(adapter, "_store", store)
    outcomes = adapter.enqueue_many([message(name) for name in "abc"])
    assert [type(one) for one in outcomes] == [AdapterUnavailable] * 3
    assert len(tried) == 1
