"""Few connections, many slots (E8): borrowed for one round trip, heard on one, nothing sent twice."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import attrs
import psycopg
import pytest
from kessel_conformance import FaultProxy
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.consumer import PostgresReservation
from kessel_postgres.link import Link, Lost
from kessel_postgres.testing import Postgres
from kessel_postgres.waiting import Poller, PostgresListener
from psycopg import sql

from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterUnavailable,
    Commit,
    EnqueueUnknown,
    IdHeld,
    LeaseLost,
    Message,
    Put,
    Rollback,
    StoreUnknown,
)
from tests.descriptors import on_standard_numbers
from tests.gone_peers import kernel_is_told, only_where_it_can_be_told
from tests.lost_answers import LostAnswer
from tests.until import until
from tests.waiting_slots import Waiting, waiting_slots

LONG = timedelta(seconds=30)


def message(job_id: str, queue: str = "q") -> Message:
    return Message(job_id, queue, b"x", 1)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    """Let slots wait in threads; returns what they got so far."""
    with waiting_slots() as wait:
        yield wait


def test_hundred_waiting_slots_hold_at_most_the_connections_that_they_may(
    opened: Callable[..., PostgresAdapter], waiting: Waiting
) -> None:
    adapter = opened(connections=3)
    got = waiting(adapter, 100)
    assert adapter.database.pool.count <= 3
    others = opened()
    assert others.enqueue_many([message(str(number)) for number in range(100)]) == [None] * 100
    until(lambda: len(got) == 100)
    assert {one.id for one in got} == {str(number) for number in range(100)}
    assert adapter.database.pool.count <= 3


def test_waiting_slots_ask_nothing(
    opened: Callable[..., PostgresAdapter],
    waiting: Waiting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter = opened()
    adapter.enqueue(message("a", "another"))  # which is ready, and nobody waits for it
    waiting(adapter, 20)
    until(lambda: adapter.database.line._planned is None)
    time.sleep(0.2)  # what the listener woke when it began
    runs: list[object] = []
    run = adapter.database.run
    monkeypatch.setattr(adapter.database, "run", lambda *a, **k: (runs.append(a), run(*a, **k))[1])
    time.sleep(1.0)
    assert len(runs) <= 1


def test_s9_a_job_that_another_gives_up_taking_is_found_although_nobody_tells_of_it(
    opened: Callable[..., PostgresAdapter],
    waiting: Waiting,
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kessel_core.contract.serverline.LOOK", 1000.0)
    adapter = opened()
    adapter.enqueue(message("a"))
    with database.transaction():
        table = sql.Identifier(adapter.options.schema, "ready")
        database.execute(sql.SQL("SELECT 1 FROM {} FOR UPDATE").format(table))
        got = waiting(adapter, 2)
        time.sleep(0.3)  # both have looked, and what woke them when the listener began is over
        assert not got
    until(lambda: got)


@pytest.mark.parametrize("queues", [("q",), ("other", "q")])
def test_s9_a_job_that_another_is_taking_holds_nobody_up(
    opened: Callable[..., PostgresAdapter], database: psycopg.Connection, queues: tuple[str, ...]
) -> None:
    adapter = opened()
    adapter.enqueue_many([message("a"), message("b")])
    with database.transaction():
        table = sql.Identifier(adapter.options.schema, "ready")
        first = sql.SQL("SELECT 1 FROM {} ORDER BY seq LIMIT 1 FOR UPDATE").format(table)
        database.execute(first)
        taken = adapter.consumer(queues).reserve(timedelta(0))
    assert taken is not None
    assert taken.id == "b"


@pytest.mark.parametrize("near", ["delay", "lease", "pause"])
def test_s9_who_waits_is_woken_by_what_is_due_first(
    opened: Callable[..., PostgresAdapter],
    waiting: Waiting,
    monkeypatch: pytest.MonkeyPatch,
    near: str,
) -> None:
    """By its own plan: nobody tells of what time alone makes ready."""
    monkeypatch.setattr("kessel_core.contract.serverline.LOOK", 1000.0)
    hour, second = timedelta(hours=1), timedelta(seconds=1)
    long, short = opened(lease=hour), opened(lease=second)
    long.enqueue(message("held"))
    assert long.consumer(["q"]).reserve(timedelta(0)) is not None
    long.enqueue(attrs.evolve(message("late"), delay=long.clock.now() + hour))
    if near == "delay":
        long.enqueue(attrs.evolve(message("soon"), delay=long.clock.now() + second))
    else:
        long.enqueue(message("soon"))
    if near == "lease":
        assert short.consumer(["q"]).reserve(timedelta(0)) is not None
    elif near == "pause":
        short.pause("q", second)
    got = waiting(long, 1)
    until(lambda: got)
    assert got[0].id == "soon"


def test_e8_the_leases_of_all_running_jobs_are_extended_by_one_statement(
    opened: Callable[..., PostgresAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = opened()
    adapter.enqueue_many([message(str(number)) for number in range(20)])
    held = []
    for _ in range(20):
        consumer = adapter.consumer(["q"])
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        held.append((consumer, taken))
    runs: list[object] = []
    run = adapter.database.run
    monkeypatch.setattr(adapter.database, "run", lambda *a, **k: (runs.append(a), run(*a, **k))[1])
    assert adapter.extend_many(held) == [None] * 20
    assert len(runs) == 1
    for consumer, _ in held:
        consumer.close()


def test_connection_that_died_is_replaced_before_anything_is_sent(
    opened: Callable[..., PostgresAdapter], database: psycopg.Connection
) -> None:
    adapter = opened(connections=1)
    adapter.enqueue(message("a"))
    (pid,) = adapter.database.pids
    database.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    adapter.enqueue(message("b"))
    assert adapter.stats("q").ready == 2


def listens(adapter: PostgresAdapter, database: psycopg.Connection) -> bool:
    listening = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1800959854 AND granted"
        " AND objid::bigint = (hashtext(%s)::bigint & 4294967295)"
    )
    return database.execute(listening, (adapter.database.channel.decode(),)).fetchone() == (1,)


def test_listener_that_died_is_replaced_and_nobody_sleeps_on(
    opened: Callable[..., PostgresAdapter],
    waiting: Waiting,
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kessel_core.contract.serverline.LOOK", 1000.0)
    adapter = opened()
    got = waiting(adapter, 2)
    until(lambda: listens(adapter, database))
    channel = adapter.database.channel.decode()
    database.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'"
        " AND classid = 1800959854 AND objid::bigint = (hashtext(%s)::bigint & 4294967295)",
        (channel,),
    )
    opened().enqueue(message("a"))  # nobody listens at this moment, so nobody is notified
    until(lambda: got)


def test_connection_on_which_listening_fails_is_closed(
    opened: Callable[..., PostgresAdapter], database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again and again, and each try would leave one behind."""
    adapter = opened()
    adapter.queues()

    def clients() -> set[int]:
        rows = database.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'")
        return {pid for (pid,) in rows}

    def is_lost(link: Link, *arguments: object) -> NoReturn:
        made.append(link.pgconn.backend_pid)
        raise Lost("no answer in time", was_sent=True)

    made: list[int] = []
    monkeypatch.setattr(Link, "run", is_lost)
    with pytest.raises(Lost, match="no answer in time"):
        PostgresListener(adapter.database.line, adapter.database, -1).connect()
    assert len(made) == 1
    until(lambda: made[0] not in clients())


def test_listener_that_hears_nothing_is_replaced(
    opened: Callable[..., PostgresAdapter], waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is cut in silence says nothing; so the listener speaks to itself."""
    from kessel_postgres.link import Link

    for name, seconds in (("LOOK", 1000.0), ("BEAT", 0.2), ("BEAT_TAKES", 0.2)):
        monkeypatch.setattr(f"kessel_core.contract.serverline.{name}", seconds)
    heard, deaf = Link.notifications, set()

    def notifications(link: Link) -> Iterator[tuple[int, str]]:
        deaf.add(link.pid) if not deaf else None
        return iter(()) if link.pid in deaf else heard(link)

    monkeypatch.setattr(Link, "notifications", notifications)
    adapter = opened()
    got = waiting(adapter, 1)
    until(lambda: deaf)
    opened().enqueue(message("a"))
    until(lambda: got)


def test_connection_whose_answer_is_late_is_not_used_again(
    opened: Callable[..., PostgresAdapter], database: psycopg.Connection, schema: str
) -> None:
    """Else the next call would read it as its own."""
    adapter = opened(connections=1)
    adapter.enqueue(message("a"))
    before = set(adapter.database.pids)
    with database.transaction():
        database.execute(f'LOCK TABLE "{schema}".jobs')
        adapter.database.seconds = 0.01
        with pytest.raises(AdapterUnavailable, match="no answer in time"):
            adapter.find("a")
    adapter.database.seconds = 10.0
    assert adapter.queues() == ["q"]
    assert not before & adapter.database.pids


@only_where_it_can_be_told
def test_f23_a_server_that_is_gone_is_noticed_within_half_a_minute(
    opened: Callable[..., PostgresAdapter],
) -> None:
    """By what the kernel was told: in milliseconds and in seconds."""
    pool = opened().database.pool
    link = pool.borrow()
    with socket.socket(fileno=os.dup(link.pgconn.socket)) as made:
        kernel_is_told(made, milliseconds=20_000)
    pool.give(link)


def test_all_connections_busy_is_an_error_in_time(opened: Callable[..., PostgresAdapter]) -> None:
    adapter = opened(connections=1, timeout=timedelta(seconds=0.2))
    link = adapter.database.pool.borrow()
    with pytest.raises(AdapterUnavailable, match="all 1 connections were busy"):
        adapter.queues()
    adapter.database.pool.give(link)
    assert adapter.queues() == []


def test_one_round_trip_a_job(
    opened: Callable[..., PostgresAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E8: the settlement of one job and the reserve of the next go out in one flush."""
    adapter = opened()
    adapter.enqueue_many([message(str(number)) for number in range(20)])
    consumer = adapter.consumer(["q"])
    reservation = consumer.reserve(NO_PAUSE)
    flushes: list[object] = []
    link = adapter.database.pool.borrow()
    run = link.run
    monkeypatch.setattr(link, "run", lambda *a: (flushes.append(a), run(*a))[1])
    adapter.database.pool.give(link)
    jobs = 0
    while reservation is not None:
        jobs += 1
        brought = Commit(follow=(message("next"),), puts=(Put("s", "k", b"v"),)) if jobs == 5 else COMMIT
        reservation = consumer.settle_and_reserve(reservation, brought)
    assert (jobs, len(flushes)) == (21, 22)  # one more for what has ended in the store
    consumer.close()


@pytest.fixture
def proxied(server: Postgres) -> Iterator[FaultProxy]:
    with closing(FaultProxy(server.port)) as proxy:
        yield proxy


@pytest.fixture
def cut(opened: Callable[..., PostgresAdapter], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    adapter = opened()
    return adapter, LostAnswer(adapter, monkeypatch)


def test_slot_that_waits_sees_what_a_call_without_an_answer_has_stored(
    opened: Callable[..., PostgresAdapter],
    waiting: Waiting,
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S9: nobody announces it, and what is notified may look like the process's own."""
    adapter = opened()
    got = waiting(adapter, 1)
    until(lambda: listens(adapter, database))
    # The line's own looks would find the job, and a late notification would tell of it.
    for name in ("look", "hear"):
        monkeypatch.setattr(adapter.line, name, lambda *told: None)
    # Its first look, when it begins to listen, is over.
    until(lambda: not any(waiter.woken for waiter in adapter.line._waiters))
    fault = LostAnswer(adapter, monkeypatch)
    fault.armed = True
    with pytest.raises(EnqueueUnknown):
        adapter.enqueue(message("a"))
    until(lambda: len(got) == 1)


def test_enqueue_without_an_answer_is_unknown_and_not_repeated(cut: tuple[Any, Any]) -> None:
    """S14"""
    adapter, fault = cut
    fault.armed = True
    with pytest.raises(EnqueueUnknown):
        adapter.enqueue(message("a"))
    assert adapter.stats("q").ready == 1
    with pytest.raises(IdHeld):
        adapter.enqueue(message("a"))
    fault.armed = True
    outcomes = adapter.enqueue_many([message("b"), message("c")])
    assert [type(outcome) for outcome in outcomes] == [EnqueueUnknown, EnqueueUnknown]


def test_batch_goes_no_further_than_a_call_without_an_answer(
    cut: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S14: what was not tried is surely not stored; a thousand jobs do not wait for a thousand time-outs."""
    monkeypatch.setattr("kessel_postgres.adapter._CHUNK", 2)
    adapter, fault = cut
    fault.armed = True
    outcomes = adapter.enqueue_many([message(name) for name in ("a", "b", "c", "d", "e", "a")])
    assert [type(outcome) for outcome in outcomes] == [EnqueueUnknown] * 2 + [AdapterUnavailable] * 4
    assert "not tried" in str(outcomes[2])
    assert adapter.stats("q").ready == 2


def test_put_without_an_answer_is_unknown(cut: tuple[Any, Any]) -> None:
    """S19"""
    adapter, fault = cut
    fault.armed = True
    with pytest.raises(StoreUnknown):
        adapter.store.put("s", "k", b"v")
    assert adapter.store.get("s", "k").value == b"v"


def test_settlement_without_an_answer_is_found_done_at_the_next_try(cut: tuple[Any, Any]) -> None:
    """S7: while its lease holds, nobody but its holder ends a delivery; so the first try has done it."""
    adapter, fault = cut
    adapter.enqueue(message("a"))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    fault.armed = True
    with pytest.raises(AdapterUnavailable):
        consumer.settle(held, COMMIT)
    with pytest.raises(LeaseLost):  # another settlement was not done
        adapter.settle(held, Rollback())
    consumer.settle(held, COMMIT)
    with pytest.raises(LeaseLost):
        consumer.settle(held, COMMIT)
    assert adapter.find("a") is None
    consumer.close()


def test_settlement_that_was_not_sent_is_not_believed_done(
    opened: Callable[..., PostgresAdapter], server: Postgres
) -> None:
    adapter = opened(connections=1, timeout=timedelta(seconds=0.2))
    adapter.enqueue(message("a"))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert isinstance(held, PostgresReservation)
    link = adapter.database.pool.borrow()
    with pytest.raises(AdapterUnavailable):
        consumer.settle(held, COMMIT)
    adapter.database.pool.give(link)
    assert held.unsure is None
    consumer.settle(held, COMMIT)
    consumer.close()


def test_server_that_does_not_answer_is_unavailable_in_time(
    proxied: FaultProxy, server: Postgres, schema: str
) -> None:
    from kessel_core import SystemClock
    from kessel_core.contract import AdapterContext

    options = server.options(schema, port=proxied.port, timeout=timedelta(seconds=0.3))
    adapter = PostgresAdapter(options, AdapterContext(clock=SystemClock()))
    with closing(psycopg.connect(server.url(), autocommit=True)) as other, other.transaction():
        other.execute(f'LOCK TABLE "{schema}".jobs')
        begun = time.monotonic()
        with pytest.raises(AdapterUnavailable, match="statement timeout"):
            adapter.enqueue(message("a"))
        assert time.monotonic() - begun < 5
    adapter.enqueue(message("a"))  # so it was not stored before
    adapter.close()


def test_child_of_a_fork_has_connections_of_its_own(opened: Callable[..., PostgresAdapter]) -> None:
    adapter = opened()
    adapter.enqueue(message("parent"))
    pids = set(adapter.database.pids)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:  # pragma: no cover - another process
        try:
            adapter.enqueue(message("child"))
            os.write(writer, b"n" if pids & adapter.database.pids else b"y")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        assert answer.read() == b"y"
    assert adapter.stats("q").ready == 2
    assert pids == adapter.database.pids


def test_parent_hears_what_its_child_stores(opened: Callable[..., PostgresAdapter], waiting: Waiting) -> None:
    """Else the child's messages would be taken for the parent's own, which it has announced itself."""
    adapter = opened()
    adapter.enqueue(message("parent", "another"))  # so that there is a connection, which the child inherits
    got = waiting(adapter, 1)
    until(lambda: adapter.database.line._planned is None)
    time.sleep(0.2)  # what the listener woke when it began
    begun = time.monotonic()
    if (child := os.fork()) == 0:  # pragma: no cover - another process
        try:
            adapter.enqueue(message("child"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    until(lambda: got)
    assert time.monotonic() - begun < 4.5  # sooner than the look in case of a loss


def test_close_wakes_all_who_wait(opened: Callable[..., PostgresAdapter], waiting: Waiting) -> None:
    adapter = opened()
    got = waiting(adapter, 3)
    adapter.close()
    adapter.close()
    with pytest.raises(AdapterUnavailable, match="closed"):
        adapter.enqueue(message("a"))
    assert got == []


def test_pooler_mode_prepares_nothing_and_finds_jobs_by_looking(
    opened: Callable[..., PostgresAdapter], waiting: Waiting, database: psycopg.Connection
) -> None:
    adapter = opened(pooler=True, connections=1)
    got = waiting(adapter, 2)
    opened(pooler=True).enqueue(message("a"))
    until(lambda: got)
    link = adapter.database.pool.borrow()
    assert link._prepared == {}
    adapter.database.pool.give(link)


def test_s4_where_nothing_is_heard_a_job_is_looked_for_when_it_becomes_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not up to a second later, which is as long as it rests where nothing comes."""
    rests: list[float] = []
    monkeypatch.setattr("kessel_postgres.waiting.nap", lambda pipe, seconds: rests.append(seconds))

    class Line:
        is_idle = False
        planned: float | None = None

        def look(self) -> bool:
            return False

    line: Any = Line()
    poller = Poller(line, 0)
    for _ in range(8):
        poller.turn()
    assert 0.5 < rests[-1] <= 1.0
    line.planned = time.monotonic() + 0.2
    poller.turn()
    assert rests[-1] <= 0.2


def test_waiting_slot_hears_of_each_way_in_which_others_make_a_job_ready(
    opened: Callable[..., PostgresAdapter], waiting: Waiting
) -> None:
    """Each from another adapter, which shares nothing with it but the server."""
    adapter, other = opened(), opened()
    operator = other.consumer(["q"])
    for number, make in enumerate(("enqueue", "delay", "rollback", "kick", "resume", "follow")):
        job = message(f"{number}")
        if make == "resume":
            other.pause("q", LONG)
            other.enqueue(job)
        elif make in ("rollback", "kick", "follow"):
            other.enqueue(job)
            held = operator.reserve(NO_PAUSE)
            assert held is not None
            if make == "kick":
                from kessel_core.contract import Bury

                operator.settle(held, Bury("r", "m"))
        got = waiting(adapter, 1)
        if make == "enqueue":
            other.enqueue(job)
        elif make == "delay":
            due = other.clock.now() + timedelta(milliseconds=50)
            other.enqueue(Message(job.id, "q", b"x", 1, due))
        elif make == "rollback":
            operator.settle(held, Rollback(timedelta(milliseconds=20)))
        elif make == "kick":
            other.kick("q", job.id)
        elif make == "resume":
            other.pause("q", NO_PAUSE)
        else:
            operator.settle(held, Commit(follow=(message("followed"),)))
        begun = time.monotonic()
        until(lambda got=got: got)
        assert time.monotonic() - begun < 4.5, make  # sooner than the look in case of a loss
        until(lambda: not adapter.line._waiters)
    operator.close()


def test_f45_no_connection_has_the_number_of_a_standard_stream(
    server: Postgres, schema: str, tmp_path: Path
) -> None:
    """A `print` of anybody would be a message to the server."""
    pipe = "from kessel_core.contract.pipes import open_pipe; ends = open_pipe()"
    assert on_standard_numbers(server.url(f"schema={schema}"), tmp_path, also=pipe) <= {"/dev/null"}
