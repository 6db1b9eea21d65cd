"""How a process that ran jobs ends: in bounded time, whatever threads and children its handlers left behind.

Python waits at its end for threads that are no daemons, those of executors among them. A stopped worker
must not: its jobs are given back, and another worker may already run them (D9, finding A4).
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

from kessel_core.cli.app import say
from kessel_core.runtime.signals import STOP_SIGNALS
from kessel_core.values.logs import get_logger

if TYPE_CHECKING:
    import multiprocessing.process

__all__ = ["abandon", "bound", "watch"]

log = get_logger("kessel.worker")

#: What the ordinary end of Python gets, and then what is done at its exit; in real seconds.
_ORDINARY: Final = 0.4
_EXIT_CALLS: Final = 0.2

_bounded = threading.Event()


def bound() -> None:
    """Let this process end in bounded time once its command has ended."""
    _bounded.set()


def abandon(error: Exception) -> NoReturn:
    """End the process at once, with the exit code 1: nothing that it has open can be closed without harm."""
    with suppress(Exception):
        say(f"error: {error}", err=True)
    os._exit(1)


def watch(code: int) -> None:
    """End the process soon, if Python does not; called last, and without effect unless `bound` was called.

    Args:
        code: The exit code.
    """
    if _bounded.is_set():
        # There is nothing left that a signal could make quicker; it would only change the exit code.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        _flush(drop=True)
        threading.Thread(target=_end, args=(code,), name="kessel-end", daemon=True).start()


def _end(code: int) -> None:
    time.sleep(_ORDINARY)  # the machine's own time: no job waits any more
    try:
        names, children = _threads(), _children()
        if names:
            log.warning("ending beside threads that handlers left behind: %s", ", ".join(names))
        for child in children:
            log.warning("ending a process that a handler left behind: %s", child.pid)
            with suppress(Exception):
                child.terminate()
        last = threading.Thread(target=_exit_calls, daemon=True)
        last.start()
        last.join(_EXIT_CALLS)
    finally:
        os._exit(code)


def _exit_calls() -> None:
    """Do what Python does at its exit, as far as others have asked for it."""
    with suppress(BaseException):
        atexit._run_exitfuncs()
    _flush()


def _flush(*, drop: bool = False) -> None:
    """Flush the standard streams; Python would end with 120 for one that a job broke, so drop that one."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except Exception:
            if drop:
                setattr(sys, name, None)


def _threads() -> list[str]:
    """Return the names of threads that are not kessel's own; Python waits for executors' daemons, too."""
    return sorted(
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.name.startswith("kessel-")
    )


def _children() -> list[multiprocessing.process.BaseProcess]:
    """Return the children of `multiprocessing`, if anybody has used it."""
    module = sys.modules.get("multiprocessing")
    return list(module.active_children()) if module is not None else []
