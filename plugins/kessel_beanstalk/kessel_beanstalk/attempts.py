"""How often was this job delivered? Guessed without a question where that is safe (S10).

Ids of one server only grow, and among equal priorities the smallest goes first. So a job that is
delivered for the first time normally has a larger id than every job of its priority that the
slot has seen; a job that came back has not. Whatever is not larger, and the first job of
each priority after every connect, is asked about (`stats-job`, `reserves`). A worker that died
comes back with nothing seen, so it asks about the very job that killed it.

The guess is only a guess: a job that came back may be larger than all that *this* slot has seen.
It is then taken for a first delivery, at most once by each slot that lives. Failures always ask, and
nothing that must be right follows from the guess, not even the lease.
"""

from __future__ import annotations

import threading
from typing import Final

__all__ = ["FirstDeliveries", "Suspects"]


class Suspects:
    """Jobs that this process knows to have been delivered before. For any thread."""

    _MOST: Final = 10_000

    def __init__(self) -> None:
        #: The server's numbers of them; for `in`.
        self.ids: set[int] = set()
        self._lock = threading.Lock()
        #: Grows when suspects had to be forgotten: then every slot forgets what it has seen.
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
        """Forget all; the server was restarted, and its ids may start anew."""
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

    def is_surely_first(self, server_id: int, priority: int) -> bool:
        """Return True for what is taken for a first delivery; False: ask the server."""
        if self._epoch != self._suspects.epoch:
            self._epoch = self._suspects.epoch
            self._seen.clear()
        seen = self._seen.get(priority)
        if seen is not None and server_id > seen:
            self._seen[priority] = server_id
            return server_id not in self._suspects.ids
        return False

    def asked(self, server_id: int, priority: int) -> None:
        """Note a job whose number of deliveries the server has told."""
        if len(self._seen) >= self._MOST:
            self._seen.clear()
        self._seen[priority] = max(server_id, self._seen.get(priority, 0))

    def forget(self) -> None:
        """Start anew, after a connect."""
        self._seen.clear()
