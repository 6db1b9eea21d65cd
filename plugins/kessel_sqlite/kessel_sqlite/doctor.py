"""What `kessel doctor` says about a file of jobs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kessel_core.contract import AdapterError, DoctorContext, Finding, Level
from kessel_sqlite.edge import RECOVER

if TYPE_CHECKING:
    from kessel_sqlite.adapter import SqliteAdapter

__all__ = ["examine"]

_LITTLE_ROOM: Final = 64 * 1024 * 1024
_LONG_LOG: Final = 256 * 1024 * 1024
_STUCK: Final = timedelta(days=1)


def examine(adapter: SqliteAdapter, context: DoctorContext) -> list[Finding]:
    """Return what was found; never raises."""
    try:
        return [
            *_integrity(adapter),
            *_rights(adapter),
            *_durability(adapter),
            *_room(adapter),
            *_lease(adapter, context),
            *_jobs(adapter, context),
        ]
    except (AdapterError, OSError) as exc:
        return [Finding(Level.ERROR, "file", str(exc), _advice(exc))]


def _advice(exc: Exception) -> str:
    return "; ".join(getattr(exc, "__notes__", ())) or "check the path, its rights and what else uses it"


def _integrity(adapter: SqliteAdapter) -> Iterator[Finding]:
    def check(connection: sqlite3.Connection) -> tuple[str, str]:
        found = "; ".join(row[0] for row in connection.execute("PRAGMA quick_check(5)").fetchall())
        return found, connection.execute("PRAGMA journal_mode").fetchone()[0]

    found, mode = adapter.file.run(adapter.slot(), check, writes=False)
    if found == "ok":
        yield Finding(Level.OK, "integrity", f"{adapter.options.path}: no damage found")
    else:
        yield Finding(
            Level.ERROR,
            "integrity",
            f"{adapter.options.path}: {found}",
            RECOVER,
        )
    if mode != "wal":
        yield Finding(Level.ERROR, "journal", f"mode {mode}, expected wal", "do not change the journal mode")


def _rights(adapter: SqliteAdapter) -> Iterator[Finding]:
    def check(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")

    try:
        adapter.file.run(adapter.slot(), check)
    except AdapterError as exc:
        yield Finding(Level.ERROR, "writing", str(exc), _advice(exc))


def _durability(adapter: SqliteAdapter) -> Iterator[Finding]:
    yield Finding(Level.OK, "durability", f"an acknowledged job survives: {adapter.options.durability}")


def _room(adapter: SqliteAdapter) -> Iterator[Finding]:
    path = adapter.options.path
    free = shutil.disk_usage(path.absolute().parent).free
    size = path.stat().st_size
    text = f"file {size / 1e6:.1f} MB, free on its disk {free / 1e6:.0f} MB"
    if free < _LITTLE_ROOM:
        yield Finding(Level.WARNING, "disk", text, "make room: a full disk refuses new jobs")
    else:
        yield Finding(Level.OK, "disk", text)
    try:
        log = Path(f"{path}-wal").stat().st_size
    except OSError:
        return
    if log > _LONG_LOG:
        yield Finding(
            Level.WARNING,
            "log",
            f"the write-ahead log has grown to {log / 1e6:.0f} MB",
            "look for a connection that keeps a read transaction open: it stops the log from being emptied",
        )


def _lease(adapter: SqliteAdapter, context: DoctorContext) -> Iterator[Finding]:
    if adapter.options.lease < timedelta(seconds=5):
        yield Finding(
            Level.WARNING,
            "lease",
            f"only {adapter.options.lease.total_seconds():g} s: a worker that stalls so long loses its jobs",
            "choose a lease of some ten seconds",
        )


def _jobs(adapter: SqliteAdapter, context: DoctorContext) -> Iterator[Finding]:
    now = adapter.host.now()
    for queue in context.queues:
        stats = adapter.stats(queue)
        text = (
            f"{queue}: {stats.ready} ready, {stats.delayed} delayed, {stats.reserved} reserved,"
            f" {stats.buried} buried"
        )
        oldest = adapter.oldest_ready(queue)
        if stats.buried:
            yield Finding(Level.WARNING, "jobs", text, f"look at them: kessel buried list --queue {queue}")
        elif oldest is not None and timedelta(microseconds=now - oldest) > _STUCK:
            yield Finding(
                Level.WARNING,
                "jobs",
                f"{text}; the oldest waits since {timedelta(microseconds=now - oldest).days} days",
                "does a worker serve this queue?",
            )
        else:
            yield Finding(Level.OK, "jobs", text)
