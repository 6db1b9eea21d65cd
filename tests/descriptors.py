"""Descriptors of this process."""

from __future__ import annotations

import os

__all__ = ["is_open"]


def is_open(number: int) -> bool:
    """Whether a descriptor has that number."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
