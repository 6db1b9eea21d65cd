"""The numbers of the standard streams, which no file or connection of kessel may get."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["keep_standard_numbers"]

_STANDARD = range(3)


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
