"""Files of other releases, and several processes that make one file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from kessel_sqlite import file, schema
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core import AdapterUnavailable
from kessel_core.contract import COMMIT, NO_PAUSE, Entry, Message, ProtocolError

Opener = Callable[..., SqliteAdapter]


def message(name: str, body: bytes = b"x") -> Message:
    return Message(name, "q", body, 5)


def test_a_file_of_version_1_is_migrated_and_its_jobs_run(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with monkeypatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
            patch.setattr(schema, "VERSION", 1)
            schema.prepare(connection, str(path))
        connection.executemany(
            "INSERT INTO kessel_jobs (id, queue, state, priority, attempts, enqueued_at, body)"
            " VALUES (?, 'q', ?, 5, 3, 0, x'78')",
            [("ready", 0), ("buried", 3)],
        )
    adapter = opened()
    adapter.kick("q", "buried")
    with closing(adapter.consumer(["q"])) as consumer:
        for name, attempt in (("ready", 4), ("buried", 1)):
            taken = consumer.reserve(NO_PAUSE)
            assert taken is not None
            assert (taken.id, taken.attempt, taken.snoozes) == (name, attempt, 0)
            consumer.settle(taken, COMMIT)
    assert adapter.stats("q").total == 0
    with closing(sqlite3.connect(path)) as connection:
        assert schema.version_of(connection) == schema.VERSION == 4


def test_s19_a_file_of_version_2_gets_a_store_while_an_older_release_has_it_open(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as older:
        with monkeypatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
            patch.setattr(schema, "VERSION", 2)
            schema.prepare(older, str(path))
        store = opened().store
        version = store.put("s", "k", b"v")
        older.execute(
            "INSERT INTO kessel_jobs (id, queue, state, priority, enqueued_at, body)"
            " VALUES ('a', 'q', 0, 5, 0, x'78')"
        )
    assert opened().store.get("s", "k") == Entry("k", version, b"v")
    assert opened().stats("q").ready == 1


def test_a_file_of_an_older_release_is_migrated_and_keeps_its_jobs(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().enqueue(message("a"))
    addition = "CREATE TABLE kessel_added (x); INSERT INTO kessel_added VALUES (1)"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, addition))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    for _ in range(2):
        adapter = opened()
        assert adapter.stats("q").ready == 1
    connection = adapter.engine.link().connection
    assert connection is not None
    assert schema.version_of(connection) == schema.VERSION
    assert connection.execute("SELECT count(*) FROM kessel_added").fetchone() == (1,)


def test_a_migration_that_fails_changes_nothing(
    opened: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = schema.VERSION
    opened().close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE kessel_added (x); nonsense"))
        patch.setattr(schema, "VERSION", before + 1)
        with pytest.raises(AdapterUnavailable):
            opened()
    with closing(sqlite3.connect(path)) as connection:
        assert schema.version_of(connection) == before
        assert connection.execute("SELECT * FROM sqlite_schema WHERE name = 'kessel_added'").fetchall() == []


def test_many_processes_make_the_file_at_once(path: Path, opened: Opener) -> None:
    code = """
import sys
from kessel_core.contract import AdapterContext, Message
from kessel_core import SystemClock
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions
sys.stdin.readline()
adapter = SqliteAdapter(SqliteOptions(path=sys.argv[1]), AdapterContext(clock=SystemClock()))
adapter.enqueue(Message(sys.argv[2], "q", b"", 5))
adapter.close()
"""
    words = [sys.executable, "-c", code, str(path)]
    children = [
        subprocess.Popen([*words, str(n)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for n in range(6)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    assert opened().stats("q").ready == 6


@pytest.mark.parametrize(
    ("feature", "script"),
    [("RETURNING", "SELECT 1 RETURNIN 2"), ("json_each", "SELECT value FROM no_json('[]')")],
)
def test_finding_c12_a_missing_feature_is_named_with_the_bound(
    opened: Callable[..., SqliteAdapter], monkeypatch: pytest.MonkeyPatch, feature: str, script: str
) -> None:
    monkeypatch.setitem(file._FEATURES, feature, script)
    file.missing_feature.cache_clear()
    try:
        with pytest.raises(ProtocolError, match=f"no {feature}; kessel-sqlite needs SQLite 3.35"):
            opened()
    finally:
        file.missing_feature.cache_clear()


def test_finding_c12_the_version_alone_refuses_nothing(
    opened: Callable[..., SqliteAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tests pass with SQLite 3.35.2; Ubuntu 22.04 has 3.37."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 35, 0))
    opened().stats("q")
