"""The standard streams as the command finds them: closed ones, and terminals that know few characters."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

__all__ = ["prepare_streams"]


def prepare_streams() -> None:
    """Open what is closed onto nothing, and let no character be an error.

    A file that is opened later would get the number of a closed stream, and be written to as one.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115  # a number, and it stays open
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
