"""Tells when a file is written to, by any process of this machine, without looking at it again and again.

Linux tells it (`inotify(7)`), and costs the writer nothing that could be measured. The standard library
cannot ask for it, so the two calls go through `ctypes`. Elsewhere, and where the system has none left
(`fs.inotify.max_user_instances`), there is no such notice: `watch` says so, and its user polls.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable
from typing import Any, Final

from kessel_core.contract import importing, opened_above

__all__ = ["Writes", "watch"]

#: `IN_MODIFY` of <sys/inotify.h>; the only event that is asked for.
_MODIFY: Final = 0x2
#: More than the events that can wait at once without being the same one again.
_ENOUGH: Final = 4096


class Writes:
    """The notices of one file. `wait` is for one thread; `wake` and `close` are for any.

    Args:
        path: The file; it need not exist yet.
        add: Asks for the notices of a file: `inotify_add_watch`, which returns a negative number on failure.
        notices: The descriptor that they come from.
    """

    def __init__(self, path: str, add: Callable[[int, bytes, int], int], notices: int) -> None:
        self._path = os.fsencode(path)
        self._add = add
        self._notices = notices
        self._identity = _identity(notices)
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._notices, select.POLLIN)
        self._poll.register(self._alarm, select.POLLIN)
        #: The number of the file that is asked for; another file under the same name has another one.
        self._watched = -1

    def wait(self, seconds: float) -> bool:
        """Wait until the file is written to, `wake` is called, or the time is over.

        What was written before the first call is not told, nor what was before another file took the name:
        then this returns True at once.

        Returns:
            Whether to look at the file; False: the time is over.

        Raises:
            OSError: The file cannot be watched, or somebody has closed the descriptors of this process.
        """
        # Each time, because it costs little: the file may have been replaced by another.
        watched = self._add(self._notices, self._path, _MODIFY)
        if watched < 0:
            raise OSError(errno.ENOENT, "not watched", os.fsdecode(self._path))
        if watched != self._watched:
            self._watched = watched
            return True
        told = self._poll.poll(seconds * 1000)
        if _identity(self._notices) != self._identity:
            # A job closed what is not its own (fault 45), and another file has the number by now.
            raise OSError(errno.EBADF, "the descriptor was closed")
        for number, _ in told:
            os.read(number, _ENOUGH)
        return bool(told)

    def wake(self) -> None:
        """End a wait, now or the next one."""
        os.eventfd_write(self._alarm, 1)

    def close(self) -> None:
        """Give the descriptors back; in a forked child as well, whose parent keeps its own."""
        if _identity(self._notices) == self._identity:
            os.close(self._notices)
            os.close(self._alarm)


def _identity(number: int) -> tuple[int, int] | None:
    """Return what tells notices from whatever else may have their number; None: nothing has it."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def watch(path: str) -> Writes | None:
    """Ask for the notices of a file.

    Returns:
        The notices; None where the system has none.
    """
    if sys.platform != "linux":
        return None
    try:
        with importing():
            import ctypes

        library: Any = ctypes.CDLL(None)
        begin, add = library.inotify_init1, library.inotify_add_watch
        add.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
    except (ImportError, OSError, AttributeError):
        return None

    def begun() -> int:
        if (notices := begin(os.O_NONBLOCK | os.O_CLOEXEC)) < 0:
            raise OSError("no more notices for this user")
        return int(notices)

    try:
        notices = opened_above(begun, os.close)
    except OSError:
        return None
    try:
        return Writes(path, add, notices)
    except OSError:
        os.close(notices)
        return None
