"""What the suite cannot see: rows that are read, texts that PostgreSQL does not take, deadlocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kessel_postgres import codec, operations
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.testing import Postgres

from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Bury,
    Commit,
    Consumer,
    EnqueueRejected,
    IdHeld,
    JobState,
    LeaseLost,
    Message,
    ProtocolError,
    Put,
    Rollback,
    Snooze,
    UnknownJob,
)
from tests.outlooks import one_look_tells_of_each_queue
from tests.until import until


@pytest.fixture
def adapter(opened: Callable[..., PostgresAdapter]) -> PostgresAdapter:
    return opened(max_body_bytes=1000)


def message(job_id: str = "a", queue: str = "q", **more: Any) -> Message:
    return Message(job_id, queue, b"x", 1, **more)


@given(st.text())
def test_ids_come_back_as_they_were(job_id: str) -> None:
    job_id = job_id.encode("utf-8", "replace").decode()
    stored = codec.job_id(job_id)
    assert b"\0" not in stored
    assert codec.to_id(stored) == job_id


def test_s8_what_was_shown_as_buried_is_looked_at_and_removed_in_one_step(
    adapter: PostgresAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S8: nobody can kick it between a look and its removal, because there is no look."""
    adapter.enqueue(message())
    with closing(adapter.consumer(["q"])) as consumer:
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        consumer.settle(held, Bury("r", "m"))
    (job,) = adapter.buried("q")
    monkeypatch.setattr(PostgresAdapter, "find", lambda *_: pytest.fail("it looks first"))
    adapter.delete_shown(job)
    assert adapter.stats("q").total == 0


@given(st.timedeltas(min_value=timedelta(0)))
def test_spans_are_kept_or_cut_to_ten_thousand_years(span: timedelta) -> None:
    assert codec.to_span(codec.span(span)) == min(span, timedelta(days=3_660_000))


def test_no_statement_of_a_job_reads_more_than_its_rows(
    opened: Callable[..., PostgresAdapter], schema: str, database: psycopg.Connection
) -> None:
    """The cost of a claim does not grow with the jobs that wait, are delayed, held or buried.

    Also not where plans were made while the tables were empty.
    """
    adapter, fill = opened(), opened()
    consumer, both = adapter.consumer(["q"]), adapter.consumer(["q", "other"])
    for table in ("jobs", "ready", "timed", "held", "buried", "pauses"):
        database.execute(f'VACUUM ANALYZE "{schema}".{table}')  # so it is known that they are empty
    use_each_statement(adapter, consumer, both)
    assert adapter.purge("q") > 0
    due = datetime.now(UTC) + timedelta(hours=1)
    fill.enqueue_many([message(f"r{number}") for number in range(3000)])
    fill.enqueue_many([message(f"d{number}", delay=due) for number in range(3000)])
    database.execute(
        f'WITH gone AS (DELETE FROM "{schema}".ready WHERE seq % 2 = 0 RETURNING *)'
        f' INSERT INTO "{schema}".buried'
        " SELECT seq, queue, now(), 'r', 'm', 1, 0, 0 FROM gone"
    )
    fill.close()
    reading = "SELECT sum(seq_tup_read), sum(idx_tup_fetch) FROM pg_stat_user_tables WHERE schemaname = %s"

    def read() -> int:
        rows, by_index = database.execute(reading, (schema,)).fetchone() or (0, 0)
        return int(rows) + int(by_index)

    # A backend tells at the end of a transaction, once a second at most.
    database.execute("SELECT pg_sleep(1)")
    adapter.find("nothing")
    before = read()
    use_each_statement(adapter, consumer, both)
    adapter.close()  # its connections tell what they have read
    # A read of all rows of one table would be 1,500 at least.
    assert read() - before < 700


def use_each_statement(adapter: PostgresAdapter, consumer: Consumer, both: Consumer) -> None:
    """Use each statement, with jobs of its own that are gone or buried at the end."""
    due = datetime.now(UTC) + timedelta(hours=1)
    for number in range(7, 10):
        adapter.enqueue_many([message(f"own{number}", delay=due), message(f"more{number}")])
    adapter.enqueue_many([message(f"own{number}") for number in range(20, 30)])
    held = consumer.reserve(NO_PAUSE)
    for number, settlement in enumerate(
        (
            COMMIT,
            Rollback(),
            Snooze(timedelta(hours=1)),
            Bury("r", "m"),
            Commit(follow=(message("f"),)),
            COMMIT,
        )
    ):
        assert held is not None
        consumer.extend(held)
        held = consumer.settle_and_reserve(held, settlement)
        assert held is not None, number
    consumer.settle(held, Bury("r", "m"))
    other = both.reserve(NO_PAUSE)
    assert other is not None
    both.settle(other, COMMIT)
    adapter.enqueue(message("one"))
    with pytest.raises(IdHeld):
        adapter.enqueue(message("own7"))
    assert adapter.find("own8") is not None
    for number in range(7, 10):
        adapter.delete("q", f"own{number}")
    adapter.delete("q", "one")
    first, second = adapter.buried("q", 2)
    adapter.kick("q", first.id)
    adapter.delete_shown(second)
    assert adapter.peek("q", JobState.READY, 2)


def test_odd_reasons_and_messages_never_prevent_a_burial(adapter: PostgresAdapter) -> None:
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    consumer.settle(held, Bury("a\0", "\ud800 and \0" + "x" * 200_000))
    [job] = adapter.buried("q")
    assert job.reason == "a\\x00"
    assert job.message is not None and job.message.startswith("\\ud800 and \\x00")
    assert len(job.message) <= 100_100


def _buried(adapter: PostgresAdapter) -> list[str]:
    """Bury thirty jobs, and return their ids in that order."""
    ids = [f"j{number:03d}" for number in range(30)]
    adapter.enqueue_many([message(one) for one in ids])
    with closing(adapter.consumer(["q"])) as consumer:
        held = consumer.reserve(NO_PAUSE)
        while held is not None:
            held = consumer.settle_and_reserve(held, Bury("error", "no"))
    return ids


def test_s39_all_buried_jobs_are_met_once_a_page_at_a_time(
    opened: Callable[..., PostgresAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S39: whatever is kicked meanwhile; each page reads from an index."""
    monkeypatch.setattr(operations, "_PAGE", 7)
    adapter = opened()
    ids = _buried(adapter)
    listed = adapter.buried("q", 100)
    assert [job.id for job in adapter.each_buried("q")] == [job.id for job in listed]
    assert [attrs.asdict(job) for job in adapter.each_buried("q")] == [attrs.asdict(job) for job in listed]
    assert list(adapter.each_buried("nowhere")) == []
    kicked = []
    for job in adapter.each_buried("q"):
        adapter.kick("q", job.id)
        kicked.append(job.id)
    assert sorted(kicked) == ids
    assert adapter.stats("q").ready == 30


def test_s39_no_job_is_left_out_where_many_were_buried_at_one_moment(
    opened: Callable[..., PostgresAdapter],
    monkeypatch: pytest.MonkeyPatch,
    database: psycopg.Connection,
    schema: str,
) -> None:
    """S39: a page may end among jobs of the same time."""
    monkeypatch.setattr(operations, "_PAGE", 7)
    adapter = opened()
    ids = _buried(adapter)
    changed = database.execute(
        f'UPDATE "{schema}".buried SET buried_at = (SELECT max(buried_at) FROM "{schema}".buried)'
    )
    assert changed.rowcount == 30
    assert [job.id for job in adapter.each_buried("q")] == ids


def test_refused_follow_up_changes_nothing_and_the_lease_holds(adapter: PostgresAdapter) -> None:
    """S20"""
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    large = Message("f", "q", b"x" * 1001, 1)
    with pytest.raises(EnqueueRejected):
        consumer.settle(held, Commit(follow=(message("g"), large)))
    assert adapter.find("g") is None
    consumer.settle(held, COMMIT)


def test_late_settlement_stores_nothing_of_what_it_brings(opened: Callable[..., PostgresAdapter]) -> None:
    """S7, S20: all of it happens, or nothing."""
    adapter = opened()
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    adapter.give_back(held)
    brought = Commit(follow=(message("f"),), puts=(Put("s", "k", b"v"),))
    for settle in (adapter.settle, lambda *one: adapter.settle_and_take(*one, ("q",))):
        for settlement in (brought, COMMIT):
            with pytest.raises(LeaseLost):
                settle(held, settlement)
    assert adapter.find("f") is None
    assert adapter.store.get("s", "k") is None
    stats = adapter.stats("q")
    assert (stats.ready, stats.reserved) == (1, 0)


@pytest.mark.parametrize("queues", [["q"], ["q", "other"]])
def test_lease_that_has_ended_by_the_clock_of_the_server_is_lost(
    adapter: PostgresAdapter, schema: str, database: psycopg.Connection, queues: list[str]
) -> None:
    """S7: whatever the holder's clock says; and nothing is reserved for one who lost."""
    adapter.enqueue_many([message("a"), message("b")])
    consumer = adapter.consumer(queues)
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    database.execute(f"UPDATE \"{schema}\".held SET due = now() - interval '1 s'")
    with pytest.raises(LeaseLost):
        consumer.settle_and_reserve(held, COMMIT)
    stats = adapter.stats("q")
    assert (stats.ready, stats.reserved) == (2, 0)


def test_more_jobs_that_are_due_than_one_transaction_takes_go_in_their_order(
    adapter: PostgresAdapter, schema: str, database: psycopg.Connection
) -> None:
    """S6: the most urgent of all may be in the last portion."""
    due = datetime.now(UTC) + timedelta(hours=1)
    adapter.enqueue_many([Message(str(number), "q", b"x", 1000 - number, due) for number in range(900)])
    database.execute(f"UPDATE \"{schema}\".timed SET due = now() - seq * interval '-1 us' - interval '1 s'")
    consumer = adapter.consumer(["q"])
    first = consumer.reserve(NO_PAUSE)
    assert first is not None
    second = consumer.settle_and_reserve(first, COMMIT)
    assert second is not None
    assert (first.id, second.id) == ("899", "898")
    consumer.settle(second, COMMIT)


def test_same_id_twice_in_a_batch_is_held_by_the_first(adapter: PostgresAdapter) -> None:
    """S14"""
    outcomes = adapter.enqueue_many(
        [message("a"), message("b"), message("a"), Message("c", "q", b"x" * 1001, 1)]
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), IdHeld, EnqueueRejected]
    assert adapter.stats("q").ready == 2


def test_two_who_put_the_same_ids_in_another_order_both_get_an_answer(
    opened: Callable[..., PostgresAdapter],
) -> None:
    """Two transactions that wait for each other: one is undone, and done again."""
    adapters = [opened(), opened()]
    messages = [message(str(number)) for number in range(400)]
    outcomes: dict[int, list[Any]] = {}

    def put(number: int) -> None:
        ordered = messages if number == 0 else messages[::-1]
        outcomes[number] = adapters[number].enqueue_many(ordered)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = [type(one) for number in range(2) for one in outcomes[number]]
    assert (kinds.count(type(None)), kinds.count(IdHeld)) == (400, 400)


def test_delay_of_thousands_of_years_is_kept(adapter: PostgresAdapter) -> None:
    """S4"""
    last = datetime.max.replace(tzinfo=UTC)
    adapter.enqueue(message(delay=last))
    found = adapter.find("a")
    assert found is not None and found.due is not None
    assert found.due > last - timedelta(days=1)


def test_versions_of_an_entry_only_grow_whoever_writes(opened: Callable[..., PostgresAdapter]) -> None:
    """S19a"""
    stores = [opened().store for _ in range(3)]
    seen: list[int] = []

    def write(number: int) -> None:
        for _ in range(15):
            stores[number].put("s", "k", b"v")
            seen.append(stores[0].get("s", "k").version)  # type: ignore[union-attr]  # nobody deletes it
            if number == 2:
                stores[number].put("s", "other", b"v")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].put("s", "k", b"v") > max(seen)


def test_statement_that_failed_is_prepared_anew(
    opened: Callable[..., PostgresAdapter], schema: str, database: psycopg.Connection
) -> None:
    """What lacks names the command; once it is there again, the same connection goes on."""
    adapter = opened(connections=1)
    pids = set(adapter.database.pids)
    database.execute(f'ALTER FUNCTION "{schema}".kick_v1 RENAME TO gone')
    with pytest.raises(ProtocolError, match="kessel postgres install"):
        adapter.kick("q", "a")
    database.execute(f'ALTER FUNCTION "{schema}".gone RENAME TO kick_v1')
    for _ in range(2):
        with pytest.raises(UnknownJob):
            adapter.kick("q", "a")
    assert pids == adapter.database.pids


def test_E8_one_look_tells_of_each_queue_what_its_waiters_need(
    opened: Callable[..., PostgresAdapter],
) -> None:
    """A look that fails would connect anew each time, and wake all who wait for nothing."""
    one_look_tells_of_each_queue(opened())


def test_s14_a_notification_that_is_refused_does_not_make_what_is_done_look_undone(
    opened: Callable[..., PostgresAdapter],
) -> None:
    """As by a full queue of notifications; they have a transaction of their own, behind the other one."""
    adapter = opened()
    database = adapter.database
    database.statements = attrs.evolve(database.statements, notify=database.statements.beat)
    database.channel = b"c" * 100  # longer than a name may be
    adapter.enqueue(Message("a", "q", b"1", 5))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    consumer.settle(held, Rollback())
    again = consumer.reserve(NO_PAUSE)
    assert again is not None and again.attempt == 2
    consumer.settle(again, Bury("error"))
    adapter.kick("q", "a")
    assert adapter.store.put("s", "k", b"v") > 0
    assert adapter.stats("q").ready == 1


def test_s19_whether_an_entry_has_ended_is_seen_after_the_wait_for_its_lock(
    opened: Callable[..., PostgresAdapter], server: Postgres, schema: str
) -> None:
    adapter = opened()
    store = adapter.store
    store.put("s", "k", b"old", ttl=timedelta(seconds=0.3))
    with closing(psycopg.connect(server.url(), autocommit=True)) as other, ThreadPoolExecutor() as pool:
        other.execute("SELECT pg_advisory_lock(1800959852, hashtext('s' || chr(1) || 'k'))")
        putting = pool.submit(store.put, "s", "k", b"new", expect=0, ttl=timedelta(seconds=30))
        until(lambda: bool(_waiting_for_locks(other)))
        until(lambda: store.get("s", "k") is None)
        other.execute("SELECT pg_advisory_unlock_all()")
        assert putting.result(30) > 0
    entry = store.get("s", "k")
    assert entry is not None and entry.value == b"new"


def _waiting_for_locks(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return int(row.fetchone()[0])  # type: ignore[index]


def test_s19b_ended_entries_are_removed_at_once_again_while_there_are_more(
    adapter: PostgresAdapter, schema: str, database: psycopg.Connection
) -> None:
    """A hundred with each write, and not with one write a second: else they could become ever more."""
    table = f'"{schema}".entries'
    database.execute(
        f"INSERT INTO {table} SELECT 's', n::text, n, '', now() - interval '1 s'"
        " FROM generate_series(1, 250) n".encode()
    )
    left = []
    for _ in range(3):
        adapter.store.put("s", "k", b"v")
        left += database.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()
    assert left == [(151,), (51,), (1,)]


def test_very_large_limit_is_one_for_all(opened: Callable[..., PostgresAdapter]) -> None:
    adapter = opened()
    adapter.enqueue(Message("a", "q", b"1", 5))
    assert [job.id for job in adapter.peek("q", JobState.READY, 10**20)] == ["a"]


def test_job_that_another_makes_ready_just_now_is_deleted(
    opened: Callable[..., PostgresAdapter], server: Postgres, database: psycopg.Connection, schema: str
) -> None:
    """Its delay is over, and a reserve of another worker has not committed yet that it is ready."""
    adapter = opened(timeout=timedelta(seconds=30))
    adapter.enqueue(Message("a", "q", b"x", 1, delay=adapter.clock.now() + timedelta(seconds=0.05)))
    time.sleep(0.1)
    # A transaction sees who waits as it was at its first look, so another connection looks.
    with database.transaction(), closing(psycopg.connect(server.url(), autocommit=True)) as looking:
        database.execute(f"SELECT \"{schema}\".promote_v1(ARRAY['q'], clock_timestamp())")  # type: ignore[arg-type]  # the name is ours
        thread = threading.Thread(target=adapter.delete, args=("q", "a"))
        thread.start()
        until(lambda: looking.execute(_WAITS, (f"%{schema}%delete_v1%",)).fetchone() == (1,))
    thread.join()
    assert adapter.find("a") is None
    assert adapter.queues() == []


_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
