"""The threads of one process that wait for entries of one file (S19); each change wakes those of its entry.

No wake-up is lost, because a thread joins before it looks: a write that is committed after that look finds
it waiting.
"""

from __future__ import annotations

import threading

__all__ = ["EntryLine", "EntryWaiter"]


class EntryWaiter:
    """A thread that waits until an entry has another version."""

    __slots__ = ("condition", "name", "seen", "woken")

    def __init__(self, name: tuple[str, str], seen: int, lock: threading.RLock) -> None:
        #: Space and key.
        self.name = name
        #: The version that it knows; 0: there was no entry.
        self.seen = seen
        self.condition = threading.Condition(lock)
        #: Whether it was told to look again; cleared by the waiter, before it looks.
        self.woken = False


class EntryLine:
    """All that wait for entries of one file. Thread-safe.

    Args:
        lock: Held briefly; waiters wait on conditions that use it.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._waiting: dict[tuple[str, str], list[EntryWaiter]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting

    def join(self, waiter: EntryWaiter) -> None:
        """Wait from now on."""
        with self._lock:
            self._waiting.setdefault(waiter.name, []).append(waiter)

    def leave(self, waiter: EntryWaiter) -> None:
        """Wait no more."""
        with self._lock:
            waiting = self._waiting.get(waiter.name, [])
            if waiter not in waiting:
                return  # left behind in the parent of a fork
            waiting.remove(waiter)
            if not waiting:
                del self._waiting[waiter.name]

    def announce(self, space: str, key: str) -> None:
        """Wake those that wait for an entry; call it once the change is committed."""
        if not self._waiting:
            return
        with self._lock:
            for waiter in self._waiting.get((space, key), ()):
                _wake(waiter)

    def found(self, space: str, key: str, version: int) -> bool:
        """Wake those that have seen another version than this one; return whether there were any."""
        with self._lock:
            told = [waiter for waiter in self._waiting.get((space, key), ()) if waiter.seen != version]
            for waiter in told:
                _wake(waiter)
        return bool(told)

    def wake(self) -> None:
        """Wake all of them."""
        with self._lock:
            for waiting in self._waiting.values():
                for waiter in waiting:
                    _wake(waiter)

    def wanted(self) -> list[tuple[str, str]]:
        """Return space and key of what somebody waits for."""
        with self._lock:
            return list(self._waiting)


def _wake(waiter: EntryWaiter) -> None:
    waiter.woken = True
    waiter.condition.notify_all()
