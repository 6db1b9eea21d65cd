"""The checks of `kessel doctor` for a file of jobs."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kessel_core.contract import AdapterError, DoctorContext, Finding, Level, jobs_findings, lease_findings
from kessel_sqlite import sql
from kessel_sqlite.edge import RECOVER
from kessel_sqlite.engine import Engine
from kessel_sqlite.operations import SqliteOperations

__all__ = ["examine"]

#: Free bytes on the disk below which there is a warning.
_LITTLE_ROOM: Final = 64 * 1024 * 1024
#: Bytes of the write-ahead log above which there is a warning.
_LONG_LOG: Final = 256 * 1024 * 1024


def examine(operations: SqliteOperations, context: DoctorContext) -> list[Finding]:
    """Return the findings; raises nothing."""
    engine = operations.engine
    try:
        return [
            *_integrity(engine),
            *_rights(engine),
            *_durability(engine),
            *_room(engine),
            *lease_findings(operations.options.lease),
            *jobs_findings(operations, context.queues, operations.engine.clock.now()),
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
    path = _real(engine)
    wide = [f"{path}{tail}" for tail in ("", "-wal", "-shm") if _mode(f"{path}{tail}") & 0o777 & ~wanted]
    if wide:
        yield Finding(
            Level.WARNING,
            "rights",
            f"more users than access = {engine.options.access.value!r} says may use {', '.join(wide)}",
            f"chmod {wanted:o} {' '.join(map(shlex.quote, wide))}",
        )


def _real(engine: Engine) -> Path:
    """Return where the file is, and what SQLite keeps beside it: a link may lead to another directory."""
    return Path(os.path.realpath(engine.options.path))


def _mode(path: str) -> int:
    try:
        return Path(path).stat().st_mode
    except OSError:
        return 0


def _durability(engine: Engine) -> Iterator[Finding]:
    yield Finding(Level.OK, "durability", f"an acknowledged job survives: {engine.options.durability}")


def _room(engine: Engine) -> Iterator[Finding]:
    path = _real(engine)
    free = shutil.disk_usage(path.parent).free
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
