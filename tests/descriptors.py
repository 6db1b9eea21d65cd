"""Descriptors of this process."""

from __future__ import annotations

import os

__all__ = ["is_open", "numbers"]


def is_open(number: int) -> bool:
    """Whether a descriptor has that number."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def numbers() -> set[int]:
    """The numbers of all that are open."""
    return {int(name) for name in os.listdir("/dev/fd") if is_open(int(name))}  # noqa: PTH208
