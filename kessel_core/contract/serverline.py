"""The line of those who wait for an adapter over a network: one thread hears for all of a process (E8).

While somebody waits, one thread has a connection of its own on which it hears what other processes do. It
looks as well, for all who wait in one call: when time makes a job ready, and every five seconds in case that
something was not heard. So two hundred waiting slots hold one connection and ask nothing.

A connection that listens may die unseen: nothing is ever sent on it. So an answer is asked for, and the
connection made anew if none comes. Then all who wait look once: nobody knows what they missed.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import timedelta
from math import inf
from typing import ClassVar, Final, NamedTuple, Protocol

from kessel_core.contract.pipes import close_pipe, empty, nap, nudge, open_pipe, readable
from kessel_core.contract.telling import EVERY_WAITER
from kessel_core.contract.waiting import Waiter, WaitingLine
from kessel_core.errors import AdapterError, AdapterUnavailable
from kessel_core.values.logs import get_logger

__all__ = ["Ear", "Listener", "Outlook", "ServerLine"]

#: Time between two looks in case that something was not heard, in seconds.
LOOK: Final = 5.0
#: Time between two askings for an answer, and how long it may take.
BEAT: Final = 10.0
BEAT_TAKES: Final = 5.0
_IDLE: Final = 1.0  # seconds; a rest while nobody waits


class Outlook(NamedTuple):
    """What a look at one queue tells; spans are from now."""

    #: Its name.
    queue: str
    #: What is left of a pause; None: it is not paused.
    paused: timedelta | None
    #: Whether a job is ready.
    is_ready: bool
    #: When the next of the others becomes ready; None: none is there.
    due: timedelta | None

    @property
    def next_change(self) -> timedelta | None:
        """After which span time alone makes a job ready; None: never."""
        if self.paused is None:
            return self.due
        if self.is_ready:
            return self.paused
        return None if self.due is None else max(self.paused, self.due)


class Ear(Protocol):
    """What the thread of a line does: a `Listener`, or something that looks again and again."""

    def turn(self) -> None:
        """Do what is due, then wait until something happens; raises whatever went wrong."""

    def close(self) -> None:
        """Let go of everything; the next `turn` begins anew."""


class ServerLine(WaitingLine, ABC):
    """What all consumers and waiting threads of one adapter share. Thread-safe.

    To implement: `ear` and `outlooks`. Every five seconds it looks for all who wait in case that something
    was not heard; so a wake-up that an adapter forgets shows as a job that is seen seconds late.

    Args:
        name: The name of the adapter, for the thread and the log.
    """

    #: The thread ends after this many seconds in which nobody waits; the next wait starts another.
    linger: ClassVar[float] = 30.0
    #: Errors that are logged without a traceback.
    usual: ClassVar[tuple[type[Exception], ...]] = (AdapterError,)

    def __init__(self, name: str) -> None:
        self._name = name
        self._log = get_logger(f"kessel.{name}")
        self._is_shut = False
        super().__init__()

    def reset(self) -> None:
        """Start with an empty line; also in a forked child, where the other threads are gone."""
        super().reset()
        #: The threads that wait for entries; each is in line for `space:key`.
        self.entries = WaitingLine()
        self._thread: threading.Thread | None = None
        self._pipe: tuple[int, int] | None = None
        #: When to look because of time alone, on the monotonic clock.
        self._planned: float | None = None

    # --- what an author implements -----------------------------------------------------------

    @abstractmethod
    def ear(self, pipe: int) -> Ear:
        """Return what the thread does; it has to wake up when the pipe can be read, and empty it."""

    @abstractmethod
    def outlooks(self, queues: Sequence[str]) -> Iterable[Outlook]:
        """Look at some queues in one call; raises the errors of the contract."""

    # --- for those who wait ------------------------------------------------------------------

    def join(self, queues: frozenset[str]) -> Waiter:
        """Enter the line, and make sure that somebody listens."""
        waiter = super().join(queues)
        self._watch_for(self, waiter)
        return waiter

    def join_entry(self, space: str, key: str) -> Waiter:
        """Wait for an entry from now on, in the line `entries`."""
        waiter = self.entries.join(frozenset((f"{space}:{key}",)))
        self._watch_for(self.entries, waiter)
        return waiter

    def _watch_for(self, line: WaitingLine, waiter: Waiter) -> None:
        """Make sure that somebody listens for a waiter; if nobody can, it leaves its line again."""
        try:
            self.watch()
        except BaseException:
            line.leave(waiter)
            raise

    def announce_entry(self, space: str, key: str) -> None:
        """Wake all who wait for an entry; call it once the change can be seen."""
        self.entries.announce(f"{space}:{key}", EVERY_WAITER)

    def watch(self) -> None:
        """Make sure that somebody listens; call it when something waits.

        Raises:
            AdapterUnavailable: There is no thread or no descriptor left; the next call tries again.
        """
        with self.lock:
            if self._thread is not None or self._is_shut:
                return
            pipe = None
            try:
                pipe = open_pipe()
                thread = threading.Thread(
                    target=self._watch, args=(pipe,), name=f"kessel-{self._name}", daemon=True
                )
                thread.start()
            except (RuntimeError, OSError) as exc:
                if pipe is not None:
                    close_pipe(pipe)
                raise AdapterUnavailable(f"{self._name}: nobody can listen: {exc}") from exc
            # The thread waits for the lock before it looks at these.
            self._pipe, self._thread = pipe, thread

    def plan(self, span: timedelta) -> None:
        """Look for all who wait after a span, because time alone makes a job ready then."""
        with self.lock:
            if self._set_plan(span):
                self._nudge()

    def _set_plan(self, span: timedelta) -> bool:
        """Plan a look after a span, unless one comes before; return whether it is planned now."""
        at = time.monotonic() + span.total_seconds()
        with self.lock:
            if self._planned is not None and self._planned <= at:
                return False
            self._planned = at
            return True

    def shut(self) -> None:
        """End the thread; all who wait for entries look again."""
        with self.lock:
            self._is_shut = True
            thread = self._thread
            self._nudge()
            self.entries.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits."""
        return self.is_empty and self.entries.is_empty

    def _nudge(self) -> None:
        if self._pipe is not None:
            nudge(self._pipe)

    # --- the thread --------------------------------------------------------------------------

    def _watch(self, pipe: tuple[int, int]) -> None:
        ear = self.ear(pipe[0])
        idle_since: float | None = None
        try:
            while True:
                with self.lock:
                    now = time.monotonic()
                    idle_since = (idle_since or now) if self.is_idle else None
                    if self._is_shut or (idle_since is not None and now - idle_since > self.linger):
                        self._thread, self._pipe = None, None
                        return
                try:
                    ear.turn()
                except Exception as exc:
                    # Those who wait will meet the same error, and report it. Whatever it is, a listener that
                    # is gone would leave them asleep.
                    is_usual = isinstance(exc, self.usual)
                    self._log.debug("cannot listen: %s", exc, exc_info=None if is_usual else exc)
                    ear.close()
                    self.wake_all()
                    nap(pipe[0], random.uniform(0.2, 0.5))  # noqa: S311 - so that not all come at once
        finally:
            ear.close()
            close_pipe(pipe)

    def wake_all(self) -> None:
        """Wake all who wait; also when an answer was lost: its call may have made a job ready in silence."""
        self.wake()
        self.entries.wake()

    @property
    def planned(self) -> float | None:
        """When to look because of time alone, on the monotonic clock."""
        with self.lock:
            return self._planned

    def look(self) -> bool:
        """Look for all who wait, in the thread of the line; return whether a job was ready."""
        with self.lock:
            self._planned = None
        self.entries.wake()
        found = False
        if queues := self.wanted_queues():
            for one in self.outlooks(queues):
                if one.paused is None and one.is_ready:
                    # One consumer; it wakes the next one when it has taken a job.
                    self.announce(one.queue)
                    found = True
                elif (span := one.next_change) is not None:
                    self._set_plan(span)  # for the thread itself, so nobody has to wake it
        return found

    def hear(self, told: str) -> None:
        """Wake those whom it concerns: what `telling` makes, of another process; the rest is ignored.

        A forked child is another process: a mark by which one knows what it told itself changes with a fork.
        """
        kind, _, rest = told.partition(":")
        if kind == "e":
            self.entries.announce(rest, EVERY_WAITER)
            return
        number, _, queue = rest.partition(":")
        if not number.isdigit():
            return  # not ours
        if kind == "r":
            self.announce(queue, int(number))
        elif kind == "d" and not self.is_empty:
            with contextlib.suppress(OverflowError):
                self.plan(timedelta(microseconds=int(number)))


class Listener(ABC):
    """An `Ear` that listens on a connection of its own, and looks when it is time to.

    To implement: `connect`, `ask`, `hear` and `disconnect`, which raise whatever goes wrong.

    Args:
        line: Whom it hears for.
        pipe: Ends a wait when it can be read.
    """

    def __init__(self, line: ServerLine, pipe: int) -> None:
        self.line = line
        self._pipe = pipe
        self._descriptor: int | None = None
        self._looked = self._beat = -inf  # the monotonic clock may have begun just now
        #: When the answer was asked for that has not come yet.
        self._asked: float | None = None

    @abstractmethod
    def connect(self) -> int:
        """Connect, and hear all that is told from now on; return the descriptor that it comes from."""

    @abstractmethod
    def ask(self) -> None:
        """Ask for an answer, which `hear` reads."""

    @abstractmethod
    def hear(self, *, is_readable: bool) -> bool:
        """Hand what came to `line.hear`, but for what this process told; return whether the answer came.

        Args:
            is_readable: Whether there is something to read; if not, it must not wait for anything.
        """

    @abstractmethod
    def disconnect(self) -> None:
        """Close the connection if there is one; raises nothing."""

    def turn(self) -> None:
        """See `Ear.turn`."""
        descriptor = self._begin() if self._descriptor is None else self._descriptor
        line, now = self.line, time.monotonic()
        is_idle, planned = line.is_idle, line.planned
        if not is_idle and (now - self._looked >= LOOK or (planned is not None and planned <= now)):
            self._looked = now
            line.look()
            planned = line.planned
        if self._asked is not None and now - self._asked > BEAT_TAKES:
            raise AdapterUnavailable("no answer to who listens")
        if self._asked is None and now - self._beat >= BEAT:
            self._ask(now)
        self._hear(is_readable=False)
        # While nobody waits nothing is looked at, so a look that is overdue is no reason to wake up.
        wakes = [self._beat + BEAT, now + _IDLE if is_idle else self._looked + LOOK]
        if planned is not None and not (is_idle and planned <= now):
            wakes.append(planned)
        if self._asked is not None:
            wakes.append(self._asked + BEAT_TAKES)
        ready = readable([descriptor, self._pipe], min(wakes) - now)
        if self._pipe in ready:
            empty(self._pipe)
        self._hear(is_readable=descriptor in ready)

    def _begin(self) -> int:
        descriptor = self._descriptor = self.connect()
        self._ask(time.monotonic())
        self.line.wake_all()  # whoever looked before may have missed something
        return descriptor

    def _ask(self, now: float) -> None:
        self.ask()
        self._beat = self._asked = now

    def _hear(self, *, is_readable: bool) -> None:
        if self.hear(is_readable=is_readable):
            self._asked = None

    def close(self) -> None:
        """See `Ear.close`."""
        self._descriptor = None
        self.disconnect()
