"""Every statement, for one schema; nothing here runs one. The functions that they call are in `v1.sql`."""

# ruff: noqa: S608 - statements are built from the constants of this package only

from __future__ import annotations

import functools
from typing import Final

import attrs

from kessel_core.contract import JobState
from kessel_postgres.codec import (
    BOOL,
    BYTES,
    INT,
    LONG,
    LONGS,
    MANY_BYTES,
    MOMENT,
    SPAN,
    SPANS,
    TEXT,
    TEXTS,
)
from kessel_postgres.link import Statement

__all__ = ["INSTANCE", "Statements", "channel_of", "statements_of"]

#: Tells the database of a connection from its copies, whose tables are the same: a restored dump has another
#: server or another name, a copy of all the data another server. Everybody may ask, and an address says
#: nothing behind a pooler. A server that is started anew has another one.
INSTANCE: Final = (
    "pg_catalog.concat_ws('/', pg_catalog.current_database(),"
    " extract(epoch FROM pg_catalog.pg_postmaster_start_time()))"
)
#: As JSON, because a table of that name may be somebody else's and have other columns.
_META: Final = f"""
SELECT to_jsonb(m) ->> 'key', to_jsonb(m) ->> 'value' FROM s.meta m
 WHERE to_jsonb(m) ->> 'key' IN ('version', 'readable_from', 'id')
UNION ALL SELECT 'instance', {INSTANCE}"""

#: What operators see of a job; each list adds where its jobs are.
_SHOWN: Final = (
    "j.id, j.queue, j.body, j.priority, {0}.attempts, {0}.snoozes, j.enqueued_at, {1}, {2}, {3}, {4}"
)
_NONE: Final = ("NULL::timestamptz", "NULL::text", "NULL::text", "NULL::timestamptz")
#: Asked once for each statement; as a plain call it would be asked for each row, and no index used.
_NOW: Final = "(SELECT clock_timestamp())"


#: The lock that all who listen on a channel share; whoever gets it alone knows that nobody does. For a
#: notification costs a third of an enqueue. One who begins to listen takes the lock first, and looks then: so
#: whatever was stored before is seen.
_HEARD: Final = "(1800959854, hashtext($1))"


def channel_of(schema: str) -> str:
    """Return the channel on which the processes that use a schema notify each other."""
    return f"kessel_{schema}"


def _shown(
    table: str, due: str = _NONE[0], reason: str = _NONE[1], message: str = _NONE[2], at: str = _NONE[3]
) -> str:
    return _SHOWN.format(table, due, reason, message, at)


#: The bodies of a few jobs; see `v1.sql` for why it is no mere join.
_BODIES: Final = "CROSS JOIN LATERAL (SELECT * FROM s.jobs j WHERE j.seq = x.seq LIMIT 1) j"
_OVERDUE: Final = (
    f"SELECT {_shown('x')}, j.priority p, j.seq FROM s.{{0}} x JOIN s.jobs j USING (seq)"
    f" WHERE x.queue = $1 AND x.due <= {_NOW}"
)
# Queue, limit. A delayed job that is due, and a reserved one whose lease is over, are ready.
_LISTS: Final = {
    JobState.READY: (
        f"(SELECT {_shown('y')}, j.priority p, j.seq FROM (SELECT * FROM s.ready WHERE queue = $1"
        " ORDER BY priority, seq LIMIT $2) y JOIN s.jobs j USING (seq)) UNION ALL "
        + " UNION ALL ".join(_OVERDUE.format(table) for table in ("timed", "held"))
        + " ORDER BY p, seq LIMIT $2"
    ),
    JobState.DELAYED: (
        f"SELECT {_shown('x', 'x.due')} FROM (SELECT * FROM s.timed WHERE queue = $1 AND due > {_NOW}"
        f" ORDER BY due, seq LIMIT $2) x {_BODIES} ORDER BY x.due, x.seq"
    ),
    JobState.RESERVED: (
        f"SELECT {_shown('x', 'x.due')} FROM (SELECT * FROM s.held WHERE queue = $1 AND due > {_NOW}"
        f" ORDER BY due, seq LIMIT $2) x {_BODIES} ORDER BY x.due, x.seq"
    ),
    JobState.BURIED: (
        f"SELECT {_shown('x', _NONE[0], 'x.reason', 'x.message', 'x.buried_at')} FROM (SELECT * FROM s.buried"
        f" WHERE queue = $1 ORDER BY buried_at, seq LIMIT $2) x {_BODIES} ORDER BY x.buried_at, x.seq"
    ),
}

# Queue, limit, time and number of the last one of the page before; the number is the last column.
_BURIED_PAGE: Final = (
    f"SELECT {_shown('x', _NONE[0], 'x.reason', 'x.message', 'x.buried_at')}, x.seq"
    " FROM (SELECT * FROM s.buried WHERE queue = $1 AND (buried_at, seq) > ($3, $4)"
    " ORDER BY buried_at, seq LIMIT $2) x"
    f" {_BODIES} ORDER BY x.buried_at, x.seq"
)

# Id; the state is the last column.
_FIND: Final = (
    "SELECT j.id, j.queue, j.body, j.priority, coalesce(y.attempts, t.attempts, h.attempts, b.attempts),"
    " coalesce(y.snoozes, t.snoozes, h.snoozes, b.snoozes), j.enqueued_at, coalesce(t.due, h.due),"
    " b.reason, b.message, b.buried_at, CASE WHEN h.due > n.now THEN 'reserved'"
    " WHEN t.due > n.now THEN 'delayed' WHEN b.seq IS NOT NULL THEN 'buried' ELSE 'ready' END"
    " FROM s.jobs j CROSS JOIN (SELECT clock_timestamp() AS now) n"
    " LEFT JOIN s.ready y ON y.queue = j.queue AND y.priority = j.priority AND y.seq = j.seq"
    " LEFT JOIN s.timed t ON t.seq = j.seq LEFT JOIN s.held h ON h.seq = j.seq"
    " LEFT JOIN s.buried b ON b.seq = j.seq WHERE j.id = $1"
)

# Queue: ready, delayed, reserved, buried, what is left of a pause.
_STATS: Final = (
    "SELECT (SELECT count(*) FROM s.ready WHERE queue = $1)"
    " + (SELECT count(*) FROM s.timed WHERE queue = $1 AND due <= n.now)"
    " + (SELECT count(*) FROM s.held WHERE queue = $1 AND due <= n.now),"
    " (SELECT count(*) FROM s.timed WHERE queue = $1 AND due > n.now),"
    " (SELECT count(*) FROM s.held WHERE queue = $1 AND due > n.now),"
    " (SELECT count(*) FROM s.buried WHERE queue = $1),"
    " (SELECT until - n.now FROM s.pauses WHERE queue = $1 AND until > n.now)"
    " FROM (SELECT clock_timestamp() AS now) n"
)

# Jumps from name to name in an index, instead of reading it.
_NAMES: Final = (
    "WITH RECURSIVE names (name) AS (SELECT min(queue) FROM s.{0} UNION ALL"
    " SELECT (SELECT min(queue) FROM s.{0} WHERE queue > name) FROM names WHERE name IS NOT NULL)"
    " SELECT name FROM names WHERE name IS NOT NULL"
)
_QUEUES: Final = (
    " UNION ".join(
        f"SELECT * FROM ({_NAMES.format(table)}) {table}" for table in ("ready", "timed", "held", "buried")
    )
    + " UNION SELECT queue FROM s.pauses WHERE until > (SELECT clock_timestamp()) ORDER BY 1"
)

_ALIVE: Final = "(expires_at IS NULL OR expires_at > clock_timestamp())"


# What `step` does for a commit in one queue, as one statement, which costs a third less than the functions:
# most jobs end so. Where a job is to be made ready first, or the queue is paused, it takes nothing and says
# so (`busy`). The next job is claimed only if the last one was held, and all of it is one transaction.
# The moment is `statement_timestamp()`, when the server got the call: unlike `clock_timestamp()` it
# is one for the whole statement, and a condition of an index as it stands. To ask once for the other, and to
# hand it on from there, was a fifth of what the statement cost the server.
# Seq, token, queue, lease, new token.
_FAST: Final = """
WITH g AS MATERIALIZED (SELECT
  EXISTS (SELECT 1 FROM s.pauses p WHERE p.queue = $3 AND p.until > statement_timestamp())
  OR EXISTS (SELECT 1 FROM s.timed x WHERE x.queue = $3 AND x.due <= statement_timestamp())
  OR EXISTS (SELECT 1 FROM s.held x WHERE x.queue = $3 AND x.due <= statement_timestamp()) AS busy),
d AS MATERIALIZED (
  DELETE FROM s.held WHERE seq = $1 AND token = $2 AND due > statement_timestamp() RETURNING seq),
e AS (DELETE FROM s.jobs WHERE seq = (SELECT seq FROM d)),
c AS (DELETE FROM s.ready r WHERE r.ctid = ANY (
  CASE WHEN (SELECT busy FROM g) OR NOT EXISTS (SELECT 1 FROM d) THEN NULL ELSE ARRAY(
    SELECT y.ctid FROM s.ready y WHERE y.queue = $3
      ORDER BY y.priority, y.seq LIMIT 1 FOR UPDATE SKIP LOCKED) END)
  RETURNING r.seq, r.attempts, r.snoozes, r.kicks),
h AS (INSERT INTO s.held
  SELECT c.seq, $5, $3, statement_timestamp() + $4, c.attempts + 1, c.snoozes, c.kicks FROM c)
SELECT EXISTS (SELECT 1 FROM d), CASE WHEN (SELECT busy FROM g) THEN interval '0' END,
  j.seq, j.id, $3, j.body, c.attempts + 1, c.snoozes, c.kicks
  FROM (VALUES (1)) v LEFT JOIN (c JOIN s.jobs j ON j.seq = (SELECT o.seq FROM c o)) ON true"""

# Makes ready what is held under tokens, as if it had not been taken: the answers of those reserves were lost.
# Tokens, queues. There are as many rows in `held` as running jobs.
_GIVE_BACK: Final = """
WITH h AS (
  DELETE FROM s.held WHERE queue = ANY ($2) AND token = ANY ($1)
  RETURNING seq, token, queue, attempts, snoozes, kicks),
r AS (INSERT INTO s.ready
  SELECT h.queue, j.priority, h.seq, h.attempts - 1, h.snoozes, h.kicks
    FROM h JOIN s.jobs j ON j.seq = h.seq AND j.seq = ANY (ARRAY(SELECT o.seq FROM h o)))
SELECT token, queue FROM h"""

# Removes a job if it is buried: who kicks it at the same time waits for this, or this for him.
_DELETE_BURIED: Final = """
WITH b AS (
  DELETE FROM s.buried WHERE seq = (SELECT j.seq FROM s.jobs j WHERE j.id = $2 AND j.queue = $1)
  RETURNING seq)
DELETE FROM s.jobs WHERE seq = (SELECT seq FROM b) RETURNING 1"""


# `MAINTAIN` is a privilege since version 17; to ask an older server for it is an error.
_MAY_VACUUM: Final = """
SELECT bool_and(pg_has_role(c.relowner, 'USAGE') OR
  CASE WHEN current_setting('server_version_num')::int >= 170000 THEN has_table_privilege(c.oid, 'MAINTAIN')
  ELSE false END)
  FROM pg_class c WHERE c.oid IN ('s.ready'::regclass, 's.held'::regclass, 's.timed'::regclass)"""
# The index is what costs; a lock of somebody else, who vacuums as well or migrates, is not waited for.
_VACUUM: Final = (
    "VACUUM (SKIP_LOCKED, INDEX_CLEANUP on, TRUNCATE off, PROCESS_TOAST off, PARALLEL 0)"
    " s.ready, s.held, s.timed"
)


@attrs.frozen(kw_only=True)
class Statements:
    """The statements of one schema."""

    #: Id, queue, priority, span, body.
    put_one: Statement
    #: The same as arrays.
    put_many: Statement
    #: Queues, lease, token.
    take: Statement
    #: What, seq, token, pause, reason, message, strict.
    settle: Statement
    #: What, seq, token, pause, reason, message, queues, lease, new token.
    step: Statement
    #: Seq, token, queue, lease, new token: `step` for a commit in one queue.
    fast: Statement
    #: Tokens, queues; rows of token and queue.
    give_back: Statement
    #: Seqs, tokens, lease.
    renew: Statement
    #: Queues.
    outlook: Statement
    #: Channel, payload; does nothing while nobody listens.
    notify: Statement
    #: The same, in any case.
    beat: Statement
    #: Nothing.
    listen: Statement
    #: Channel: holds the lock by which the others know that somebody listens.
    hear: Statement
    #: Queue, limit.
    lists: dict[JobState, Statement]
    #: Queue, limit, time and number of the last one before.
    buried_page: Statement
    #: Id.
    find: Statement
    #: Queue.
    stats: Statement
    #: Nothing.
    queues: Statement
    #: Queue, id.
    kick: Statement
    #: Queue, id.
    delete: Statement
    #: Queue, id; a row if it was there.
    delete_buried: Statement
    #: Queue, most.
    purge: Statement
    #: Queue, span.
    pause: Statement
    #: Space, key, value, expected version, time to live.
    entry_put: Statement
    #: Space, key, expected version.
    entry_delete: Statement
    #: Nothing.
    entry_sweep: Statement
    #: Space, key.
    entry: Statement
    #: Space, first key, end of the keys, key after which, limit.
    entries: Statement
    #: Nothing: names and values of the table `meta`, and `instance`.
    meta: Statement
    #: Nothing: whether `vacuum` would do anything for this role.
    may_vacuum: Statement
    #: Nothing; in no transaction.
    vacuum: Statement


@functools.cache
def statements_of(schema: str) -> Statements:
    """Return the statements for a schema, whose name is checked."""
    quoted = f'"{schema}".'

    def made(name: str, text: str, *types: int) -> Statement:
        return Statement(f"kessel_{name}".encode(), text.replace("s.", quoted).encode(), types)

    def called(name: str, *types: int) -> Statement:
        numbers = ", ".join(f"${number}" for number in range(1, len(types) + 1))
        return made(name, f"SELECT * FROM s.{name}_v1({numbers})", *types)

    return Statements(
        put_one=called("put_one", TEXT, TEXT, LONG, SPAN, BYTES),
        put_many=called("put_many", TEXTS, TEXTS, LONGS, SPANS, MANY_BYTES),
        take=called("take", TEXTS, SPAN, LONG),
        settle=called("settle", INT, LONG, LONG, SPAN, TEXT, TEXT, BOOL),
        step=called("step", INT, LONG, LONG, SPAN, TEXT, TEXT, TEXTS, SPAN, LONG),
        fast=made("fast", _FAST.strip(), LONG, LONG, TEXT, SPAN, LONG),
        give_back=made("give_back", _GIVE_BACK.strip(), LONGS, TEXTS),
        renew=called("renew", LONGS, LONGS, SPAN),
        outlook=called("outlook", TEXTS),
        notify=made(
            "notify", f"SELECT pg_notify($1, $2) WHERE NOT pg_try_advisory_xact_lock{_HEARD}", TEXT, TEXT
        ),
        beat=made("beat", "SELECT pg_notify($1, $2)", TEXT, TEXT),
        listen=made("listen", f'LISTEN "{channel_of(schema)}"'),
        hear=made("hear", f"SELECT pg_advisory_lock_shared{_HEARD}", TEXT),
        lists={state: made(f"list_{state.value}", text, TEXT, LONG) for state, text in _LISTS.items()},
        buried_page=made("buried_page", _BURIED_PAGE, TEXT, LONG, MOMENT, LONG),
        find=made("find", _FIND, TEXT),
        stats=made("stats", _STATS, TEXT),
        queues=made("queues", _QUEUES),
        kick=called("kick", TEXT, TEXT),
        delete=called("delete", TEXT, TEXT),
        delete_buried=made("delete_buried", _DELETE_BURIED.strip(), TEXT, TEXT),
        purge=called("purge", TEXT, INT),
        pause=called("pause", TEXT, SPAN),
        entry_put=called("entry_put", TEXT, TEXT, BYTES, LONG, SPAN),
        entry_delete=called("entry_delete", TEXT, TEXT, LONG),
        entry_sweep=called("entry_sweep"),
        entry=made(
            "entry",
            "SELECT key, version, value, expires_at FROM s.entries WHERE space = $1 AND key = $2 AND "
            + _ALIVE,
            *(TEXT, TEXT),
        ),
        entries=made(
            "entries",
            "SELECT key, version, value, expires_at FROM s.entries WHERE space = $1 AND key >= $2"
            " AND key > $3 AND starts_with(key, $2) AND " + _ALIVE + " ORDER BY key LIMIT $4",
            *(TEXT, TEXT, TEXT, LONG),
        ),
        meta=made("meta", _META.strip()),
        may_vacuum=made("may_vacuum", _MAY_VACUUM.strip()),
        vacuum=made("vacuum", _VACUUM),
    )
