"""Jobs enqueued within the application's own transaction: both or none."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core.contract import COMMIT, NO_PAUSE, Bury, IdHeld, JobState, Message

Opener = Callable[..., SqliteAdapter]


def message(name: str, body: bytes = b"x") -> Message:
    return Message(name, "q", body, 5)


def test_a_job_is_there_exactly_if_the_applications_transaction_commits(path: Path, opened: Opener) -> None:
    adapter = opened()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id)")
        for name, is_committed in (("kept", True), ("dropped", False)):
            connection.execute("INSERT INTO orders VALUES (?)", (name,))
            adapter.enqueue(message(name), connection=connection)
            assert adapter.stats("q").total == (0 if is_committed else 1)
            (connection.commit if is_committed else connection.rollback)()
        assert connection.execute("SELECT id FROM orders").fetchall() == [("kept",)]
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        assert taken.id == "kept"
        assert consumer.settle_and_reserve(taken, COMMIT) is None


def test_a_waiting_consumer_notices_the_applications_commit(path: Path, opened: Opener) -> None:
    adapter = opened()

    def commit() -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            adapter.enqueue(message("a"), connection=connection)

    timer = threading.Timer(0.1, commit)
    timer.start()
    with closing(adapter.consumer(["q"])) as consumer:
        assert consumer.reserve(timedelta(seconds=30)) is not None
    timer.join()


@pytest.mark.parametrize("point", ["before", "between", "after"])
def test_F17_a_process_killed_between_leaves_both_or_none(
    path: Path, opened: Opener, point: str, run_python: Callable[..., Any]
) -> None:
    code = """
import os, signal, sqlite3, sys
from kessel_core.contract import AdapterContext, Message
from kessel_core import SystemClock
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions
path, point = sys.argv[1:]
adapter = SqliteAdapter(SqliteOptions(path=path), AdapterContext(clock=SystemClock()))
connection = sqlite3.connect(path)
connection.execute("INSERT INTO orders VALUES ('a')")
if point == "before":
    os.kill(os.getpid(), signal.SIGKILL)
adapter.enqueue(Message("a", "q", b"", 5), connection=connection)
if point == "between":
    os.kill(os.getpid(), signal.SIGKILL)
connection.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""
    adapter = opened()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id)")
        done = run_python(code, path, point)
        assert done.returncode == -9, done.stderr
        orders = connection.execute("SELECT count(*) FROM orders").fetchone()[0]
    assert orders == adapter.stats("q").ready == (1 if point == "after" else 0)


def test_a_connection_to_another_file_is_refused(tmp_path: Path, opened: Opener) -> None:
    adapter = opened()
    for other in (":memory:", str(tmp_path / "other.db")):
        with closing(sqlite3.connect(other)) as connection, pytest.raises(ValueError, match="not"):
            adapter.enqueue(message("a"), connection=connection)


def replaced_by_a_copy(path: Path, copy: Path, connection: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(copy)) as target:
        connection.backup(target)
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    copy.replace(path)


def test_a_connection_to_a_file_that_was_replaced_is_refused_and_one_to_its_copy_is_not(
    path: Path, opened: Opener
) -> None:
    """Its job would be in a file without a name, and nobody would ever run it."""
    adapter = opened()
    with closing(sqlite3.connect(path)) as old:
        adapter.enqueue(message("a"), connection=old)
        old.commit()
        replaced_by_a_copy(path, path.with_name("copy.db"), old)
        with closing(sqlite3.connect(path)) as new:  # which the adapter has not seen yet
            adapter.enqueue(message("b"), connection=new)
            new.commit()
        with pytest.raises(ValueError, match=r"not at .* any more"):
            adapter.enqueue(message("c"), connection=old)
        assert not old.in_transaction
    assert [job.id for job in adapter.peek("q", JobState.READY, 9)] == ["a", "b"]


@pytest.mark.parametrize("name", ["jobs.db", "other.db"])
def test_a_connection_to_a_file_that_is_gone_is_refused(path: Path, opened: Opener, name: str) -> None:
    adapter = opened()
    with closing(sqlite3.connect(path.with_name(name))) as connection:
        connection.execute("PRAGMA user_version = 1")  # opens it, and makes the other one
        path.with_name(name).unlink()
        with pytest.raises(ValueError, match="not the file that is at"):
            adapter.enqueue(message("a"), connection=connection)


def as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


@pytest.mark.parametrize(
    "settings", [{"row_factory": as_dict}, {"row_factory": sqlite3.Row}, {"text_factory": bytes}]
)
def test_the_applications_connection_may_want_other_rows_and_texts(
    path: Path, opened: Opener, settings: dict[str, Any]
) -> None:
    adapter = opened()
    with closing(sqlite3.connect(path)) as connection:
        for name, value in settings.items():
            setattr(connection, name, value)
        adapter.enqueue(message("a"), connection=connection)
        with pytest.raises(IdHeld, match="ready"):
            adapter.enqueue(message("a"), connection=connection)
        connection.commit()
        assert all(getattr(connection, name) is value for name, value in settings.items())
    assert adapter.stats("q").ready == 1


def test_a_connection_without_a_file_is_refused(opened: Opener) -> None:
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(ValueError, match="no file"):
        opened().enqueue(message("a"), connection=connection)


def test_an_odd_reason_does_not_prevent_a_burial_and_a_very_large_limit_is_one_for_all(
    opened: Opener,
) -> None:
    adapter = opened()
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        consumer.settle(taken, Bury("odd \ud800", "message \udfff"))
    (buried,) = adapter.peek("q", JobState.BURIED, 10**20)
    assert (buried.reason, buried.message) == (r"odd \ud800", r"message \udfff")
