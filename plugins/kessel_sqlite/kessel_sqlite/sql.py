"""Every statement on the tables, built from constants only; nothing here runs one.

Each finds its rows by an index, however many other jobs there are; a test checks the query plans. Statements
that run for every job use plain parameters: named ones cost a look-up each, and from Python 3.14 on numbered
ones count as named.
"""

# ruff: noqa: S608 - statements are built from the constants of this package only

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Final

import attrs

from kessel_core.contract import JobState
from kessel_sqlite.schema import BURIED, DELAYED, READY, RESERVED

__all__ = ["Claim", "claim_of", "json_names"]

BEGIN: Final = "BEGIN IMMEDIATE"
END: Final = "COMMIT"
UNDO: Final = "ROLLBACK"

# --- enqueue ---------------------------------------------------------------------------------

#: Id, queue, state, priority, due, enqueued at, body.
INSERT: Final = (
    "INSERT INTO kessel_jobs (id, queue, state, priority, due, enqueued_at, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)

#: State and due time of the job that holds an id.
HOLDER: Final = "SELECT state, due FROM kessel_jobs WHERE id = ?"

# --- reserve ---------------------------------------------------------------------------------

#: Most jobs that one transaction makes ready, so that the lock is never held for long.
PROMOTED_AT_ONCE: Final = 500

# Cast, because SQLite lets anybody store any type in any column: a body that was written as text is bytes.
_CLAIM: Final = (
    f"UPDATE kessel_jobs SET state = {RESERVED}, due = ?, token = ?, attempts = attempts + 1"
    " WHERE seq = ({next}) RETURNING seq, CAST(id AS TEXT), queue, CAST(body AS BLOB),"
    " CAST(attempts AS INTEGER), CAST(snoozes AS INTEGER), CAST(kicks AS INTEGER)"
)
_NEXT_OF_ONE: Final = (
    f"SELECT seq FROM kessel_jobs WHERE state = {READY} AND queue = ?"
    " AND NOT EXISTS (SELECT 1 FROM kessel_pauses WHERE queue = ? AND until > ?)"
    " ORDER BY priority, seq LIMIT 1"
)
# The first of each queue by its index, then the first of those; CROSS JOIN fixes the order of the loops.
_NEXT_OF_MANY: Final = (
    "SELECT j.seq FROM json_each(?) AS q CROSS JOIN kessel_jobs AS j ON j.seq ="
    f" (SELECT seq FROM kessel_jobs WHERE state = {READY} AND queue = q.value ORDER BY priority, seq LIMIT 1)"
    " WHERE NOT EXISTS (SELECT 1 FROM kessel_pauses WHERE queue = q.value AND until > ?)"
    " ORDER BY j.priority, j.seq LIMIT 1"
)
_DUE_OF_ONE: Final = "FROM kessel_jobs WHERE queue = ? AND due <= ?"
_DUE_OF_MANY: Final = (
    "FROM json_each(?) AS q CROSS JOIN kessel_jobs AS j WHERE j.queue = q.value AND j.due <= ?"
)
_PROMOTE: Final = (
    f"UPDATE kessel_jobs SET state = {READY}, due = NULL, token = NULL"
    f" WHERE seq IN (SELECT seq {{due}} LIMIT {PROMOTED_AT_ONCE})"
)


@attrs.frozen
class Claim:
    """The statements that reserve the next job of some queues, with the parameters that name the queues."""

    #: Finds a job that became due but is not marked ready yet. Parameters: `name`, now.
    overdue: str
    #: Marks up to `PROMOTED_AT_ONCE` such jobs ready. Parameters: `name`, now.
    promote: str
    #: Reserves the next job. Parameters: end of the lease, token, each of `names`, now.
    take: str
    #: The name of the only queue, or all names as `json_names` formats them.
    name: str
    #: The same, as often as `take` needs it.
    names: tuple[str, ...]
    #: All names as `OUTLOOK` takes them.
    json: str


@functools.lru_cache(maxsize=64)
def claim_of(queues: tuple[str, ...]) -> Claim:
    """Return the statements for these queues; those for a single queue are cheaper."""
    names = json_names(queues)
    if len(queues) == 1:
        return Claim(
            f"SELECT 1 {_DUE_OF_ONE} LIMIT 1",
            _PROMOTE.format(due=_DUE_OF_ONE),
            _CLAIM.format(next=_NEXT_OF_ONE),
            queues[0],
            queues * 2,
            names,
        )
    return Claim(
        f"SELECT 1 {_DUE_OF_MANY} LIMIT 1",
        _PROMOTE.format(due=_DUE_OF_MANY),
        _CLAIM.format(next=_NEXT_OF_MANY),
        names,
        (names,),
        names,
    )


def json_names(queues: Sequence[str]) -> str:
    """Format queue names for the statements over several queues."""
    return json.dumps(list(queues))


#: For each queue: end of its pause, whether it has a ready job, when the next one becomes due.
OUTLOOK: Final = (
    "SELECT (SELECT until FROM kessel_pauses WHERE queue = q.value AND until > :now),"
    f" EXISTS (SELECT 1 FROM kessel_jobs WHERE state = {READY} AND queue = q.value)"
    " OR EXISTS (SELECT 1 FROM kessel_jobs WHERE queue = q.value AND due <= :now),"
    " (SELECT min(due) FROM kessel_jobs WHERE queue = q.value AND due > :now)"
    " FROM json_each(:queues) AS q"
)

# --- settle ----------------------------------------------------------------------------------

# The token is enough for fencing: it is random for every delivery, and removed by whoever sees first that the
# lease has ended. No time is compared here: a holder knows its deadline by the monotonic clock, and a wall
# clock that was just set must not refuse what is settled in time.
_HELD: Final = "WHERE seq = ? AND token = ?"

COMMIT_JOB: Final = f"DELETE FROM kessel_jobs {_HELD}"
#: State, due.
ROLLBACK_JOB: Final = f"UPDATE kessel_jobs SET state = ?, due = ?, token = NULL {_HELD}"
#: State, due. The delivery is not counted as an attempt (S21).
SNOOZE_JOB: Final = (
    "UPDATE kessel_jobs SET state = ?, due = ?, token = NULL, attempts = attempts - 1, snoozes = snoozes + 1"
    f" {_HELD}"
)
#: Reason, message, buried at.
BURY_JOB: Final = (
    f"UPDATE kessel_jobs SET state = {BURIED}, due = NULL, token = NULL, reason = ?, message = ?,"
    f" buried_at = ? {_HELD}"
)
#: Due.
EXTEND_JOB: Final = f"UPDATE kessel_jobs SET due = ? {_HELD}"

# --- operations ------------------------------------------------------------------------------

#: Most rows that each statement of a purge removes.
PURGED_AT_ONCE: Final = 5_000

_COLUMNS: Final = "id, queue, priority, due, attempts, snoozes, enqueued_at, reason, message, buried_at, body"
#: The same, each of the type that it should have.
_SHOWN: Final = (
    "CAST(id AS TEXT), queue, CAST(priority AS INTEGER), CAST(due AS INTEGER), CAST(attempts AS INTEGER),"
    " CAST(snoozes AS INTEGER), CAST(enqueued_at AS INTEGER), CAST(reason AS TEXT), CAST(message AS TEXT),"
    " CAST(buried_at AS INTEGER), CAST(body AS BLOB)"
)

#: The column by which the jobs of a state are listed, before `seq`.
_ORDER: Final = {
    JobState.READY: "priority",
    JobState.DELAYED: "due",
    JobState.RESERVED: "due",
    JobState.BURIED: "buried_at",
}
#: Comes before every job of a list.
FROM_THE_START: Final = (-1, -1)


def _listed(state: JobState, where: str) -> str:
    """Select the jobs behind `after` and `after_seq`, up to `limit`."""
    order = _ORDER[state]
    return (
        f"SELECT seq, {_COLUMNS} FROM kessel_jobs WHERE {where} AND queue = :queue"
        f" AND ({order}, seq) > (:after, :after_seq) ORDER BY {order}, seq LIMIT :limit"
    )


def _list_of(state: JobState, *wheres: str) -> str:
    # A branch for each condition, because each has its own index.
    found = " UNION ALL ".join(f"SELECT * FROM ({_listed(state, where)})" for where in wheres)
    order = _ORDER[state]
    return f"SELECT {_SHOWN}, CAST({order} AS INTEGER), seq FROM ({found}) ORDER BY {order}, seq LIMIT :limit"


#: For each state, up to `limit` jobs of a queue, next one first, from behind a place on; the last two columns
#: are the place of each. A delayed job that is due, and a reserved one whose lease is over, are ready even
#: before a claim marks them so.
LISTS: Final = {
    JobState.READY: _list_of(JobState.READY, f"state = {READY}", "due <= :now"),
    JobState.DELAYED: _list_of(JobState.DELAYED, f"due > :now AND state = {DELAYED}"),
    JobState.RESERVED: _list_of(JobState.RESERVED, f"due > :now AND state = {RESERVED}"),
    JobState.BURIED: _list_of(JobState.BURIED, f"state = {BURIED}"),
}

#: Id.
FIND: Final = f"SELECT {_SHOWN}, state, due FROM kessel_jobs WHERE id = ?"

#: Ready, delayed, reserved, buried, end of the pause.
STATS: Final = (
    f"SELECT (SELECT count(*) FROM kessel_jobs WHERE queue = :queue AND state = {READY})"
    " + (SELECT count(*) FROM kessel_jobs WHERE queue = :queue AND due <= :now),"
    f" (SELECT count(*) FROM kessel_jobs WHERE queue = :queue AND due > :now AND state = {DELAYED}),"
    f" (SELECT count(*) FROM kessel_jobs WHERE queue = :queue AND due > :now AND state = {RESERVED}),"
    f" (SELECT count(*) FROM kessel_jobs WHERE queue = :queue AND state = {BURIED}),"
    " (SELECT until FROM kessel_pauses WHERE queue = :queue AND until > :now)"
)

#: Together they remove `limit` jobs of each state except reserved; queue, now, limit.
PURGES: Final = tuple(
    f"DELETE FROM kessel_jobs WHERE seq IN (SELECT seq FROM kessel_jobs WHERE queue = :queue AND {which}"
    " LIMIT :limit)"
    for which in (
        f"state = {READY}",
        f"due IS NOT NULL AND (state = {DELAYED} OR due <= :now)",
        f"state = {BURIED}",
    )
)

# Jumps from name to name in an index, instead of scanning it.
_NAMES: Final = (
    "WITH RECURSIVE names (name) AS (SELECT min(queue) FROM kessel_jobs WHERE {which} UNION ALL"
    " SELECT (SELECT min(queue) FROM kessel_jobs WHERE {which} AND queue > name) FROM names"
    " WHERE name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL"
)
#: The queues that hold a job or are paused; now.
QUEUES: Final = (
    " UNION ".join(
        f"SELECT * FROM ({_NAMES.format(which=which)})"
        for which in (f"state = {READY}", "due IS NOT NULL", f"state = {BURIED}")
    )
    + " UNION SELECT queue FROM kessel_pauses WHERE until > :now ORDER BY 1"
)

#: Id, queue.
KICK: Final = (
    f"UPDATE kessel_jobs SET state = {READY}, attempts = 0, kicks = kicks + 1, reason = NULL, message = NULL,"
    " buried_at = NULL"
    f" WHERE id = ? AND queue = ? AND state = {BURIED}"
)
#: Id, queue, now.
DELETE: Final = f"DELETE FROM kessel_jobs WHERE id = ? AND queue = ? AND (state <> {RESERVED} OR due <= ?)"
#: Id, queue.
DELETE_BURIED: Final = f"DELETE FROM kessel_jobs WHERE id = ? AND queue = ? AND state = {BURIED}"
#: Queue, until.
PAUSE: Final = "INSERT OR REPLACE INTO kessel_pauses VALUES (?, ?)"
#: Queue.
RESUME: Final = "DELETE FROM kessel_pauses WHERE queue = ?"

# --- entries (S19) ---------------------------------------------------------------------------

#: Most ended entries, and about how many bytes of them, that one transaction removes.
ENDED_AT_ONCE: Final = 100
ENDED_BYTES_AT_ONCE: Final = 1024 * 1024

_ALIVE: Final = "(expires_at IS NULL OR expires_at > ?)"
#: Space, key, now.
ENTRY_VERSION: Final = f"SELECT version FROM kessel_store WHERE space = ? AND key = ? AND {_ALIVE}"
#: Space, key, now.
ENTRY: Final = (
    f"SELECT key, version, value, expires_at FROM kessel_store WHERE space = ? AND key = ? AND {_ALIVE}"
)
#: Space, first key, end of the keys, now, limit.
ENTRIES: Final = (
    "SELECT key, version, value, expires_at FROM kessel_store WHERE space = ? AND key >= ? AND key < ?"
    f" AND {_ALIVE} ORDER BY key LIMIT ?"
)
#: Space, key, value, expires at. The row that it replaces is removed, so the version is a new one.
PUT_ENTRY: Final = "INSERT OR REPLACE INTO kessel_store (space, key, value, expires_at) VALUES (?, ?, ?, ?)"
#: Version.
REMOVE_ENTRY: Final = "DELETE FROM kessel_store WHERE version = ?"
#: Now, limit. The length of a value is known without reading it.
ENDED_ENTRIES: Final = (
    "SELECT version, length(value) FROM kessel_store WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"
)

# --- the file --------------------------------------------------------------------------------

#: Inode.
IS_MARKED: Final = "SELECT value = ? FROM kessel_meta WHERE key = 'inode'"
MARK: Final = "INSERT OR REPLACE INTO kessel_meta VALUES ('inode', ?)"

# --- the clock -------------------------------------------------------------------------------

CLOCK: Final = "SELECT value FROM kessel_meta WHERE key = 'clock'"
SET_CLOCK: Final = "INSERT OR REPLACE INTO kessel_meta VALUES ('clock', ?)"
#: By how many microseconds.
MOVE_LEASES: Final = f"UPDATE kessel_jobs SET due = due + ? WHERE state = {RESERVED} AND due IS NOT NULL"
