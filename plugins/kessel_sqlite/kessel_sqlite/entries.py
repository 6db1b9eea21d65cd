"""The store: entries in spaces, each with a version (S19), in a file of jobs or in one of its own.

`FileEntries` reads and writes them with a connection that it is given, so that an adapter can write entries
in the transaction of a settlement; `SqliteStore` is the contract over it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar, Final, TypeVar

from kessel_core.contract import Entry, Reach, Store, StoreCapabilities, StoreConflict
from kessel_sqlite import sql
from kessel_sqlite.engine import Engine
from kessel_sqlite.entryline import EntryWaiter
from kessel_sqlite.hostclock import after, moment

__all__ = ["FileEntries", "SqliteStore"]

_T = TypeVar("_T")
#: Key, version, value, end.
_Row = tuple[bytes, int, bytes, int | None]

#: Interval between two looks for ended entries, in microseconds; none while there are many.
_SWEEP: Final = 1_000_000
#: Comes after every key: no UTF-8 holds it.
_END_OF_KEYS: Final = b"\xff"


class FileEntries:
    """The entries of one file, each call within what the given connection has open. Thread-safe.

    Args:
        engine: The open file.
    """

    def __init__(self, engine: Engine) -> None:
        self._host = engine.host
        self._swept = 0

    def get(self, connection: sqlite3.Connection, space: str, key: str) -> Entry | None:
        """As `Store.get`."""
        return _read(connection, space, key, self._host.now())

    def put(
        self,
        connection: sqlite3.Connection,
        space: str,
        key: str,
        value: bytes,
        expect: int | None = None,
        ttl: timedelta | None = None,
    ) -> int:
        """As `Store.put`, in the open transaction; call `EntryLine.announce` once that is committed.

        Raises:
            StoreConflict: Nothing was written; the transaction is still open.
        """
        now = self._host.now()
        if expect is not None and _version(connection, space, key, now) != expect:
            raise _conflict(connection, space, key, now)
        ends = None if ttl is None else after(now, ttl)
        version = connection.execute(sql.PUT_ENTRY, (space, key.encode(), value, ends)).lastrowid
        assert version is not None
        self._sweep(connection, now)
        return version

    def delete(self, connection: sqlite3.Connection, space: str, key: str, expect: int | None = None) -> bool:
        """As `Store.delete`, in the open transaction; call `EntryLine.announce` once that is committed.

        Raises:
            StoreConflict: Nothing was removed; the transaction is still open.
        """
        now = self._host.now()
        version = _version(connection, space, key, now)
        if not version:
            return False
        if expect is not None and version != expect:
            raise _conflict(connection, space, key, now)
        connection.execute(sql.REMOVE_ENTRY, (version,))
        return True

    def scan(
        self, connection: sqlite3.Connection, space: str, prefix: str, after_key: str, limit: int
    ) -> list[Entry]:
        """As `Store.scan`."""
        start = prefix.encode()
        # The key that comes directly after another one: no key holds a zero.
        first, end = max(start, after_key.encode() + b"\0" if after_key else b""), start + _END_OF_KEYS
        found: list[Entry] = []
        while True:
            wanted = limit - len(found)
            rows = connection.execute(sql.ENTRIES, (space, first, end, self._host.now(), wanted)).fetchall()
            # What others wrote by SQL may be no text; it ends nobody's scan.
            found += [_entry(row) for row in rows if _is_text(row[0])]
            if len(rows) < wanted or len(found) == limit:
                return found
            first = rows[-1][0] + b"\0"

    def _sweep(self, connection: sqlite3.Connection, now: int) -> None:
        """Remove some of what has ended, from time to time; at once again while there is more."""
        if 0 <= now - self._swept < _SWEEP:
            return
        rows = connection.execute(sql.ENDED_ENTRIES, (now, sql.ENDED_AT_ONCE)).fetchall()
        size, removed = 0, 0
        for version, length in rows:
            if removed and size + length > sql.ENDED_BYTES_AT_ONCE:
                break
            connection.execute(sql.REMOVE_ENTRY, (version,))
            size, removed = size + length, removed + 1
        if removed == len(rows) < sql.ENDED_AT_ONCE:
            self._swept = now


class SqliteStore(Store):
    """Entries in one SQLite file. Thread-safe; a forked child may keep using it.

    Args:
        engine: The open file.
        max_value_bytes: Longest value, in bytes.
        owns_file: Whether `close` closes the file; the adapter closes that of its jobs.
    """

    name: ClassVar[str] = "sqlite"

    def __init__(self, engine: Engine, max_value_bytes: int, *, owns_file: bool) -> None:
        super().__init__(engine.clock)
        #: What writes entries in the transaction of somebody else.
        self.entries = FileEntries(engine)
        self._engine = engine
        self._owns_file = owns_file
        self._capabilities = StoreCapabilities(
            reach=Reach.HOST,
            durability=engine.options.durability,
            wakes=True,
            max_value_bytes=max_value_bytes,
            virtual_time=True,
        )

    @property
    def capabilities(self) -> StoreCapabilities:
        """What the store promises with these options."""
        return self._capabilities

    def get_entry(self, space: str, key: str) -> Entry | None:
        """As `Store.get_entry`."""
        return self._engine.read(lambda c: self.entries.get(c, space, key))

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        """As `Store.put_entry`."""
        return self._write(space, key, lambda c: self.entries.put(c, space, key, value, expect, ttl))

    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        """As `Store.delete_entry`."""
        return self._write(space, key, lambda c: self.entries.delete(c, space, key, expect))

    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        """As `Store.scan_entries`."""
        return self._engine.read(lambda c: self.entries.scan(c, space, prefix, after, limit))

    def wait_entry(self, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
        """As `Store.wait_entry`; woken by the write itself, or by the watcher if it is another process's."""
        end = self._clock.monotonic() + timeout.total_seconds()
        line = self._engine.line
        waiter = EntryWaiter((space, key), seen, line.lock)
        try:
            line.join_entry(waiter)
            return self.wait_woken(space, key, seen, end, waiter)
        finally:
            line.entries.leave(waiter)

    def close(self) -> None:
        """As `Store.close`."""
        if self._owns_file:
            self._engine.close()

    def _write(self, space: str, key: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run some work in a transaction, and wake who waits for the entry."""
        done = self._engine.file.share(self._engine.link(), work, written=(space, key))
        self._engine.line.entries.announce(space, key)
        return done


def _version(connection: sqlite3.Connection, space: str, key: str, now: int) -> int:
    row = connection.execute(sql.ENTRY_VERSION, (space, key.encode(), now)).fetchone()
    return 0 if row is None else int(row[0])


def _read(connection: sqlite3.Connection, space: str, key: str, now: int) -> Entry | None:
    row = connection.execute(sql.ENTRY, (space, key.encode(), now)).fetchone()
    return None if row is None else _entry(row)


def _conflict(connection: sqlite3.Connection, space: str, key: str, now: int) -> StoreConflict:
    """Return the error that says what is there; its value is read only now."""
    there = _read(connection, space, key, now)
    if there is None:
        return StoreConflict(space, key, 0)
    return StoreConflict(space, key, there.version, there.value, there.expires_at)


def _entry(row: _Row) -> Entry:
    key, version, value, ends = row
    return Entry(key.decode(), version, value, moment(ends))


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True
