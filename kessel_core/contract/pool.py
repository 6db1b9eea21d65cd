"""The connections of an adapter over a network: few, each borrowed for one round trip (E8).

A slot that waits holds none. A connection that failed in any way is closed and not used again. A forked
child has none of its parent's: it neither uses nor closes them, because to close one may shut it down
for both.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from kessel_core.errors import AdapterUnavailable

__all__ = ["Pool"]


class Link(Protocol):
    """A connection, as far as a pool has to know it."""

    def is_sound(self) -> bool:
        """Whether it can be used, as far as is known without asking the server."""

    def close(self) -> None:
        """Close it; raises nothing."""


L = TypeVar("L", bound=Link)


class Pool(Generic[L]):
    """At most so many connections. Thread-safe; a forked child may use it.

    Args:
        connect: Makes a connection; raises the errors of the contract.
        most: How many there may be.
        seconds: Longest wait for one to be free.
    """

    def __init__(self, connect: Callable[[], L], most: int, seconds: float) -> None:
        self._connect = connect
        self._most = most
        self._seconds = seconds
        self._is_closed = False
        self._idle: list[L] = []
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        _abandoned.extend(self._idle)
        self._idle = []
        #: All that are not to be closed when they are given back.
        self._valid: set[L] = set()
        self._count = 0
        self._free = threading.Condition()

    @property
    def count(self) -> int:
        """How many connections there are, those that are being made included."""
        return self._count

    @property
    def links(self) -> tuple[L, ...]:
        """The connections, those in use included."""
        with self._free:
            return tuple(self._valid)

    def borrow(self) -> L:
        """Return a connection that nobody else uses; give it back with `give`, or `drop` it.

        Raises:
            AdapterUnavailable: None became free in time, the pool is closed, or the server is away.
            ProtocolError: The server refuses, or is none.
        """
        while True:
            with self._free:
                end = time.monotonic() + self._seconds
                while not self._idle and self._count >= self._most and not self._is_closed:
                    left = end - time.monotonic()
                    if left <= 0:
                        raise AdapterUnavailable(
                            f"all {self._most} connections were busy for {self._seconds:g} s"
                        )
                    self._free.wait(left)
                if self._is_closed:
                    raise AdapterUnavailable("it was closed by this application")
                if self._idle:
                    link = self._idle.pop()  # the last one used, so that others may rest
                else:
                    self._count += 1
                    break
            if link.is_sound():
                return link
            self.drop(link)
        try:
            link = self._connect()
        except BaseException:
            with self._free:
                self._count -= 1
                self._free.notify()
            raise
        with self._free:
            self._valid.add(link)
        return link

    def give(self, link: L) -> None:
        """Give a connection back that is sound."""
        with self._free:
            if not self._is_closed and link in self._valid:
                self._idle.append(link)
                self._free.notify()
                return
        self.drop(link)

    def drop(self, link: L) -> None:
        """Close a connection that is not."""
        with self._free:
            self._count -= 1
            self._valid.discard(link)
            self._free.notify()
        link.close()

    def forget(self) -> None:
        """Make new connections from now on; those in use are closed when they are given back."""
        with self._free:
            idle, self._idle = self._idle, []
            self._valid.clear()
        for link in idle:
            self.drop(link)

    def close(self) -> None:
        """Close all connections; those in use are closed when they are given back. Idempotent."""
        with self._free:
            self._is_closed = True
            self._free.notify_all()
        self.forget()


_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()
#: Connections of the parent process, kept so that nothing closes them.
_abandoned: list[Link] = []


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
