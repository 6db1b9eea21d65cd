"""The checks of `kessel doctor` for a schema of jobs, and for the server that it is on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from kessel_core.contract import (
    AdapterError,
    DoctorContext,
    Durability,
    Finding,
    Level,
    jobs_findings,
    lease_findings,
)
from kessel_postgres.link import Call, Lost, Refused, Statement
from kessel_postgres.operations import PostgresOperations
from kessel_postgres.schema import VERSION

__all__ = ["examine"]

#: Age of a transaction above which there is a warning: vacuum removes nothing that is younger.
_LONG: Final = timedelta(minutes=5)
#: Dead rows in one of our tables above which there is a warning.
_DEAD: Final = 50_000
#: Difference of clocks above which there is a warning.
_SAME_CLOCK: Final = timedelta(seconds=5)
#: Share of the queue of notifications above which there is a warning; a full one stops all commits.
_NOTIFICATIONS: Final = 0.1

#: Who keeps vacuum from removing rows: kind, what, seconds since.
_HOLDERS: Final = """
SELECT 'transaction', 'pid ' || pid || ', ' || coalesce(nullif(application_name, ''), 'no name') || ', ' ||
  coalesce(usename, '?') || ', ' || coalesce(state, '?'),
  extract(epoch FROM clock_timestamp() - xact_start)::bigint
 FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
UNION ALL
SELECT 'prepared transaction', gid,
  extract(epoch FROM clock_timestamp() - prepared)::bigint
 FROM pg_prepared_xacts
UNION ALL
SELECT 'replication slot', slot_name::text || CASE WHEN active THEN '' ELSE ', not in use' END,
  CASE WHEN active THEN 0 ELSE 86400 END
 FROM pg_replication_slots WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
ORDER BY 3 DESC LIMIT 5"""
#: Table, dead rows, live rows, last vacuum.
_ROWS: Final = """
SELECT relname::text, n_dead_tup, n_live_tup,
  coalesce(greatest(last_autovacuum, last_vacuum)::timestamp(0)::text, 'never')
 FROM pg_stat_user_tables WHERE schemaname = '{s}'
  AND relname IN ('jobs', 'ready', 'timed', 'held', 'entries')
 ORDER BY n_dead_tup DESC"""
_MISC: Final = """
SELECT extract(epoch FROM clock_timestamp())::text, pg_notification_queue_usage()::text,
  current_setting('autovacuum'), current_setting('max_connections'),
  (SELECT count(*) FROM pg_stat_activity)::text,
  (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '{s}' AND NOT i.indisvalid)::text,
  (has_table_privilege('"{s}".jobs', 'INSERT') AND has_table_privilege('"{s}".jobs', 'DELETE'))::text,
  current_setting('synchronous_standby_names')"""


def examine(operations: PostgresOperations, context: DoctorContext) -> list[Finding]:
    """Return the findings; raises nothing."""
    findings: list[Finding] = []
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _server(operations),
        lambda: _durability(operations),
        lambda: _misc(operations),
        lambda: _vacuum(operations),
        lambda: lease_findings(operations.options.lease),
        lambda: jobs_findings(operations, context.queues, operations.database.clock.now()),
    ]
    for check in checks:
        try:
            findings += check()
        except (AdapterError, Lost, Refused) as exc:
            findings.append(Finding(Level.ERROR, "server", str(exc), _advice(exc)))
            break  # the next ones would meet the same
    return findings


def _advice(exc: Exception) -> str:
    return "; ".join(getattr(exc, "__notes__", ())) or "check the address, and that the server runs"


def _server(operations: PostgresOperations) -> Iterator[Finding]:
    database = operations.database
    facts = database.facts
    yield Finding(
        Level.OK,
        "server",
        f"PostgreSQL {facts.version_name}, {database.options.place}, tables of version {VERSION}",
    )
    if facts.isolation != "read committed":
        yield Finding(
            Level.ERROR,
            "isolation",
            f"transactions of the role {facts.role} are {facts.isolation}, expected read committed",
            f"ALTER ROLE {facts.role} SET default_transaction_isolation = 'read committed'",
        )


def _durability(operations: PostgresOperations) -> Iterator[Finding]:
    facts = operations.database.facts
    detail = (
        f"an acknowledged job survives: {facts.durability} (fsync={facts.fsync},"
        f" full_page_writes={facts.full_page_writes}, synchronous_commit={facts.synchronous_commit})"
    )
    if facts.durability is Durability.NONE:
        advice = "with synchronous_commit=off a crash of the server loses acknowledged jobs; set it to on"
        yield Finding(Level.WARNING, "durability", detail, advice)
    elif facts.durability is Durability.PROCESS_CRASH:
        yield Finding(
            Level.WARNING, "durability", detail, "a loss of power may destroy the database; set fsync=on"
        )
    else:
        yield Finding(Level.OK, "durability", detail)


def _misc(operations: PostgresOperations) -> Iterator[Finding]:
    before = datetime.now(UTC)
    (row,) = _rows(operations, "misc", _MISC)
    epoch, notifications, autovacuum, most, present, invalid, may_write, standbys = row
    apart = abs(datetime.fromtimestamp(float(epoch), UTC) - before)
    if apart > _SAME_CLOCK:
        yield Finding(
            Level.WARNING,
            "clock",
            f"the server's clock and this machine's are {apart.total_seconds():.0f} s apart",
            "set both by NTP: delays count by the server's, expirations by the worker's",
        )
    if float(notifications) > _NOTIFICATIONS:
        yield Finding(
            Level.ERROR,
            "notifications",
            f"their queue is {float(notifications):.0%} full; once it is, no notifying commit succeeds",
            "look for a session that listens inside a transaction: pg_stat_activity",
        )
    if autovacuum != "on":
        yield Finding(Level.ERROR, "autovacuum", "is off", "set autovacuum = on: a queue needs it most")
    if int(invalid):
        yield Finding(Level.ERROR, "indexes", f"{invalid} of the schema are not valid", "REINDEX SCHEMA")
    if may_write != "true":
        advice = operations.database.options.rights_command(operations.database.facts.role)
        yield Finding(Level.ERROR, "rights", "this role may not write the jobs", advice)
    needed = operations.options.connections + 1
    if int(present) + needed > int(most):
        yield Finding(
            Level.WARNING,
            "connections",
            f"{present} of {most} are in use, and one process may need {needed}",
            "lower the option connections, or use a pooler with pooler=true",
        )
    if standbys and operations.database.facts.synchronous_commit in ("local", "off"):
        yield Finding(
            Level.WARNING,
            "replication",
            "there is a synchronous standby, and commits do not wait for it",
            "set synchronous_commit = on: a failover would lose acknowledged jobs",
        )


def _vacuum(operations: PostgresOperations) -> Iterator[Finding]:
    long_ones = [row for row in _rows(operations, "holders", _HOLDERS) if int(row[2]) > _LONG.total_seconds()]
    for kind, what, seconds in long_ones:
        yield Finding(
            Level.WARNING,
            "vacuum",
            f"a {kind} ({what}) keeps dead rows since {timedelta(seconds=int(seconds))}",
            "end it: every claim walks over the rows that it keeps",
        )
    rows = _rows(operations, "rows", _ROWS)
    dead = [(name, int(count), live, last) for name, count, live, last in rows if int(count) > _DEAD]
    for name, count, live, last in dead:
        yield Finding(
            Level.WARNING,
            "dead rows",
            f"{name}: {count} beside {live} live ones, last vacuum {last}",
            f'VACUUM "{operations.options.schema}".{name}; if they stay, see who keeps them',
        )
    if not long_ones and not dead:
        worst = max((int(count) for _, count, _, _ in rows), default=0)
        yield Finding(Level.OK, "vacuum", f"at most {worst} dead rows in a table, no long transaction")


def _rows(operations: PostgresOperations, name: str, query: str) -> list[list[str]]:
    """Run a query of texts and whole numbers; NULL becomes an empty text."""
    # The name of the schema is checked.
    inner = query.replace("{s}", operations.options.schema)
    result = operations.database.call(Call(Statement(f"doctor_{name}".encode(), inner.encode(), ())))
    return [
        [_read(result.get_value(row, column), result.ftype(column)) for column in range(result.nfields)]
        for row in range(result.ntuples)
    ]


def _read(value: bytes | None, kind: int) -> str:
    if value is None:
        return ""
    if kind in (20, 21, 23):  # whole numbers come in binary
        return str(int.from_bytes(value, "big", signed=True))
    return value.decode("utf-8", "replace")
