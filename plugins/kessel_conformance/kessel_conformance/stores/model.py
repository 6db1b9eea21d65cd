"""What a store must answer: a dictionary with versions and ends, beside the store itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from kessel_conformance.stores.bench import StoreBench, version_of
from kessel_core.contract import NO_PAUSE, Entry

__all__ = ["Model"]


class Model:
    """Makes each call on the store, and compares its answer with what must be there. For one thread.

    Args:
        bench: The open store.
    """

    def __init__(self, bench: StoreBench) -> None:
        self._bench = bench
        #: All entries, also those that have ended.
        self._entries: dict[str, Entry] = {}
        #: The last version of each key, also of one that is gone.
        self._last: dict[str, int] = {}

    def put(self, key: str, value: bytes, expect: str, ttl: timedelta | None) -> None:
        """Write, if the expected version is there."""
        there, wanted = self._there(key), self._version(key, expect)
        if wanted is not None and wanted != version_of(there):
            self._bench.not_put(wanted, there, key=key)
            return
        before = self._bench.now()
        version = self._bench.put(key, value, expect=wanted, ttl=ttl)
        after = self._bench.now()
        last = self._last.get(key, 0)
        self._bench.check(version > last, f"version {version} of {key!r} follows {last}", "S19a")
        self._last[key] = version
        entry = self._bench.entry(key, f"{key!r}, which was just put", clause="S19b" if ttl else "S19")
        end = None if ttl is None else self._bench.ends_right(entry, ttl, before, after)
        self._entries[key] = Entry(key, version, value, end)
        self._bench.equal(entry, self._entries[key], f"what was put under {key!r}", "S19")

    def delete(self, key: str, expect: str) -> None:
        """Remove, if the expected version is there."""
        there, wanted = self._there(key), self._version(key, expect)
        if there is not None and wanted is not None and wanted != there.version:
            self._bench.not_deleted(wanted, there, key=key)
            return
        removed = self._bench.delete(key, expect=wanted)
        self._bench.equal(
            removed, there is not None, f"whether {key!r} was there to be deleted", _clause(there)
        )
        self._entries.pop(key, None)

    def get(self, key: str) -> None:
        """Read."""
        there = self._there(key)
        self._bench.equal(self._bench.get(key), there, f"what is under {key!r}", self._gone_clause(key))

    def scan(self, prefix: str, after: str, limit: int) -> None:
        """Read a page."""
        keys = sorted(key for key in self._entries if key.startswith(prefix) and key > after)
        expected = [entry for key in keys if (entry := self._there(key)) is not None][:limit]
        found = self._bench.scan(prefix, after, limit)
        what = f"what begins with {prefix!r} and comes after {after!r}"
        self._bench.equal(found, expected, what, self._scan_clause(found))

    def wait(self, key: str, seen: str) -> None:
        """Look whether it has another version than the one that was seen: it says what is there."""
        there = self._there(key)
        found = self._bench.wait(key, seen=self._version(key, seen) or 0, timeout=NO_PAUSE)
        self._bench.equal(found, there, f"what a wait for {key!r} returns", "S19e")

    def change_hands(self) -> None:
        """Go on with another store that has the same entries, and with the first one after that."""
        first, second = self._bench, self._bench.beside()
        self._bench = second
        for key in list(self._entries)[:2]:
            self.get(key)
        self.put("by another", b"hand", "any", None)
        self._bench = first
        self.get("by another")

    def whole(self) -> None:
        """Compare all that is there."""
        expected = [entry for key in sorted(self._entries) if (entry := self._there(key)) is not None]
        found = self._bench.pages(limit=3)
        self._bench.equal(found, expected, "all that is there", self._scan_clause(found))

    def next_end(self) -> datetime | None:
        """Return when the next entry ends; None: none does."""
        now = self._bench.now()
        ends = [entry.expires_at for entry in self._entries.values() if entry.expires_at is not None]
        return min((end for end in ends if end > now), default=None)

    def _there(self, key: str) -> Entry | None:
        entry = self._entries.get(key)
        if entry is None or (entry.expires_at is not None and entry.expires_at <= self._bench.now()):
            return None
        return entry

    def _version(self, key: str, which: str) -> int | None:
        """Return the version that a call expects; None: it expects none."""
        match which:
            case "right":
                return version_of(self._there(key))
            case "none":
                return 0
            case "old":
                return max(1, self._last.get(key, 1) - 1)
            case "next":
                return self._last.get(key, 0) + 1
            case _:
                return None

    def _scan_clause(self, found: list[Entry]) -> str:
        """Return what is broken if a scan is wrong: the end of an entry that it returns, or its order."""
        has_ended = any(entry.key in self._entries and self._there(entry.key) is None for entry in found)
        return "S19b" if has_ended else "S19d"

    def _gone_clause(self, key: str) -> str:
        """Return what is broken if a read of a key is wrong: its end, if it has one."""
        entry = self._entries.get(key)
        return "S19" if entry is None or entry.expires_at is None else "S19b"


def _clause(there: Entry | None) -> str:
    return "S19" if there is None or there.expires_at is None else "S19b"
