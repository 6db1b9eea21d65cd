"""The store of the memory adapter: entries in spaces, each with a version (S19).

`Entries` is what is kept, with its lock held by the caller, so that an adapter can write entries together
with a settlement; `MemoryStore` is the contract over it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import ClassVar, Final

from kessel_core import Clock
from kessel_core.contract import (
    AdapterContext,
    AdapterUnavailable,
    Entry,
    InvalidConfig,
    Problem,
    Reach,
    Store,
    StoreCapabilities,
    StoreConflict,
    later,
)
from kessel_memory.forks import OPENING, begin_anew_after_fork
from kessel_memory.options import MemoryStoreOptions

__all__ = ["Entries", "MemoryStore", "open_store"]

#: Named stores of this process, for as long as somebody has them open.
_shared: Final[dict[str, Entries]] = {}

#: Ends of replaced entries that are not worth clearing away.
_FEW: Final = 64
_CAPABILITIES: Final = StoreCapabilities(reach=Reach.PROCESS, wakes=True, virtual_time=True)


class Entries:
    """All entries of one store; everything is called with `lock` held.

    Args:
        clock: The only source of time.
        lock: Guards the entries, and whatever is changed together with them.
    """

    def __init__(self, clock: Clock, lock: threading.RLock) -> None:
        self.clock = clock
        self.lock = lock
        #: How many stores have it open.
        self.handles = 0
        self._spaces: dict[str, dict[str, Entry]] = {}
        #: The keys of each space, sorted.
        self._keys: dict[str, list[str]] = {}
        #: The last version; never used twice, so that a new entry is not taken for the one before it.
        self._last = 0
        #: When entries end, the next first; with what has been replaced meanwhile.
        self._ends: list[tuple[datetime, int, str, str]] = []
        self._clear_at = _FEW
        self._waiting: dict[tuple[str, str], list[threading.Condition]] = {}

    def begin_anew(self) -> None:
        """Begin anew in a forked child, without entries and those who wait in the parent."""
        for content in (self._spaces, self._keys, self._ends, self._waiting):
            content.clear()

    def get(self, space: str, key: str) -> Entry | None:
        """As `Store.get`."""
        self._expire()
        return self._spaces.get(space, {}).get(key)

    def put(
        self, space: str, key: str, value: bytes, expect: int | None = None, ttl: timedelta | None = None
    ) -> int:
        """As `Store.put`."""
        there = self._expected(space, key, expect)
        self._last += 1
        ends = None if ttl is None else later(self.clock.now(), ttl)
        if ends is not None:  # first: one whose entry is not there does not count
            heappush(self._ends, (ends, self._last, space, key))
        entries, keys = self._spaces.setdefault(space, {}), self._keys.setdefault(space, [])
        entry = Entry(key, self._last, value, ends)
        # A signal's handler may raise after a call, and not between these: both know the key, or none.
        entries[key] = entry
        if there is None:
            insort(keys, key)
        if len(self._ends) > self._clear_at:
            self._clear_ends()
        self._wake(space, key)
        return self._last

    def delete(self, space: str, key: str, expect: int | None = None) -> bool:
        """As `Store.delete`."""
        if self._expected(space, key, expect, missing_is_fine=True) is None:
            return False
        self._remove(space, key)
        return True

    def scan(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        """As `Store.scan`."""
        self._expire()
        keys, entries = self._keys.get(space, []), self._spaces.get(space, {})
        first = max(bisect_left(keys, prefix), bisect_right(keys, after))
        found: list[Entry] = []
        for key in keys[first : first + limit]:
            if not key.startswith(prefix):
                break
            found.append(entries[key])
        return found

    def sleep(self, space: str, key: str, seconds: float) -> None:
        """Let go of the lock until the entry may have changed, or the time is over."""
        condition = threading.Condition(self.lock)
        waiting = self._waiting.setdefault((space, key), [])
        waiting.append(condition)
        try:
            entry = self.get(space, key)
            if entry is not None and entry.expires_at is not None:  # its end is news, too
                seconds = min(seconds, max((entry.expires_at - self.clock.now()).total_seconds(), 0.0))
            self.clock.wait(condition, seconds)
        finally:
            waiting.remove(condition)
            if not waiting and self._waiting.get((space, key)) is waiting:
                del self._waiting[space, key]

    def wake_all(self) -> None:
        """Let everybody who waits look again, because the store was closed."""
        for space, key in list(self._waiting):
            self._wake(space, key)

    def _expected(
        self, space: str, key: str, expect: int | None, *, missing_is_fine: bool = False
    ) -> Entry | None:
        """Return what is there.

        Raises:
            StoreConflict: It is not the expected version.
        """
        there = self.get(space, key)
        if there is None:
            if expect and not missing_is_fine:
                raise StoreConflict(space, key, 0)
        elif expect is not None and there.version != expect:
            raise StoreConflict(space, key, there.version, there.value, there.expires_at)
        return there

    def _expire(self) -> None:
        """Remove what has ended."""
        if not self._ends:
            return
        now = self.clock.now()
        while self._ends and self._ends[0][0] <= now:
            _, version, space, key = heappop(self._ends)
            entry = self._spaces.get(space, {}).get(key)
            if entry is not None and entry.version == version:
                self._remove(space, key)

    def _clear_ends(self) -> None:
        """Forget the ends of entries that were replaced, so that they never make up more than half."""
        self._ends = [
            end
            for end in self._ends
            if (entry := self._spaces.get(end[2], {}).get(end[3])) is not None and entry.version == end[1]
        ]
        heapify(self._ends)
        self._clear_at = 2 * len(self._ends) + _FEW

    def _remove(self, space: str, key: str) -> None:
        entries, keys = self._spaces[space], self._keys[space]
        place = bisect_left(keys, key)
        del entries[key]
        del keys[place]
        if not entries:
            del self._spaces[space], self._keys[space]
        self._wake(space, key)

    def _wake(self, space: str, key: str) -> None:
        for condition in self._waiting.get((space, key), ()):
            condition.notify_all()


class MemoryStore(Store):
    """Entries in the memory of this process; they are gone with it, or when the last store closes.

    Args:
        entries: What is kept; several stores may share it.
    """

    name: ClassVar[str] = "memory"

    def __init__(self, entries: Entries) -> None:
        super().__init__(entries.clock)
        self._entries = entries
        self._closed = False
        with entries.lock:
            entries.handles += 1

    @property
    def capabilities(self) -> StoreCapabilities:
        """Within one process, woken, on virtual time."""
        return _CAPABILITIES

    def get_entry(self, space: str, key: str) -> Entry | None:
        """As `Store.get_entry`."""
        with self._entries.lock:
            return self._open().get(space, key)

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        """As `Store.put_entry`."""
        with self._entries.lock:
            return self._open().put(space, key, value, expect, ttl)

    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        """As `Store.delete_entry`."""
        with self._entries.lock:
            return self._open().delete(space, key, expect)

    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        """As `Store.scan_entries`."""
        with self._entries.lock:
            return self._open().scan(space, prefix, after, limit)

    def wait_entry(self, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
        """As `Store.wait_entry`; woken by the write itself, never polls."""
        with self._entries.lock:
            end = self._clock.monotonic() + timeout.total_seconds()
            while True:
                entry = self._open().get(space, key)
                left = end - self._clock.monotonic()
                if (entry.version if entry is not None else 0) != seen or left <= 0:
                    return entry
                self._entries.sleep(space, key, left)

    def close(self) -> None:
        """As `Store.close`; entries that nobody else shares are gone."""
        with self._entries.lock:
            if self._closed:
                return
            self._closed = True
            self._entries.wake_all()
            self._entries.handles -= 1
        with OPENING:
            for name in [name for name, known in _shared.items() if known.handles == 0]:
                del _shared[name]

    def _open(self) -> Entries:
        if self._closed:
            raise AdapterUnavailable("the memory store is closed")
        return self._entries


def open_store(options: MemoryStoreOptions, context: AdapterContext) -> MemoryStore:
    """Open `memory://` or `memory://name` as a store.

    Raises:
        InvalidConfig: The name is already open with another clock.
    """
    with OPENING:
        entries = _shared.get(options.name) if options.name else None
        if entries is None:
            entries = Entries(context.clock, threading.RLock())
            begin_anew_after_fork(entries)
            if options.name:
                _shared[options.name] = entries
        elif entries.clock is not context.clock:
            why = f"memory://{options.name} is already open in this process with another clock"
            raise InvalidConfig([Problem(("name",), why)], "invalid options of the store 'memory'")
        return MemoryStore(entries)
