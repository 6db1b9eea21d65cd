"""The store: entries in spaces, each with a version (S19), in the schema of the jobs."""

from __future__ import annotations

from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final

from kessel_core.contract import (
    AdapterError,
    Entry,
    Put,
    Reach,
    Store,
    StoreCapabilities,
    StoreConflict,
    told_entry,
)
from kessel_postgres import codec
from kessel_postgres.database import Database
from kessel_postgres.link import Call

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["PostgresStore"]

#: Shortest wait for the end of an entry, in seconds: the clock of the server says when it has ended.
_LEAST: Final = 0.01
#: No version is as large.
_LARGEST: Final = 2**63 - 1
#: Seconds between two looks for ended entries; none while there are many.
_SWEEP: Final = 1.0
#: As many as one call of `entry_sweep` removes.
_SWEPT_AT_ONCE: Final = 100


class PostgresStore(Store):
    """Entries in one schema. Thread-safe; a forked child may keep using it.

    Args:
        database: Where they are.
        max_value_bytes: Longest value, in bytes.
        owns_database: Whether `close` closes the connections; the adapter closes those of its jobs.
    """

    name: ClassVar[str] = "postgres"

    def __init__(self, database: Database, max_value_bytes: int, *, owns_database: bool) -> None:
        super().__init__(database.clock)
        self._database = database
        self._owns_database = owns_database
        self._swept = -inf  # the monotonic clock may have begun just now
        self._capabilities = StoreCapabilities(
            reach=Reach.NETWORK,
            durability=database.facts.durability,
            wakes=not database.options.pooler,
            max_value_bytes=max_value_bytes,
        )

    @property
    def capabilities(self) -> StoreCapabilities:
        """What the store promises with these options, on this server."""
        return self._capabilities

    def put_call(self, put: Put) -> Call:
        """Return the call that writes an entry, for the transaction of a settlement."""
        return self._put_call(put.space, put.key, put.value, None, put.ttl)

    def _put_call(
        self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None
    ) -> Call:
        values = (
            codec.text(space),
            codec.text(key),
            value,
            None if expect is None else codec.integer(min(expect, _LARGEST)),
            None if ttl is None else codec.span(ttl),
        )
        return Call(self._database.statements.entry_put, values)

    def get_entry(self, space: str, key: str) -> Entry | None:
        """As `Store.get_entry`."""
        values = (codec.text(space), codec.text(key))
        rows = self._database.call(Call(self._database.statements.entry, values))
        return _entry(rows, 0) if rows.ntuples else None

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        """As `Store.put_entry`."""
        return self._write(space, key, self._put_call(space, key, value, expect, ttl))

    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        """As `Store.delete_entry`."""
        expected = None if expect is None else codec.integer(min(expect, _LARGEST))
        values = (codec.text(space), codec.text(key), expected)
        return bool(self._write(space, key, Call(self._database.statements.entry_delete, values)))

    def _write(self, space: str, key: str, call: Call) -> int:
        """Run a call that writes an entry, and wake who waits for it; returns the column `written`."""
        row = self._database.call(call, (space, key), (told_entry(space, key),))
        written = row.get_value(0, 0)
        if written is None:
            version = codec.number(row.get_value(0, 1) or b"")
            if not version:
                raise StoreConflict(space, key, 0)
            raise StoreConflict(
                space, key, version, row.get_value(0, 2) or b"", codec.to_moment(row.get_value(0, 3))
            )
        self._database.line.announce_entry(space, key)
        self.sweep()
        return codec.number(written)

    def sweep(self) -> None:
        """Remove some of what has ended, from time to time; at once again while there is more."""
        now = self._clock.monotonic()
        if now - self._swept < _SWEEP:
            return
        self._swept = now
        try:
            row = self._database.call(Call(self._database.statements.entry_sweep))
        except AdapterError:
            return  # nobody waits for it
        if codec.number(row.get_value(0, 0) or b"") == _SWEPT_AT_ONCE:
            self._swept = now - _SWEEP

    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        """As `Store.scan_entries`."""
        values = (
            *map(codec.text, (space, prefix, after)),
            codec.integer(limit),
        )
        rows = self._database.call(Call(self._database.statements.entries, values))
        return [_entry(rows, row) for row in range(rows.ntuples)]

    def wait_entry(self, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
        """As `Store.wait_entry`; woken by the write, or by a notification of another process."""
        end = self._clock.monotonic() + timeout.total_seconds()
        line = self._database.line
        waiter = line.join_entry(space, key)
        try:
            return self.wait_woken(space, key, seen, end, waiter, least=_LEAST)
        finally:
            line.entries.leave(waiter)

    def close(self) -> None:
        """As `Store.close`."""
        if self._owns_database:
            self._database.close()


def _entry(rows: PGresult, row: int) -> Entry:
    key, version, value, ends = (rows.get_value(row, column) for column in range(4))
    assert key is not None and version is not None and value is not None
    return Entry(key.decode(), codec.number(version), value, codec.to_moment(ends))
