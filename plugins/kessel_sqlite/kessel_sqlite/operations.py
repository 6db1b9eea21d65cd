"""What operators see and do: listings, counts, and what time alone will change."""

# ruff: noqa: S608 - statements are put together from the constants of this file only

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from kessel_core.contract import JobState, QueueStats, StoredJob
from kessel_sqlite.hostclock import moment

__all__ = [
    "PURGED_AT_ONCE",
    "list_jobs",
    "next_change",
    "purge_some",
    "queue_names",
    "stats",
]

#: Rows that one transaction of a purge removes.
PURGED_AT_ONCE: Final = 5_000

_COLUMNS: Final = "id, queue, state, priority, due, attempts, enqueued_at, reason, message, buried_at, body"
_STATES: Final = (JobState.READY, JobState.DELAYED, JobState.RESERVED, JobState.BURIED)

# A delayed job that is due, and a reserved one whose lease is over, are ready although no claim has come by
# to say so in the row. Two branches, because each has its index.
_LISTS: Final = {
    JobState.READY: (
        f"SELECT {_COLUMNS} FROM (SELECT * FROM (SELECT seq, {_COLUMNS} FROM kessel_jobs WHERE state = 0"
        " AND queue = :queue ORDER BY priority, seq LIMIT :limit) UNION ALL"
        f" SELECT seq, {_COLUMNS} FROM kessel_jobs WHERE queue = :queue AND due <= :now)"
        " ORDER BY priority, seq LIMIT :limit"
    ),
    JobState.DELAYED: (
        f"SELECT {_COLUMNS} FROM kessel_jobs WHERE queue = :queue AND due > :now AND state = 1"
        " ORDER BY due, seq LIMIT :limit"
    ),
    JobState.RESERVED: (
        f"SELECT {_COLUMNS} FROM kessel_jobs WHERE queue = :queue AND due > :now AND state = 2"
        " ORDER BY due, seq LIMIT :limit"
    ),
    JobState.BURIED: (
        f"SELECT {_COLUMNS} FROM kessel_jobs WHERE queue = :queue AND state = 3"
        " ORDER BY buried_at, seq LIMIT :limit"
    ),
}

_STATS: Final = (
    "SELECT (SELECT count(*) FROM kessel_jobs WHERE queue = :queue AND state = 0)"
    " + (SELECT count(*) FROM kessel_jobs WHERE queue = :queue AND due <= :now),"
    " (SELECT count(*) FROM kessel_jobs WHERE queue = :queue AND due > :now AND state = 1),"
    " (SELECT count(*) FROM kessel_jobs WHERE queue = :queue AND due > :now AND state = 2),"
    " (SELECT count(*) FROM kessel_jobs WHERE queue = :queue AND state = 3),"
    " (SELECT until FROM kessel_pauses WHERE queue = :queue AND until > :now)"
)

_PURGES: Final = (
    "DELETE FROM kessel_jobs WHERE seq IN"
    " (SELECT seq FROM kessel_jobs WHERE queue = :queue AND state = 0 LIMIT :limit)",
    "DELETE FROM kessel_jobs WHERE seq IN (SELECT seq FROM kessel_jobs WHERE queue = :queue"
    " AND due IS NOT NULL AND (state = 1 OR due <= :now) LIMIT :limit)",
    "DELETE FROM kessel_jobs WHERE seq IN"
    " (SELECT seq FROM kessel_jobs WHERE queue = :queue AND state = 3 LIMIT :limit)",
)

# Jumps from name to name in an index instead of reading it all.
_NAMES: Final = (
    "WITH RECURSIVE names (name) AS (SELECT min(queue) FROM kessel_jobs WHERE {state} UNION ALL"
    " SELECT (SELECT min(queue) FROM kessel_jobs WHERE {state} AND queue > name) FROM names"
    " WHERE name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL"
)
_ALL_NAMES: Final = (
    " UNION ".join(
        f"SELECT * FROM ({_NAMES.format(state=state)})"
        for state in ("state = 0", "due IS NOT NULL", "state = 3")
    )
    + " UNION SELECT queue FROM kessel_pauses WHERE until > :now ORDER BY 1"
)


def list_jobs(
    connection: sqlite3.Connection, queue: str, state: JobState, limit: int, now: int
) -> list[StoredJob]:
    """Return up to `limit` jobs in that state, next one first."""
    rows = connection.execute(_LISTS[state], {"queue": queue, "limit": max(0, limit), "now": now}).fetchall()
    return [_stored(row, state) for row in rows]


def _stored(row: tuple[Any, ...], state: JobState) -> StoredJob:
    job_id, queue, _, priority, due, attempts, enqueued_at, reason, message, buried_at, body = row
    return StoredJob(
        id=job_id,
        queue=queue,
        state=state,
        body=body,
        priority=priority,
        attempt=attempts,
        enqueued_at=moment(enqueued_at),
        due=moment(due) if state in (JobState.DELAYED, JobState.RESERVED) else None,
        reason=reason,
        message=message,
        buried_at=moment(buried_at),
    )


def stats(connection: sqlite3.Connection, queue: str, now: int) -> QueueStats:
    """Count the jobs of a queue as of `now`."""
    row = connection.execute(_STATS, {"queue": queue, "now": now}).fetchone()
    ready, delayed, reserved, buried, until = row
    return QueueStats(
        queue=queue,
        ready=ready,
        delayed=delayed,
        reserved=reserved,
        buried=buried,
        paused=None if until is None else timedelta(microseconds=until - now),
    )


def queue_names(connection: sqlite3.Connection, now: int) -> list[str]:
    """Return the queues that hold a job or are paused."""
    return [row[0] for row in connection.execute(_ALL_NAMES, {"now": now}).fetchall()]


def purge_some(connection: sqlite3.Connection, queue: str, now: int) -> int:
    """Remove some thousand jobs that are ready, delayed or buried; 0 when there are none left."""
    connection.execute("BEGIN IMMEDIATE")
    values = {"queue": queue, "now": now, "limit": PURGED_AT_ONCE}
    removed = sum(connection.execute(statement, values).rowcount for statement in _PURGES)
    connection.execute("COMMIT")
    return removed


def next_change(rows: Iterable[tuple[int | None, int, int | None]]) -> int | None:
    """Return when time alone next makes a job ready, from the rows of `schema.OUTLOOK`."""
    return min(_changes(rows), default=None)


def _changes(rows: Iterable[tuple[int | None, int, int | None]]) -> Iterator[int]:
    for until, is_ready, due in rows:
        if until is None:
            if due is not None:
                yield due
        elif is_ready:
            yield until
        elif due is not None:
            yield max(until, due)
