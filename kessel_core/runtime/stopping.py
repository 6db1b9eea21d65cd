"""How a worker is told to stop, how its threads wait meanwhile, and how the main thread waits for it.

What is called in a signal handler, or may be interrupted by one, takes no lock that Python code holds.
"""

from __future__ import annotations

import _thread
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar

from kessel_core.clock import Clock
from kessel_core.runtime.signals import SEEN_WITHIN

__all__ = ["INSIDE", "StopSwitch", "start", "uninterrupted"]

#: Set in whatever runs for a job of a worker: its handler, plain or async, and what these hand on their
#: context to, such as `asyncio.to_thread`.
INSIDE: ContextVar[StopSwitch | None] = ContextVar("kessel_inside", default=None)


class StopSwitch:
    """One per worker; thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Notified at a stop, and when the state of a slot changes.
        self.changed = threading.Condition()
        #: Whether a stop was requested.
        self.is_on = False
        self._is_announced = False
        #: When the grace periods end that were asked for.
        self._ends: deque[float] = deque()

    @property
    def deadline(self) -> float | None:
        """When the grace period ends, on the monotonic clock; None: no stop was asked for."""
        return min(tuple(self._ends), default=None)

    def turn_on(self, grace: float) -> None:
        """Ask for the stop; takes no lock, so it is safe in a signal handler. `announce` must follow.

        Args:
            grace: Seconds for running jobs. A later call can only shorten them.
        """
        self._ends.append(self._clock.monotonic() + grace)
        self.is_on = True

    def announce(self) -> bool:
        """Wake those that wait for the stop; return whether this is the first call."""
        with self.changed:
            first, self._is_announced = not self._is_announced, True
            self.changed.notify_all()
            return first

    @property
    def is_overdue(self) -> bool:
        """Whether the grace period is over."""
        deadline = self.deadline
        return deadline is not None and self._clock.monotonic() >= deadline

    def sleep(self, seconds: float) -> None:
        """Sleep, but at most until a stop."""
        with self.changed:
            if not self.is_on:
                self._clock.wait(self.changed, seconds)


def start(work: Callable[..., object], name: str, *arguments: object) -> None:
    """Start a daemon thread; to be called in one of `_thread`, where nothing interrupts it."""
    threading.Thread(target=work, args=arguments, name=name, daemon=True).start()


def uninterrupted(work: Callable[[], None], name: str) -> None:
    """Do something, so that an exception of a signal handler ends the wait for it, and not the work.

    In the middle of the work it could leave a lock behind, or take one away that the next line gives back
    (finding D20). Signal handlers run in the main thread only, so elsewhere this is a plain call.
    """
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    errors: list[BaseException] = []
    done = threading.Lock()
    done.acquire()

    def run() -> None:
        try:
            work()
        except BaseException as exc:
            errors.append(exc)
        finally:
            done.release()

    def begin() -> None:
        try:
            start(run, name)
        except BaseException as exc:  # there is no thread left
            errors.append(exc)
            done.release()

    # The thread is started by another one, because `threading` has locks of its own.
    _thread.start_new_thread(begin, ())
    while not done.acquire(timeout=SEEN_WITHIN):
        pass
    if errors:
        raise errors[0]
