"""The file itself: what it must be, and what happens when something is wrong with it."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite import schema
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.edge import translated
from kessel_sqlite.hostclock import HostClock
from kessel_sqlite.link import Link
from kessel_sqlite.options import SqliteOptions
from kessel_sqlite.plugin import SPEC

from kessel_core import AdapterUnavailable, EnqueueRejected, LeaseLost, ProtocolError, SystemClock
from kessel_core.contract import COMMIT, NO_PAUSE, AdapterContext, DoctorContext, JobState, Level, Message

Opener = Callable[..., SqliteAdapter]
SHORT = timedelta(milliseconds=300)


def message(name: str, body: bytes = b"x") -> Message:
    return Message(name, "q", body, 5)


def run_python(
    code: str, *arguments: object, before: Sequence[str] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, bounded."""
    return subprocess.run(
        [*before, sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path, opened: Opener) -> None:
    """F31."""
    with pytest.raises(AdapterUnavailable, match="directory"):
        opened(path=tmp_path / "missing" / "jobs.db")


@pytest.mark.parametrize(
    ("make", "name", "why"),
    [
        (lambda folder: None, "none/jobs.db", "there is no directory .*none"),
        (lambda folder: (folder / "sub").mkdir(), "sub", "is a directory"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe", "is no ordinary file"),
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
        (sqlite3.SQLITE_CANTOPEN, os.W_OK | os.X_OK, "may not make files in"),
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


def test_a_file_that_is_no_database_is_refused(path: Path, opened: Opener) -> None:
    path.write_bytes(b"no database at all, but long enough for its header " * 40)
    before = path.read_bytes()
    with pytest.raises(ProtocolError, match="not a SQLite database"):
        opened()
    assert path.read_bytes() == before


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
def test_F31_a_read_only_file_can_be_looked_at_and_refuses_jobs_by_name(path: Path, opened: Opener) -> None:
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


# The warning is right in general; that this adapter stands it is what is tested.
may_fork = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@may_fork
def test_fork_gives_the_child_connections_of_its_own(opened: Opener) -> None:
    """F8."""
    adapter = opened()
    adapter.enqueue(message("a"))
    consumer = adapter.consumer(["q"])
    taken = consumer.reserve(NO_PAUSE)
    assert taken is not None
    child = os.fork()
    if child == 0:
        code = 1
        try:
            adapter.enqueue_many([message(f"child{n}") for n in range(50)])
            other = adapter.consumer(["q"])
            first = other.reserve(timedelta(seconds=5))
            assert first is not None
            other.settle(first, COMMIT)
            other.close()
            code = 0
        finally:
            os._exit(code)
    for n in range(50):
        adapter.enqueue(message(f"parent{n}"))
    assert os.waitpid(child, 0)[1] == 0
    consumer.settle(taken, COMMIT)
    consumer.close()
    stats = adapter.stats("q")
    assert (stats.ready, stats.reserved) == (99, 0)
    with closing(sqlite3.connect(adapter.options.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@may_fork
def test_forks_while_threads_are_in_the_middle_of_transactions(opened: Opener) -> None:
    """F8: neither a lock nor a transaction of another thread gets into the child."""
    adapter = opened(durability="process-crash")
    is_over = threading.Event()
    made = [0, 0]

    def produce(number: int) -> None:
        while not is_over.is_set():
            adapter.enqueue(message(f"{number}-{made[number]}"))
            made[number] += 1

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        for n in range(20):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    adapter.enqueue(Message(f"child{n}", "children", b"", 5))
                    adapter.close()
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        is_over.set()
        for thread in threads:
            thread.join(30)
    assert adapter.stats("q").ready == sum(made)
    assert adapter.stats("children").ready == 20
    with closing(sqlite3.connect(adapter.options.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_threads_share_an_adapter(opened: Opener) -> None:
    """F7."""
    adapter = opened(durability="process-crash")
    delivered: list[str] = []

    def produce(number: int) -> None:
        for n in range(100):
            adapter.enqueue(message(f"{number}-{n}", f"{number}-{n}".encode()))

    def consume() -> None:
        with closing(adapter.consumer(["q"])) as consumer:
            while (taken := consumer.reserve(timedelta(seconds=1))) is not None:
                while taken is not None:
                    assert taken.body == (taken.id or "").encode()
                    delivered.append(taken.id or "")
                    taken = consumer.settle_and_reserve(taken, COMMIT)

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(6)]
    threads += [threading.Thread(target=consume) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(delivered) == sorted(f"{number}-{n}" for number in range(6) for n in range(100))
    assert adapter.stats("q").total == 0


# --- transactional enqueue -------------------------------------------------------------------


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
def test_F17_a_process_killed_between_leaves_both_or_none(path: Path, opened: Opener, point: str) -> None:
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


# --- doctor ----------------------------------------------------------------------------------


def test_doctor_finds_a_sound_file_sound(opened: Opener) -> None:
    adapter = opened()
    adapter.enqueue(message("a"))
    context = DoctorContext(queues=("q",), types=frozenset(), grace=timedelta(seconds=1))
    assert {finding.level for finding in adapter.doctor(context)} <= {Level.OK}
    assert {"integrity", "durability", "disk", "jobs"} <= {f.subject for f in adapter.doctor(context)}


def test_doctor_finds_a_file_that_cannot_be_written(path: Path, opened: Opener) -> None:
    adapter = opened(timeout=timedelta(milliseconds=10))
    context = DoctorContext(queues=("q",), types=frozenset(), grace=timedelta(0))
    with closing(sqlite3.connect(path)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        findings = adapter.doctor(context)
    assert [f.subject for f in findings if f.level is Level.ERROR] == ["writing"]
    assert adapter.doctor(context)[0].level is Level.OK


def test_doctor_finds_damage_and_raises_nothing(path: Path, opened: Opener) -> None:
    adapter = opened()
    adapter.enqueue_many([message(f"{n}", bytes(300)) for n in range(500)])
    adapter.close()
    content = bytearray(path.read_bytes())
    content[8192 : len(content) - 8192] = b"\x55" * (len(content) - 16384)
    path.write_bytes(content)
    context = DoctorContext(queues=("q",), types=frozenset(), grace=timedelta(seconds=1))
    findings = opened().doctor(context)
    assert Level.ERROR in {finding.level for finding in findings}


# --- the clock -------------------------------------------------------------------------------


def test_F34_of_several_adapters_one_moves_the_leases_after_a_jump_and_once(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They see the same clock as other processes of the machine do."""
    first, second = opened(), opened()
    first.enqueue(message("a"))
    with closing(first.consumer(["q"])) as holder, closing(second.consumer(["q"])) as other:
        taken = holder.reserve(NO_PAUSE)
        assert taken is not None
        before = first.peek("q", JobState.RESERVED)[0].due
        assert before is not None
        hour = timedelta(hours=1)
        monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + hour)
        third = opened()
        with closing(third.consumer(["q"])) as newcomer:
            for consumer in (newcomer, other, holder):
                assert consumer is holder or consumer.reserve(NO_PAUSE) is None
        due = first.peek("q", JobState.RESERVED)[0].due
        assert due is not None
        assert abs(due - before - hour) < timedelta(seconds=1)
        holder.extend(taken)
        holder.settle(taken, COMMIT)
    assert first.stats("q").total == 0


class Setting:
    """Sets the wall clock of all adapters an hour on, just before one next asks for the file's lock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hours = 0
        self._patch = monkeypatch
        monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + timedelta(hours=self._hours))

    def while_waiting(self, adapter: SqliteAdapter, then: Callable[[], object] = lambda: None) -> None:
        run = adapter.engine.file.run

        def waiting(link: Link, work: Any, *, writes: bool = True, job_id: str | None = None) -> Any:
            if writes and not self._hours:
                self._hours = 1
                then()
            return run(link, work, writes=writes, job_id=job_id)

        self._patch.setattr(adapter.engine.file, "run", waiting)


@pytest.mark.parametrize("way", ["reserve", "settle_and_reserve"])
def test_F34_a_clock_that_is_set_while_a_claim_waits_takes_no_job_from_its_holder(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """S7: the look before the lock knew nothing of the jump."""
    first, second = opened(), opened()
    setting = Setting(monkeypatch)
    first.enqueue_many([message("a"), message("b"), message("c")])
    with closing(first.consumer(["q"])) as holder, closing(second.consumer(["q"])) as other:
        held = holder.reserve(NO_PAUSE)
        assert held is not None
        taken = other.reserve(NO_PAUSE) if way == "settle_and_reserve" else None
        setting.while_waiting(second)
        taken = other.reserve(NO_PAUSE) if taken is None else other.settle_and_reserve(taken, COMMIT)
        assert taken is not None
        assert {held.id, taken.id} == {job.id for job in first.peek("q", JobState.RESERVED, 9)}
        holder.settle(held, COMMIT)


def test_F34_a_clock_that_is_set_while_a_lease_is_extended_does_not_end_it(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S7: another process had moved the lease already; the time from before the jump must not undo that."""
    first, second = opened(), opened()
    setting = Setting(monkeypatch)
    first.enqueue(message("a"))
    with closing(first.consumer(["q"])) as holder, closing(second.consumer(["q"])) as other:
        held = holder.reserve(NO_PAUSE)
        assert held is not None
        setting.while_waiting(first, then=lambda: other.reserve(NO_PAUSE))
        holder.extend(held)
        assert other.reserve(NO_PAUSE) is None
        holder.settle(held, COMMIT)


def test_F34_a_jump_whose_move_could_not_be_stored_is_seen_again(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise sqlite3.OperationalError("the disk is full")

    adapter = opened()
    setting = Setting(monkeypatch)
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as holder:
        held = holder.reserve(NO_PAUSE)
        assert held is not None
        setting.while_waiting(adapter)
        with monkeypatch.context() as patch:
            patch.setattr(HostClock, "_write", refused)
            with pytest.raises(AdapterUnavailable):
                holder.extend(held)
        holder.extend(held)
        with closing(adapter.consumer(["q"])) as other:
            assert other.reserve(NO_PAUSE) is None
        holder.settle(held, COMMIT)


# --- versions --------------------------------------------------------------------------------


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
        assert schema.version_of(connection) == schema.VERSION == 2


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
