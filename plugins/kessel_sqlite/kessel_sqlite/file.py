"""Work on one file: opening, bounded waiting for the lock, and a file replaced under us.

Everything runs through `DatabaseFile.run`, so that there is one place where locks are awaited, errors
translated, and a connection that surprised us thrown away.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

from kessel_core.contract import AdapterError, AdapterUnavailable, ProtocolError
from kessel_sqlite import schema
from kessel_sqlite.edge import is_busy, translated
from kessel_sqlite.link import Link
from kessel_sqlite.wake import FileLine, line_of

__all__ = ["DatabaseFile"]

_T = TypeVar("_T")
_logger = logging.getLogger("kessel.sqlite")

#: After which a writer in vain asks more often than the others.
_LONG_WAIT_SECONDS: Final = 0.02

#: Brought `json_each` to every build; `RETURNING` is a little older.
_OLDEST: Final = (3, 38, 0)


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
        #: What all adapters of this process share that have the file open.
        self.line: FileLine = line_of(os.path.realpath(path))

    def run(
        self,
        link: Link,
        work: Callable[[sqlite3.Connection], _T],
        *,
        writes: bool = True,
        job_id: str | None = None,
    ) -> _T:
        """Do some work with a connection, waiting for the lock at most `timeout`.

        Args:
            link: Where the connection is; opened if need be.
            work: Called again from its start while the file is locked: the lock must be what its first
                statement takes. It leaves no transaction open when it returns.
            writes: Queue behind the other writers of this process first.
            job_id: Of the job that is being enqueued, for the error.

        Raises:
            AdapterError: Translated at the edge; the work was rolled back.
        """
        give_up: float | None = None
        while True:
            try:
                return self._write(link, work) if writes else self._use(link, work)
            except sqlite3.Error as exc:
                # The machine's time, also under a virtual clock: the other process has no other.
                now = time.monotonic()
                give_up = give_up or now + self._timeout_seconds
                if now >= give_up or not is_busy(exc):
                    raise translated(exc, self.path, self.timeout, job_id) from exc
            # Random and short, and shorter for who waits long: SQLite's own waits grow with each vain
            # try, so that the unlucky writer starves.
            has_waited_long = give_up - now < self._timeout_seconds - _LONG_WAIT_SECONDS
            time.sleep(random.uniform(0.0001, 0.0005 if has_waited_long else 0.003))  # noqa: S311

    def _write(self, link: Link, work: Callable[[sqlite3.Connection], _T]) -> _T:
        # Writers of one process line up at a lock that costs nothing, instead of all of them asking the
        # file's lock in vain.
        writer = self.line.writer
        if not (writer.acquire(False) or writer.acquire(timeout=self._timeout_seconds)):
            raise AdapterUnavailable(f"{self.path}: locked by this process for {self._timeout_seconds:g} s")
        try:
            return self._use(link, work)
        finally:
            writer.release()

    def _use(self, link: Link, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with link.lock:
            try:
                return work(self._ready(link))
            except sqlite3.Error as exc:
                link.recover(exc)
                raise
            except AdapterError:
                raise
            except BaseException:
                # A signal's exception may have come anywhere in a transaction.
                link.discard()
                raise

    def _ready(self, link: Link) -> sqlite3.Connection:
        connection = link.connection
        if connection is not None:
            try:
                status = os.stat(self.path)  # noqa: PTH116 - half the cost of Path.stat
                if (status.st_dev, status.st_ino) == link.identity:
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
            link.discard()
        return self._open(link)

    def _open(self, link: Link) -> sqlite3.Connection:
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
            self._set_up(connection)
            if is_new and self.synchronous == "FULL":
                self._sync_directory()
            status = Path(self.path).stat()
        except BaseException:
            connection.close()
            raise
        link.identity = (status.st_dev, status.st_ino)
        link.connection = connection
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
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

    def _sync_directory(self) -> None:
        # The name of a new file must survive a loss of power as well.
        with suppress(OSError):
            descriptor = os.open(Path(self.path).parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
