"""Behind PgBouncer in transaction mode, where a connection keeps nothing from one transaction to the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import attrs
import psycopg
import pytest
from kessel_conformance import AdapterConformance, FaultProxy
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.link import Link, Lost
from kessel_postgres.plugin import SPEC
from kessel_postgres.testing import PgBouncer, Postgres
from kessel_postgres.vacuum import Vacuum
from kessel_postgres.waiting import PostgresLine
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus

from kessel_core import SystemClock
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterContext,
    AdapterUnavailable,
    EnqueueUnknown,
    Message,
    Outlook,
    ProtocolError,
)
from tests.chaos import IS_LARGE
from tests.until import until

from .harnesses import URL, PostgresHarness


@pytest.fixture
def pooler(server: Postgres) -> Iterator[PgBouncer]:
    bouncer = PgBouncer(server, pool=3)
    yield bouncer
    bouncer.close()


def test_address_of_a_pooler_without_the_option_says_what_to_add(
    pooler: PgBouncer, opened: Callable[..., PostgresAdapter]
) -> None:
    with pytest.raises(ProtocolError, match="add pooler=true to the address"):
        opened(port=pooler.port)


def test_six_slots_over_three_connections_do_each_job_once(
    pooler: PgBouncer,
    opened: Callable[..., PostgresAdapter],
    schema: str,
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the tables are vacuumed, which is possible in no transaction."""
    monkeypatch.setattr(Vacuum, "every", 290)
    adapter = opened(port=pooler.port, pooler=True)
    jobs = {str(number) for number in range(300)}
    assert not any(adapter.enqueue_many([Message(job, "q", b"x", 1) for job in jobs]))
    done: list[Any] = []

    def drain() -> None:
        consumer = adapter.consumer(["q"])
        held = consumer.reserve(NO_PAUSE)
        while held is not None:
            done.append(held.id)
            held = consumer.settle_and_reserve(held, COMMIT)

    threads = [threading.Thread(target=drain) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(jobs)
    vacuumed = "SELECT min(vacuum_count) FROM pg_stat_user_tables WHERE schemaname = %s AND relname = 'ready'"
    until(lambda: database.execute(vacuumed, (schema,)).fetchone() == (1,))


def test_waiting_slot_finds_the_job_of_another_process_by_looking(
    pooler: PgBouncer, opened: Callable[..., PostgresAdapter]
) -> None:
    adapter = opened(port=pooler.port, pooler=True)
    consumer = adapter.consumer(["q"])
    threading.Timer(0.2, lambda: opened().enqueue(Message("a", "q", b"x", 1))).start()
    held = consumer.reserve(timedelta(seconds=20))
    assert held is not None
    consumer.settle(held, COMMIT)


def test_waiting_slot_looks_a_few_times_a_second_also_while_jobs_are_delayed(
    opened: Callable[..., PostgresAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a look tells of delays must not make it look again at once (E8)."""
    looks: list[float] = []
    outlooks = PostgresLine.outlooks

    def counted(line: PostgresLine, queues: Sequence[str]) -> Iterator[Outlook]:
        looks.append(time.monotonic())
        return outlooks(line, queues)

    monkeypatch.setattr(PostgresLine, "outlooks", counted)
    adapter = opened(pooler=True)
    adapter.enqueue(Message("a", "q", b"x", 1, delay=datetime.now(UTC) + timedelta(hours=1)))
    assert adapter.consumer(["q"]).reserve(timedelta(seconds=1)) is None
    assert 2 <= len(looks) < 20


def test_s14_enqueue_that_waited_in_the_pooler_in_vain_is_surely_not_stored(
    server: Postgres, schema: str, opened: Callable[..., PostgresAdapter]
) -> None:
    """Somebody else had the only connection to the server for too long."""
    with ExitStack() as stack:
        pooler = stack.enter_context(closing(PgBouncer(server, pool=1, query_wait_timeout=1)))
        adapter = opened(port=pooler.port, pooler=True)
        with closing(psycopg.connect(f"postgresql://kessel@127.0.0.1:{pooler.port}/postgres")) as other:
            other.execute("SELECT 1")
            with pytest.raises(AdapterUnavailable, match="query_wait_timeout"):
                adapter.enqueue(Message("a", "q", b"x", 1))
        assert adapter.find("a") is None
        adapter.enqueue(Message("a", "q", b"x", 1))


def test_s14_enqueue_while_the_pooler_reaches_no_server_is_surely_not_stored(
    servers: Callable[..., Postgres],
) -> None:
    server = servers()
    server.install()
    with ExitStack() as stack:
        pooler = stack.enter_context(closing(PgBouncer(server, query_wait_timeout=1, server_login_retry=1)))
        options = server.options(port=pooler.port, pooler=True)
        adapter = stack.enter_context(closing(PostgresAdapter(options, AdapterContext(clock=SystemClock()))))
        server.kill()
        address = f"postgresql://kessel@127.0.0.1:{pooler.port}/postgres"

        def is_known_to_be_gone() -> bool:
            try:
                with closing(psycopg.connect(address, autocommit=True)) as connection:
                    connection.execute("SELECT 1")
            except psycopg.Error as exc:
                return "server login has been failing" in str(exc)
            return False

        until(is_known_to_be_gone)
        with pytest.raises(AdapterUnavailable, match="server login has been failing"):
            adapter.enqueue(Message("a", "q", b"x", 1))
        server.start()
        until(lambda: _answers(adapter))
        assert adapter.find("a") is None


def test_s14_client_that_dies_between_two_answers_leaves_none_to_the_next_client_of_the_pooler(
    server: Postgres,
    schema: str,
    opened: Callable[..., PostgresAdapter],
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PgBouncer before 1.22.1 would hand it on, and the next call would take it for its own answer."""
    with ExitStack() as stack:
        pooler = stack.enter_context(closing(PgBouncer(server, pool=1)))
        proxy = stack.enter_context(FaultProxy(pooler.port))
        dying, other = opened(port=proxy.port, pooler=True), opened(port=pooler.port, pooler=True)
        notify = dying.database.statements.notify
        slow = notify._replace(text=b"SELECT pg_sleep(0.5), pg_notify($1, $2)")
        monkeypatch.setattr(
            dying.database, "statements", attrs.evolve(dying.database.statements, notify=slow)
        )

        def enqueues() -> None:
            with suppress(EnqueueUnknown):  # cut before the first answer was here
                dying.enqueue(Message("a", "q", b"x", 1))

        thread = threading.Thread(target=enqueues)
        thread.start()
        is_there = f'SELECT count(*) FROM "{schema}".ready'
        until(lambda: database.execute(is_there).fetchone() == (1,))
        proxy.cut()
        thread.join()
        found = other.find("a")
        assert found is not None and found.id == "a"
        assert other.enqueue_many([Message("a", "q", b"x", 1), Message("b", "q", b"x", 1)])[1] is None
        assert other.find("c") is None


@pytest.mark.parametrize(
    ("before", "text", "was_sent"),
    [
        ([], b"query_wait_timeout", False),
        ([], b"pgbouncer cannot connect to server", False),
        ([], b"server login has been failing, try again later (server_login_retry)", False),
        ([], b"server conn crashed?", True),
        ([], b"query_timeout", True),
        ([ExecStatus.TUPLES_OK], b"query_wait_timeout", True),
        ([ExecStatus.TUPLES_OK, ExecStatus.PIPELINE_SYNC], b"query_wait_timeout", True),
    ],
)
def test_s14_what_a_pooler_says_tells_that_nothing_was_done_only_before_any_answer(
    before: list[ExecStatus], text: bytes, was_sent: bool
) -> None:
    fields = {DiagnosticField.SQLSTATE: b"08P01", DiagnosticField.MESSAGE_PRIMARY: text}
    said = SimpleNamespace(status=ExecStatus.FATAL_ERROR, error_field=fields.get, error_message=b"")
    results = iter([*(SimpleNamespace(status=status) for status in before), said])
    link: Any = Link.__new__(Link)
    link._wait = lambda end: []
    link.pgconn = SimpleNamespace(
        consume_input=lambda: None,
        is_busy=lambda: False,
        get_result=lambda: next(results),
        status=ConnStatus.BAD,
    )
    with pytest.raises(Lost) as caught:
        link._answers(2, 0.0)
    assert caught.value.was_sent is was_sent


def _answers(adapter: PostgresAdapter) -> bool:
    try:
        adapter.queues()
    except AdapterUnavailable:
        return False
    return True


class _BehindPgBouncer(PostgresHarness):
    bouncer: PgBouncer

    def start(self) -> None:
        super().start()
        assert self.server is not None
        self.bouncer = PgBouncer(self.server)
        self.values["port"] = str(self.bouncer.port)  # for the suite; the server keeps its own

    def stop(self) -> None:
        self.bouncer.close()
        super().stop()

    def portable(self) -> _BehindPgBouncer:
        twin = super().portable()
        del twin.bouncer
        return twin


if IS_LARGE:

    class TestChaosPostgresBehindPgBouncer(AdapterConformance):
        # Connections that are cut are those to the pooler.
        harness = _BehindPgBouncer(SPEC, URL + "&pooler=true", tolerance=timedelta(seconds=0.5))
