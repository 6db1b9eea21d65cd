"""Holds one connection: opened by `DatabaseFile`, discarded after unexpected errors, safe across forks."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
import weakref
from contextlib import suppress

from kessel_sqlite.edge import leaves_connection_sound

__all__ = ["Connection", "Link"]

_links: weakref.WeakSet[Link] = weakref.WeakSet()
#: Connections of the parent process that were in use during the fork: never touched again.
_abandoned: list[sqlite3.Connection] = []
_held_for_fork: list[Link] = []
#: The thread that holds them, and the gate.
_forking: list[int] = []
#: Held from before a fork until after it, and to begin or end a link: what a thread does inside of SQLite
#: during a fork holds locks of SQLite that nobody in the child would ever release.
_gate = threading.RLock()


class Connection(sqlite3.Connection):
    """A connection that its `Link` closes.

    If both are garbage, as with an exception that somebody keeps in a cycle, the collector may look at the
    connection first, and Python 3.13 would warn that it was not closed.
    """

    # Does nothing, in C: in a function of Python a signal handler could run, whose error would be lost.
    __del__ = object.__hash__


class Link:
    """Holds one connection; used by one thread at a time."""

    __slots__ = ("__weakref__", "connection", "identity", "lock", "user")

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None
        #: Device and inode of the file that the connection has open.
        self.identity = (0, 0)
        #: Held while the connection is in use; a fork waits for it.
        self.lock = threading.RLock()
        #: The thread that is using the connection.
        self.user: int | None = None
        with _gate:
            _links.add(self)

    def discard(self) -> None:
        """Close the connection, whatever it is doing; an open transaction is rolled back."""
        # Closed before it is forgotten: what interrupts this must not leave its transaction open.
        try:
            if self.connection is not None:
                with suppress(sqlite3.Error):
                    self.connection.close()
        finally:
            self.connection = None

    def recover(self, exc: sqlite3.Error) -> None:
        """Roll back after an error, or discard the connection if it cannot be trusted any more."""
        connection = self.connection
        if connection is None:
            return
        if leaves_connection_sound(exc):
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                return
            except sqlite3.Error:
                pass
        self.discard()

    def close(self) -> None:
        """Close the connection once nobody uses it."""
        with self.lock:
            self.discard()

    def __del__(self) -> None:
        if sys.is_finalizing():
            # A daemon thread may have been stopped while it held the gate; and nobody forks any more.
            self.discard()
            return
        with _gate:
            self.discard()


# --- forks -----------------------------------------------------------------------------------
#
# SQLite tracks its locks per process, and in the child assumes that it still has those of the parent. So a
# fork waits until no connection is in use, and the child closes the inherited ones before it opens any: that
# resets the state of SQLite, and cannot release the parent's locks, which do not belong to the child.


def _before_fork() -> None:
    end = time.monotonic() + 1
    if not _gate.acquire(timeout=1):  # another thread forks as well
        return
    _forking.append(threading.get_ident())
    for link in list(_links):
        if link.lock.acquire(timeout=max(0.0, end - time.monotonic())):
            _held_for_fork.append(link)


def _after_fork_in_parent() -> None:
    if _forking != [threading.get_ident()]:
        return
    for link in _held_for_fork:
        link.lock.release()
    _held_for_fork.clear()
    _forking.clear()
    _gate.release()


def _after_fork_in_child() -> None:
    global _gate
    for link in list(_links):
        if link in _held_for_fork:
            link.discard()
        elif link.connection is not None:
            _abandoned.append(link.connection)
            link.connection = None
        link.lock, link.user = threading.RLock(), None
    _held_for_fork.clear()
    _forking.clear()
    _gate = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
