"""No statement on the way of a job or of an entry scans a table, whatever else is in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kessel_sqlite import schema, sql

JOBS = 3_000


@pytest.fixture(scope="module")
def filled() -> Iterator[sqlite3.Connection]:
    """A table with many jobs of every state, analysed, so that the planner knows what it does."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.prepare(connection, ":memory:")
        connection.executemany(
            "INSERT INTO kessel_jobs (id, queue, state, priority, due, enqueued_at, buried_at, body)"
            " VALUES (?, ?, ?, 5, ?, 0, ?, 'x')",
            (
                (str(n), f"q{n % 3}", n % 4, 10**15 if n % 4 in (1, 2) else None, n if n % 4 == 3 else None)
                for n in range(JOBS)
            ),
        )
        connection.executemany(
            "INSERT INTO kessel_store (space, key, value, expires_at) VALUES (?, ?, x'78', ?)",
            ((f"s{n % 3}", b"%d" % n, n if n % 2 else None) for n in range(JOBS)),
        )
        yield connection


NAMES = '["q1", "q2"]'
VALUES = {"queue": "q1", "now": 5, "limit": 1, "after": -1, "after_seq": -1}

ONE, MANY = sql.claim_of(("q1",)), sql.claim_of(("q1", "q2"))

STATEMENTS: dict[str, tuple[str, Any]] = {
    "claim of one queue": (ONE.take, (9, 1, *ONE.names, 5)),
    "claim of many queues": (MANY.take, (9, 1, *MANY.names, 5)),
    "overdue in one queue": (ONE.overdue, (ONE.name, 5)),
    "overdue in many queues": (MANY.overdue, (MANY.name, 5)),
    "promote in one queue": (ONE.promote, (ONE.name, 5)),
    "promote in many queues": (MANY.promote, (MANY.name, 5)),
    "outlook": (sql.OUTLOOK, {"queues": NAMES, "now": 5}),
    "commit": (sql.COMMIT_JOB, (1, 1)),
    "rollback": (sql.ROLLBACK_JOB, (0, None, 1, 1)),
    "snooze": (sql.SNOOZE_JOB, (0, None, 1, 1)),
    "bury": (sql.BURY_JOB, ("r", "m", 1, 1, 1)),
    "extend": (sql.EXTEND_JOB, (1, 1, 1)),
    "kick": (sql.KICK, ("1", "q1")),
    "delete": (sql.DELETE, ("1", "q1", 5)),
    "find": (sql.FIND, ("x",)),
    "stats": (sql.STATS, VALUES),
    "names": (sql.QUEUES, VALUES),
    "version of an entry": (sql.ENTRY_VERSION, ("s1", b"1", 5)),
    "entry": (sql.ENTRY, ("s1", b"1", 5)),
    "entries": (sql.ENTRIES, ("s1", b"1", b"\xff", 5, 1)),
    "remove an entry": (sql.REMOVE_ENTRY, (1,)),
    "ended entries": (sql.ENDED_ENTRIES, (5, 1)),
    **{f"list of {state}": (text, VALUES) for state, text in sql.LISTS.items()},
    **{f"purge {n}": (text, VALUES) for n, text in enumerate(sql.PURGES)},
}


@pytest.mark.parametrize("is_analysed", [False, True])
@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_searches_by_an_index(filled: sqlite3.Connection, name: str, is_analysed: bool) -> None:
    statement, values = STATEMENTS[name]
    if is_analysed:
        filled.execute("ANALYZE")
    steps = [row[3] for row in filled.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert steps
    # `json_each` is the list of queues, `q`, `names`, and a subquery are what comes out of an index search.
    tables = ("kessel_jobs", "kessel_store")
    scans = [step for step in steps if step.startswith("SCAN")]
    bad = [step for step in scans if step == "SCAN j" or any(table in step for table in tables)]
    assert not bad, steps
    if "claim" in name:
        assert any("kessel_ready (queue=?)" in step for step in steps), steps
        assert not any("B-TREE" in step for step in steps) or "many" in name, steps
    if "entries" in name:
        assert not any("B-TREE" in step for step in steps), steps


@pytest.mark.parametrize(
    "name",
    [
        "claim of one queue",
        "claim of many queues",
        "outlook",
        "overdue in many queues",
        "entries",
        "ended entries",
    ],
)
def test_work_of_a_claim_does_not_grow_with_what_waits(filled: sqlite3.Connection, name: str) -> None:
    """Counted in steps of SQLite's machine, which are the same on every computer."""
    statement, values = STATEMENTS[name]
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    filled.set_progress_handler(count, 1)
    filled.execute("SAVEPOINT before")
    filled.execute(statement, values).fetchall()
    filled.execute("ROLLBACK TO before")
    filled.execute("RELEASE before")
    filled.set_progress_handler(None, 1)
    assert 0 < steps < JOBS / 4
