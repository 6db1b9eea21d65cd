"""The one edge at which errors of `sqlite3` become errors of kessel."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    EnqueueRejected,
    EnqueueUnknown,
    ProtocolError,
)

__all__ = ["is_busy", "leaves_connection_sound", "translated"]

_SOUND = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG})


def _primary(exc: sqlite3.Error) -> int:
    return int(getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) or 0) & 0xFF


def is_busy(exc: sqlite3.Error) -> bool:
    """Return whether another connection holds the lock, so that trying again helps."""
    return _primary(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def leaves_connection_sound(exc: sqlite3.Error) -> bool:
    """Return whether the connection may be used again; any other surprise discards it."""
    return _primary(exc) in _SOUND


def translated(exc: sqlite3.Error, path: str, waited: timedelta, job_id: str | None) -> AdapterError:
    """Return the error to raise; with a `job_id` that of an enqueue (S14).

    Whatever SQLite refuses it rolls back whole, so the job is surely not stored. Only where input or output
    failed in the middle (`SQLITE_IOERR`) may the commit be on the disk.
    """
    name = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
    known = f"{path}: {exc} ({name})"
    match _primary(exc):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return AdapterUnavailable(
                f"{path}: locked by another connection for {waited.total_seconds():g} s; something holds a"
                " transaction open"
            )
        case sqlite3.SQLITE_NOTADB:
            return ProtocolError(f"{path}: not a SQLite database")
        case sqlite3.SQLITE_CORRUPT:
            return ProtocolError(f"{known}: the file is damaged; see `kessel doctor`")
        case sqlite3.SQLITE_FULL:
            return _refused(job_id, f"{path}: the disk is full", "full")
        case sqlite3.SQLITE_READONLY:
            return _refused(job_id, f"{path}: the file is read-only for this process", "read-only")
        case sqlite3.SQLITE_TOOBIG:
            return _refused(job_id, f"{path}: {exc}", "too-large")
        case sqlite3.SQLITE_CANTOPEN:
            return AdapterUnavailable(f"{path}: cannot be opened; is its directory there, and may we write?")
        case sqlite3.SQLITE_IOERR if job_id is not None:
            return EnqueueUnknown(job_id, known)
        case sqlite3.SQLITE_ERROR if "no such" in str(exc):
            return ProtocolError(f"{known}: the tables of kessel are gone")
        case _:
            return AdapterUnavailable(known)


def _refused(job_id: str | None, why: str, reason: str) -> AdapterError:
    if job_id is None:
        return AdapterUnavailable(why)
    return EnqueueRejected(job_id, why, reason)
