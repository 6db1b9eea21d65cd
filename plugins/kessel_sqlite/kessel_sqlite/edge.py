"""Translates the errors of `sqlite3` into those of the contract; the only place that does."""

from __future__ import annotations

import os
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Final

from kessel_core.contract import (
    AdapterError,
    AdapterUnavailable,
    ProtocolError,
    Written,
    refused_write,
    unknown_write,
)

__all__ = ["RECOVER", "is_busy", "leaves_connection_sound", "translated"]

#: What to do about a damaged file.
RECOVER: Final = (
    "stop all workers, copy the file and its -wal, and recover the copy with `sqlite3 FILE .recover`"
)

#: What to do about a `-wal` that was removed while the file was open: it is shorter than others say.
_RESTART: Final = "stop all producers and workers, then start them again"

_SOUND = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG})


def _primary(exc: sqlite3.Error) -> int:
    return int(getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) or 0) & 0xFF


def is_busy(exc: sqlite3.Error) -> bool:
    """Whether another connection holds the lock, so that trying again helps."""
    return _primary(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def leaves_connection_sound(exc: sqlite3.Error) -> bool:
    """Whether the connection may be used again; after any other error it is discarded."""
    return _primary(exc) in _SOUND


def translated(exc: sqlite3.Error, path: str, waited: timedelta, written: Written) -> AdapterError:
    """Return the error to raise; that of an enqueue (S14) or of a put (S19), if one was to be written.

    Whatever SQLite refuses it rolls back completely, so it is definitely not stored. Only after an I/O
    error (`SQLITE_IOERR`) may the commit be on the disk. Advice is added to the error as a note, which
    `kessel doctor` shows.
    """
    error, advice = _classified(exc, path, waited, written)
    if advice:
        error.add_note(advice)
    return error


def _classified(
    exc: sqlite3.Error, path: str, waited: timedelta, written: Written
) -> tuple[AdapterError, str]:
    name = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
    known, advice = f"{path}: {exc} ({name})", ""
    if name == "SQLITE_IOERR_SHORT_READ":  # a database that is too short is no error
        advice = _RESTART
        known += f"; its -wal was removed or cut off while it was open: {advice}"
    if Path(path).exists() and not Path(path).is_file():
        what = "is a directory" if Path(path).is_dir() else "is not a regular file"
        return AdapterUnavailable(f"{path}: {what}"), "name a file; it is created if it does not exist"
    match _primary(exc):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            why = f"locked by another connection for {waited.total_seconds():g} s"
            return (
                AdapterUnavailable(f"{path}: {why}; something holds a transaction open"),
                "look for a program that keeps a transaction open on the file",
            )
        case sqlite3.SQLITE_NOTADB:
            return (
                ProtocolError(f"{path}: not a SQLite database"),
                "name another file; it is created if it does not exist",
            )
        case sqlite3.SQLITE_CORRUPT:
            return ProtocolError(f"{known}: the file is damaged; see `kessel doctor`"), RECOVER
        case sqlite3.SQLITE_FULL:
            return refused_write(written, f"{path}: the disk is full", "full"), "free some space"
        case sqlite3.SQLITE_READONLY:
            return (
                refused_write(written, f"{path}: the file is read-only for this process", "read-only"),
                "let this user write the file and its directory, where SQLite keeps the -wal and -shm files",
            )
        case sqlite3.SQLITE_TOOBIG:
            return refused_write(written, f"{path}: {exc}", "too-large"), ""
        case sqlite3.SQLITE_CANTOPEN:
            return AdapterUnavailable(f"{path}: {_why_not_open(Path(path))}"), "check the path and its rights"
        case sqlite3.SQLITE_IOERR if written is not None:
            return unknown_write(written, known), advice
        case sqlite3.SQLITE_ERROR if "no such" in str(exc):
            return (
                ProtocolError(f"{known}: the tables of kessel are gone"),
                "name another file, or restore the one that had the jobs",
            )
        case _:
            return AdapterUnavailable(known), advice or "check the disk, the path and its rights"


def _why_not_open(path: Path) -> str:
    """Return why a file cannot be opened, which SQLite does not say."""
    directory = path.parent
    if not directory.is_dir():
        return f"there is no directory {directory}"
    if path.is_symlink() and not path.exists():
        return f"is a link to {path.readlink()}, which cannot be created"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return "this user may not read and write it"
    beside = Path(os.path.realpath(path)).parent  # a link may lead to another directory
    if not os.access(beside, os.W_OK | os.X_OK):
        return f"this user may not create files in {beside}"
    return "cannot be opened"
