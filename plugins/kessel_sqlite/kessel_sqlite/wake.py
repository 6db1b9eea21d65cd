"""How waiting consumers learn of jobs: at once from their own process, within moments from another one.

Per process and file there is one `Shared`: the line of the writers, the waiting consumers, and, only while
somebody waits, one thread that asks `PRAGMA data_version` whether another connection has committed anything.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

__all__ = ["Shared", "Waiter", "shared"]

_logger = logging.getLogger("kessel.sqlite")

#: Seconds between two looks for the work of other processes.
POLL_SECONDS: Final = 0.015
#: A watcher that found nobody waiting for so long ends; the next wait starts another.
_LINGER_SECONDS: Final = 5.0

_registry: dict[str, Shared] = {}
_registry_lock = threading.Lock()


class Waiter:
    """A consumer that waits for a job of its queues."""

    __slots__ = ("condition", "planned", "queues", "woken")

    def __init__(self, queues: frozenset[str], lock: threading.Lock) -> None:
        self.queues = queues
        #: One each, over one lock, so that one job wakes one consumer.
        self.condition = threading.Condition(lock)
        self.woken = False
        #: When it will look again by itself, in microseconds; None: not by itself.
        self.planned: int | None = None


class Shared:
    """What all adapters and consumers of one file share in this process."""

    def __init__(self) -> None:
        self._users = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything; also after a fork, where the other threads are gone."""
        #: Held by the one thread that writes.
        self.writer = threading.Lock()
        self.lock = threading.Lock()
        self._waiters: list[Waiter] = []
        self._wanted = threading.Condition(self.lock)
        self._watcher: threading.Thread | None = None

    # waiting

    @property
    def has_waiters(self) -> bool:
        """Whether anybody waits at all."""
        return bool(self._waiters)

    def join(self, queues: frozenset[str]) -> Waiter:
        """Enter the line of those that wait."""
        waiter = Waiter(queues, self.lock)
        with self.lock:
            self._waiters.append(waiter)
            self._wanted.notify()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Leave the line; what this waiter was told of, another one will look at."""
        with self.lock:
            self._waiters.remove(waiter)
            for other in self._waiters:
                if not other.woken and not waiter.queues.isdisjoint(other.queues):
                    _wake(other)
                    return

    def announce(self, queue: str, count: int, due: int | None = None) -> None:
        """Tell of `count` ready jobs, or of one that becomes ready at `due`, in a queue."""
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
        """Let waiters look again: these, or all."""
        with self.lock:
            for waiter in self._waiters if waiters is None else waiters:
                _wake(waiter)

    def _wanted_queues(self) -> list[str]:
        wanted: set[str] = set()
        for waiter in self._waiters:
            if not waiter.woken:
                wanted |= waiter.queues
        return sorted(wanted)

    # the watcher

    def open(self) -> None:
        """Count one more adapter that has the file open."""
        with self.lock:
            self._users += 1

    def close(self) -> None:
        """Count one less; the last one ends the watcher."""
        with self.lock:
            self._users -= 1
            watcher = self._watcher if self._users <= 0 else None
            self._wanted.notify()
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join(timeout=2)

    def watch(self, connect: Callable[[], Source]) -> None:
        """Have a thread that looks for the work of other processes while somebody waits."""
        if self._watcher is not None:
            return
        with self.lock:
            if self._watcher is None:
                self._watcher = threading.Thread(
                    target=self._watch, args=(connect,), name="kessel-sqlite-watcher", daemon=True
                )
                self._watcher.start()

    def _watch(self, connect: Callable[[], Source]) -> None:
        source = None
        try:
            while True:
                with self.lock:
                    if not self._waiters and self._users > 0:
                        self._wanted.wait(_LINGER_SECONDS)
                    if not self._waiters or self._users <= 0:
                        self._watcher = None
                        return
                if source is None:
                    source = connect()
                self._look(source)
                time.sleep(POLL_SECONDS)
        finally:
            if source is not None:
                source.close()

    def _look(self, source: Source) -> None:
        try:
            if not source.has_changed():
                return
            # Only now, or a consumer that joined meanwhile would be left out of this change.
            with self.lock:
                queues = self._wanted_queues()
            for queue, is_ready, due in source.outlook(queues):
                # One consumer a queue: it wakes the next one when it has taken a job.
                self.announce(queue, 1 if is_ready else 0, due)
        except Exception:
            # They find out by themselves what is wrong, and say so.
            _logger.debug("the watcher could not look", exc_info=True)
            self.wake()
            time.sleep(0.2)


class Source:
    """Where the watcher looks; made in its thread."""

    def has_changed(self) -> bool:
        """Return whether anybody else has committed since the last call."""
        raise NotImplementedError

    def outlook(self, queues: Sequence[str]) -> Iterable[tuple[str, bool, int | None]]:
        """Return of each queue its name, whether a job is ready, and when time makes the next one so."""
        raise NotImplementedError

    def close(self) -> None:
        """Give up the connection."""
        raise NotImplementedError


def _wake(waiter: Waiter) -> None:
    waiter.woken = True
    waiter.condition.notify_all()


def shared(path: str) -> Shared:
    """Return the one `Shared` of this process for a real path."""
    with _registry_lock:
        return _registry.setdefault(path, Shared())


def _after_fork_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.Lock()
    for one in _registry.values():
        one.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
