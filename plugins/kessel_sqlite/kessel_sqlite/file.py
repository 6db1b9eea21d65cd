"""Connections to one file: opening, bounded waiting for the lock, forks, and a file replaced under us.

A `Slot` is a place for one connection. Everything runs through `DatabaseFile.run`, so that there is one
place where locks are awaited, errors translated, and a connection that surprised us thrown away.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

from kessel_core.contract import AdapterError, AdapterUnavailable, ProtocolError
from kessel_sqlite import schema
from kessel_sqlite.edge import is_busy, leaves_connection_sound, translated
from kessel_sqlite.wake import Shared, shared

__all__ = ["DatabaseFile", "Slot"]

_T = TypeVar("_T")
_logger = logging.getLogger("kessel.sqlite")

#: After which a writer in vain asks more often than the others.
_LONG_WAIT_SECONDS: Final = 0.02

#: Brought `json_each` to every build; `RETURNING` is a little older.
_OLDEST: Final = (3, 38, 0)

_slots: weakref.WeakSet[Slot] = weakref.WeakSet()
#: Connections of a parent process that were in use while it forked: never touched again.
_abandoned: list[sqlite3.Connection] = []
_held_for_fork: list[Slot] = []


class Slot:
    """A place for one connection; used by one thread at a time."""

    __slots__ = ("__weakref__", "connection", "identity", "lock")

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None
        #: Device and inode of the file that the connection has open.
        self.identity = (0, 0)
        #: Held while the connection is in use; a fork waits for it.
        self.lock = threading.Lock()
        _slots.add(self)

    def discard(self) -> None:
        """Close the connection, whatever it was doing; an open transaction is rolled back."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def close(self) -> None:
        """Close the connection once nobody uses it."""
        with self.lock:
            self.discard()

    def __del__(self) -> None:
        self.discard()


class DatabaseFile:
    """One file, as one adapter opens it.

    Args:
        path: The file.
        synchronous: `FULL` or `NORMAL`.
        timeout: Longest wait for a lock.
    """

    def __init__(self, path: str, synchronous: str, timeout: timedelta) -> None:
        self.path = path
        self.synchronous = synchronous
        self.timeout = timeout
        self._timeout_seconds = timeout.total_seconds()
        self.shared: Shared = shared(os.path.realpath(path))

    def run(
        self,
        slot: Slot,
        work: Callable[[sqlite3.Connection], _T],
        *,
        writes: bool = True,
        job_id: str | None = None,
    ) -> _T:
        """Do some work with the connection of a slot, waiting for the lock at most `timeout`.

        Args:
            slot: Where the connection is; opened if need be.
            work: Called again from its start while the file is locked: the lock must be what its first
                statement takes. It leaves no transaction open when it returns.
            writes: Queue behind the other writers of this process first.
            job_id: Of the job that is being enqueued, for the error.

        Raises:
            AdapterError: Translated at the edge; the work was rolled back.
        """
        give_up: float | None = None
        writer = self.shared.writer
        while True:
            # Writers of one process line up at a lock that costs nothing, instead of all of them
            # asking the file's lock in vain.
            if writes and not (writer.acquire(False) or writer.acquire(timeout=self._timeout_seconds)):
                raise AdapterUnavailable(
                    f"{self.path}: locked by this process for {self._timeout_seconds:g} s"
                )
            try:
                with slot.lock:
                    try:
                        return work(self._ready(slot))
                    except sqlite3.Error as exc:
                        self._clean_up(slot, exc)
                        if not is_busy(exc):
                            raise translated(exc, self.path, self.timeout, job_id) from exc
                        # The machine's time, also under a virtual clock: the other process has no other.
                        now = time.monotonic()
                        give_up = give_up or now + self._timeout_seconds
                        if now >= give_up:
                            raise translated(exc, self.path, self.timeout, job_id) from exc
                    except AdapterError:
                        raise
                    except BaseException:
                        # A signal's exception may have come anywhere in a transaction.
                        slot.discard()
                        raise
            finally:
                if writes:
                    writer.release()
            # Random and short, and shorter for who waits long: SQLite's own waits grow with each vain
            # try, so that the unlucky writer starves.
            has_waited_long = give_up - now < self._timeout_seconds - _LONG_WAIT_SECONDS
            time.sleep(random.uniform(0.0001, 0.0005 if has_waited_long else 0.003))  # noqa: S311

    def _ready(self, slot: Slot) -> sqlite3.Connection:
        connection = slot.connection
        if connection is not None:
            try:
                status = os.stat(self.path)  # noqa: PTH116 - half the cost of Path.stat
                if (status.st_dev, status.st_ino) == slot.identity:
                    return connection
                change = "was replaced by another one"
            except FileNotFoundError:
                change = "is gone"
            except OSError:
                return connection
            _logger.warning(
                "%s %s while open; opening the path anew, jobs in the old file are not seen any more",
                self.path,
                change,
            )
            slot.discard()
        return self._open(slot)

    def _open(self, slot: Slot) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise ProtocolError(
                f"this Python has SQLite {sqlite3.sqlite_version}, kessel-sqlite needs"
                f" {'.'.join(map(str, _OLDEST))} or newer"
            )
        is_new = not Path(self.path).exists()
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            # Only where it is not WAL yet, because setting it asks for a lock of its own.
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            if mode != "wal":
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise AdapterUnavailable(
                    f"{self.path}: cannot use write-ahead logging (got {mode!r}); the file must be on a local"
                    " file system and not in memory"
                )
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
            if self.synchronous == "FULL":
                # Only macOS knows a stronger sync than its ordinary one; elsewhere this does nothing.
                connection.execute("PRAGMA fullfsync = 1")
            schema.prepare(connection, self.path)
            if is_new and self.synchronous == "FULL":
                self._sync_directory()
            status = Path(self.path).stat()
        except BaseException:
            connection.close()
            raise
        slot.identity = (status.st_dev, status.st_ino)
        slot.connection = connection
        return connection

    def _sync_directory(self) -> None:
        # The name of a new file must survive a loss of power as well.
        with suppress(OSError):
            descriptor = os.open(Path(self.path).parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @staticmethod
    def _clean_up(slot: Slot, exc: sqlite3.Error) -> None:
        connection = slot.connection
        if connection is None:
            return
        if leaves_connection_sound(exc):
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                return
            except sqlite3.Error:
                pass
        slot.discard()


# --- forks -----------------------------------------------------------------------------------
#
# SQLite keeps its locks per process, and believes in the child that it still has the parent's. So a fork
# waits until no connection is in use, and the child closes what it inherited before anything opens: that
# clears SQLite's memory, and cannot touch the parent's locks, which are not the child's.


def _before_fork() -> None:
    end = time.monotonic() + 1
    for slot in list(_slots):
        if slot.lock.acquire(timeout=max(0.0, end - time.monotonic())):
            _held_for_fork.append(slot)


def _after_fork_in_parent() -> None:
    for slot in _held_for_fork:
        slot.lock.release()
    _held_for_fork.clear()


def _after_fork_in_child() -> None:
    for slot in list(_slots):
        if slot in _held_for_fork:
            slot.discard()
        elif slot.connection is not None:
            _abandoned.append(slot.connection)
            slot.connection = None
        slot.lock = threading.Lock()
    _held_for_fork.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
