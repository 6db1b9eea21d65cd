"""`--processes P`: keeps P worker processes running, and ends with them.

It runs no job and opens no adapter. A worker that dies is replaced, after a pause that grows as long as
workers die soon after their start. Signals come through a queue, so no signal handler interrupts other
code. Workers notice the death of the supervisor by the end of a pipe whose other end only
the supervisor holds; that works on any Unix, however it died. Through another pipe each worker says that it
has begun to work.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

import attrs

from kessel_core.clock import Clock, SystemClock
from kessel_core.runtime.signals import SEEN_WITHIN, STOP_SIGNALS, ReceivedSignals
from kessel_core.values.logs import get_logger

__all__ = ["Supervisor", "stop_with_parent"]


log = get_logger("kessel.supervisor")


#: Pause before a replacement, in seconds; doubled for each worker that dies young.
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0

#: A worker that lived this long was healthy; after its death the pauses start from the first again.
HEALTHY_SECONDS: Final = 10.0

#: Time after the grace period for workers to give jobs back and end, before they are killed.
SLACK: Final = timedelta(seconds=5)

#: Exit codes of a wrong configuration: every replacement would end the same way. Only until a worker has
#: begun to work; after that, a job has ended its process.
CONFIG_EXIT_CODES: Final = frozenset({2, 3})


@attrs.define(eq=False)
class _WorkerProcess:
    """One of the worker processes, and its replacements."""

    #: From 1.
    number: int
    #: The running process; None: there is none at the moment.
    process: subprocess.Popen[bytes] | None = None
    #: When it was started, on the monotonic clock.
    started: float = 0.0
    #: Pause before the next replacement, in seconds.
    pause: float = FIRST_PAUSE
    #: Where the process says that it has begun to work; None: it does not run.
    begun: int | None = None
    #: When to start the next process, on the monotonic clock; None: one is running.
    due: float | None = 0.0
    #: Whether none was ever started.
    is_first: bool = True

    def postpone(self, now: float) -> float:
        """Start the next process after the pause, and let the pause grow; return how long it is now."""
        pause, self.pause = self.pause, min(self.pause * 2, LONGEST_PAUSE)
        self.due = now + pause
        return pause


class Supervisor:
    """Runs `processes` copies of a command until a signal stops it.

    Args:
        command: The command of a worker process; `--parent-fd N --begun-fd N` is appended.
        processes: How many, one or more.
        grace: How long a stopping worker waits for its jobs; the workers must have the same setting.
        listeners: None or one for each process, which answers there for its health: `--health-fd N` is
            appended.
        clock: Only its monotonic time is used.
    """

    def __init__(
        self,
        command: Sequence[str],
        processes: int,
        *,
        grace: timedelta,
        listeners: Sequence[socket.socket] = (),
        clock: Clock | None = None,
    ) -> None:
        #: The command of each worker process.
        self.command = list(command)
        self._grace = grace
        self._listeners = listeners
        self._clock = clock or SystemClock()
        self._workers = [_WorkerProcess(number) for number in range(1, processes + 1)]
        self._stops = 0
        self._kill_at: float | None = None
        self._config_exit_code: int | None = None
        self._killed = False
        self._failed = False

    def run(self) -> int:
        """Run until stopped; call it in the main thread.

        Returns:
            The exit code: 0 after a stop, 1 if workers had to be killed or failed while they stopped, 2 or
            3 if a worker ended with that code before it had begun to work, because its configuration, or
            a plugin that it names, is not usable.
        """
        alive_read, alive_write = os.pipe()
        try:
            with ReceivedSignals((*STOP_SIGNALS, signal.SIGCHLD)) as signals:
                while True:
                    self._collect()
                    if self._stops == 0:
                        self._start_due(alive_read)
                    elif all(worker.process is None for worker in self._workers):
                        return self._code()
                    # Whatever is due then, a replacement or the end of the grace, is at most so much late.
                    number = signals.next(SEEN_WITHIN)
                    if number in STOP_SIGNALS and signals.is_news():
                        self._stop()
                    self._kill_late()
        finally:
            # If this ends with an exception, closing the pipe stops the workers that still run.
            os.close(alive_write)
            os.close(alive_read)

    @property
    def running(self) -> Mapping[int, int]:
        """Number of each process that runs, from 1, and its process id; thread-safe."""
        return {w.number: process.pid for w in self._workers if (process := w.process) is not None}

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop; thread-safe."""
        return self._stops > 0

    def _code(self) -> int:
        if self._config_exit_code is not None:
            return self._config_exit_code
        return 1 if self._killed or self._failed else 0

    def _start_due(self, alive: int) -> None:
        now = self._clock.monotonic()
        for worker in self._workers:
            if worker.due is None or worker.due > now:
                continue
            try:
                worker.process = process = self._start(worker, alive)
            except OSError as exc:  # such as EAGAIN: the machine has no process left just now
                if worker.is_first:
                    raise
                pause = worker.postpone(now)
                log.warning(
                    "worker process cannot be started, it is tried again",
                    extra={"worker": worker.number, "error": str(exc), "pause_seconds": pause},
                )
                continue
            worker.started, worker.due, worker.is_first = now, None, False
            log.info("worker process started", extra={"worker": worker.number, "pid": process.pid})

    def _start(self, worker: _WorkerProcess, alive: int) -> subprocess.Popen[bytes]:
        begun, begins = os.pipe()
        passed = {"--parent-fd": alive, "--begun-fd": begins}
        if self._listeners:
            passed["--health-fd"] = self._listeners[worker.number - 1].fileno()
        os.set_blocking(begun, False)
        try:
            # A session of its own, so that Ctrl-C in the terminal reaches workers only through the
            # supervisor: to a worker a second signal means "stop at once".
            process = subprocess.Popen(  # noqa: S603  # our own command, from the caller
                [*self.command, *(text for one in passed.items() for text in map(str, one))],
                pass_fds=tuple(passed.values()),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            os.close(begun)
            raise
        finally:
            os.close(begins)
        worker.begun = begun
        return process

    def _collect(self) -> None:
        now = self._clock.monotonic()
        for worker in self._workers:
            if worker.process is None or (code := worker.process.poll()) is None:
                continue
            pid, worker.process = worker.process.pid, None
            has_begun = _has_begun(worker)
            if self._stops:
                # One that has not begun may be ended by the signal itself.
                if code and has_begun and not self._killed:
                    log.error(
                        "worker process failed while it stopped",
                        extra={"worker": worker.number, "pid": pid, "how": _how(code)},
                    )
                    self._failed = True
                continue
            if code in CONFIG_EXIT_CODES and not has_begun:
                log.error(
                    "worker process cannot run as configured", extra={"worker": worker.number, "code": code}
                )
                self._config_exit_code = code
                self._stop()
                continue
            if now - worker.started >= HEALTHY_SECONDS:
                worker.pause = FIRST_PAUSE
            pause = worker.postpone(now)
            log.warning(
                "worker process died, it is replaced",
                extra={"worker": worker.number, "pid": pid, "how": _how(code), "pause_seconds": pause},
            )

    def _stop(self) -> None:
        self._stops += 1
        log.info("stopping", extra={"at_once": self._stops > 1})
        # In floats, because the longest grace is the longest timedelta.
        grace = 0.0 if self._stops > 1 else self._grace.total_seconds()
        kill_at = self._clock.monotonic() + grace + SLACK.total_seconds()
        # A further signal can only shorten the wait, however many come.
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        for worker in self._workers:
            if worker.process is not None:
                with suppress(ProcessLookupError):
                    worker.process.send_signal(signal.SIGTERM if self._stops == 1 else signal.SIGINT)

    def _kill_late(self) -> None:
        if self._killed or self._kill_at is None or self._clock.monotonic() < self._kill_at:
            return
        for worker in self._workers:
            if worker.process is not None:
                log.warning("worker process did not end, it is killed", extra={"worker": worker.number})
                self._killed = True
                worker.process.kill()


def _has_begun(worker: _WorkerProcess) -> bool:
    """Say whether a process that has ended had begun to work."""
    descriptor, worker.begun = worker.begun, None
    if descriptor is None:
        return False
    try:
        return bool(os.read(descriptor, 1))
    except BlockingIOError:  # a child of it has inherited the other end
        return False
    finally:
        os.close(descriptor)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def stop_with_parent(descriptor: int, stop: Callable[[], None]) -> None:
    """Call `stop()` once, in a thread, when the supervisor that passed the open descriptor is gone."""

    def watch() -> None:
        # Nothing is ever written, so the read returns when the last writer is gone.
        while os.read(descriptor, 1):
            pass
        log.warning("the supervisor is gone, stopping")
        stop()

    threading.Thread(target=watch, name="kessel-parent", daemon=True).start()
