"""The tables, their versions, and every statement that the road of a job uses.

All names begin with `kessel_`, and the version is a row and not `PRAGMA user_version`, because the file may
be the application's own: its tables, its `user_version` and its `application_id` stay untouched.

Times are whole microseconds of the wall clock, in UTC. `due` is set exactly while time alone will make a job
ready: for a delayed job its delay, for a reserved one the end of its lease. One index holds both, so that an
ordinary claim pays one probe for all that became due.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from kessel_core.contract import ProtocolError

__all__ = [
    "BURIED",
    "DELAYED",
    "MIGRATIONS",
    "READY",
    "RESERVED",
    "VERSION",
    "json_names",
    "prepare",
    "version_of",
]

READY: Final = 0
DELAYED: Final = 1
RESERVED: Final = 2
BURIED: Final = 3

_FIRST: Final = """
CREATE TABLE kessel_meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE kessel_jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    queue TEXT NOT NULL,
    state INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER,
    token INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    enqueued_at INTEGER NOT NULL,
    buried_at INTEGER,
    reason TEXT,
    message TEXT,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX kessel_by_id ON kessel_jobs (id);
CREATE INDEX kessel_ready ON kessel_jobs (queue, priority) WHERE state = 0;
CREATE INDEX kessel_due ON kessel_jobs (queue, due) WHERE due IS NOT NULL;
CREATE INDEX kessel_buried ON kessel_jobs (queue, buried_at) WHERE state = 3;
CREATE TABLE kessel_pauses (queue TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE kessel_results (
    id TEXT PRIMARY KEY, queue TEXT NOT NULL, finished_at INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE INDEX kessel_results_by_age ON kessel_results (finished_at)
"""

#: Script `n` brings a file from version `n` to `n + 1`; version 0 is a file without our tables.
MIGRATIONS: Final[tuple[str, ...]] = (_FIRST,)
#: The version that this release reads and writes.
VERSION: Final = len(MIGRATIONS)

INSERT: Final = (
    "INSERT INTO kessel_jobs (id, queue, state, priority, due, enqueued_at, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)

_CLAIM: Final = (
    "UPDATE kessel_jobs SET state = 2, due = ?, token = ?, attempts = attempts + 1"
    " WHERE seq = ({next}) RETURNING seq, id, queue, body, attempts"
)
_NEXT_OF_ONE: Final = (
    "SELECT seq FROM kessel_jobs WHERE state = 0 AND queue = ?"
    " AND NOT EXISTS (SELECT 1 FROM kessel_pauses WHERE queue = ? AND until > ?)"
    " ORDER BY priority, seq LIMIT 1"
)
# The best of each queue by its index, then the best of those; CROSS JOIN fixes that order of loops.
_NEXT_OF_MANY: Final = (
    "SELECT j.seq FROM json_each(?) AS q CROSS JOIN kessel_jobs AS j ON j.seq ="
    " (SELECT seq FROM kessel_jobs WHERE state = 0 AND queue = q.value ORDER BY priority, seq LIMIT 1)"
    " WHERE NOT EXISTS (SELECT 1 FROM kessel_pauses WHERE queue = q.value AND until > ?)"
    " ORDER BY j.priority, j.seq LIMIT 1"
)
# Plain parameters: named ones cost a lookup each, and numbered ones count as named from Python 3.14 on.
#: Take the best job; the parameters are lease end, token, queue, queue again, now.
CLAIM_ONE: Final = _CLAIM.format(next=_NEXT_OF_ONE)
#: The same of several queues: lease end, token, JSON array of queues, now.
CLAIM_MANY: Final = _CLAIM.format(next=_NEXT_OF_MANY)

#: Is there a job that became due and still waits among the timed ones? Queue or queues, now.
OVERDUE_ONE: Final = "SELECT 1 FROM kessel_jobs WHERE queue = ? AND due <= ? LIMIT 1"
OVERDUE_MANY: Final = (
    "SELECT 1 FROM json_each(?) AS q CROSS JOIN kessel_jobs AS j"
    " WHERE j.queue = q.value AND j.due <= ? LIMIT 1"
)

#: Jobs that one transaction makes ready at most, so that the lock is never held for long.
PROMOTED_AT_ONCE: Final = 500
_PROMOTE: Final = "UPDATE kessel_jobs SET state = 0, due = NULL, token = NULL WHERE seq IN ({due} LIMIT 500)"
PROMOTE_ONE: Final = _PROMOTE.format(due="SELECT seq FROM kessel_jobs WHERE queue = ? AND due <= ?")
PROMOTE_MANY: Final = _PROMOTE.format(
    due="SELECT j.seq FROM json_each(?) AS q CROSS JOIN kessel_jobs AS j"
    " WHERE j.queue = q.value AND j.due <= ?"
)

#: Of each queue: end of its pause, has it a ready job, when is the next one due by time alone.
OUTLOOK: Final = (
    "SELECT (SELECT until FROM kessel_pauses WHERE queue = q.value AND until > :now),"
    " EXISTS (SELECT 1 FROM kessel_jobs WHERE state = 0 AND queue = q.value)"
    " OR EXISTS (SELECT 1 FROM kessel_jobs WHERE queue = q.value AND due <= :now),"
    " (SELECT min(due) FROM kessel_jobs WHERE queue = q.value AND due > :now)"
    " FROM json_each(:queues) AS q"
)

# The token alone fences: it is drawn at random for every delivery, and gone once the lease was ended.
COMMIT: Final = "DELETE FROM kessel_jobs WHERE seq = ? AND token = ?"
ROLLBACK: Final = "UPDATE kessel_jobs SET state = ?, due = ?, token = NULL WHERE seq = ? AND token = ?"
BURY: Final = (
    "UPDATE kessel_jobs SET state = 3, due = NULL, token = NULL, reason = ?, message = ?, buried_at = ?"
    " WHERE seq = ? AND token = ?"
)
EXTEND: Final = "UPDATE kessel_jobs SET due = ? WHERE seq = ? AND token = ?"


def json_names(queues: Sequence[str]) -> str:
    """Return names of queues as the statements over several queues take them."""
    return json.dumps(list(queues))


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of our tables in the file; 0 if there are none."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'kessel_meta'").fetchone() is None:
        return 0
    row = connection.execute("SELECT value FROM kessel_meta WHERE key = 'schema'").fetchone()
    return int(row[0]) if row is not None else 0


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make or migrate our tables; does not write if they are current.

    Raises:
        ProtocolError: A newer kessel wrote the file.
    """
    if _known(connection, path) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another process may have migrated meanwhile.
        for script in MIGRATIONS[_known(connection, path) :]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO kessel_meta VALUES ('schema', ?)", (VERSION,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _known(connection: sqlite3.Connection, path: str) -> int:
    version = version_of(connection)
    if version > VERSION:
        raise ProtocolError(
            f"{path}: its tables have version {version}, this release of kessel-sqlite knows up to {VERSION};"
            " update kessel-sqlite, or use another file"
        )
    return version
