"""The line of consumers in one process that wait for a job; each job wakes one consumer of its queue.

Rules that keep wake-ups from being lost:

1.  A consumer joins the line before it looks for a job: a job that arrives after that look finds it waiting.
2.  A consumer that leaves the line passes a wake-up on to the next one of each of its queues: it may not have
    used it, and what it was told of may be several jobs.
3.  One job wakes one consumer.

A forked child has none of the waiting threads, but perhaps a lock that one of them held: there all lines
are reset.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable
from datetime import datetime

__all__ = ["Waiter", "WaitingLine"]


class Waiter:
    """A consumer that waits for a job of its queues; created by `WaitingLine.join`."""

    __slots__ = ("condition", "planned", "queues", "woken")

    def __init__(self, queues: frozenset[str], lock: threading.RLock) -> None:
        #: The names of its queues.
        self.queues = queues
        #: A condition of its own on the line's lock, so that one job wakes one consumer.
        self.condition = threading.Condition(lock)
        #: Whether it was told to look again; cleared by the waiter, before it looks.
        self.woken = False
        #: When it will look again without being told; None: never. A job that becomes ready later than that
        #: need not wake it.
        self.planned: datetime | None = None


_lines: weakref.WeakSet[WaitingLine] = weakref.WeakSet()


class WaitingLine:
    """Consumers in the order in which they began to wait. Thread-safe."""

    def __init__(self) -> None:
        _lines.add(self)
        self.reset()

    def reset(self) -> None:
        """Start with an empty line; also in a forked child, where the other threads are gone."""
        #: Held briefly; waiters wait on conditions that use it.
        # Of a kind that its own thread may take again: a signal handler that asks for a stop wakes waiters.
        self.lock = threading.RLock()
        self._waiters: list[Waiter] = []

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not self._waiters

    def join(self, queues: frozenset[str]) -> Waiter:
        """Enter the line."""
        waiter = Waiter(queues, self.lock)
        with self.lock:
            self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Leave the line; for each of its queues another waiter is woken in place of this one (rule 2)."""
        with self.lock:
            if waiter not in self._waiters:
                return  # left behind in the parent of a fork
            self._waiters.remove(waiter)
            # Nobody knows of which queue the news was, and one who waits for another cannot pass it on.
            left = waiter.queues
            for other in self._waiters:
                if not left:
                    return
                if not other.woken and not left.isdisjoint(other.queues):
                    _wake(other)
                    left -= other.queues

    def announce(self, queue: str, count: int = 1, due: datetime | None = None) -> None:
        """Announce `count` ready jobs of a queue or, with count 0, one that becomes ready at `due`.

        Call it once the jobs are visible: a woken waiter looks at once, and plans by what it sees.
        """
        if not self._waiters:
            return
        with self.lock:
            for waiter in self._waiters:
                if waiter.woken or queue not in waiter.queues:
                    continue
                if count > 0:
                    count -= 1
                elif due is None or (waiter.planned is not None and waiter.planned <= due):
                    continue
                _wake(waiter)
                if count <= 0:
                    return

    def wake(self, waiters: Iterable[Waiter] | None = None) -> None:
        """Wake these waiters, or all of them."""
        with self.lock:
            for waiter in self._waiters if waiters is None else waiters:
                if waiter in self._waiters:  # not one left behind in the parent of a fork
                    _wake(waiter)

    def wanted_queues(self) -> list[str]:
        """Return the queues of all waiters that have not been woken yet, sorted."""
        with self.lock:
            wanted: set[str] = set()
            for waiter in self._waiters:
                if not waiter.woken:
                    wanted |= waiter.queues
        return sorted(wanted)


def _wake(waiter: Waiter) -> None:
    waiter.woken = True
    waiter.condition.notify_all()


def _after_fork_in_child() -> None:
    for line in list(_lines):
        line.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
