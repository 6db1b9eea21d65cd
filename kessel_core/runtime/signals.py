"""Signals that stop a process: received in the main thread, acted on in another one or in a loop.

The handlers only put a number into a queue, which is safe wherever they interrupt the main thread, and
needs no descriptor that a handler of a job could close or a child inherit. A forked child gets the
dispositions back that were there before: a signal to a child concerns the child (finding A1).
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self

from kessel_core.clock import SystemClock

__all__ = ["SEEN_WITHIN", "STOP_SIGNALS", "ReceivedSignals", "StopSignals", "on_signals"]

#: What asks a process to stop: a service manager, a person, a terminal that was closed.
STOP_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)

#: Signals that follow each other this closely, in seconds, are one request: `timeout` and terminals signal
#: a process and its group.
_TOGETHER: Final = 0.01

#: Longest single wait of the main thread, in seconds. Python runs the handler of a signal when it looks next;
#: one that comes between the last look and a wait, or to another thread, does not end that wait. With waits
#: of 1 s, 2 of 20,000 signals that were sent at that moment were seen a second late.
SEEN_WITHIN: Final = 0.1

_receiving: list[ReceivedSignals] = []


class ReceivedSignals:
    """Receives some signals while it is entered; main thread only. Leaving restores what was before.

    A SIGHUP that was ignored before stays ignored: `nohup` means it.

    Args:
        numbers: The signals.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers
        self._arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._before: dict[int, Any] = {}
        self._last = float("-inf")

    def __enter__(self) -> Self:
        _receiving.append(self)
        for number in self._numbers:
            before = signal.getsignal(number)
            if before is signal.SIG_IGN and number == getattr(signal, "SIGHUP", None):
                continue
            self._before[number] = signal.SIG_DFL if before is None else before
            signal.signal(number, self.receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        _receiving.remove(self)
        self.restore()

    def restore(self) -> None:
        """Set the dispositions as they were; also in a forked child."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take one signal; runs in the main thread, wherever it is."""
        self._arrived.put(number)

    def wake(self) -> None:
        """Let `next` return None; for any thread."""
        self._arrived.put(0)

    def next(self, timeout: float | None = None) -> int | None:
        """Wait for a signal, at most so many seconds; None: it was in vain, or `wake` was called."""
        try:
            return self._arrived.get(timeout=timeout) or None
        except queue.Empty:
            return None

    def is_news(self) -> bool:
        """Say whether the stop signal that just came is a request of its own, and not part of the last."""
        now = SystemClock().monotonic()
        last, self._last = self._last, now
        return now - last >= _TOGETHER


class StopSignals(ReceivedSignals):
    """The stop signals of a command.

    Until `handed_to`, nothing runs that needs a graceful end: a signal interrupts the main thread with
    KeyboardInterrupt, also in the middle of a slow import, and also in the first process of a container,
    to which signals that nobody handles are not delivered.
    """

    def __init__(self) -> None:
        super().__init__(STOP_SIGNALS)
        #: Whether a stop signal came.
        self.is_asked = False
        self._interrupts = True

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take one signal."""
        self.is_asked = True
        self._arrived.put(number)
        if self._interrupts:
            raise KeyboardInterrupt

    @contextmanager
    def handed_to(self, stop: Callable[[int], None], *, supervised: bool = False) -> Iterator[None]:
        """Call `stop(count)` for each signal from now on, from a thread of its own; earlier ones, too.

        Args:
            stop: Called with 1 for the first signal, with 2 and so on for those after it.
            supervised: SIGINT is the second signal if another came before, and all others are the first,
                as the supervisor sends them. Whoever stops a service may signal all its processes, and
                the supervisor hands on its own: that is one request, not two.
        """
        self._interrupts = False

        def watch() -> None:
            count = 0
            while (number := self.next()) is not None:
                if not self.is_news():
                    continue
                if supervised:
                    count = 2 if count and number == signal.SIGINT else 1
                else:
                    count += 1
                stop(count)

        thread = threading.Thread(target=watch, name="kessel-signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.wake()
            thread.join()


@contextmanager
def on_signals(stop: Callable[[int], None], *, supervised: bool = False) -> Iterator[None]:
    """Do what `StopSignals.handed_to` does, for those that have nothing to start before."""
    signals = StopSignals()
    signals._interrupts = False  # of this module
    with signals, signals.handed_to(stop, supervised=supervised):
        yield


def _after_fork_in_child() -> None:
    for received in reversed(_receiving):
        received.restore()
    _receiving.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
