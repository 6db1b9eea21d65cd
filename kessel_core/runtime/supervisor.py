"""`--processes P`: keeps P worker processes running, and ends with them.

It runs no job and opens no adapter. A worker that dies is replaced, after a pause that grows
while workers die young. Signals are read from a pipe, so nothing polls and no handler runs in
the middle of something else. A worker learns of the supervisor's death from the end of a pipe
of which the supervisor alone holds the other end; that works however it died, on any Unix.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final

import attrs

from kessel_core.clock import Clock, SystemClock

__all__ = ["Supervisor", "on_signals", "stop_with_parent"]


logger = logging.getLogger("kessel.supervisor")


FIRST_PAUSE: Final = 0.5


LONGEST_PAUSE: Final = 30.0


#: A worker that lived this long was well; its death does not count against the next one.
HEALTHY_SECONDS: Final = 10.0


#: What workers get on top of the grace period to roll back and end, before they are killed.
SLACK: Final = timedelta(seconds=5)


#: Exit codes of a wrong configuration: every replacement would end the same way.
HOPELESS: Final = frozenset({2, 3})


STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@attrs.define(eq=False)
class _Seat:
    """The place of one worker process."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = FIRST_PAUSE
    #: When to start the next process, on the monotonic clock; None: one is running.
    due: float | None = 0.0


class Supervisor:
    """Runs `processes` copies of a command until a signal says stop.

    Args:
        command: What a worker process runs; gets `--parent-fd N` appended.
        processes: How many, one or more.
        grace: How long a stopping worker may wait for its jobs, as the workers know it too.
        clock: Only its monotonic time is used.
    """

    def __init__(
        self, command: Sequence[str], processes: int, *, grace: timedelta, clock: Clock | None = None
    ) -> None:
        #: What each worker process runs.
        self.command = list(command)
        self._grace = grace
        self._clock = clock or SystemClock()
        self._seats = [_Seat(number) for number in range(1, processes + 1)]
        self._stops = 0
        self._kill_at: float | None = None
        self._hopeless: int | None = None
        self._killed = False

    def run(self) -> int:
        """Run until stopped; call it in the main thread.

        Returns:
            0 after a stop, 1 if workers had to be killed, 2 or 3 if a worker ended so, because
            its configuration or a plugin that it names is not usable.
        """
        alive_read, alive_write = os.pipe()
        try:
            with _signal_pipe((*STOP_SIGNALS, signal.SIGCHLD)) as arrived:
                while True:
                    self._collect()
                    if self._stops == 0:
                        self._start_due(alive_read)
                    elif all(seat.process is None for seat in self._seats):
                        return self._code()
                    for number in arrived(self._timeout()):
                        if number in STOP_SIGNALS:
                            self._stop()
                    self._kill_late()
        finally:
            # Closing tells whoever still runs, should this end by an exception.
            os.close(alive_write)
            os.close(alive_read)

    def _code(self) -> int:
        if self._hopeless is not None:
            return self._hopeless
        return 1 if self._killed else 0

    def _start_due(self, alive: int) -> None:
        now = self._clock.monotonic()
        for seat in self._seats:
            if seat.due is None or seat.due > now:
                continue
            # A session of its own: Ctrl-C in the terminal must reach a worker through here only, because
            # to a worker SIGINT means "at once".
            seat.process = subprocess.Popen(  # noqa: S603  # our own command, given by the caller
                [*self.command, "--parent-fd", str(alive)],
                pass_fds=(alive,),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            seat.started, seat.due = now, None
            logger.info("worker process started", extra={"worker": seat.number, "pid": seat.process.pid})

    def _collect(self) -> None:
        now = self._clock.monotonic()
        for seat in self._seats:
            if seat.process is None or (code := seat.process.poll()) is None:
                continue
            pid, seat.process = seat.process.pid, None
            if self._stops:
                continue
            if code in HOPELESS:
                logger.error(
                    "worker process cannot run as configured", extra={"worker": seat.number, "code": code}
                )
                self._hopeless = code
                self._stop()
                continue
            if now - seat.started >= HEALTHY_SECONDS:
                seat.pause = FIRST_PAUSE
            seat.due = now + seat.pause
            logger.warning(
                "worker process died, it is replaced",
                extra={"worker": seat.number, "pid": pid, "how": _how(code), "pause_seconds": seat.pause},
            )
            seat.pause = min(seat.pause * 2, LONGEST_PAUSE)

    def _timeout(self) -> float | None:
        moments = [seat.due for seat in self._seats if seat.due is not None and not self._stops]
        if self._kill_at is not None:
            moments.append(self._kill_at)
        return max(0.0, min(moments) - self._clock.monotonic()) if moments else None

    def _stop(self) -> None:
        self._stops += 1
        logger.info("stopping", extra={"at_once": self._stops > 1})
        wait = SLACK if self._stops > 1 else self._grace + SLACK
        self._kill_at = self._clock.monotonic() + wait.total_seconds()
        for seat in self._seats:
            if seat.process is not None:
                with suppress(ProcessLookupError):
                    seat.process.send_signal(signal.SIGTERM if self._stops == 1 else signal.SIGINT)

    def _kill_late(self) -> None:
        if self._kill_at is None or self._clock.monotonic() < self._kill_at:
            return
        self._kill_at = None
        for seat in self._seats:
            if seat.process is not None:
                logger.warning("worker process did not end, it is killed", extra={"worker": seat.number})
                self._killed = True
                seat.process.kill()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


@contextmanager
def _signal_pipe(numbers: Sequence[int]) -> Iterator[Callable[[float | None], bytes]]:
    """Yield a function that waits for signals and returns their numbers; restores on leaving."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    old_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    # A handler that does nothing: only signals with one are written to the pipe.
    old_handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}

    def arrived(timeout: float | None) -> bytes:
        if not select.select([reading], [], [], timeout)[0]:
            return b""
        try:
            return os.read(reading, 512)
        except BlockingIOError:
            return b""

    try:
        yield arrived
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_wakeup)
        os.close(writing)
        os.close(reading)


@contextmanager
def on_signals(stop: Callable[[int], None], *, supervised: bool = False) -> Iterator[None]:
    """Call `stop(count)` for each SIGTERM or SIGINT, from a thread of its own; main thread only.

    From a thread, because a signal handler may interrupt the main thread while it holds the very
    lock that stopping needs.

    Args:
        stop: Called with 1 for the first signal, with more for those after it.
        supervised: Any SIGTERM is the first signal, and SIGINT the second, as the supervisor sends
            them. Whoever stops a service may send SIGTERM to all its processes, and the supervisor
            hands on its own: that is one wish, not two.
    """
    finished = threading.Event()
    with _signal_pipe(STOP_SIGNALS) as arrived:

        def watch() -> None:
            count = 0
            while not finished.is_set():
                for number in arrived(None):
                    if number in STOP_SIGNALS and not finished.is_set():
                        count = (1 + (number == signal.SIGINT)) if supervised else count + 1
                        stop(count)

        thread = threading.Thread(target=watch, name="kessel-signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            # Any byte wakes the thread; the pipe must not be closed under its select.
            wakeup = signal.set_wakeup_fd(-1)
            os.write(wakeup, b"\0")
            signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
            thread.join()


def stop_with_parent(descriptor: int, stop: Callable[[], None]) -> None:
    """Call `stop()` once when the supervisor that gave the descriptor is gone.

    Raises:
        OSError: The descriptor is not open.
    """
    os.set_inheritable(descriptor, False)

    def watch() -> None:
        # Nothing is ever written: the read returns when the last writer is gone.
        while os.read(descriptor, 1):
            pass
        logger.warning("the supervisor is gone, stopping")
        stop()

    threading.Thread(target=watch, name="kessel-parent", daemon=True).start()
