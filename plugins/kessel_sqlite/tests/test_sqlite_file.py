"""The file itself: what it must be, and what happens when something is wrong with it."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite import schema
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.edge import translated
from kessel_sqlite.link import Connection
from kessel_sqlite.options import SqliteOptions
from kessel_sqlite.plugin import SPEC

from kessel_core import AdapterUnavailable, EnqueueRejected, LeaseLost, ProtocolError, SystemClock
from kessel_core.contract import COMMIT, NO_PAUSE, AdapterContext, Message
from tests.descriptors import numbers

Opener = Callable[..., SqliteAdapter]
SHORT = timedelta(milliseconds=300)


def message(name: str, body: bytes = b"x") -> Message:
    return Message(name, "q", body, 5)


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path, opened: Opener) -> None:
    """F31."""
    with pytest.raises(AdapterUnavailable, match="directory"):
        opened(path=tmp_path / "missing" / "jobs.db")


@pytest.mark.parametrize(
    ("make", "name", "why"),
    [
        (lambda folder: None, "none/jobs.db", "there is no directory .*none"),
        (lambda folder: (folder / "sub").mkdir(), "sub", "is a directory"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe", "is not a regular file"),
        (lambda folder: (folder / "link").symlink_to("gone/x.db"), "link", "is a link to gone/x.db"),
        (lambda folder: None, "x" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_opened_says_why_and_what_to_do(
    tmp_path: Path, make: Callable[[Path], object], name: str, why: str
) -> None:
    """F31."""
    make(tmp_path)
    with pytest.raises(AdapterUnavailable, match=why) as caught:
        SPEC.open(SqliteOptions(path=tmp_path / name), AdapterContext(clock=SystemClock()))
    assert caught.value.__notes__


@pytest.mark.parametrize(
    ("code", "forbidden", "why"),
    [
        (sqlite3.SQLITE_CANTOPEN, os.R_OK | os.W_OK, "may not read and write it"),
        (sqlite3.SQLITE_CANTOPEN, os.W_OK | os.X_OK, "may not create files in"),
        (sqlite3.SQLITE_CANTOPEN, None, "cannot be opened"),
        (sqlite3.SQLITE_READONLY, None, "read-only"),
        (sqlite3.SQLITE_CORRUPT, None, "damaged"),
    ],
)
def test_what_sqlite_does_not_say_of_a_failure_is_added(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, forbidden: int | None, why: str
) -> None:
    path.touch()
    monkeypatch.setattr(os, "access", lambda _, mode: mode != forbidden)
    exc = sqlite3.OperationalError("it failed")
    exc.sqlite_errorcode = code
    error = translated(exc, str(path), timedelta(seconds=1), None)
    assert why in str(error)
    assert error.__notes__


def test_directory_that_a_link_leads_to_is_named_where_nothing_can_be_created_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F31: SQLite keeps its log there, and not beside the link."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "there" / "jobs.db").touch()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there" / "jobs.db")
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path / "there")
    exc = sqlite3.OperationalError("it failed")
    exc.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    error = translated(exc, str(tmp_path / "here" / "link"), timedelta(seconds=1), None)
    assert str(error).endswith(f"this user may not create files in {tmp_path / 'there'}")


def test_a_file_that_is_no_database_is_refused(path: Path, opened: Opener) -> None:
    path.write_bytes(b"no database at all, but long enough for its header " * 40)
    before, files = path.read_bytes(), numbers()
    with pytest.raises(ProtocolError, match="not a SQLite database") as refused:
        opened()
    assert path.read_bytes() == before
    # Each try would leave one open, for as long as its error is at hand.
    assert numbers() <= files and refused.tb is not None


def test_a_file_of_a_newer_release_is_refused_and_left_alone(path: Path, opened: Opener) -> None:
    opened().close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE kessel_meta SET value = ? WHERE key = 'schema'", (schema.VERSION + 1,))
    with pytest.raises(ProtocolError, match=f"version {schema.VERSION + 1}"):
        opened()


def test_the_applications_own_tables_and_numbers_stay(path: Path, opened: Opener) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE orders (id)")
        connection.execute("PRAGMA user_version = 77")
        connection.execute("PRAGMA application_id = 99")
    opened().enqueue(message("a"))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (77,)
        assert connection.execute("PRAGMA application_id").fetchone() == (99,)
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)


@pytest.mark.parametrize(("durability", "expected"), [("power", 2), ("process-crash", 1)])
def test_S9_the_connection_syncs_as_the_durability_says(
    opened: Opener, durability: str, expected: int
) -> None:
    adapter = opened(durability=durability)
    assert adapter.capabilities.durability == durability
    with closing(adapter.consumer(["q"])) as consumer:
        consumer.reserve(NO_PAUSE)
        connection = adapter.engine.link().connection
        assert connection is not None
        assert connection.execute("PRAGMA synchronous").fetchone() == (expected,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_F31_a_file_locked_by_another_process_is_awaited_for_the_timeout(path: Path, opened: Opener) -> None:
    adapter = opened(timeout=SHORT)
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(AdapterUnavailable, match="locked"):
                adapter.enqueue(message("b"))
            outcomes = adapter.enqueue_many([message("c"), message("d")])
            assert [type(outcome) for outcome in outcomes] == [AdapterUnavailable] * 2
            with pytest.raises(AdapterUnavailable, match="locked"):
                consumer.settle(taken, COMMIT)
            with pytest.raises(AdapterUnavailable, match="locked"):
                consumer.settle_and_reserve(taken, COMMIT)
            assert adapter.stats("q").reserved == 1
            other.execute("ROLLBACK")
        consumer.settle(taken, COMMIT)
    assert adapter.stats("q").total == 0


def test_F31_a_lock_that_goes_in_time_is_not_noticed(path: Path, opened: Opener) -> None:
    adapter = opened()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.1, other.execute, ["COMMIT"])
        timer.start()
        adapter.enqueue(message("a"))
        timer.join()
    assert adapter.stats("q").ready == 1


@pytest.mark.parametrize("is_deleted", [True, False])
def test_F31_a_file_replaced_under_us_is_opened_anew_with_a_warning(
    path: Path, opened: Opener, caplog: pytest.LogCaptureFixture, is_deleted: bool
) -> None:
    adapter = opened()
    adapter.enqueue(message("old"))
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink()
        if not is_deleted:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        with caplog.at_level(logging.WARNING, "kessel.sqlite"):
            adapter.enqueue(message("new"))
        assert "opening the path anew" in caplog.text
        with pytest.raises(LeaseLost):
            consumer.settle(taken, COMMIT)
        again = consumer.reserve(NO_PAUSE)
        assert again is not None
        assert again.id == "new"


def test_F31_a_wal_that_was_removed_under_us_is_told_with_what_to_do(path: Path, opened: Opener) -> None:
    opened().enqueue(message("a"))
    Path(f"{path}-wal").unlink()
    with pytest.raises(AdapterUnavailable, match=r"its -wal was removed .* then start them again") as caught:
        opened()  # the first one still has it open
    assert caught.value.__notes__ == ["stop all producers and workers, then start them again"]


def test_F10_a_full_disk_refuses_whole_jobs_and_recovers(tmp_path: Path, opened: Opener) -> None:
    """The disk is a limit of the file's size, which SQLite reports in the same way."""
    adapter = opened()
    adapter.enqueue(message("a"))
    connection = adapter.engine.link().connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(EnqueueRejected) as caught:
        adapter.enqueue(message("large", bytes(1_000_000)))
    assert caught.value.reason == "full"
    outcomes = adapter.enqueue_many([message(f"m{n}", bytes(5_000)) for n in range(50)])
    assert {getattr(outcome, "reason", None) for outcome in outcomes} == {"full"}
    assert {getattr(outcome, "job_id", None) for outcome in outcomes} == {f"m{n}" for n in range(50)}
    assert adapter.stats("q").total == 1
    connection.execute("PRAGMA max_page_count = 1000000")
    adapter.enqueue(message("large", bytes(1_000_000)))
    assert adapter.stats("q").total == 2


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None,
    reason="mounts a small file system: Linux, as root",
)
def test_F10_a_full_file_system_refuses_whole_jobs_and_recovers(tmp_path: Path, opened: Opener) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("may not mount here; the same with a limited file is tested everywhere")
    try:
        adapter = opened(path=disk / "jobs.db")
        stored, rejected = [], 0
        for n in range(200):
            try:
                adapter.enqueue(message(f"j{n}", bytes(3000)))
            except EnqueueRejected as exc:
                assert exc.reason == "full"
                rejected += 1
            else:
                stored.append(f"j{n}")
        assert stored
        assert rejected
        subprocess.run(["mount", "-o", "remount,size=40m", disk], check=True)
        adapter.enqueue(message("again"))
        delivered = []
        with closing(adapter.consumer(["q"])) as consumer:
            taken = consumer.reserve(NO_PAUSE)
            while taken is not None:
                delivered.append(taken.id)
                taken = consumer.settle_and_reserve(taken, COMMIT)
        assert delivered == [*stored, "again"]
        adapter.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


#: Root passes over the rights of files unless it gives that up.
PLAIN_USER = (
    ["setpriv", "--inh-caps=-dac_override,-dac_read_search", "--bounding-set=-dac_override,-dac_read_search"]
    if hasattr(os, "geteuid") and os.geteuid() == 0
    else []
)


@pytest.mark.skipif(bool(PLAIN_USER) and shutil.which("setpriv") is None, reason="root, and no setpriv")
def test_F31_a_read_only_file_can_be_looked_at_and_refuses_jobs_by_name(
    path: Path, opened: Opener, run_python: Callable[..., Any]
) -> None:
    adapter = opened()
    adapter.enqueue(message("a"))
    code = """
import os, sys
from kessel_core.contract import AdapterContext, Message
from kessel_core import SystemClock
from kessel_core import AdapterUnavailable, EnqueueRejected
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions
from datetime import timedelta
adapter = SqliteAdapter(SqliteOptions(path=sys.argv[1]), AdapterContext(clock=SystemClock()))
print(adapter.stats("q").ready)
try:
    adapter.enqueue(Message("b", "q", b"", 5))
except EnqueueRejected as exc:
    print(exc.reason)
consumer = adapter.consumer(["q"])
try:
    consumer.reserve(timedelta(0))
except AdapterUnavailable as exc:
    print("read-only" in str(exc))
"""
    for file in path.parent.iterdir():
        file.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        done = run_python(code, path, before=PLAIN_USER)
    finally:
        path.parent.chmod(0o755)
    assert done.stdout.split() == ["1", "read-only", "True"], done.stderr


def test_a_connection_that_the_collector_meets_before_its_holder_warns_nobody(opened: Opener) -> None:
    """As of a thread that has ended, whose exception somebody keeps; Python 3.13 tells of such ones."""
    adapter = opened()
    adapter.enqueue(message("a"))
    link = adapter.engine.link()
    connection, link.connection = link.connection, None
    assert type(connection) is Connection
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del connection
        gc.collect()
    assert [str(one.message) for one in told] == []
