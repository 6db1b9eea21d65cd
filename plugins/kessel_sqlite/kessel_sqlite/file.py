"""Access to one file: opening it, waiting for the lock with a limit, noticing that it was replaced.

Everything runs through `DatabaseFile.run` or `DatabaseFile.share`, the one place that waits for locks,
translates errors, and discards a connection after an unexpected error.
"""

from __future__ import annotations

import functools
import os
import random
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from kessel_core.contract import AdapterError, AdapterUnavailable, ProtocolError, Written, get_logger
from kessel_sqlite import schema, sql
from kessel_sqlite.edge import is_busy, translated
from kessel_sqlite.link import Connection, Link
from kessel_sqlite.turns import Turn
from kessel_sqlite.wake import FileLine, line_of

__all__ = ["DatabaseFile"]

_T = TypeVar("_T")
log = get_logger("kessel.sqlite")

#: After this wait a writer polls the lock more often than the others.
_LONG_WAIT_SECONDS: Final = 0.02

#: What the statements need that old versions or builds do not have, and how to try it.
_FEATURES: Final = {
    "RETURNING": "CREATE TABLE t (a); INSERT INTO t VALUES (1) RETURNING a",
    "json_each": "SELECT value FROM json_each('[1]')",
}

#: Reads text; bytes that are not UTF-8 are shown as U+FFFD. By default they are an error of every statement
#: that meets them, and nobody behind such a job would ever run.
_text: Final = partial(str, encoding="utf-8", errors="replace")


@functools.cache
def missing_feature() -> str | None:
    """Return what the SQLite of this Python lacks; None: nothing. Asks it, because builds differ."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for feature, script in _FEATURES.items():
            try:
                connection.executescript(script)
            except sqlite3.Error:
                return feature
    return None


class DatabaseFile:
    """One file, as one adapter opens it. Thread-safe, with one `Link` per thread.

    Args:
        path: The file.
        synchronous: The pragma of that name, `FULL` or `NORMAL`.
        timeout: Longest wait for a lock.
    """

    def __init__(self, path: str, synchronous: str, timeout: timedelta, mode: int = 0o600) -> None:
        self.path = path
        self._mode = mode
        self.synchronous = synchronous
        self.timeout = timeout
        self._timeout_seconds = timeout.total_seconds()
        #: Shared by all adapters of this process that have the file open.
        self.line: FileLine = line_of(os.path.realpath(path))

    def run(
        self,
        link: Link,
        work: Callable[[sqlite3.Connection], _T],
        *,
        writes: bool = True,
        written: Written = None,
    ) -> _T:
        """Run some work with a connection, waiting for the lock for at most `timeout`.

        Args:
            link: Holds the connection; opened if necessary.
            work: Called again from the start while the file is locked, so its first statement must be the
                one that takes the lock. It leaves no transaction open when it returns.
            writes: Queue behind the other writers of this process first.
            written: What the work is to write, for the error.

        Raises:
            AdapterError: Translated at the edge; the work was rolled back.
        """
        attempt = self._write if writes else self._use
        return self._tried(link, lambda: attempt(link, work), written)

    def share(
        self,
        link: Link,
        part: Callable[[sqlite3.Connection], _T],
        *,
        is_statement: bool = False,
        written: Written = None,
    ) -> _T:
        """Run a part of a transaction, which other threads that write at this moment may share.

        Args:
            link: Holds the connection; opened if necessary.
            part: Neither begins nor ends a transaction. Called again from the start if the transaction is
                repeated, and perhaps by another thread. If it raises an error of the contract it has written
                nothing.
            is_statement: Whether each of its statements may be a transaction by itself.
            written: What the part is to write, for the error.

        Returns:
            What the part returned; by then it is committed.

        Raises:
            AdapterError: Translated at the edge, or raised by the part; the part was rolled back.
        """
        if threading.current_thread() is threading.main_thread():
            # A signal handler may raise there, with the parts of others half done.
            turn = Turn(part, self, is_statement=is_statement, is_alone=True)
            self.run(link, lambda c: self.line.turns.do(c, turn), written=written)
            return turn.outcome
        return self._tried(
            link, lambda: self._shared(link, Turn(part, self, is_statement=is_statement)), written
        )

    def _shared(self, link: Link, turn: Turn[_T]) -> _T:
        turns = self.line.turns
        if not turns.take(turn, lambda: self._use(link, lambda c: turns.do(c, turn)), self._timeout_seconds):
            raise self._locked_here()
        return turn.outcome

    def _tried(self, link: Link, attempt: Callable[[], _T], written: Written) -> _T:
        """Make an attempt, again while another process has the file locked; translate its error."""
        # Before it waits for others: it would wait for itself.
        if link.user == threading.get_ident():
            raise AdapterUnavailable(f"{self.path}: called by a signal handler inside of another call")
        give_up: float | None = None
        while True:
            try:
                return attempt()
            except sqlite3.Error as exc:
                # Real time, even with a virtual clock, because the other process lives in real time.
                now = time.monotonic()
                give_up = give_up or now + self._timeout_seconds
                if now >= give_up or not is_busy(exc):
                    raise translated(exc, self.path, self.timeout, written) from exc
            # Random and short, and shorter after a long wait: SQLite's own pauses grow with each failed
            # attempt, so an unlucky writer would starve.
            has_waited_long = give_up - now < self._timeout_seconds - _LONG_WAIT_SECONDS
            time.sleep(random.uniform(0.0001, 0.0005 if has_waited_long else 0.003))  # noqa: S311

    def _write(self, link: Link, work: Callable[[sqlite3.Connection], _T]) -> _T:
        # Writers of one process queue for a cheap lock, instead of all polling the lock of the file.
        turns = self.line.turns
        # Inside of `try`: a signal handler may raise right after the lock is acquired.
        try:
            if not turns.acquire(self._timeout_seconds):
                raise self._locked_here()
            return self._use(link, work)
        finally:
            try:  # noqa: SIM105 - `suppress` is a call, after which a signal handler may raise
                turns.lock.release()
            except RuntimeError:
                pass
            turns.wake()

    def _locked_here(self) -> AdapterUnavailable:
        return AdapterUnavailable(f"{self.path}: locked by this process for {self._timeout_seconds:g} s")

    def _use(self, link: Link, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            link.lock.acquire()
            link.user = threading.get_ident()
            return self._done(link, work)
        except (sqlite3.Error, AdapterError):
            raise
        except BaseException:
            # An exception from a signal may have hit anywhere in a transaction.
            link.discard()
            raise
        finally:
            link.user = None
            try:  # noqa: SIM105 - as above
                link.lock.release()
            except RuntimeError:
                pass

    def _done(self, link: Link, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return work(self._ready(link))
        except sqlite3.Error as exc:
            link.recover(exc)
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
            log.warning(
                "%s %s while open; opening the path anew, what is in the old file is not seen any more",
                self.path,
                change,
            )
            link.discard()
        return self._open(link)

    def _open(self, link: Link) -> sqlite3.Connection:
        if (missing := missing_feature()) is not None:
            raise ProtocolError(
                f"the SQLite {sqlite3.sqlite_version} of this Python has no {missing}; kessel-sqlite needs"
                " SQLite 3.35 or newer, with JSON"
            )
        is_new = not Path(self.path).exists()
        if is_new:
            self._create()
        connection = sqlite3.connect(
            self.path,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
            cached_statements=64,
        )
        connection.text_factory = _text
        try:
            if is_new:
                self._restrict()
            self._set_up(connection)
            if is_new and self.synchronous == "FULL":
                self._sync_directory()
            status = Path(self.path).stat()
            _mark(connection, status)
        except BaseException:
            connection.close()
            raise
        link.identity = (status.st_dev, status.st_ino)
        link.connection = connection
        return connection

    def is_open_in(self, cursor: sqlite3.Cursor) -> bool:
        """Whether a connection that somebody else opened by our path has the file that is there now.

        A file that was removed while it was open lives on without a name, and SQLite does not say so; but its
        inode is used by no other file then, and is noted in it.

        Raises:
            sqlite3.Error: The file cannot be read.
        """
        try:
            inode = str(Path(self.path).stat().st_ino)
        except OSError:
            return False
        row = cursor.execute(sql.IS_MARKED, (inode,)).fetchone()
        return row is None or bool(row[0])  # unmarked: it could only be read

    def _create(self) -> None:
        """Create the file with its rights from the first moment, if the system can do that.

        Without opening it: to close a descriptor would end all locks of this process on the file.
        """
        with suppress(AttributeError, OSError):  # Windows, macOS; or SQLite fails as well, and says why
            os.mknod(os.path.realpath(self.path), stat.S_IFREG | 0o600)

    def _restrict(self) -> None:
        """Set the rights of a file that is still empty, whatever the umask is; `-wal` and `-shm` follow."""
        with suppress(OSError):
            if Path(self.path).stat().st_size == 0:
                Path(self.path).chmod(self._mode)

    def _set_up(self, connection: sqlite3.Connection) -> None:
        # Only if it is not WAL yet, because setting it takes a lock.
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
            # Only macOS has a stronger sync than the ordinary one; elsewhere this does nothing.
            connection.execute("PRAGMA fullfsync = 1")
        schema.prepare(connection, self.path)

    def _sync_directory(self) -> None:
        # The directory entry of a new file must survive a power failure, too.
        with suppress(OSError):
            # That of the file itself, where the path is a link.
            descriptor = os.open(Path(os.path.realpath(self.path)).parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _mark(connection: sqlite3.Connection, status: os.stat_result) -> None:
    """Note in a file which one it is; a copy says so of another one until it is opened."""
    inode = str(status.st_ino)  # may have 64 bits
    if (row := connection.execute(sql.IS_MARKED, (inode,)).fetchone()) is not None and row[0]:
        return
    try:
        connection.execute(sql.MARK, (inode,))
    except sqlite3.Error as exc:
        if is_busy(exc):
            raise
