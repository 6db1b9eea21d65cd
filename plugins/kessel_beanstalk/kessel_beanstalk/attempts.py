"""How often a job was delivered (S10): guessed without asking the server where that is safe.

The ids of one server only grow, and among equal priorities the smallest goes first. So a job that is
delivered for the first time normally has a larger id than all jobs of its priority that the slot has
seen, and a job that came back does not. For an id that is not larger, and for the first job of each priority
after every connect, the server is asked (`stats-job`, `reserves`). A worker that was restarted has seen
nothing, so it asks about the very job that killed its predecessor.

It is only a guess: a job that came back may have a larger id than all that *this* slot has seen. Then it is
taken for a first delivery, at most once by each live slot. After a failure the server is always asked, and
nothing that must be correct depends on the guess, not even the lease.
"""

from __future__ import annotations

import threading
from typing import Final

__all__ = ["FirstDeliveries", "Suspects"]


class Suspects:
    """Jobs that are known to have been delivered before. Thread-safe."""

    _MOST: Final = 10_000

    def __init__(self) -> None:
        #: Their ids on the server.
        self.ids: set[int] = set()
        self._lock = threading.Lock()
        #: Incremented when suspects had to be forgotten; every slot then forgets what it has seen.
        self.epoch = 0

    def add(self, server_id: int) -> None:
        """Remember a job that came back."""
        with self._lock:
            if len(self.ids) >= self._MOST:
                self.ids = set()
                self.epoch += 1
            self.ids.add(server_id)

    def discard(self, server_id: int) -> None:
        """Forget a job that is gone."""
        self.ids.discard(server_id)

    def clear(self) -> None:
        """Forget all, because the server was restarted and may use the ids again."""
        with self._lock:
            self.ids = set()
            self.epoch += 1


class FirstDeliveries:
    """What one slot has seen since it connected."""

    _MOST: Final = 1_000

    def __init__(self, suspects: Suspects) -> None:
        self._suspects = suspects
        self._seen: dict[int, int] = {}
        self._epoch = suspects.epoch

    def is_probably_first(self, server_id: int, priority: int) -> bool:
        """Whether to assume a first delivery; if not, ask the server."""
        if self._epoch != self._suspects.epoch:
            self._epoch = self._suspects.epoch
            self._seen.clear()
        seen = self._seen.get(priority)
        if seen is not None and server_id > seen:
            self._seen[priority] = server_id
            return server_id not in self._suspects.ids
        return False

    def asked(self, server_id: int, priority: int) -> None:
        """Record a job that the server was asked about."""
        if len(self._seen) >= self._MOST:
            self._seen.clear()
        self._seen[priority] = max(server_id, self._seen.get(priority, 0))

    def forget(self) -> None:
        """Start again, after a connect."""
        self._seen.clear()
