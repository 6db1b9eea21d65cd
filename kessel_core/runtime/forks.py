"""Forked children: none of them goes on as a copy of a slot (fault 45, finding A2).

A handler may fork. What comes out of the handler in the child would settle the parent's job and take the
next ones; so the child ends there, and the parent alone settles.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final, NoReturn

from kessel_core.values.logs import get_logger

__all__ = ["generation", "leave"]

log = get_logger("kessel.worker")

#: How many forks lie between this process and the one that imported this module. Compare it with what it
#: was before a call: it is cheaper than the process id.
generation = 0

#: A log handler of the application may hang in a child; the child ends all the same. Real seconds.
_LONGEST: Final = 2.0


def leave(what: str, error: BaseException | None = None) -> NoReturn:
    """End this process, which is a forked child that came out of a handler: at once, settling nothing.

    Args:
        what: What it came out of, for the one line of log.
        error: What was raised there; decides the exit code as Python would.
    """
    code = _code(error)
    threading.Thread(target=_end_late, args=(code,), daemon=True).start()
    try:
        is_news = error is not None and not isinstance(error, SystemExit)
        log.warning(
            "%s forked, and the child came out of it: the child ends here, its parent settles the job",
            what,
            exc_info=error if is_news else None,
        )
    finally:
        os._exit(code)


def _code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


def _end_late(code: int) -> None:
    time.sleep(_LONGEST)
    os._exit(code)


def _after_fork_in_child() -> None:
    global generation  # a process has one, and it is read on every job
    generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
