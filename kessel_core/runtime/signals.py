"""Signals that stop a process: received in the main thread, acted on in another one or in a loop.

The handlers only put a number into a queue, which is safe wherever they interrupt the main thread, and
needs no descriptor that a handler of a job could close or a child inherit. A forked child gets the
dispositions back that were there before: a signal to a child concerns the child (finding A1), also one that
comes before the child has set them back.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self

from kessel_core.clock import SystemClock
from kessel_core.values.logs import get_logger

__all__ = [
    "SEEN_WITHIN",
    "STOP_SIGNALS",
    "TOGETHER",
    "ReceivedSignals",
    "Requests",
    "StopSignals",
    "on_signals",
]

log = get_logger("kessel.worker")

#: What asks a process to stop: a service manager, a person, a terminal that was closed.
STOP_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)

#: Signals that come this soon after one, in seconds, are one request with it: `timeout` and terminals signal
#: a process and its group. Two that were sent within 0.05 ms were seen 45 ms apart, once in 25 times beside
#: fourteen busy processes on two processors; nobody presses Ctrl-C twice in less time than this and means
#: both.
TOGETHER: Final = 0.2

#: Longest single wait of the main thread, in seconds. Python runs the handler of a signal when it looks next;
#: one that comes between the last look and a wait, or to another thread, does not end that wait. With waits
#: of 1 s, 2 of 20,000 signals that were sent at that moment were seen a second late.
SEEN_WITHIN: Final = 0.1

_receiving: list[ReceivedSignals] = []


class Requests:
    """Tells a signal that is a request of its own from one that came together with another.

    What counts is the first of those that come together: held down, Ctrl-C gets through as well.
    """

    def __init__(self) -> None:
        self._at = float("-inf")

    def is_news(self, at: float) -> bool:
        """Say whether the signal that came at this time, in seconds of the monotonic clock, is a new one."""
        if at - self._at < TOGETHER:
            return False
        self._at = at
        return True


class ReceivedSignals:
    """Receives some signals while it is entered; main thread only. Leaving restores what was before.

    A SIGHUP that was ignored before stays ignored: `nohup` means it. What the parent of the process has
    blocked is received all the same: a process that no signal reaches could only be killed.

    Args:
        numbers: The signals.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        #: The signals.
        self.numbers = tuple(numbers)
        #: What came, and when: it may be looked at much later, beside a handler that keeps the processor.
        self._arrived: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()
        self._before: dict[int, Any] = {}
        self._mask: set[Any] | None = None
        self._at = float("-inf")
        self._requests = Requests()

    def __enter__(self) -> Self:
        _receiving.append(self)
        for number in self.numbers:
            before = signal.getsignal(number)
            if before is signal.SIG_IGN and number == getattr(signal, "SIGHUP", None):
                continue
            self._before[number] = signal.SIG_DFL if before is None else before
            signal.signal(number, self.receive)
        if hasattr(signal, "pthread_sigmask"):
            self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, self.numbers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        _receiving.remove(self)
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        self.restore()

    def restore(self, *, in_child: bool = False) -> None:
        """Set the dispositions as they were.

        Args:
            in_child: In a forked child a signal that was ignored has its default: a handler may well end
                the children that it starts.
        """
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if in_child and handler is signal.SIG_IGN else handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take one signal; runs in the main thread, wherever it is."""
        self._arrived.put((number, SystemClock().monotonic()))

    def wake(self) -> None:
        """Let `next` return None; for any thread."""
        self._arrived.put((0, 0.0))

    def next(self, timeout: float | None = None) -> int | None:
        """Wait for a signal, at most so many seconds; None: it was in vain, or `wake` was called."""
        try:
            number, self._at = self._arrived.get(timeout=timeout)
        except queue.Empty:
            return None
        return number or None

    def is_news(self) -> bool:
        """Say whether the stop signal that `next` returned is a request of its own, no part of the last."""
        return self._requests.is_news(self._at)


class StopSignals(ReceivedSignals):
    """The stop signals of a command.

    Until `handed_to`, nothing runs that needs a graceful end: a signal interrupts the main thread with
    KeyboardInterrupt, also in the middle of a slow import, and also in the first process of a container,
    to which signals that nobody handles are not delivered.

    Args:
        interrupts: Whether they do so; else nothing happens before `handed_to`.
    """

    def __init__(self, *, interrupts: bool = True) -> None:
        super().__init__(STOP_SIGNALS)
        self._may_interrupt = interrupts
        #: Whether a stop signal came.
        self.is_asked = False
        #: Whether one has interrupted the main thread: what is raised after that may be about nothing else.
        self.has_interrupted = False
        self._interrupts = False
        self._ignores_children = False

    def __enter__(self) -> Self:
        # Ignored by the parent of the process, it would let every failed program of a handler end with 0.
        child = getattr(signal, "SIGCHLD", None)
        self._ignores_children = child is not None and signal.getsignal(child) is signal.SIG_IGN
        if self._ignores_children:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        super().__enter__()
        self._interrupts = self._may_interrupt  # not before: what interrupts an entry is not left again
        return self

    def check(self) -> None:
        """Interrupt if a signal came while this was being entered, as one that was blocked before.

        Raises:
            KeyboardInterrupt: It did.
        """
        if self.is_asked:
            self._interrupt()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, exc, trace)
        if self._ignores_children:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take one signal."""
        self.is_asked = True
        super().receive(number, frame)
        if self._interrupts:
            self._interrupt()

    def _interrupt(self) -> NoReturn:
        self.has_interrupted = True
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
        self._take_back()

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

    def _take_back(self) -> None:
        """Receive again what code that was imported meanwhile has set a handler of its own for.

        It does so for programs of its own. Here the signal would stop nothing, and whoever stops the worker
        would have to kill it.
        """
        for number in self._before:
            other = signal.getsignal(number)
            if other != self.receive:
                signal.signal(number, self.receive)
                log.warning(
                    "%s was handled by %s, set at an import; it is not called any more",
                    signal.Signals(number).name,
                    getattr(other, "__qualname__", other),
                )


@contextmanager
def on_signals(stop: Callable[[int], None], *, supervised: bool = False) -> Iterator[None]:
    """Do what `StopSignals.handed_to` does, for those that have nothing to start before."""
    with StopSignals(interrupts=False) as signals, signals.handed_to(stop, supervised=supervised):
        yield


#: The signal mask of each thread that is forking just now.
_masks: dict[int, set[signal.Signals | int]] = {}


def _before_fork() -> None:
    # Python forgets what arrives in a child before it runs; blocked, it waits until the child can take it.
    if _receiving and hasattr(signal, "pthread_sigmask"):
        numbers = {number for received in _receiving for number in received.numbers}
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def _after_fork() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    for received in reversed(_receiving):
        received.restore(in_child=True)
    _receiving.clear()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
