"""The store: entries in spaces, each with a version (S19), in the namespace of the jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Final

from kessel_core.contract import Entry, Reach, Store, StoreCapabilities, StoreConflict, told_entry
from kessel_redis import codec
from kessel_redis.database import Database
from kessel_redis.scripts import OPERATIONS, Layout

__all__ = ["RedisStore"]

#: Shortest wait for the end of an entry, in seconds: the clock of the server says when it has ended.
_LEAST: Final = 0.01
#: No version is as large, and Lua's numbers tell it from its neighbours.
_LARGEST: Final = 2**53 - 1


class RedisStore(Store):
    """Entries in one namespace. Thread-safe; a forked child may keep using it.

    Args:
        database: Where they are.
        max_value_bytes: Longest value, in bytes.
        owns_database: Whether `close` closes the connections; the adapter closes those of its jobs.
    """

    name: ClassVar[str] = "redis"

    def __init__(self, database: Database, max_value_bytes: int, *, owns_database: bool) -> None:
        super().__init__(database.clock)
        self._database = database
        self._owns_database = owns_database
        self._capabilities = StoreCapabilities(
            reach=Reach.NETWORK,
            durability=database.durability,
            wakes=True,
            max_value_bytes=max_value_bytes,
        )

    @property
    def capabilities(self) -> StoreCapabilities:
        """What the store promises with these options, on this server."""
        return self._capabilities

    def get_entry(self, space: str, key: str) -> Entry | None:
        """As `Store.get_entry`."""
        found = self._ask(space, b"get", key.encode())
        return None if found is None else codec.to_entry(key, found)

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        """As `Store.put_entry`."""
        ends = b"" if ttl is None else codec.micros(ttl)
        return self._write(space, key, b"put", value, _expected(expect), ends)

    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        """As `Store.delete_entry`."""
        return bool(self._write(space, key, b"remove", _expected(expect)))

    def _write(self, space: str, key: str, name: bytes, *given: bytes) -> int:
        """Change an entry, and wake who waits for it."""
        database = self._database
        told = database.message(told_entry(space, key))
        done, answer = self._ask(
            space, name, database.keys.channel, told, key.encode(), *given, written=(space, key)
        )
        if not done:
            if not answer:
                raise StoreConflict(space, key, 0)
            there = codec.to_entry(key, answer)
            raise StoreConflict(space, key, there.version, there.value, there.expires_at)
        database.line.announce_entry(space, key)
        return int(answer)

    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        """As `Store.scan_entries`."""
        first, last = prefix.encode(), after.encode()
        # Bytes of UTF-8 are in the order of code points, and none of them is 255.
        least = b"(" + last if last >= first and last else b"[" + first if first else b"-"
        most = b"(" + first + b"\xff" if first else b"+"
        found = self._ask(space, b"scan", least, most, b"%d" % limit)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [codec.to_entry(key.decode(), value) for key, value in pairs]

    def _ask(self, space: str, *given: bytes, written: tuple[str, str] | None = None) -> Any:
        return self._database.call(OPERATIONS, Layout((), (space,)), given, written)

    def wait_entry(self, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
        """As `Store.wait_entry`; woken by the write, or by a message of another process."""
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


def _expected(version: int | None) -> bytes:
    return b"" if version is None else b"%d" % min(version, _LARGEST)
