"""Wakes what waits: at once for writes of its own process, within a millisecond for those of others.

For each process and file there is one `FileLine`: the line of the waiting consumers, the threads that wait
for entries, those that write and, only while somebody waits, one thread that looks for commits by
other connections (`PRAGMA data_version`) whenever the log of the file is written to.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, Protocol

from kessel_core.contract import AdapterUnavailable, Waiter, WaitingLine, get_logger
from kessel_sqlite.entryline import EntryLine, EntryWaiter
from kessel_sqlite.pace import POLL_SECONDS, Pace, Rest, Seen
from kessel_sqlite.turns import Turns
from kessel_sqlite.writes import Writes, watch

__all__ = ["FileLine", "Source", "line_of"]

log = get_logger("kessel.sqlite")

#: Its pause after an error.
_ERROR_SECONDS: Final = 0.2
#: A watcher ends after this many seconds in which nobody waits; the next wait starts another.
_LINGER_SECONDS: Final = 5.0

_registry: dict[str, FileLine] = {}
_registry_lock = threading.Lock()


class Source(Protocol):
    """What the watcher polls; created and used in its thread."""

    def has_changed(self) -> bool:
        """Whether another connection has committed since the last call."""

    def outlook(self, queues: Sequence[str]) -> Iterable[tuple[str, bool, datetime | None]]:
        """Return each queue's name, whether it has a ready job, and when time makes the next one ready."""

    def versions(self, entries: Sequence[tuple[str, str]]) -> Iterable[tuple[str, str, int]]:
        """Return space, key and version of these entries; the version is 0 where there is none."""

    def close(self) -> None:
        """Close the connection."""


class FileLine(WaitingLine):
    """What all adapters and consumers of one file share in this process. Thread-safe.

    Args:
        path: The real path of the file.
    """

    def __init__(self, path: str) -> None:
        # A commit appends to the write-ahead log; the file itself is written when the log is full.
        self._log = f"{path}-wal"
        self._writes: Writes | None = None
        self._users = 0
        self._connect: Callable[[], Source] | None = None
        super().__init__()

    def reset(self) -> None:
        """Start with an empty line; also in a forked child, where the other threads are gone."""
        super().reset()
        #: The threads that wait for entries.
        self.entries = EntryLine(self.lock)
        #: The threads that write.
        self.turns = Turns()
        self._wanted = threading.Condition(self.lock)
        self._watcher: threading.Thread | None = None
        if self._writes is not None:
            self._writes.close()
            self._writes = None

    def open(self, connect: Callable[[], Source] | None) -> None:
        """Register an adapter or a store that has the file open.

        Args:
            connect: Creates the source that the watcher polls; None: this one needs no watcher, because it
                does not use real time.
        """
        with self.lock:
            self._users += 1
            self._connect = connect or self._connect

    def close(self) -> None:
        """Unregister one; the last ends the watcher. All that wait for entries look again."""
        with self.lock:
            self._users -= 1
            is_last = self._users <= 0
            watcher = self._watcher if is_last else None
            if is_last:
                self._connect = None
            self._wanted.notify()
            if self._writes is not None:
                self._writes.wake()
            self.entries.wake()
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join(timeout=2)

    def join(self, queues: frozenset[str]) -> Waiter:
        """Enter the line, and make sure that the watcher runs."""
        waiter = super().join(queues)
        self._watch_for(partial(self.leave, waiter))
        return waiter

    def join_entry(self, waiter: EntryWaiter) -> None:
        """Wait for an entry from now on, and make sure that the watcher runs."""
        self.entries.join(waiter)
        self._watch_for(partial(self.entries.leave, waiter))

    @property
    def _is_idle(self) -> bool:
        return self.is_empty and self.entries.is_empty

    def _watch_for(self, leave: Callable[[], None]) -> None:
        """Make sure that the watcher runs for who has just joined; if it cannot, that one leaves again."""
        try:
            self._watch_on()
        except BaseException:
            leave()
            raise

    def _watch_on(self) -> None:
        with self.lock:
            if self._watcher is None and self._connect is not None:
                watcher = threading.Thread(
                    target=self._watch, args=(self._connect,), name="kessel-sqlite-watcher", daemon=True
                )
                try:
                    watcher.start()
                except RuntimeError as exc:  # there is no thread left; the next wait tries again
                    raise AdapterUnavailable(f"nobody can look for the jobs of others: {exc}") from exc
                self._watcher = watcher
            self._wanted.notify()

    def _watch(self, connect: Callable[[], Source]) -> None:
        source: Source | None = None
        writes: Writes | None = None
        pace = Pace()
        try:
            writes = watch(self._log)
            with self.lock:
                self._writes = writes
            while self._is_wanted():
                if source is None:
                    source = connect()
                if self._is_told(writes, pace.after(self._look(source))):
                    pace.noticed()
        except Exception:  # a bug; those who wait look once, and the next wait starts another watcher
            log.exception("the watcher of %s failed", self._log)
            with self.lock:
                if self._watcher is threading.current_thread():
                    self._watcher = None
            self.wake()
            self.entries.wake()
        finally:
            with self.lock:
                if self._writes is writes:  # not that of a watcher which was started meanwhile
                    self._writes = None
                if writes is not None:
                    writes.close()
            if source is not None:
                source.close()

    @staticmethod
    def _is_told(writes: Writes | None, rest: Rest) -> bool:
        """Rest; return whether that was ended by notice of a write to the log of the file."""
        if not rest.is_cut_short:
            time.sleep(rest.seconds)
            return False
        if writes is not None:
            try:
                return writes.wait(rest.seconds)
            except OSError:
                pass  # there is no log yet, or the system has no watches left
        time.sleep(min(rest.seconds, POLL_SECONDS))
        return False

    def _is_wanted(self) -> bool:
        """Whether somebody waits, now or within a few seconds; if not, this watcher is to end."""
        with self.lock:
            if self._is_idle and self._users > 0:
                self._wanted.wait(_LINGER_SECONDS)
            if self._is_idle or self._users <= 0:
                self._watcher = None
                return False
            return True

    def _look(self, source: Source) -> Seen:
        try:
            if not source.has_changed():
                return Seen.NOTHING
            seen = Seen.CHANGED
            # Ask who waits only now, so that who has just joined is not left out.
            if queues := self.wanted_queues():
                for queue, is_ready, due in source.outlook(queues):
                    # One consumer per queue; it wakes the next one when it has taken a job.
                    self.announce(queue, 1 if is_ready else 0, due)
                    if is_ready:
                        seen = Seen.WANTED
            if entries := self.entries.wanted():
                for space, key, version in source.versions(entries):
                    if self.entries.found(space, key, version):
                        seen = Seen.WANTED
        except Exception:
            # Those who wait will meet the same error, and report it.
            log.debug("the watcher could not look", exc_info=True)
            self.wake()
            self.entries.wake()
            time.sleep(_ERROR_SECONDS)
            return Seen.NOTHING
        return seen


def line_of(path: str) -> FileLine:
    """Return the line of this process for a file, given by its real path."""
    with _registry_lock:
        return _registry.setdefault(path, FileLine(path))


def _after_fork_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
