"""Notices when a handler has closed descriptors that are not its own (fault 45).

Who closes by number, as `os.closerange` does, closes what databases and connections use, and whatever is
opened next gets these numbers. A database that went on would write its pages into somebody else's file.
So a worker looks before it touches the queue after a handler, and then touches nothing any more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final

from kessel_core.values.streams import opened_above

__all__ = ["LOST", "UNWATCHED", "Descriptors"]

#: What to say of it.
LOST: Final = (
    "a job closed or replaced descriptors that are not its own, as os.closerange does; "
    "databases and connections of this process cannot be used any more"
)

#: Flags that hardly anybody opens a file with: they tell the own descriptor from one that took its number.
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)


class Descriptors:
    """A descriptor that nobody needs: while it is there, nobody has closed all that he found. Thread-safe.

    Args:
        on_loss: Called once, in the thread that notices the loss.
    """

    def __init__(self, on_loss: Callable[[], None]) -> None:
        self._on_loss = on_loss
        self._noticing = threading.Lock()
        #: Its number; None: nobody watches.
        self._number: int | None = None
        self._flags = 0
        #: Whether descriptors were closed or replaced.
        self.are_lost = False

    def open(self) -> None:
        """Begin to watch; without effect where the system has no such descriptors, or none left."""
        try:
            from fcntl import F_GETFL, fcntl

            number = opened_above(lambda: os.open(os.devnull, _FLAGS), os.close)
        except (ImportError, OSError):
            return
        self._fcntl, self._get = fcntl, F_GETFL
        self._flags = fcntl(number, F_GETFL)
        self._number = number

    def close(self) -> None:
        """Stop watching."""
        number = self._number
        if number is not None and self.check():
            self._number = None
            os.close(number)

    def check(self) -> bool:
        """Return whether all is as it was; it takes a fraction of a microsecond."""
        number = self._number
        if number is None:
            return True
        try:
            if self._fcntl(number, self._get) == self._flags:
                return True
        except OSError:
            pass
        if self._number is None:  # closed on purpose, just now
            return True
        if self._noticing.acquire(blocking=False):
            self.are_lost = True
            self._on_loss()
        return False


#: For jobs outside of a worker: nobody watches, and all is as it was.
UNWATCHED: Final = Descriptors(lambda: None)
