"""The checks of `kessel doctor` for a file of jobs."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from kessel_core.contract import AdapterError, DoctorContext, Finding, JobState, Level
from kessel_sqlite import sql
from kessel_sqlite.edge import RECOVER
from kessel_sqlite.engine import Engine
from kessel_sqlite.operations import SqliteOperations

__all__ = ["examine"]

#: Free bytes on the disk below which there is a warning.
_LITTLE_ROOM: Final = 64 * 1024 * 1024
#: Bytes of the write-ahead log above which there is a warning.
_LONG_LOG: Final = 256 * 1024 * 1024
#: Age of the next ready job above which there is a warning.
_STUCK: Final = timedelta(days=1)


def examine(operations: SqliteOperations, context: DoctorContext) -> list[Finding]:
    """Return the findings; raises nothing."""
    engine = operations.engine
    try:
        return [
            *_integrity(engine),
            *_rights(engine),
            *_durability(engine),
            *_room(engine),
            *_lease(operations.options.lease),
            *_jobs(operations, context),
        ]
    except (AdapterError, OSError) as exc:
        return [Finding(Level.ERROR, "file", str(exc), _advice(exc))]


def _advice(exc: Exception) -> str:
    return "; ".join(getattr(exc, "__notes__", ())) or "check the path, its rights and what else uses it"


def _integrity(engine: Engine) -> Iterator[Finding]:
    def check(connection: sqlite3.Connection) -> tuple[str, str]:
        found = "; ".join(row[0] for row in connection.execute("PRAGMA quick_check(5)").fetchall())
        return found, connection.execute("PRAGMA journal_mode").fetchone()[0]

    found, mode = engine.read(check)
    if found == "ok":
        yield Finding(Level.OK, "integrity", f"{engine.options.path}: no damage found")
    else:
        yield Finding(
            Level.ERROR,
            "integrity",
            f"{engine.options.path}: {found}",
            RECOVER,
        )
    if mode != "wal":
        yield Finding(Level.ERROR, "journal", f"mode {mode}, expected wal", "do not change the journal mode")


def _rights(engine: Engine) -> Iterator[Finding]:
    def check(connection: sqlite3.Connection) -> None:
        connection.execute(sql.BEGIN)
        connection.execute(sql.UNDO)

    try:
        engine.write(check)
    except AdapterError as exc:
        yield Finding(Level.ERROR, "writing", str(exc), _advice(exc))
    if os.name == "posix":
        yield from _access(engine)


def _access(engine: Engine) -> Iterator[Finding]:
    """Look for rights that the option `access` does not give; jobs are as secret as their payloads."""
    wanted = engine.options.access.mode
    path = engine.options.path
    wide = [f"{path}{tail}" for tail in ("", "-wal", "-shm") if _mode(f"{path}{tail}") & 0o777 & ~wanted]
    if wide:
        yield Finding(
            Level.WARNING,
            "rights",
            f"more users than access = {engine.options.access.value!r} says may use {', '.join(wide)}",
            f"chmod {wanted:o} {' '.join(map(shlex.quote, wide))}",
        )


def _mode(path: str) -> int:
    try:
        return Path(path).stat().st_mode
    except OSError:
        return 0


def _durability(engine: Engine) -> Iterator[Finding]:
    yield Finding(Level.OK, "durability", f"an acknowledged job survives: {engine.options.durability}")


def _room(engine: Engine) -> Iterator[Finding]:
    path = engine.options.path
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


def _lease(lease: timedelta) -> Iterator[Finding]:
    if lease < timedelta(seconds=5):
        yield Finding(
            Level.WARNING,
            "lease",
            f"only {lease.total_seconds():g} s: a worker that stalls so long loses its jobs",
            "choose a lease of some ten seconds",
        )


def _jobs(operations: SqliteOperations, context: DoctorContext) -> Iterator[Finding]:
    for queue in context.queues:
        stats = operations.stats(queue)
        text = (
            f"{queue}: {stats.ready} ready, {stats.delayed} delayed, {stats.reserved} reserved,"
            f" {stats.buried} buried"
        )
        age = _age_of_next(operations, queue)
        if stats.buried:
            yield Finding(Level.WARNING, "jobs", text, f"look at them: kessel buried --queue {queue}")
        elif age > _STUCK:
            yield Finding(
                Level.WARNING,
                "jobs",
                f"{text}; the next one has waited for {age.days} days",
                "does a worker serve this queue?",
            )
        else:
            yield Finding(Level.OK, "jobs", text)


def _age_of_next(operations: SqliteOperations, queue: str) -> timedelta:
    """Return how long ago the next ready job of a queue was enqueued; zero if there is none."""
    first = operations.peek(queue, JobState.READY)
    enqueued_at = first[0].enqueued_at if first else None
    return timedelta(0) if enqueued_at is None else operations.engine.clock.now() - enqueued_at
