"""The connections of an adapter over a network: few, each borrowed for one round trip (E8).

A slot that waits holds none. A connection that failed in any way is closed and not used again. A forked
child has none of its parent's: it neither uses nor closes them, because to close one may shut it down
for both.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
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


class _Place:
    """Room for one connection; it is free again when nobody holds it any more.

    So it is no number that is counted down: an exception of a signal handler may end a call between any two
    steps, and each place that it took along would be missing for ever.
    """

    __slots__ = ("__weakref__",)


class _Turn(Generic[L]):
    """One who waits for a connection: gets one, or the place to make one."""

    def __init__(self) -> None:
        self.link: L | None = None
        self.place: _Place | None = None
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self, seconds: float) -> bool:
        """Wait for `come`; returns False if that did not happen in time."""
        return self._gate.acquire(timeout=max(0.0, seconds))

    def come(self, link: L | None, place: _Place | None = None) -> None:
        """End the wait; neither: there is none any more."""
        self.link, self.place = link, place
        self._gate.release()


class Pool(Generic[L]):
    """At most so many connections. Thread-safe; a forked child may use it.

    Who waits for one gets it in the order of asking: handed over, because whoever gives one back asks for the
    next at once, and would have it before one who was only woken. With 200 slots some waited a second so.

    Args:
        connect: Makes a connection; raises the errors of the contract. A connection is any object with
            `is_sound()`, whether it can be used as far as is known without asking the server, and `close()`,
            which raises nothing.
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
        #: None while somebody waits.
        self._idle = []
        self._turns: deque[_Turn[L]] = deque()
        #: All that are not to be closed when they are given back.
        self._valid: weakref.WeakSet[L] = weakref.WeakSet()
        #: The places of all that there are, and those of which one is being made.
        self._places: weakref.WeakKeyDictionary[L, _Place] = weakref.WeakKeyDictionary()
        self._taken: weakref.WeakSet[_Place] = weakref.WeakSet()
        # Of a kind that its own thread may take again: a signal handler that uses the adapter, too, may come
        # between any two steps. So nothing is taken that was looked at in a line before.
        self._lock = threading.RLock()

    @property
    def count(self) -> int:
        """How many connections there are, those that are being made included."""
        return len(self._taken)

    @property
    def links(self) -> tuple[L, ...]:
        """The connections, those in use included."""
        with self._lock:
            return tuple(self._valid)

    def borrow(self) -> L:
        """Return a connection that nobody else uses; give it back with `give`, or `drop` it.

        Raises:
            AdapterUnavailable: None became free in time, the pool is closed, or the server is away.
            ProtocolError: The server refuses, or is none.
        """
        while not isinstance(granted := self._granted(), _Place):
            if granted.is_sound():
                return granted
            self.drop(granted)
        try:
            link = self._connect()
        except BaseException:
            self._leave_place(granted)
            raise
        with self._lock:
            self._places[link] = granted
            self._valid.add(link)
        return link

    def _granted(self) -> L | _Place:
        """Return a connection, or the place for one more, which is to be made."""
        turn: _Turn[L] | None = None
        try:
            with self._lock:
                while turn is None:
                    self._refuse_if_closed()
                    # The last one used, so that others may rest.
                    granted = self._idle.pop() if self._idle else self._new_place()
                    if granted is not None:
                        return granted
                    turn = _Turn[L]()
                    self._turns.append(turn)
                    if self._idle and self._leave(turn):  # given back by a signal handler just now
                        turn = None
            # Inside of another call of this thread, which has the lock, all would wait for each other.
            is_inside = self._lock._is_owned()  # type: ignore[attr-defined]  # as `threading.Condition` asks
            seconds = 0.0 if is_inside else self._seconds
            has_come = turn.wait(seconds)
        except BaseException:  # a signal's handler has raised
            if turn is not None and not self._leave(turn):
                self._pass_on(turn)
            raise
        if not has_come and self._leave(turn):
            raise AdapterUnavailable(f"all {self._most} connections were busy for {seconds:g} s")
        if self._is_closed:
            self._pass_on(turn)
            self._refuse_if_closed()
        has = turn.link if turn.link is not None else turn.place
        assert has is not None
        return has

    def _hand_over(self, link: L | None, place: _Place | None = None) -> bool:
        """Hand what is free to who has waited longest; returns False if nobody waits."""
        turn = self._turns.popleft() if self._turns else None
        if turn is not None:
            turn.come(link, place)
        return turn is not None

    def _leave(self, turn: _Turn[L]) -> bool:
        """Wait no longer; returns False if the turn has come meanwhile."""
        try:
            with self._lock:
                self._turns.remove(turn)
        except ValueError:
            return False
        return True

    def _pass_on(self, turn: _Turn[L]) -> None:
        """Leave to others what has come too late."""
        if turn.link is not None:
            self.give(turn.link)
        elif turn.place is not None:
            self._leave_place(turn.place)

    def _new_place(self) -> _Place | None:
        """Return room for one more connection; None: there are as many as there may be."""
        place = _Place()
        self._taken.add(place)
        if len(self._taken) <= self._most:
            return place
        self._taken.discard(place)
        return None

    def _leave_place(self, place: _Place | None) -> None:
        """Leave the place of a connection that is gone to who waits longest."""
        with self._lock:
            if place is not None:
                self._taken.discard(place)
            while self._turns and (free := self._new_place()) is not None:
                if not self._hand_over(None, free):
                    self._taken.discard(free)

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise AdapterUnavailable("it was closed by this application")

    def give(self, link: L) -> None:
        """Give a connection back that is sound."""
        with self._lock:
            if not self._is_closed and link in self._valid:
                if not self._hand_over(link):
                    self._idle.append(link)
                return
        self.drop(link)

    def drop(self, link: L) -> None:
        """Close a connection that is not."""
        with self._lock:
            self._valid.discard(link)
            place = self._places.pop(link, None)
        self._leave_place(place)
        link.close()

    def forget(self) -> None:
        """Make new connections from now on; those in use are closed when they are given back."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._valid.clear()
        for link in idle:
            self.drop(link)

    def close(self) -> None:
        """Close all connections; those in use are closed when they are given back. Idempotent."""
        with self._lock:
            self._is_closed = True
            turns, self._turns = self._turns, deque()
        for turn in turns:
            turn.come(None)
        self.forget()


_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()
#: Connections of the parent process, kept so that nothing closes them.
_abandoned: list[Link] = []


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
