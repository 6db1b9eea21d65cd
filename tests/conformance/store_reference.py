"""A small, correct store whose every rule is one method, so that a mutant is one changed method.

Its entries are in a SQLite file, which it reads whole in each transaction, so that it can be declared durable
and seen by other processes, too.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar
from urllib.parse import SplitResult

import attrs
from kessel_conformance import StoreHarness

from kessel_core import InvalidConfig, Problem, StoreConflict
from kessel_core.contract import (
    AdapterContext,
    AdapterUnavailable,
    Durability,
    Entry,
    Reach,
    Store,
    StoreCapabilities,
    StoreSpec,
    later,
    url_options,
)

T = TypeVar("T")
LIMIT = 70_000
#: How often a waiting thread looks for what other processes did, in real seconds.
POLL = 0.005
#: Of all stores of this process, so that one wakes the others; and how often a server was restarted.
CHANGED = threading.Condition(threading.RLock())


@attrs.frozen(kw_only=True)
class Options:
    path: str
    durability: str = "none"
    reach: str = "process"
    patience: timedelta = timedelta(seconds=5)


@attrs.define
class Row:
    """An entry as it is kept."""

    space: str
    key: str
    version: int
    value: bytes
    ends: datetime | None


class Reference(Store):
    name: ClassVar[str] = "reference"
    #: How often the harness has restarted what is no server.
    restarts: ClassVar[int] = 0

    def __init__(self, options: Options, context: AdapterContext) -> None:
        super().__init__(context.clock)
        self.options = options
        self.clock = context.clock
        self.is_closed = False
        with self.transaction() as rows:
            rows.connection.execute("CREATE TABLE IF NOT EXISTS entries (space, key, version, value, ends)")
            rows.connection.execute("CREATE TABLE IF NOT EXISTS counter (last)")

    @property
    def capabilities(self) -> StoreCapabilities:
        return StoreCapabilities(
            reach=Reach(self.options.reach),
            durability=Durability(self.options.durability),
            wakes=True,
            max_value_bytes=LIMIT,
            virtual_time=True,
        )

    # --- rules ---

    def now(self) -> datetime:
        return self.clock.now()

    def ends(self, ttl: timedelta | None, before: Row | None) -> datetime | None:
        return None if ttl is None else later(self.now(), ttl)

    def is_over(self, row: Row) -> bool:
        return row.ends is not None and row.ends <= self.now()

    def is_expected(self, expect: int | None, version: int) -> bool:
        return expect is None or expect == version

    def may_delete(self, expect: int | None, version: int) -> bool:
        return expect is None or expect == version

    def conflict(self, space: str, key: str, row: Row | None) -> StoreConflict:
        if row is None:
            return StoreConflict(space, key, 0)
        return StoreConflict(space, key, row.version, row.value, row.ends)

    @classmethod
    def sensible(cls, patience: timedelta) -> None:
        if patience <= timedelta(0):
            raise InvalidConfig([Problem(("patience",), "expected more than zero")])

    def stored(self, value: bytes, before: Row | None) -> bytes:
        return value

    def shown(self, row: Row) -> Entry | None:
        return Entry(row.key, row.version, row.value, row.ends)

    def place(self, space: str, key: str) -> tuple[str, str]:
        return space, key

    def next_version(self, rows: Rows, space: str, key: str) -> int:
        return rows.count()

    def order(self, key: str) -> Any:
        return key

    def begins(self, key: str, prefix: str) -> bool:
        return key.startswith(prefix)

    def comes_after(self, key: str, after: str) -> bool:
        return key > after

    def page(self, entries: list[Entry], limit: int) -> list[Entry]:
        return entries[:limit]

    def changed(self) -> None:
        """Wake those who wait."""
        with CHANGED:
            CHANGED.notify_all()

    def is_news(self, entry: Entry | None, seen: int) -> bool:
        return (entry.version if entry is not None else 0) != seen

    def pause(self) -> None:
        """Between the comparison and the write; here they are one step."""

    # --- the contract ---

    @contextmanager
    def transaction(self) -> Iterator[Rows]:
        self.refuse_if_closed()
        connection = sqlite3.connect(self.options.path, timeout=30, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = PERSIST")  # one file for all transactions
            connection.execute("BEGIN IMMEDIATE")
            yield Rows(connection)
            connection.execute("COMMIT")
        finally:
            connection.close()

    def refuse_if_closed(self) -> None:
        if self.is_closed:
            raise AdapterUnavailable("the store is closed")

    def find(self, rows: Rows, space: str, key: str) -> Row | None:
        return next((row for row in rows.of(*self.place(space, key)) if not self.is_over(row)), None)

    def get_entry(self, space: str, key: str) -> Entry | None:
        with self.transaction() as rows:
            row = self.find(rows, space, key)
        return None if row is None else self.shown(row)

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        with self.transaction() as rows:
            version = self.put_within(rows, space, key, value, expect, ttl)
        self.changed()
        return version

    def put_within(
        self, rows: Rows, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None
    ) -> int:
        if self.options.patience <= timedelta(0):
            raise AdapterUnavailable(f"no answer within {self.options.patience}")
        before = self.find(rows, space, key)
        if not self.is_expected(expect, before.version if before is not None else 0):
            raise self.conflict(space, key, before)
        self.pause()
        return self.write(rows, space, key, value, ttl, before)

    def write(
        self, rows: Rows, space: str, key: str, value: bytes, ttl: timedelta | None, before: Row | None
    ) -> int:
        version = self.next_version(rows, space, key)
        rows.put(Row(*self.place(space, key), version, self.stored(value, before), self.ends(ttl, before)))
        return version

    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        with self.transaction() as rows:
            row = self.find(rows, space, key)
            if row is None:
                return False
            if not self.may_delete(expect, row.version):
                raise self.conflict(space, key, row)
            rows.remove(row)
        self.changed()
        return True

    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        with self.transaction() as rows:
            alive = [row for row in rows.of(space) if not self.is_over(row)]
        wanted = [row for row in alive if self.begins(row.key, prefix) and self.comes_after(row.key, after)]
        entries = [self.shown(row) for row in sorted(wanted, key=lambda row: self.order(row.key))]
        return self.page([entry for entry in entries if entry is not None], limit)

    def wait_entry(self, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
        end = self.clock.monotonic() + timeout.total_seconds()
        while True:
            with CHANGED:  # held until it sleeps, so that no change falls in between
                entry = self.get_entry(space, key)
                left = end - self.clock.monotonic()
                if self.is_news(entry, seen) or left <= 0:
                    return entry
                self.sleep(entry, left)

    def sleep(self, entry: Entry | None, left: float) -> None:
        if entry is not None and entry.expires_at is not None:
            left = min(left, max((entry.expires_at - self.now()).total_seconds(), 0.0))
        self.clock.wait(CHANGED, min(left, POLL) if self.options.reach != "process" else left)

    def close(self) -> None:
        self.is_closed = True
        self.changed()


class Rows:
    """The rows of a file within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def of(self, space: str, key: str | None = None) -> list[Row]:
        found = self.connection.execute("SELECT * FROM entries WHERE space = ?", (space,)).fetchall()
        return [
            Row(
                space,
                name,
                version,
                value,
                None if ends is None else datetime.fromtimestamp(0, UTC) + timedelta(microseconds=ends),
            )
            for space, name, version, value, ends in found
            if key is None or name == key
        ]

    def put(self, row: Row) -> None:
        self.remove(row)
        ends = (
            None
            if row.ends is None
            else (row.ends - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
        )
        values = (row.space, row.key, row.version, row.value, ends)
        self.connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", values)

    def remove(self, row: Row) -> None:
        self.connection.execute("DELETE FROM entries WHERE space = ? AND key = ?", (row.space, row.key))

    def count(self) -> int:
        """Return a version that was never used."""
        last = (self.connection.execute("SELECT last FROM counter").fetchone() or (0,))[0] + 1
        self.connection.execute("DELETE FROM counter")
        self.connection.execute("INSERT INTO counter VALUES (?)", (last,))
        return int(last)


class ReferenceHarness(StoreHarness):
    """Opens a reference store, or a mutant."""

    long_wait = timedelta(seconds=2)

    def restart(self) -> None:
        Reference.restarts += 1


def spec_of(kind: type[Reference], from_url: Callable[[SplitResult], Any] = url_options) -> StoreSpec:
    def opened(options: Options, context: AdapterContext) -> Reference:
        kind.sensible(options.patience)
        return kind(options, context)

    return StoreSpec(
        name="reference",
        schemes=("reference",),
        options=Options,
        open=opened,
        from_url=from_url,
    )


def harness_of(spec: StoreSpec, **options: str) -> ReferenceHarness:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return ReferenceHarness(spec, url="reference://{tmp}/{namespace}.db?" + query)


def nap(seconds: float) -> None:
    """Let other threads and processes run."""
    time.sleep(seconds)


REFERENCE = spec_of(Reference)
