"""The store in a file (S19): what is its own matter; what every store does is in the suite of stores."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite import sql
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.edge import translated
from kessel_sqlite.entries import SqliteStore
from kessel_sqlite.options import SqliteStoreOptions

from kessel_core import JobManager, StoreConflict, StoreRejected, StoreUnknown
from kessel_core.contract import AdapterUnavailable, Durability, Entry, Message, Reach, Store
from kessel_core.testing import VirtualClock

OpenStore = Callable[..., SqliteStore]
OpenAdapter = Callable[..., SqliteAdapter]
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def rows(path: Path) -> int:
    """How many entries the file holds, with those that have ended."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM kessel_store").fetchone()[0])


def test_it_promises_what_its_options_say(opened_store: OpenStore, opened: OpenAdapter) -> None:
    declared = opened_store(durability="process-crash", max_value_bytes=9).capabilities
    assert (declared.reach, declared.durability) == (Reach.HOST, Durability.PROCESS_CRASH)
    assert (declared.wakes, declared.virtual_time, declared.max_value_bytes) == (True, True, 9)
    own = opened(max_body_bytes=7).facet(Store)
    assert own is not None
    assert (own.capabilities.max_value_bytes, own.capabilities.durability) == (7, Durability.POWER)
    with pytest.raises(StoreRejected, match="8 bytes"):
        own.put("s", "k", bytes(8))


def test_the_jobs_and_the_store_of_one_file_share_it(opened: OpenAdapter, opened_store: OpenStore) -> None:
    own = opened().facet(Store)
    assert own is not None
    version = own.put("s", "k", b"v")
    assert opened_store().get("s", "k") == Entry("k", version, b"v")


def test_a_url_opens_it_beside_any_adapter(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    with JobManager("memory://", store=f"sqlite:///{path}?durability=process-crash") as manager:
        manager.store.put("s", "k", b"v")
        store = manager.store
    assert rows(path) == 1
    with pytest.raises(AdapterUnavailable, match="closed"):
        store.get("s", "k")


def test_the_default_file_is_not_that_of_the_jobs() -> None:
    assert SqliteStoreOptions().path == Path("kessel-store.db")


def test_s19a_no_version_is_used_twice_also_not_after_the_file_was_empty_and_closed(
    opened_store: OpenStore,
) -> None:
    seen = set()
    for _ in range(3):
        store = opened_store()
        version = store.put("s", "k", b"v", expect=0)
        assert store.delete("s", "k", expect=version)
        seen.add(version)
        store.close()
    assert len(seen) == 3


def test_s19a_a_transaction_that_is_undone_writes_nothing(opened: OpenAdapter) -> None:
    """What a settlement writes is there if it is committed, and only then."""
    adapter = opened()
    entries = adapter.store.entries
    before = adapter.store.put("s", "k", b"1")
    other = opened()

    def within(connection: sqlite3.Connection, end: str) -> None:
        connection.execute(sql.BEGIN)
        entries.put(connection, "s", "k", b"2", ttl=HOUR)
        with pytest.raises(StoreConflict) as caught:
            entries.put(connection, "s", "k", b"3", expect=before)
        assert caught.value.value == b"2"
        seen = other.store.get("s", "k")
        assert seen is not None
        assert seen.value == b"1"
        connection.execute(end)

    adapter.engine.write(lambda c: within(c, sql.UNDO))
    assert adapter.store.get("s", "k") == Entry("k", before, b"1")
    adapter.engine.write(lambda c: within(c, sql.END))
    found = other.store.get("s", "k")
    assert found is not None
    assert (found.value, found.version > before) == (b"2", True)


def test_s19b_what_has_ended_is_removed_in_portions(path: Path, opened_store: OpenStore) -> None:
    clock = VirtualClock()
    store = opened_store(clock)
    many = 3 * sql.ENDED_AT_ONCE
    for n in range(many):
        store.put("s", str(n), b"v", ttl=SECOND)
    store.put("s", "stays", b"v")
    clock.advance(2 * SECOND)
    left = many + 1
    while left > 1:
        store.put("s", "stays", b"v")
        assert left - sql.ENDED_AT_ONCE <= rows(path) < left, "some, and not all at once"
        left = rows(path)
    assert [entry.key for entry in store.scan("s")] == ["stays"]


def test_s19b_a_portion_is_small_in_bytes_too_and_is_never_nothing(
    path: Path, opened_store: OpenStore
) -> None:
    clock = VirtualClock()
    store = opened_store(clock)
    for n in range(4):
        store.put("s", str(n), bytes(sql.ENDED_BYTES_AT_ONCE * 2 // 3), ttl=SECOND)
    store.put("s", "large", bytes(sql.ENDED_BYTES_AT_ONCE * 2), ttl=SECOND)
    clock.advance(2 * SECOND)
    seen = []
    for _ in range(6):
        store.put("s", "stays", b"")
        seen.append(rows(path) - 1)
    assert seen == [4, 3, 2, 1, 0, 0]


def test_s19b_the_removal_goes_on_after_the_clock_was_set_back(path: Path, opened_store: OpenStore) -> None:
    clock = VirtualClock()
    store = opened_store(clock)
    store.put("s", "stays", b"")
    clock.jump_wall(-HOUR)
    store.put("s", "k", b"", ttl=SECOND)
    clock.advance(2 * SECOND)
    store.put("s", "stays", b"")
    assert rows(path) == 1


def test_s19d_the_order_is_that_of_code_points_whatever_the_file_encodes_text_with(
    path: Path, opened_store: OpenStore
) -> None:
    """In UTF-16, which an application's own file may have, U+FFFF would come after U+1F600."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute("CREATE TABLE orders (id)")
    store = opened_store()
    keys = ["A", "a", "b", "ÿ", "Ā", "\u0100b", "\uffff", "\U0001f600"]
    for key in reversed(keys):
        store.put("s", key, key.encode())
    assert [entry.key for entry in store.scan("s")] == sorted(keys)
    assert [entry.key for entry in store.scan("s", prefix="Ā")] == ["Ā", "Āb"]


def test_s19d_what_others_wrote_by_sql_ends_nobodys_scan(path: Path, opened_store: OpenStore) -> None:
    store = opened_store()
    for key in "az":
        store.put("s", key, b"v")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        insert = "INSERT INTO kessel_store (space, key, value, expires_at) VALUES ('s', {}, {}, {})"
        for key in (b"b\xff", b"c\x80", b"\xf8"):
            connection.execute(insert.format("?", "x'76'", "NULL"), (key,))
        for odd in (("'k'", "x'76'", "NULL"), ("x'6b'", "'text'", "NULL"), ("x'6b'", "x'76'", "'soon'")):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(insert.format(*odd))
    assert [entry.key for entry in store.scan("s", limit=2)] == ["a", "z"]
    assert store.scan("s", after="z", limit=2) == []


def test_s19e_a_wait_is_woken_by_an_adapter_of_the_same_process(
    opened: OpenAdapter, opened_store: OpenStore
) -> None:
    """Whoever has the file open: the file of the jobs can be a store of its own, too."""
    store, other = opened_store(VirtualClock(auto_advance=False)), opened(VirtualClock()).store
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(store.wait, "s", "k", timeout=HOUR)
        while store._engine.line.entries.is_empty:
            pass
        version = other.put("s", "k", b"v")
        assert waiting.result(20) == Entry("k", version, b"v")
    assert store._engine.line.entries.is_empty


def test_s19e_a_wait_is_woken_by_the_applications_own_commit(path: Path, opened: OpenAdapter) -> None:
    """It is noticed as that of another process is."""
    store = opened().store

    def commit() -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            store.entries.put(connection, "s", "k", b"v")

    timer = threading.Timer(0.1, commit)
    timer.start()
    assert store.wait("s", "k", timeout=timedelta(seconds=30)) is not None
    timer.join()


CHILD = """
import sys
from datetime import timedelta
from kessel_core import JobManager
with JobManager("memory://", store=f"sqlite:///{sys.argv[1]}?durability=process-crash") as manager:
    version = 0
    for turn in range(int(sys.argv[2])):
        asked = manager.store.wait("s", "asked", seen=version, timeout=timedelta(seconds=30))
        version = asked.version
        manager.store.put("s", "answered", asked.value)
"""


def test_s19e_two_processes_answer_each_other_without_a_lost_wake_up(
    path: Path, opened_store: OpenStore
) -> None:
    turns = 100
    store = opened_store(durability="process-crash")
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), str(turns)], stderr=subprocess.PIPE)
    try:
        seen = 0
        for turn in range(turns):
            store.put("s", "asked", b"%d" % turn)
            answered = store.wait("s", "answered", seen=seen, timeout=timedelta(seconds=30))
            assert answered is not None
            assert answered.value == b"%d" % turn
            seen = answered.version
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, "full"),
        (sqlite3.SQLITE_READONLY, "read-only"),
        (sqlite3.SQLITE_TOOBIG, "too-large"),
        (sqlite3.SQLITE_IOERR, "unknown"),
        (sqlite3.SQLITE_BUSY, "unavailable"),
    ],
)
def test_a_put_that_fails_says_whether_it_may_be_written(path: Path, code: int, expected: str) -> None:
    exc = sqlite3.OperationalError("it failed")
    exc.sqlite_errorcode = code
    error = translated(exc, str(path), SECOND, ("s", "k"))
    match error:
        case StoreRejected():
            found = error.reason
        case StoreUnknown():
            found = "unknown"
        case AdapterUnavailable():
            found = "unavailable"
    assert found == expected
    if isinstance(error, (StoreRejected, StoreUnknown)):
        assert (error.space, error.key) == ("s", "k")


def test_a_full_file_refuses_an_entry_and_takes_the_next_when_there_is_room(opened_store: OpenStore) -> None:
    store = opened_store()
    connection = store._engine.link().connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(StoreRejected) as caught:
        store.put("s", "k", bytes(100_000))
    assert caught.value.reason == "full"
    assert store.get("s", "k") is None
    connection.execute(f"PRAGMA max_page_count = {pages + 500}")
    assert store.put("s", "k", bytes(100_000)) > 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_goes_on_with_the_store_while_its_parent_waits(opened_store: OpenStore) -> None:
    store = opened_store(durability="process-crash")
    store.put("s", "k", b"0")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(store.wait, "s", "from-child", timeout=timedelta(seconds=30))
        while store._engine.line.entries.is_empty:
            pass
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert store._engine.line.entries.is_empty, "nobody waits here"
                seen = store.get("s", "k")
                assert seen is not None
                answer: list[Any] = []
                thread = threading.Thread(
                    target=lambda: answer.append(store.wait("s", "k", seen=seen.version, timeout=30 * SECOND))
                )
                thread.start()
                while store._engine.line.entries.is_empty:
                    pass
                store.put("s", "k", b"1", expect=seen.version)
                thread.join(20)
                assert answer[0].value == b"1"
                store.put("s", "from-child", b"done")
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        found = waiting.result(20)
        assert found is not None
        assert found.value == b"done"


def test_a_message_and_an_entry_can_be_written_in_one_transaction_of_the_application(
    path: Path, opened: OpenAdapter
) -> None:
    adapter = opened()
    with closing(sqlite3.connect(path)) as connection:
        for is_committed in (False, True):
            adapter.enqueue(Message("a", "q", b"", 5), connection=connection)
            adapter.store.entries.put(connection, "s", "k", b"v", expect=0)
            (connection.commit if is_committed else connection.rollback)()
            assert adapter.stats("q").ready == int(is_committed)
            assert (adapter.store.get("s", "k") is not None) is is_committed
