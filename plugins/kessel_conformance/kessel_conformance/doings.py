"""What the other process does with the adapter: calls under its clock, and calls that it does not survive."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Final

import attrs

from kessel_conformance.belief import Belief
from kessel_conformance.harness import Harness
from kessel_core import Clock, SystemClock
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Consumer,
    Message,
    Pause,
    QueueAdapter,
    Reservation,
    Settlement,
    need,
)
from kessel_core.testing import VirtualClock

__all__ = ["Death", "Deed", "Doings"]

#: Functions in C by which something becomes visible outside of the process: files, sockets, databases.
_EFFECTS: Final = frozenset(
    ["open", "write", "writelines", "pwrite", "writev", "flush", "fsync", "truncate", "ftruncate", "close"]
) | {
    *("rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir", "lockf", "flock"),
    *("send", "sendall", "sendmsg", "execute", "executemany", "executescript", "commit"),
}

#: How long an adapter waits, so that it begins whatever it has for that.
_A_WHILE: Final = timedelta(milliseconds=300)
#: Seconds; generous, because a machine may be busy.
_ENDS_WITHIN: Final = 5.0
#: Where a system lists what a process has open.
_OPEN: Final = Path("/proc/self/fd")


@attrs.frozen
class Deed:
    """One step of a process that may be killed in it."""

    #: Messages to enqueue: one, or several in a batch.
    enqueues: tuple[Message, ...] = ()
    #: The queue to reserve from.
    reserves: str = ""
    #: What to do with what was reserved last.
    settles: Settlement | None = None


@attrs.frozen(kw_only=True)
class Death:
    """When a process is killed; zero: not there."""

    #: Before it runs this line of Python.
    line: int = 0
    #: Before it has this effect on the world outside.
    effect: int = 0
    #: Right after so many deeds.
    after: int = 0

    def __str__(self) -> str:
        if self.after:
            return f"right after call {self.after}"
        return f"before effect {self.effect}" if self.effect else f"before line {self.line} of its code"


class _OwnClock:
    """The clock of this process."""

    def now(self) -> datetime:
        """Return the wall-clock time."""
        return datetime.fromtimestamp(Belief.wall(), UTC)

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return Belief.monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait in real time."""
        return SystemClock().wait(condition, timeout)


class Doings:
    """Methods are called by name from the other side; one thread.

    Args:
        harness: Where the adapter comes from.
        namespace: That of the case.
        now: The time of the case's virtual clock; None: time is real.
    """

    def __init__(self, harness: Harness, namespace: str, now: datetime | None) -> None:
        self._harness = harness
        self._namespace = namespace
        self._clock: Clock = _OwnClock() if now is None else VirtualClock(now)
        self._believed = (0.0, False)
        self._adapters: dict[tuple[float, bool], QueueAdapter] = {}
        self._consumers: dict[tuple[tuple[float, bool], str], Consumer] = {}
        self._held: dict[int, tuple[Consumer, Reservation]] = {}
        self._numbers = itertools.count(1)
        # Says at once if it does not open here; and children need not import what it imports.
        harness.open(self._clock, namespace).close()

    # --- under a clock ---------------------------------------------------------------------------------

    def believe(self, ahead: float, stands: bool) -> None:
        """Set the clock of what follows; each has an adapter of its own."""
        Belief.change(ahead, stands=stands)
        self._believed = (ahead, stands)

    def _adapter(self) -> QueueAdapter:
        if self._believed not in self._adapters:
            self._adapters[self._believed] = self._harness.open(self._clock, self._namespace)
        return self._adapters[self._believed]

    def _consumer(self, queue: str) -> Consumer:
        key = (self._believed, queue)
        if key not in self._consumers:
            self._consumers[key] = self._adapter().consumer([queue])
        return self._consumers[key]

    def enqueue(self, message: Message, delay: timedelta | None) -> None:
        """Enqueue with a delay from this clock's now."""
        due = None if delay is None else self._clock.now() + delay
        self._adapter().enqueue(attrs.evolve(message, delay=due))

    def reserve(self, queue: str) -> tuple[int, bytes] | None:
        """Reserve; return the number of what is held, and its body."""
        consumer = self._consumer(queue)
        held = consumer.reserve(NO_PAUSE)
        if held is None:
            return None
        number = next(self._numbers)
        self._held[number] = (consumer, held)
        return number, held.body

    def settle(self, number: int, settlement: Settlement) -> None:
        """Settle what is held under this number."""
        consumer, held = self._held[number]
        consumer.settle(held, settlement)

    def extend(self, number: int) -> None:
        """Extend what is held under this number."""
        consumer, held = self._held[number]
        consumer.extend(held)

    def pause(self, queue: str, span: timedelta) -> None:
        """Pause a queue."""
        need(self._adapter(), Pause).pause(queue, span)

    def leave(self, queue: str) -> tuple[list[str], list[str]]:
        """Open an adapter, wait for a job that does not come, and close it; return what is left of it.

        Returns:
            The names of threads, and of sockets where the system lists them.
        """
        threads, sockets = set(threading.enumerate()), _sockets()
        adapter = self._harness.open(self._clock, self._namespace)
        consumer = adapter.consumer([queue])
        consumer.reserve(_A_WHILE)
        consumer.close()
        adapter.close()
        for thread in set(threading.enumerate()) - threads:
            thread.join(_ENDS_WITHIN)
        left = set(threading.enumerate()) - threads
        return sorted(thread.name for thread in left), sorted(_sockets() - sockets)

    def leave_open(self, message: Message, times: int) -> list[str]:
        """Open an adapter, use it and close it, again and again; return what is open for each time since.

        Returns:
            What descriptors stand for, as the system lists them; empty where it does not.
        """
        self._use(message)  # what is opened once for all, is
        before = Counter(_descriptors())
        for _ in range(times):
            self._use(message)
        gc.collect()
        left = Counter(_descriptors()) - before
        # Those that the process holds for itself may come and go; what is left each time is the adapter's.
        return sorted(left.elements()) if left.total() >= times else []

    def _use(self, message: Message) -> None:
        adapter = self._harness.open(self._clock, self._namespace)
        adapter.enqueue(message)
        consumer = adapter.consumer([message.queue])
        held = consumer.reserve(_A_WHILE)
        if held is not None:
            consumer.settle(held, COMMIT)
        adapter.stats(message.queue)
        consumer.close()
        adapter.close()

    # --- until death -----------------------------------------------------------------------------------

    def die(self, deeds: Sequence[Deed], death: Death) -> tuple[int, Death]:
        """Let a child do things until it is killed.

        Returns:
            How many deeds it reported as done; and how many lines and effects all of them took, zero if it
            was killed before.

        Raises:
            RuntimeError: A deed failed.
        """
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.close(reader)
                _live(self._harness.open(self._clock, self._namespace), deeds, death, writer)
            except BaseException as exc:
                os.write(writer, f"failed {type(exc).__name__}: {exc}".encode())
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as file:
            told = file.read().splitlines()
        os.waitpid(child, 0)
        done = told.count("done")
        rest = told[done].split() if done < len(told) else ["all", "0", "0"]
        if rest[0] == "failed":
            raise RuntimeError(f"{deeds[done]} failed: {' '.join(rest[1:])}")
        return done, Death(line=int(rest[1]), effect=int(rest[2]))


def _descriptors() -> list[str]:
    """Return what the open descriptors of this process stand for, where the system lists them."""
    found = []
    for one in _OPEN.iterdir() if _OPEN.is_dir() else ():
        with suppress(OSError):  # the listing itself
            found.append(str(one.readlink()))
    return found


def _sockets() -> set[str]:
    return {one for one in _descriptors() if one.startswith("socket:")}


def _live(adapter: QueueAdapter, deeds: Sequence[Deed], death: Death, writer: int) -> None:
    consumers = {deed.reserves: adapter.consumer([deed.reserves]) for deed in deeds if deed.reserves}
    consumer: Consumer | None = None
    held: Reservation | None = None
    lines = effects = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == death.line:
                _dies()
        return trace

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal effects
        if event == "c_call" and getattr(argument, "__name__", "") in _EFFECTS:
            effects += 1
            if effects == death.effect:
                _dies()

    for number, deed in enumerate(deeds, 1):
        sys.setprofile(profile)
        sys.settrace(trace)
        if len(deed.enqueues) == 1:
            adapter.enqueue(deed.enqueues[0])
        elif deed.enqueues:
            refused = [outcome for outcome in adapter.enqueue_many(deed.enqueues) if outcome is not None]
            if refused:
                raise refused[0]
        elif deed.reserves:
            consumer = consumers[deed.reserves]
            held = consumer.reserve(NO_PAUSE)
        elif deed.settles is not None and consumer is not None and held is not None:
            consumer.settle(held, deed.settles)
        sys.settrace(None)
        sys.setprofile(None)
        os.write(writer, b"done\n")
        if number == death.after:
            _dies()
    os.write(writer, b"all %d %d\n" % (lines, effects))
    _dies()


def _dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
