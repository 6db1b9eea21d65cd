"""The tables, their versions, and their migrations; every other statement is in `sql`.

All names begin with `kessel_`, and the version is a row and not `PRAGMA user_version`, because the file may
be the application's own: its tables, its `user_version` and its `application_id` stay untouched.

Times are whole microseconds of the wall clock, in UTC. `due` is set as long as time alone will make a job
ready: for a delayed job it is the end of the delay, for a reserved one the end of the lease. One index holds
both, so that a claim needs only one look-up for all jobs that became due.

Keys of entries are bytes of UTF-8: these are compared byte by byte, which is the order of the code points,
whatever encoding the file has for text. Versions come from one sequence of the whole file, so that none is
used twice, also not after a delete.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from kessel_core.contract import JobState, ProtocolError

__all__ = [
    "BURIED",
    "DELAYED",
    "MIGRATIONS",
    "READY",
    "RESERVED",
    "STATES",
    "VERSION",
    "is_without_tables",
    "prepare",
    "version_of",
]

# The values of the column `state`.
READY: Final = 0
DELAYED: Final = 1
RESERVED: Final = 2
BURIED: Final = 3
#: The state that each value says, as far as time has not ended it.
STATES: Final = {
    READY: JobState.READY,
    DELAYED: JobState.DELAYED,
    RESERVED: JobState.RESERVED,
    BURIED: JobState.BURIED,
}

_FIRST: Final = f"""
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
CREATE INDEX kessel_ready ON kessel_jobs (queue, priority) WHERE state = {READY};
CREATE INDEX kessel_due ON kessel_jobs (queue, due) WHERE due IS NOT NULL;
CREATE INDEX kessel_buried ON kessel_jobs (queue, buried_at) WHERE state = {BURIED};
CREATE TABLE kessel_pauses (queue TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE kessel_results (
    id TEXT PRIMARY KEY, queue TEXT NOT NULL, finished_at INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE INDEX kessel_results_by_age ON kessel_results (finished_at)
"""

#: Deliveries that do not count as attempts (S21).
_SNOOZES: Final = "ALTER TABLE kessel_jobs ADD COLUMN snoozes INTEGER NOT NULL DEFAULT 0"

#: Small facts beside the jobs (S19).
_ENTRIES: Final = """
CREATE TABLE kessel_store (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    space TEXT NOT NULL CHECK (typeof(space) = 'text'),
    key BLOB NOT NULL CHECK (typeof(key) = 'blob'),
    value BLOB NOT NULL CHECK (typeof(value) = 'blob'),
    expires_at INTEGER CHECK (typeof(expires_at) IN ('integer', 'null'))
);
CREATE UNIQUE INDEX kessel_store_by_key ON kessel_store (space, key);
CREATE INDEX kessel_store_by_end ON kessel_store (expires_at) WHERE expires_at IS NOT NULL
"""

#: How many times a job was made ready again after a burial (S22). Results are entries of the store now (S25).
_KICKS: Final = """
ALTER TABLE kessel_jobs ADD COLUMN kicks INTEGER NOT NULL DEFAULT 0;
DROP TABLE kessel_results
"""

#: Script `n` migrates a file from version `n` to `n + 1`; version 0 is a file without our tables.
MIGRATIONS: Final[tuple[str, ...]] = (_FIRST, _SNOOZES, _ENTRIES, _KICKS)
#: The version that this release reads and writes.
VERSION: Final = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of our tables in the file; 0 if there are none."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'kessel_meta'").fetchone() is None:
        return 0
    row = connection.execute("SELECT value FROM kessel_meta WHERE key = 'schema'").fetchone()
    return int(row[0]) if row is not None else 0


def is_without_tables(path: Path) -> bool:
    """Whether a file surely has none of our tables, as one of an application that requested no job yet.

    Nothing is written. False if that cannot be seen: the error of opening the file says more then.

    Args:
        path: The absolute path of a file that is there.
    """
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return version_of(connection) == 0
    except (sqlite3.Error, ValueError):  # a version that is no number
        return False


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Create or migrate our tables; does not write if they are current.

    Raises:
        ProtocolError: A newer kessel wrote the file.
    """
    if _known(connection, path) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again under the lock, because another process may have migrated meanwhile.
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
