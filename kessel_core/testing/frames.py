"""Where the threads of this process are."""

from __future__ import annotations

import gc
import sys
from types import FrameType

__all__ = ["innermost_frames"]


def innermost_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread that runs Python, by the thread's ident; for any thread.

    CPython 3.11 before 3.11.9 holds a lock of its own while it looks, and garbage that is collected just
    then may need that lock, as a `threading.local` does: all threads would stand still for ever
    (https://github.com/python/cpython/issues/106883). So nothing is collected meanwhile.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()  # noqa: TID251  # the one place
    finally:
        if collects:
            gc.enable()
