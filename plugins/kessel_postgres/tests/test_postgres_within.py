"""Jobs that are stored in the application's own transaction (S9)."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from kessel_conformance import Cut, FaultProxy
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.testing import Postgres, _given
from psycopg.adapt import Dumper, Loader
from psycopg.rows import dict_row, kwargs_row, namedtuple_row, scalar_row

from kessel_core import SystemClock
from kessel_core.contract import (
    AdapterContext,
    AdapterUnavailable,
    EnqueueRejected,
    EnqueueUnknown,
    IdHeld,
    JobState,
    Message,
)
from tests.until import until


@pytest.fixture
def adapter(opened: Callable[..., PostgresAdapter]) -> PostgresAdapter:
    return opened(max_body_bytes=1000)


@pytest.fixture
def connection(server: Postgres) -> Iterator[psycopg.Connection]:
    with closing(psycopg.connect(server.url())) as connection:
        yield connection


def message(job_id: str = "a", **more: Any) -> Message:
    return Message(job_id, "q", b"\0body", 7, **more)


def test_job_is_there_when_the_transaction_commits_and_not_before(
    adapter: PostgresAdapter, connection: psycopg.Connection
) -> None:
    adapter.enqueue(message("a\0\\"), connection=connection)
    assert adapter.find("a\0\\") is None
    connection.commit()
    found = adapter.find("a\0\\")
    assert found is not None
    assert (found.state, found.body, found.priority) == (JobState.READY, b"\0body", 7)


def test_job_is_gone_with_a_rollback(adapter: PostgresAdapter, connection: psycopg.Connection) -> None:
    adapter.enqueue(message(), connection=connection)
    connection.rollback()
    assert adapter.queues() == []


def test_delay_counts_by_the_clock_of_the_server(
    adapter: PostgresAdapter, connection: psycopg.Connection
) -> None:
    """S4: a transaction that goes on for long does not make a delay shorter, nor longer."""
    connection.execute("SELECT pg_sleep(0.2)")
    adapter.enqueue(message(delay=adapter.clock.now() + timedelta(hours=1)), connection=connection)
    connection.commit()
    found = adapter.find("a")
    assert found is not None and found.due is not None
    assert found.state is JobState.DELAYED
    assert abs(found.due - adapter.clock.now() - timedelta(hours=1)) < timedelta(seconds=30)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_s4_a_delay_over_a_change_of_the_clocks_is_as_long_as_any_other(
    adapter: PostgresAdapter, connection: psycopg.Connection, zone: str
) -> None:
    """A day of an interval is an hour shorter then, in the zone of the application's session."""
    connection.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
    delays = [timedelta(days=days, microseconds=1) for days in range(20, 400, 30)]
    for number, delay in enumerate(delays):
        adapter.enqueue(message(str(number), delay=adapter.clock.now() + delay), connection=connection)
    connection.commit()
    for number, delay in enumerate(delays):
        found = adapter.find(str(number))
        assert found is not None and found.due is not None
        assert abs(found.due - adapter.clock.now() - delay) < timedelta(seconds=30)


def test_held_id_leaves_the_transaction_as_it_is(
    adapter: PostgresAdapter, connection: psycopg.Connection
) -> None:
    """S14: the application may go on and commit its own work."""
    adapter.enqueue(message())
    connection.execute("CREATE TEMPORARY TABLE own (a int)")
    with pytest.raises(IdHeld, match="ready"):
        adapter.enqueue(message(), connection=connection)
    connection.execute("INSERT INTO own VALUES (1)")
    connection.commit()


def test_too_large_body_is_refused_before_anything_is_sent(
    adapter: PostgresAdapter, connection: psycopg.Connection
) -> None:
    with pytest.raises(EnqueueRejected):
        adapter.enqueue(Message("a", "q", b"x" * 1001, 1), connection=connection)
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_connections_of_others_are_unwrapped(
    adapter: PostgresAdapter, connection: psycopg.Connection
) -> None:
    """A Session and a Connection of SQLAlchemy, and one of Django, by their shape."""
    pooled = SimpleNamespace(driver_connection=connection)
    alchemy = SimpleNamespace(connection=pooled)
    session = SimpleNamespace(connection=lambda: alchemy)
    django = SimpleNamespace(ensure_connection=lambda: None, connection=connection)
    for number, given in enumerate((alchemy, session, django)):
        adapter.enqueue(message(str(number)), connection=given)
    connection.commit()
    assert adapter.stats("q").ready == 3


def test_connection_to_another_database_is_refused(adapter: PostgresAdapter, server: Postgres) -> None:
    with closing(psycopg.connect(server.url(), autocommit=True)) as first:
        first.execute("CREATE DATABASE other")
    elsewhere = server.url().replace("/postgres", "/other")
    with (
        closing(psycopg.connect(elsewhere)) as second,
        pytest.raises(ValueError, match="not to the database"),
    ):
        adapter.enqueue(message(), connection=second)


def test_schema_of_the_same_name_elsewhere_is_refused(adapter: PostgresAdapter, server: Postgres) -> None:
    with closing(psycopg.connect(server.url(), autocommit=True)) as first:
        first.execute("CREATE DATABASE twin")
    from kessel_postgres.installing import install

    install(server.options(adapter.options.schema, database="twin"))
    elsewhere = server.url().replace("/postgres", "/twin")
    with (
        closing(psycopg.connect(elsewhere)) as second,
        pytest.raises(ValueError, match="not to the database"),
    ):
        adapter.enqueue(message(), connection=second)


def jobs_at(address: str, schema: str = "kessel") -> object:
    """Return how many jobs are stored there."""
    with closing(psycopg.connect(address, autocommit=True)) as connection:
        row = connection.execute(f'SELECT count(*) FROM "{schema}".jobs'.encode()).fetchone()
        assert row is not None
        return row[0]


def test_s9_copy_on_the_same_server_is_refused_and_gets_no_job(
    servers: Callable[..., Postgres],
) -> None:
    """Its tables have the same id: the job was stored there, where no worker looks, and reported stored."""
    server = servers()
    server.install()
    with closing(psycopg.connect(server.url(), autocommit=True)) as first:
        first.execute("CREATE DATABASE copy TEMPLATE postgres")
    copy = server.url().replace("/postgres", "/copy")
    adapter = PostgresAdapter(server.options(), AdapterContext(clock=SystemClock()))
    with closing(adapter), closing(psycopg.connect(copy)) as second:
        with pytest.raises(ValueError, match="not to the database"):
            adapter.enqueue(message(), connection=second)
        second.commit()
    assert jobs_at(copy) == 0


def test_s9_copy_of_the_whole_server_is_refused_and_the_server_started_anew_is_not(
    servers: Callable[..., Postgres],
) -> None:
    """As one from a backup for tests; the databases have the same name, and the tables the same id."""
    server = servers()
    server.install()
    adapter = PostgresAdapter(server.options(), AdapterContext(clock=SystemClock()))
    server.kill(signal.SIGINT)
    copy = Postgres()
    shutil.rmtree(copy.data)
    shutil.copytree(server.data, copy.data)
    _given(copy.data)
    with closing(adapter), closing(copy):
        server.start()
        copy.start()
        with closing(psycopg.connect(copy.url())) as second:
            with pytest.raises(ValueError, match="not to the database"):
                adapter.enqueue(message(), connection=second)
            second.commit()
        with closing(psycopg.connect(server.url())) as first:
            adapter.enqueue(message(), connection=first)
            first.commit()
        assert (jobs_at(server.url()), jobs_at(copy.url())) == (1, 0)


def test_tables_of_others_with_our_names_are_another_database(
    adapter: PostgresAdapter, server: Postgres
) -> None:
    schema = adapter.options.schema
    elsewhere = server.url().replace("/postgres", "/foreign_meta")
    with closing(psycopg.connect(server.url(), autocommit=True)) as first:
        first.execute("CREATE DATABASE foreign_meta")
    with closing(psycopg.connect(elsewhere)) as second:
        second.execute(f'CREATE SCHEMA "{schema}"'.encode())
        second.execute(f'CREATE TABLE "{schema}".meta (name text)'.encode())
        with pytest.raises(ValueError, match="not to the database"):
            adapter.enqueue(message(), connection=second)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "WIN1251"])
def test_job_is_stored_whatever_the_encoding_of_the_connection(
    adapter: PostgresAdapter, server: Postgres, encoding: str
) -> None:
    """S9: it was stored, and reported as refused; or was not, and reported as one to try again."""
    job_id = "жü\N{PILE OF POO}"
    with closing(psycopg.connect(server.url(f"client_encoding={encoding}"))) as connection:
        adapter.enqueue(message(job_id), connection=connection)
        with pytest.raises(IdHeld, match="ready"):
            adapter.enqueue(message(job_id), connection=connection)
        connection.commit()
    assert adapter.find(job_id) is not None


def test_job_is_stored_whatever_the_application_makes_of_texts(
    adapter: PostgresAdapter, connection: psycopg.Connection
) -> None:
    """S9: it was stored, and reported as refused."""

    class AsBytes(Loader):
        def load(self, data: Any) -> bytes:
            return bytes(data)

    connection.adapters.register_loader("text", AsBytes)
    adapter.enqueue(message(), connection=connection)
    with pytest.raises(IdHeld, match="held by a ready job"):
        adapter.enqueue(message(), connection=connection)
    connection.commit()
    assert adapter.find("a") is not None


def test_s14_value_that_the_driver_refuses_is_rejected_and_a_lost_connection_is_unavailable(
    adapter: PostgresAdapter, connection: psycopg.Connection
) -> None:
    """Nobody should try again what will never be taken."""

    class Refusing(Dumper):
        def dump(self, obj: Any) -> bytes:
            raise UnicodeError("not with me")

    connection.adapters.register_dumper(bytes, Refusing)
    with pytest.raises(EnqueueRejected, match="not with me"):
        adapter.enqueue(message(), connection=connection)
    connection.close()
    with pytest.raises(AdapterUnavailable, match="not stored"):
        adapter.enqueue(message(), connection=connection)


@pytest.mark.parametrize("is_own", [True, False])
@pytest.mark.parametrize("how", ["cut", "terminated"])
def test_s14_an_enqueue_that_commits_itself_and_has_no_answer_is_unknown(
    adapter: PostgresAdapter, server: Postgres, database: psycopg.Connection, is_own: bool, how: str
) -> None:
    """Over a connection that commits each statement, as Django's outside of `atomic`; inside it is gone."""
    with (
        FaultProxy(server.port) as proxy,
        closing(
            psycopg.connect(server.url().replace(str(server.port), str(proxy.port)), autocommit=True)
        ) as connection,
    ):
        adapter.enqueue(message("before"), connection=connection)
        if not is_own:
            connection.execute("BEGIN")
        if how == "cut":
            proxy.cut_at(Cut(up=False, after=0))
        else:
            database.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(EnqueueUnknown if is_own else AdapterUnavailable):
            adapter.enqueue(message("a"), connection=connection)
        if how == "cut":
            until(lambda: (adapter.find("a") is not None) is is_own)
        else:
            assert adapter.find("a") is None


def test_what_a_signal_handler_raises_meanwhile_is_raised(
    adapter: PostgresAdapter, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not taken for an answer of the server: what commits then decides."""

    def raises(*_: object) -> None:
        raise TimeoutError("a limit of the application")

    monkeypatch.setattr(psycopg.Cursor, "execute", raises)
    with pytest.raises(TimeoutError, match="a limit of the application"):
        adapter.enqueue(message("a"), connection=connection)


def test_connection_for_asyncio_is_refused(adapter: PostgresAdapter, server: Postgres) -> None:
    """S9: whatever holds it; nothing is left to be awaited."""

    async def enqueue() -> None:
        connection = await psycopg.AsyncConnection.connect(server.url())
        pooled = SimpleNamespace(connection=SimpleNamespace(driver_connection=connection))
        for given in (connection, pooled):
            with pytest.raises(TypeError, match="not for asyncio"):
                adapter.enqueue(message(), connection=given)
        await connection.close()

    asyncio.run(enqueue())
    assert adapter.find("a") is None


def test_what_is_no_connection_is_refused(adapter: PostgresAdapter) -> None:
    with pytest.raises(TypeError, match=r"psycopg.*builtins\.str"):
        adapter.enqueue(message(), connection="postgresql://")


def test_wake_tells_workers_of_other_processes(
    adapter: PostgresAdapter, opened: Callable[..., PostgresAdapter], connection: psycopg.Connection
) -> None:
    import threading

    other = opened()
    consumer = other.consumer(["q"])
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(consumer.reserve(timedelta(seconds=30))))
    thread.start()
    while not other.database.line._thread or other.database.line.is_idle:
        pass
    adapter.enqueue(message(), connection=connection)
    connection.commit()
    while thread.is_alive():
        adapter.wake("q")
        thread.join(0.05)
    assert got[0] is not None
    consumer.close()


@pytest.mark.parametrize("rows", [dict_row, scalar_row, namedtuple_row, kwargs_row(dict)])
def test_connection_of_an_application_may_want_other_rows(
    adapter: PostgresAdapter, server: Postgres, rows: Any
) -> None:
    with closing(psycopg.connect(server.url(), row_factory=rows)) as connection:
        adapter.enqueue(message(), connection=connection)
        with pytest.raises(IdHeld):
            adapter.enqueue(message(), connection=connection)
        connection.commit()
    assert adapter.find("a") is not None


def test_connection_of_an_application_may_have_cursors_with_other_placeholders(
    adapter: PostgresAdapter, server: Postgres
) -> None:
    with closing(psycopg.connect(server.url(), cursor_factory=psycopg.RawCursor)) as connection:
        adapter.enqueue(message(), connection=connection)
        connection.commit()
    assert adapter.find("a") is not None
