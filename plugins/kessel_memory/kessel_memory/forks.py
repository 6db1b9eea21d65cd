"""A fork leaves the child a queue of its own, and empty: what was there is in the parent, and stays there.

The locks are held while the process forks: in the child nobody is left who would let go of one that another
thread held, or who would wake up from a wait.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol

__all__ = ["OPENING", "Forgetful", "begin_anew_after_fork"]


class Forgetful(Protocol):
    """What is kept in memory, under a lock of its own."""

    lock: threading.RLock

    def begin_anew(self) -> None:
        """Begin anew, with nothing; called with the lock held."""


#: Held while a store is opened or closed, and while the process forks.
OPENING: Final = threading.RLock()
_kept: Final[weakref.WeakSet[Forgetful]] = weakref.WeakSet()
#: Those whose locks are held, while the process forks.
_held: Final[list[Forgetful]] = []


def begin_anew_after_fork(kept: Forgetful) -> None:
    """Let something begin anew in a forked child."""
    with OPENING:
        _kept.add(kept)


def _before() -> None:
    OPENING.acquire()
    _held.extend(_kept)
    for kept in _held:
        kept.lock.acquire()


def _after(*, in_child: bool) -> None:
    for kept in _held:
        if in_child:
            kept.begin_anew()
        kept.lock.release()
    _held.clear()
    OPENING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before,
        after_in_parent=lambda: _after(in_child=False),
        after_in_child=lambda: _after(in_child=True),
    )
