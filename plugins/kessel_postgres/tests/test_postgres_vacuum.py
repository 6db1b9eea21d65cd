"""kessel vacuums the tables that a claim looks into, as far as its role may, and gets in nobody's way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from kessel_postgres import vacuum
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.database import Database
from kessel_postgres.link import Call
from kessel_postgres.schema import grants
from kessel_postgres.sql import statements_of
from kessel_postgres.vacuum import Vacuum

from kessel_core.contract import COMMIT, NO_PAUSE, AdapterUnavailable, Message, ProtocolError
from tests.until import until


def drain(adapter: PostgresAdapter, jobs: int) -> None:
    """Do so many jobs."""
    adapter.enqueue_many([Message(f"v{number}", "q", b"", 1) for number in range(jobs)])
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    while held is not None:
        held = consumer.settle_and_reserve(held, COMMIT)


def vacuumed(database: psycopg.Connection, schema: str) -> dict[str, int]:
    """Return how often each table was, autovacuum left out."""
    counts = (
        "SELECT relname, vacuum_count FROM pg_stat_user_tables WHERE schemaname = %s AND vacuum_count > 0"
    )
    return dict(database.execute(counts, (schema,)).fetchall())


@pytest.mark.parametrize("which", ["settle_and_reserve", "settle"])
def test_tables_that_a_claim_looks_into_are_vacuumed_after_so_many_settlements(
    opened: Callable[..., PostgresAdapter],
    schema: str,
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    which: str,
) -> None:
    """So the cost of a claim does not grow with the jobs that were done since autovacuum came (E9)."""
    monkeypatch.setattr(Vacuum, "every", 5)
    adapter = opened()
    if which == "settle_and_reserve":
        drain(adapter, 5)
    else:
        adapter.enqueue_many([Message(f"v{number}", "q", b"", 1) for number in range(5)])
        consumer = adapter.consumer(["q"])
        for _ in range(5):
            held = consumer.reserve(NO_PAUSE)
            assert held is not None
            consumer.settle(held, COMMIT)
    until(lambda: vacuumed(database, schema) == {"ready": 1, "held": 1, "timed": 1})


def test_index_is_vacuumed_however_few_of_its_rows_are_dead(
    opened: Callable[..., PostgresAdapter], schema: str, database: psycopg.Connection, monkeypatch: Any
) -> None:
    """Autovacuum leaves an index as it is while less than a fiftieth of a table's pages have dead rows."""
    adapter = opened()
    adapter.enqueue_many([Message(f"w{number}", "q", b"", 9) for number in range(20_000)])
    database.execute(f'VACUUM "{schema}".ready')
    monkeypatch.setattr(Vacuum, "every", 50)
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    for _ in range(50):
        assert held is not None
        held = consumer.settle_and_reserve(held, COMMIT)
    until(lambda: vacuumed(database, schema).get("ready") == 2)
    # A vacuum that left the index would leave what it points to: line pointers that are dead, not unused.
    dead = f"SELECT count(*) FROM heap_page_items(get_raw_page('\"{schema}\".ready', 0)) WHERE lp_flags = 3"
    database.execute("CREATE EXTENSION IF NOT EXISTS pageinspect")
    assert database.execute(dead.encode()).fetchone() == (0,)


def test_role_that_may_not_vacuum_works_and_sends_none(
    opened: Callable[..., PostgresAdapter],
    schema: str,
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refused vacuum would be a warning in the server's log, again and again."""
    sent, role = [], f"worker_{schema}"
    monkeypatch.setattr(Vacuum, "every", 5)
    monkeypatch.setattr(Database, "alone", lambda self, one: sent.append(one))
    database.execute(f"CREATE ROLE {role} LOGIN")
    for grant in grants(schema, role):
        database.execute(grant.encode())
    adapter = opened(username=role)
    drain(adapter, 10)
    until(lambda: not threads())
    assert not sent
    adapter.close()


def test_refused_vacuum_is_an_error_of_the_contract(
    opened: Callable[..., PostgresAdapter], schema: str, database: psycopg.Connection
) -> None:
    adapter = opened()
    database.execute(f'DROP TABLE "{schema}".timed')
    with pytest.raises(ProtocolError):
        adapter.database.alone(Call(adapter.database.statements.vacuum))


def threads() -> list[threading.Thread]:
    """Return those that vacuum."""
    return [one for one in threading.enumerate() if one.name == "kessel-vacuum"]


class Watched:
    """A database whose vacuums take what time one likes; `is_away` lets them fail."""

    def __init__(self) -> None:
        self.statements = statements_of("s")
        self.now = 100.0
        self.takes = 1.0
        self.done = 0
        self.is_away = False
        self.may = b"\1"
        self.asked = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def call(self, one: Any) -> Any:
        assert one.statement == self.statements.may_vacuum
        self.asked += 1
        return SimpleNamespace(get_value=lambda row, column: self.may)

    def alone(self, one: Any) -> None:
        assert one.statement == self.statements.vacuum
        self.done += 1
        assert self.may_go_on.wait(20)
        self.now += self.takes
        if self.is_away:
            raise AdapterUnavailable("away")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """With a clock of its own."""
    database = Watched()
    monkeypatch.setattr(Vacuum, "every", 3)
    monkeypatch.setattr(vacuum, "time", SimpleNamespace(monotonic=lambda: database.now))
    return database


def settle(one: Vacuum, times: int) -> None:
    """Count settlements, and let what they start end."""
    for _ in range(times):
        one.count()
    # Of both, because CPython 3.13 forgets a thread a moment before it says that it is not alive.
    until(lambda: not threads() and not (one._thread is not None and one._thread.is_alive()))


def test_vacuum_that_took_long_is_not_repeated_for_twenty_times_as_long(watched: Watched) -> None:
    """Where an old transaction keeps all rows it only costs."""
    one = Vacuum(watched)
    settle(one, 2)
    assert watched.done == 0
    settle(one, 1)
    assert watched.done == 1
    settle(one, 9)
    watched.now += 19.9
    settle(one, 3)
    assert watched.done == 1
    watched.now += 0.2
    settle(one, 3)
    assert watched.done == 2


def test_role_that_may_not_vacuum_is_not_asked_again(watched: Watched) -> None:
    watched.may = b"\0"
    one = Vacuum(watched)
    settle(one, 3)
    watched.now += 1000
    settle(one, 9)
    assert (watched.asked, watched.done) == (1, 0)


def test_settlements_go_on_while_it_vacuums_and_nobody_else_does(watched: Watched) -> None:
    watched.may_go_on.clear()
    watched.takes = 0.0
    one = Vacuum(watched)
    for _ in range(12):
        one.count()
    until(lambda: watched.done == 1)
    for _ in range(12):
        one.count()
    watched.may_go_on.set()
    until(lambda: not threads())
    assert watched.done == 1
    settle(one, 3)
    assert watched.done == 2


def test_failed_vacuum_troubles_nobody_and_is_tried_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may be away, and a process may have no thread left."""
    watched.is_away, watched.takes = True, 0.0
    one = Vacuum(watched)
    settle(one, 6)
    assert watched.done >= 1

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = watched.done
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        settle(one, 3)
    assert watched.done == before
    settle(one, 3)
    assert watched.done == before + 1
