"""What the adapter, its deliveries, operations, store and doctor share: options, clocks, and the file.

Each thread has its own connection, which is closed when the thread ends. Nothing here knows what a job is.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar, cast

from kessel_core import Clock, SystemClock
from kessel_core.contract import AdapterUnavailable, Durability
from kessel_sqlite import sql
from kessel_sqlite.file import DatabaseFile
from kessel_sqlite.hostclock import HostClock, moment
from kessel_sqlite.link import Link
from kessel_sqlite.options import FileOptions
from kessel_sqlite.wake import FileLine

__all__ = ["Engine", "Outlook", "next_change"]

_T = TypeVar("_T")

#: One queue as a row of `sql.OUTLOOK`: end of its pause, whether it has a ready job, when the next is due.
Outlook = tuple[int | None, int, int | None]


class Engine:
    """One open file. Thread-safe; a forked child may keep using it.

    Raises:
        AdapterUnavailable: The file cannot be opened.
        ProtocolError: It is not a SQLite database, or a newer kessel wrote it.
    """

    def __init__(self, options: FileOptions, clock: Clock) -> None:
        self.options = options
        self.clock = clock
        #: The wall clock in microseconds, watched for jumps.
        self.host = HostClock(clock)
        synchronous = "FULL" if options.durability is Durability.POWER else "NORMAL"
        path = str(options.path.absolute())
        self.file = DatabaseFile(path, synchronous, options.timeout, options.access.mode)
        self._local = threading.local()
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._is_closed = False
        self.file.run(self.link(), self.host.opened)
        # With a virtual clock nobody waits in real time, so no watcher is needed.
        self.line.open(self._source if type(clock) is SystemClock else None)

    @property
    def line(self) -> FileLine:
        """Who waits, shared by all adapters and stores of this process that have the file open."""
        return self.file.line

    def link(self) -> Link:
        """Return the holder of the calling thread's connection.

        Raises:
            AdapterUnavailable: The file is closed.
        """
        if self._is_closed:
            raise AdapterUnavailable(f"{self.options.path}: it was closed by this application")
        try:
            return cast("Link", self._local.link)
        except AttributeError:
            link = self._local.link = Link()
            self._links.add(link)
            return link

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run read-only work with the calling thread's connection; raises what `DatabaseFile.run` raises."""
        return self.file.run(self.link(), work, writes=False)

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run work that writes, in a transaction of its own; raises what `DatabaseFile.run` raises."""
        return self.file.run(self.link(), work)

    def share(self, part: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a part of a transaction that others may share; raises what `DatabaseFile.share` raises."""
        return self.file.share(self.link(), part)

    def change(self, statement: str, values: tuple[object, ...]) -> int:
        """Run one statement; return how many rows it changed."""
        return self.file.share(
            self.link(), lambda c: c.execute(statement, values).rowcount, is_statement=True
        )

    def outlook(self, queues: str, now: int, link: Link | None = None) -> list[Outlook]:
        """Return the outlook of some queues, given as `sql.json_names` formats them."""
        values = {"queues": queues, "now": now}
        return self.file.run(
            link or self.link(), lambda c: c.execute(sql.OUTLOOK, values).fetchall(), writes=False
        )

    def close(self) -> None:
        """Close all connections; later calls are refused. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self.line.close()
        for link in list(self._links):
            link.close()

    def _source(self) -> _FileSource:
        return _FileSource(self)


def next_change(rows: Iterable[Outlook]) -> int | None:
    """Return when time alone next makes a job ready, in microseconds; None: never."""
    return min(_changes(rows), default=None)


def _changes(rows: Iterable[Outlook]) -> Iterator[int]:
    for until, is_ready, due in rows:
        if until is None:
            if due is not None:
                yield due
        elif is_ready:
            yield until
        elif due is not None:
            yield max(until, due)


class _FileSource:
    """What the watcher polls, with a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._link = Link()
        self._seen: tuple[sqlite3.Connection, int] | None = None

    def has_changed(self) -> bool:
        # Reports commits of other connections, including those of this process; each costs one look.
        seen = self._engine.file.run(self._link, self._version, writes=False)
        if self._seen is not None and seen[0] is self._seen[0] and seen[1] == self._seen[1]:
            return False
        self._seen = seen
        return True

    @staticmethod
    def _version(connection: sqlite3.Connection) -> tuple[sqlite3.Connection, int]:
        return connection, connection.execute("PRAGMA data_version").fetchone()[0]

    def outlook(self, queues: Sequence[str]) -> Iterator[tuple[str, bool, datetime | None]]:
        rows = self._engine.outlook(sql.json_names(queues), self._engine.host.now(), self._link)
        for queue, row in zip(queues, rows, strict=True):
            until, is_ready, _ = row
            yield queue, until is None and bool(is_ready), moment(next_change([row]))

    def versions(self, entries: Sequence[tuple[str, str]]) -> list[tuple[str, str, int]]:
        now = self._engine.host.now()

        def look(connection: sqlite3.Connection) -> list[tuple[str, str, int]]:
            found = []
            for space, key in entries:
                row = connection.execute(sql.ENTRY_VERSION, (space, key.encode(), now)).fetchone()
                found.append((space, key, 0 if row is None else row[0]))
            return found

        return self._engine.file.run(self._link, look, writes=False)

    def close(self) -> None:
        self._link.close()
