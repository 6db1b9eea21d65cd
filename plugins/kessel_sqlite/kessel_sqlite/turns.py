"""The threads of a process that write to one file: one writes at a time, for all that wait (group commit).

A file has one writer, and each transaction waits for the disk. So the thread whose turn it is also does what
others wait to do, in one transaction; they sleep until that is committed.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from kessel_core import KesselError
from kessel_sqlite import sql
from kessel_sqlite.edge import leaves_connection_sound

__all__ = ["Turn", "Turns"]

_T = TypeVar("_T")

#: Most turns that one transaction does, so that the lock is never held for long.
_AT_ONCE: Final = 64
#: Longest sleep of a thread that waits, in seconds: a signal handler that raises may prevent a wake-up.
_SLICE: Final = 0.1


class Turn(Generic[_T]):
    """What one thread wants to be written, and what became of it.

    Args:
        part: Writes within the open transaction, which it neither begins nor ends. If it raises an error of
            the contract it has written nothing.
        group: Turns of one group may be done in one transaction: they mean the same file, and the same
            durability.
        is_statement: Whether each statement of the part may be a transaction by itself.
        is_alone: Whether it must have a transaction of its own.
    """

    __slots__ = ("_claim", "_error", "_gate", "_part", "_value", "group", "is_alone", "is_left", "is_over",
                 "is_statement")  # fmt: skip

    _value: _T
    #: Taken by a thread that does this turn for its own, or by its own when that leaves the line.
    _claim: threading.Lock
    #: Released to wake its thread.
    _gate: threading.Lock | None

    def __init__(
        self,
        part: Callable[[sqlite3.Connection], _T],
        group: object,
        *,
        is_statement: bool = False,
        is_alone: bool = False,
    ) -> None:
        self._part = part
        self.group = group
        self.is_statement = is_statement
        self.is_alone = is_alone
        #: Whether its outcome is known.
        self.is_over = False
        #: Whether its thread has left the line.
        self.is_left = False
        self._error: BaseException | None = None
        self._gate = None

    @property
    def outcome(self) -> _T:
        """What the part returned; raises what it raised, or the error of the transaction."""
        if self._error is not None:
            raise self._error
        return self._value

    def may_share_with(self, other: Turn[Any]) -> bool:
        """Whether both may be done in one transaction."""
        return self.group is other.group and not (self.is_alone or other.is_alone)

    def do(self, connection: sqlite3.Connection) -> None:
        """Run the part, and keep what it returns or refuses."""
        self._error = None
        try:
            self._value = self._part(connection)
        except KesselError as exc:
            self._error = exc

    def end(self, error: BaseException | None = None) -> None:
        """Tell its thread that it is over, with an error that became of the whole transaction."""
        self._error = error or self._error
        self.is_over = True
        self.wake()

    # in the line

    def join(self) -> None:
        """Get ready to sleep; most turns never do."""
        self._claim = threading.Lock()
        self._gate = threading.Lock()
        self._gate.acquire()

    def begin(self) -> bool:
        """Whether another thread may do it now; not if its own has left the line."""
        return self._claim.acquire(False)

    def put_back(self) -> None:
        """Let it be done by its own thread, and alone, after another one began it."""
        self.is_alone = True
        self._claim.release()

    def leave(self) -> bool:
        """Whether its thread may go, because no other one is doing it."""
        self.is_left = self._claim.acquire(False)
        return self.is_left

    def wake(self) -> None:
        """Let its thread look, if it has joined."""
        if self._gate is not None:
            with suppress(RuntimeError):  # it was woken already
                self._gate.release()

    def sleep(self, seconds: float) -> None:
        """Wait until `wake`, for at most so long; `join` comes first."""
        assert self._gate is not None
        self._gate.acquire(timeout=seconds)


class Turns:
    """The line of the threads that write to one file. Thread-safe, and fair.

    A thread that writes by itself, such as the main thread, where a signal handler may raise anywhere, calls
    `acquire` inside of a `try` whose `finally` releases `lock`, and then calls `wake`.
    """

    def __init__(self) -> None:
        #: Held by the one thread that writes. It knows its thread, so that to release it without having
        #: acquired it is refused, and harmless.
        self.lock = threading.RLock()
        #: Those that nobody has begun, the first one first; each operation on it is atomic.
        self._waiting: deque[Turn[Any]] = deque()

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return sum(not turn.is_left for turn in tuple(self._waiting))

    def acquire(self, seconds: float) -> bool:
        """Wait until nobody else writes, for at most so long; returns whether that is so."""
        if not self._waiting and self.lock.acquire(False):
            return True
        turn: Turn[None] = Turn(lambda _: None, self, is_alone=True)
        try:
            return self._wait(turn, lambda: self._enter(turn), seconds)
        finally:
            turn.is_left = True  # first, and no call: a signal handler may raise again
            self._leave(turn)

    def wake(self) -> None:
        """Wake the thread whose turn it is, after the lock was released: it may have found it held."""
        first = self._first()
        if first is not None:
            first.wake()

    def take(self, turn: Turn[_T], lead: Callable[[], object], seconds: float) -> bool:
        """Wait until the turn is over, or call `lead` to do it with `do`.

        Not for the main thread: a signal handler may raise there, with the turns of others half done.

        Args:
            turn: That of the calling thread; each is taken once.
            lead: Calls `do`; nobody else writes meanwhile.
            seconds: How long to wait for other threads.

        Returns:
            Whether the turn is over; False: it waited for too long, and nothing was written.

        Raises:
            Exception: What `lead` raised.
        """
        if self._led(turn, lead):
            return True
        try:
            self._wait(turn, lambda: self._led(turn, lead), seconds)
        finally:
            while not turn.is_over:
                if turn.leave():
                    self._leave(turn)
                    break
                turn.sleep(_SLICE)  # another thread is doing it
        return turn.is_over

    def _led(self, turn: Turn[_T], lead: Callable[[], object]) -> bool:
        """Do the turn if it may be done now; returns whether it is over."""
        if not turn.is_over and self._enter(turn):
            try:
                if not turn.is_over:
                    lead()
            finally:
                self.lock.release()
                self.wake()
        return turn.is_over

    def _enter(self, turn: Turn[_T]) -> bool:
        """Acquire the lock if it is free, and the first of the line can be done along, or is this one."""
        first = self._first()
        may = first is None or first is turn or turn.may_share_with(first)
        return may and self.lock.acquire(False)

    def _wait(self, turn: Turn[_T], attempt: Callable[[], bool], seconds: float) -> bool:
        """Stand in the line until the attempt succeeds, for at most so long; returns whether it did."""
        give_up = time.monotonic() + seconds
        turn.join()
        self._waiting.append(turn)
        while not attempt():
            left = give_up - time.monotonic()
            if left <= 0:
                return False
            turn.sleep(min(left, _SLICE))
        return True

    def _leave(self, turn: Turn[Any]) -> None:
        self._drop(turn)
        self.wake()  # it may have been woken as the first one

    def _first(self) -> Turn[Any] | None:
        while self._waiting:
            try:
                first = self._waiting[0]
            except IndexError:
                break
            if not first.is_left:
                return first
            self._drop(first)
        return None

    def _drop(self, turn: Turn[Any]) -> None:
        if self._waiting:
            with suppress(ValueError):
                self._waiting.remove(turn)

    # for the holder of the lock

    def do(self, connection: sqlite3.Connection, own: Turn[_T]) -> None:
        """Do a turn, and those that wait along with it, in one transaction; for the holder of the lock.

        If one of them fails, and not the file, they are done apart: then only the one that is to blame fails.

        Raises:
            sqlite3.Error: The file refused. Nothing was written; after `SQLITE_IOERR` that is not known.
        """
        self._drop(own)
        if own.is_statement and (own.is_alone or not self._waiting):
            own.do(connection)
            own.end()
            return
        connection.execute(sql.BEGIN)
        others = [] if own.is_alone else self._others(own)
        try:
            own.do(connection)
            for turn in others:
                turn.do(connection)
            connection.execute(sql.END)
        except BaseException as exc:
            if not self._go_apart(others, exc):
                raise
            if connection.in_transaction:
                connection.execute(sql.UNDO)
            own.is_alone = True
            self.do(connection, own)
        else:
            own.end()
            for turn in others:
                turn.end()

    def _others(self, own: Turn[_T]) -> list[Turn[Any]]:
        """Begin those that may be done along with a turn, and take them out of the line."""
        others: list[Turn[Any]] = []
        rest: list[Turn[Any]] = []
        while self._waiting and len(others) < _AT_ONCE - 1:
            try:
                turn = self._waiting.popleft()
            except IndexError:
                break
            if not own.may_share_with(turn):
                rest.append(turn)
            elif turn.begin():
                others.append(turn)
        self._waiting.extendleft(reversed(rest))
        return others

    def _go_apart(self, others: list[Turn[Any]], exc: BaseException) -> bool:
        """Tell the others of an error, or put them back; returns whether it may be of one of them only."""
        if isinstance(exc, sqlite3.Error) and not leaves_connection_sound(exc):
            for turn in others:
                turn.end(exc)
            return False
        for turn in others:
            turn.put_back()
            self._waiting.append(turn)
        return bool(others) and isinstance(exc, Exception)
