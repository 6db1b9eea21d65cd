"""Threads that run one at a time, on virtual time, in an order that a seed decides (S43).

A *strand* is a real thread that takes part. Exactly one of them runs; the others are parked, each on a lock
of its own. A strand hands on only where it waits by the clock, calls the queue or the store, or ends; who is
next is drawn from the seed. When none can go on, time moves to the end of the nearest wait.

Whoever hands on chooses who is next, in its own thread, so a switch is one thread waking another. Conditions
are those of `threading`: a strand stands in their line in the place of the lock that `Condition.wait` would
put there, so it goes on when it is notified, or when its time is over, and never for another reason. A wake
that a bug forgets is therefore really missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, NoReturn

from kessel_core.testing.clock import span_of
from kessel_core.testing.simulation.strand import TEST, Died, Strand, Stuck

__all__ = ["Strands"]

_START: Final = datetime(2026, 1, 5, 9, 0, 0, 250_000, tzinfo=UTC)
_MONOTONIC_START: Final = 1000.0
_ZERO: Final = timedelta(0)
#: Real seconds that one step may take; a handler that computes for longer is not for a simulation.
_PATIENCE: Final = 10.0
#: How often the test looks meanwhile whether others take their turns.
_LOOKS: Final = 5
#: Real seconds for a strand to end once it is told to.
_LAST_WORDS: Final = 2.0


class _Thread(threading.Thread):
    """Takes part from the moment in which it is started, so that the order does not depend on the machine."""

    def __init__(self, strands: Strands, work: Callable[[], None], name: str, process: int) -> None:
        super().__init__(name=name, daemon=True)
        self._strands, self._work = strands, work
        self._strand = Strand(name, process)

    def start(self) -> None:
        self._strand.thread = self
        self._strands.join(self._strand)
        super().start()

    def run(self) -> None:
        self._strands.live(self._strand, self._work)

    def join(self, timeout: float | None = None) -> None:
        if not self._strands.await_end(self._strand, timeout):
            super().join(timeout)


class Strands:
    """All strands of a simulation, and its clock (`Clock` and `MakesThreads`).

    Args:
        order: Draws who is next.
        rest: Called when no strand can go on; returns how far time may move, at most, or None. It may let a
            strand go on.
    """

    def __init__(self, order: Random, rest: Callable[[], timedelta | None]) -> None:
        self._order = order
        self._rest = rest
        self._passed = _ZERO
        #: How far the wall clock is ahead of what it would be without jumps.
        self.wrong = _ZERO
        self._local = threading.local()
        #: Those that take part, oldest first; the dead do not.
        self._live: list[Strand] = []
        #: All that have a thread which has not ended.
        self._threads: dict[Strand, None] = {}
        #: Number of turns so far.
        self.turns = 0
        self._is_over = False
        self._turn: Strand | None = None
        #: What went wrong outside the test's own strand.
        self.error: BaseException | None = None
        #: The strand of the test.
        self.test = Strand("test", TEST)
        self.test.thread = threading.current_thread()
        self._local.strand = self._turn = self.test
        self._live.append(self.test)

    # --- the clock -----------------------------------------------------------------------------

    @property
    def passed(self) -> timedelta:
        """Time since the start; no jump of the wall clock changes it."""
        return self._passed

    def now(self) -> datetime:
        """As `Clock.now`."""
        return _START + self._passed + self.wrong

    def monotonic(self) -> float:
        """As `Clock.monotonic`."""
        return _MONOTONIC_START + self._passed.total_seconds()

    def jump_wall(self, span: timedelta) -> None:
        """Set the wall clock forward or back, which wakes nobody."""
        self.wrong += span

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """As `Clock.wait`.

        Raises:
            RuntimeError: The calling thread does not take part.
            Died: Its process is dead.
        """
        me = self.me
        if me is None:
            raise RuntimeError(
                f"the thread {threading.current_thread().name} does not take part in the simulation, so it "
                "cannot wait on its clock"
            )
        if me.is_dead:
            me.die()
        me.end = None if timeout is None else self._passed + span_of(timeout)
        me.is_notified, me.is_waiting = False, True
        line: Any = condition._waiters  # type: ignore[attr-defined]  # see the top of this file
        line.append(me)
        held: Any = condition._release_save()  # type: ignore[attr-defined]  # also a lock that is held twice
        try:
            self._hand_on(me)
            if me is self.test and self.error is not None:
                raise self.error
        finally:
            me.is_waiting, me.end = False, None
            condition._acquire_restore(held)  # type: ignore[attr-defined]
            if me in line:
                line.remove(me)
        return me.is_notified

    # --- threads -------------------------------------------------------------------------------

    @property
    def me(self) -> Strand | None:
        """The strand of the calling thread; None: it does not take part."""
        return getattr(self._local, "strand", None)

    def new_thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        """As `MakesThreads.new_thread`; it belongs to the process of the strand that makes it."""
        me = self.me
        return self.thread_of(work, name, TEST if me is None else me.process)

    def thread_of(self, work: Callable[[], None], name: str, process: int) -> threading.Thread:
        """Return a thread of a process that is not started yet."""
        return _Thread(self, work, f"{name}@{process}", process)

    def join(self, strand: Strand) -> None:
        """Let a strand take part, whose thread is about to start."""
        if self._is_over:
            raise Died
        self._live.append(strand)
        self._threads[strand] = None

    def live(self, strand: Strand, work: Callable[[], None]) -> None:
        """Do the work of a strand, in its thread."""
        self._local.strand = strand
        strand.go.acquire()
        try:
            if not strand.is_dead:
                work()
        except Died:
            pass
        except BaseException as exc:
            self.fail(exc)
        finally:
            del self._threads[strand]
            if not self._is_over:
                self._live.remove(strand)
                with strand.ended:
                    strand.ended.notify_all()
                self._pass_to(self._next())

    def await_end(self, strand: Strand, timeout: float | None) -> bool:
        """Wait in virtual time for the end of a strand; return False if that is to be done in real time."""
        if self.me is None or self._is_over:
            return False
        until = None if timeout is None else self.monotonic() + timeout
        with strand.ended:
            while strand in self._threads:
                left = None if until is None else until - self.monotonic()
                if left is not None and left <= 0:
                    break
                self.wait(strand.ended, left)
        return True

    def fail(self, error: BaseException) -> None:
        """Let the test go on, and see this error."""
        self.error = self.error or error
        self.test.is_notified = True

    # --- turns ---------------------------------------------------------------------------------

    def turn(self) -> None:
        """Let the others take their turn; a thread that does not take part just goes on.

        Raises:
            Died: The process of this strand is dead.
        """
        me = self.me
        if me is not None:
            self._hand_on(me)

    def rest(self) -> None:
        """Let the test wait until `fail`, or until somebody notifies its strand."""
        self.test.is_waiting, self.test.is_notified = True, False
        try:
            self._hand_on(self.test)
        finally:
            self.test.is_waiting = False
        if self.error is not None:
            raise self.error

    def freeze(self, me: Strand) -> NoReturn:
        """Never run this strand again.

        Raises:
            Died: When the simulation ends, so that the thread ends, too.
        """
        me.is_dead = True
        if not self._is_over:
            if me in self._live:
                self._live.remove(me)
            self._pass_to(self._next())
            me.go.acquire()
        raise Died

    def kill(self, process: int) -> None:
        """Let all strands of a process die, where they are; the caller's own has to `freeze`.

        One that waits inside the queue or the store leaves it first, as these see that a connection is gone.
        """
        for strand in list(self._live):
            if strand.process == process:
                strand.is_dead = True
                if strand.inside is not None:
                    strand.is_notified = True
                else:
                    self._live.remove(strand)

    @contextmanager
    def inside(self, what: str, awaits: tuple[str, ...] = ()) -> Iterator[None]:
        """Mark a call of the queue or the store; who dies in it comes out of it no more."""
        me = self.me
        if me is None:
            yield
            return
        me.inside, me.awaits = what, awaits
        try:
            yield
        except Died:
            me.inside, me.awaits = None, ()
            self.freeze(me)
        finally:
            me.inside, me.awaits = None, ()

    def others(self) -> Iterator[Strand]:
        """Yield the living strands of all processes but the test."""
        return (strand for strand in self._live if strand.process != TEST)

    def _hand_on(self, me: Strand) -> None:
        if me.is_dead:
            me.die()
        chosen = self._next()
        if chosen is me:
            return
        self._pass_to(chosen)
        if me is self.test:
            self._watch()
        else:
            me.go.acquire()
        if me.is_dead:
            me.die()

    def _pass_to(self, strand: Strand) -> None:
        self._turn = strand
        strand.go.release()

    def _next(self) -> Strand:
        """Choose who is next; move time if nobody can go on."""
        self.turns += 1
        while True:
            passed = self._passed
            ready = [strand for strand in self._live if strand.can_go(passed)]
            if ready:
                return ready[int(self._order.random() * len(ready))] if len(ready) > 1 else ready[0]
            try:
                self._move()
            except BaseException as exc:
                self.fail(exc)

    def _move(self) -> None:
        bound = self._rest()
        if self.test.is_notified:
            return
        ends = [strand.end for strand in self._live if strand.end is not None]
        if bound is not None:
            ends.append(bound)
        if not ends:
            raise Stuck("nothing will ever happen: all wait without a timeout")
        self._passed = max(self._passed, min(ends))

    def _watch(self) -> None:
        """Wait for the turn of the test; nobody else notices that a strand does not come back."""
        before, looks = self.turns, 0
        while not self.test.go.acquire(timeout=_PATIENCE / _LOOKS):
            looks = looks + 1 if self.turns == before else 0
            before, turn = self.turns, self._turn
            if looks == _LOOKS and turn is not None:
                raise Stuck(turn.place(_PATIENCE))

    # --- the end -------------------------------------------------------------------------------

    def end(self) -> list[str]:
        """End all threads; return the names of those that do not end."""
        self._is_over = True
        left = list(self._threads)
        for strand in left:
            strand.is_dead = True
        # Whoever has the turn is not parked: the test was interrupted, or it is stuck.
        left.sort(key=lambda strand: strand is not self._turn)
        for strand in left:
            if strand is not self._turn:
                with suppress(RuntimeError):  # it was given the turn just now
                    strand.go.release()
            assert strand.thread is not None
            strand.thread.join(_LAST_WORDS)
            strand.is_left = strand in self._threads
        return [strand.name for strand in self._threads]

    @property
    def is_over(self) -> bool:
        """Whether `end` was called."""
        return self._is_over
