"""The numbers of the standard streams, which no file or connection of kessel may get."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

__all__ = ["keep_standard_numbers", "opened_above"]

_T = TypeVar("_T")

_STANDARD = range(3)
#: How often to open anew; a second time is hardly ever needed.
_TRIES: Final = 5


def keep_standard_numbers() -> None:
    """Open what is closed of the numbers 0 to 2 onto nothing; to be called before a descriptor is opened.

    A job may close the standard streams. What is opened next gets such a number, and then whoever prints
    writes into it, and whoever redirects a stream takes it away. Thread-safe; raises nothing: where no
    descriptor is left, what is opened next says so.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                # The lowest number that is free: this one, unless another thread was faster.
                if (null := os.open(os.devnull, os.O_RDWR)) not in _STANDARD:
                    os.close(null)


def opened_above(make: Callable[[], _T], drop: Callable[[_T], object]) -> _T:
    """Open something of which no descriptor has a standard number. Thread-safe.

    A job may close the standard streams. What is opened next gets such a number, and then whoever prints
    writes into it, and whoever redirects a stream takes it away. So what is closed is opened onto nothing
    before, and looked at afterwards: a file that another thread had open for a moment may have had such a
    number, and have given it back just then.

    Args:
        make: Opens it; raises what it likes. May be called several times.
        drop: Closes what was made.
    """
    for _ in range(_TRIES):
        keep_standard_numbers()
        before = _standard()
        made = make()
        if _standard() == before:
            return made
        drop(made)
    return make()


def _standard() -> list[tuple[int, int] | None]:
    """Return which files have the standard numbers; None: there is none."""
    found: list[tuple[int, int] | None] = []
    for number in _STANDARD:
        try:
            status = os.fstat(number)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino))
    return found
