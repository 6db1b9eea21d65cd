"""Waiting for other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(is_true: Callable[[], object], *, seconds: float = 20.0, pause: float = 0.001) -> None:
    """Wait until something holds, for a bounded time; it is asked again after each pause."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(pause)
