"""What the other process does with the adapter: calls under its clock, and calls that it does not survive."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import attrs

from kessel_conformance.answers import do_all
from kessel_conformance.belief import Belief
from kessel_conformance.deeds import Deed, all_done, lived
from kessel_conformance.dying import Death, Extent
from kessel_conformance.harness import Harness
from kessel_conformance.meanwhile import FALLS_ASLEEP
from kessel_core import Clock, SystemClock
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Commit,
    Consumer,
    Message,
    Pause,
    QueueAdapter,
    Reservation,
    Settlement,
    need,
)
from kessel_core.testing import VirtualClock

__all__ = ["Doings"]

#: How long an adapter waits, so that it begins whatever it has for that.
_A_WHILE: Final = timedelta(milliseconds=300)
#: How long one waits that is to be killed in it.
_LONG: Final = timedelta(minutes=1)
#: Seconds; generous, because a machine may be busy.
_ENDS_WITHIN: Final = 5.0
#: Where a system lists what a process has open.
_OPEN: Final = Path("/proc/self/fd")


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
        self._child: Connection
        self._child_id = 0
        # Says at once if it does not open here; and children need not import what it imports.
        harness.open(self._clock, namespace).close()

    # --- under a clock ---------------------------------------------------------------------------------

    def believe(self, ahead: float, stands: bool) -> None:
        """Set the clock of what follows; each has an adapter of its own."""
        Belief.change(ahead, stands=stands)
        self._believed = (ahead, stands)

    def take_system_clock(self) -> None:
        """Open what follows with the clock of applications: under others an adapter may not listen."""
        self._clock = SystemClock()

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

    def enqueue_many(self, messages: Sequence[Message], delay: timedelta) -> None:
        """Enqueue a batch with a delay from this clock's now."""
        due = self._clock.now() + delay
        batch = [attrs.evolve(message, delay=due) for message in messages]
        all_done(self._adapter().enqueue_many(batch))

    def reserve(self, queue: str) -> tuple[int, bytes] | None:
        """Reserve; return the number of what is held, and its body."""
        consumer = self._consumer(queue)
        return self._noted(consumer, consumer.reserve(NO_PAUSE))

    def _noted(self, consumer: Consumer, held: Reservation | None) -> tuple[int, bytes] | None:
        if held is None:
            return None
        number = next(self._numbers)
        self._held[number] = (consumer, held)
        return number, held.body

    def settle(self, number: int, settlement: Settlement) -> None:
        """Settle what is held under this number."""
        consumer, held = self._held[number]
        consumer.settle(held, settlement)

    def settle_and_reserve(self, number: int, settlement: Settlement) -> tuple[int, bytes] | None:
        """Settle what is held under this number, and reserve in the same call; as `reserve`."""
        consumer, held = self._held[number]
        return self._noted(consumer, consumer.settle_and_reserve(held, settlement))

    def follow(self, number: int, message: Message, delay: timedelta) -> None:
        """Commit with a follow-up, which is delayed from this clock's now."""
        brought = attrs.evolve(message, delay=self._clock.now() + delay)
        self.settle(number, Commit(follow=(brought,)))

    def extend(self, number: int) -> None:
        """Extend what is held under this number."""
        consumer, held = self._held[number]
        consumer.extend(held)

    def extend_many(self, numbers: Sequence[int]) -> None:
        """Extend what is held under these numbers, all in one call."""
        all_done(self._adapter().extend_many([self._held[number] for number in numbers]))

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

    def fall_asleep(self, queues: Sequence[str], times: int) -> None:
        """Let several adapters wait for a job that does not come, until this process is killed."""
        for _ in range(times):
            consumer = self._harness.open(self._clock, self._namespace).consumer(queues)
            threading.Thread(target=consumer.reserve, args=(_LONG,), daemon=True).start()
        time.sleep(FALLS_ASLEEP)

    # --- after a fork ----------------------------------------------------------------------------------

    def fork(self) -> None:
        """Begin a child that has what is open here, and does what `in_child` asks for."""
        ours, theirs = socket.socketpair()
        child = os.fork()
        if not child:
            ours.close()
            # A worker is not copied, and neither is its slot; but what is left of them is still there.
            self._left, self._consumers = self._consumers, {}
            with suppress(OSError):
                do_all(self, Connection(theirs.detach()))
            os._exit(0)
        theirs.close()
        self._child = Connection(ours.detach())
        self._child_id = child

    def begin_in_child(self, name: str, *arguments: object) -> None:
        """Let the child begin something of this class."""
        self._child.send((name, arguments))

    def end_in_child(self, within: float) -> Any:
        """Return or raise what came of what was begun in the child.

        Raises:
            TimeoutError: It did not end within so many seconds; the child is killed.
        """
        if not self._child.poll(within):
            os.kill(self._child_id, signal.SIGKILL)
            raise TimeoutError
        answer = self._child.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leave_child(self) -> None:
        """Let the child end."""
        self._child.close()
        os.waitpid(self._child_id, 0)

    def close(self) -> None:
        """Close what is open under the clock of now."""
        self._adapter().close()

    def wait_for(self, queue: str, longest: timedelta) -> tuple[float, bytes] | None:
        """Wait for a job, and commit it; return when it came, on the monotonic clock, and its body."""
        consumer = self._consumer(queue)
        held = consumer.reserve(longest)
        came = time.monotonic()
        if held is None:
            return None
        consumer.settle(held, COMMIT)
        return came, held.body

    def work(self, messages: Sequence[Message]) -> list[bytes]:
        """Put and take jobs, one after the other; return the bodies of those that came."""
        came: list[bytes] = []
        for message in messages:
            self._adapter().enqueue(message)
            consumer = self._consumer(message.queue)
            held = consumer.reserve(_A_WHILE)
            if held is not None:
                consumer.settle(held, COMMIT)
                came.append(held.body)
        return came

    def enqueue_later(self, message: Message, seconds: float) -> float:
        """Enqueue after so many seconds; return when, on the monotonic clock."""
        time.sleep(seconds)
        begun = time.monotonic()
        self._adapter().enqueue(message)
        return begun

    # --- until death -----------------------------------------------------------------------------------

    def die(
        self, deeds: Sequence[Deed], death: Death, there: tuple[str, str] | None = None
    ) -> tuple[int, Extent]:
        """Let a child do things until it is killed.

        Args:
            deeds: What it does.
            death: When it is killed.
            there: Another folder and namespace than those of the case.

        Returns:
            How many deeds it reported as done, and how long they are.

        Raises:
            RuntimeError: A deed failed.
        """
        harness, namespace = self._harness, self._namespace
        if there is not None:
            harness, namespace = harness.in_folder(there[0]), there[1]
        return lived(harness, namespace, self._clock, deeds, death)


def _descriptors() -> list[str]:
    """Return what the open descriptors of this process stand for, where the system lists them."""
    found = []
    for one in _OPEN.iterdir() if _OPEN.is_dir() else ():
        with suppress(OSError):  # the listing itself
            found.append(str(one.readlink()))
    return found


def _sockets() -> set[str]:
    return {one for one in _descriptors() if one.startswith("socket:")}
