"""The system refuses one step of what an adapter does with its files, as on a disk that is full or fails."""

from __future__ import annotations

import errno
import io
import os
import sys
from types import FrameType
from typing import Any, Final, Self

from kessel_conformance.effects import MOVES, SYNCS, WRITES

__all__ = ["SystemRefuses"]

#: What the system says to each kind of step.
_REFUSALS: Final = {
    "open": errno.EMFILE,
    **dict.fromkeys(WRITES | MOVES, errno.ENOSPC),
    **dict.fromkeys(SYNCS | {"unlink", "remove", "rmdir"}, errno.EIO),
}
#: Where the functions of the system are, whose names others have, too.
_SYSTEM: Final = frozenset({os.rename.__module__, open.__module__})


class SystemRefuses:
    """Counts the steps that this thread makes with files, and lets the system refuse one of them.

    A step is a call of the system from Python; what a library in C does by itself is not seen. Used as a
    context manager, by one thread.

    Args:
        number: Which step is refused, from 1; 0: none.

    Attributes:
        steps: How many there were so far.
        refused: The name of the one that was refused; empty: none was.
    """

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self.steps = 0
        self.refused = ""

    def __enter__(self) -> Self:
        self._before = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "c_call" or argument.__name__ not in _REFUSALS or not _is_of_files(argument):
            return
        self.steps += 1
        if self.steps == self._number:
            self.refused = argument.__name__
            why = _REFUSALS[self.refused]
            raise OSError(why, os.strerror(why))  # in place of the call


def _is_of_files(function: Any) -> bool:
    """Whether a function of this name is one of the system, or of an open file; not of text or of a log."""
    its = getattr(function, "__self__", None)
    if isinstance(its, io.IOBase):
        return not isinstance(its, (io.StringIO, io.BytesIO)) and its not in (sys.stdout, sys.stderr)
    return getattr(function, "__module__", None) in _SYSTEM
