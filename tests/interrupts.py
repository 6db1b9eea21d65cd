"""An exception of a signal handler, raised wherever Python would run the handler."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["Alarm", "interrupted_at"]


class Alarm(Exception):
    """What a signal handler raises."""


def interrupted_at(number: int, call: Callable[[], object], kind: type[BaseException] = Alarm) -> bool:
    """Call, and raise where Python would run a signal handler for the so-manieth time; say whether it did.

    That is when a function begins or ends, and after each call of a C function.
    """
    seen = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal seen
        if frame.f_code.co_flags & inspect.CO_GENERATOR or frame.f_code.co_name == "__del__":
            return  # what is thrown away could not raise
        if event != "c_call" and "kessel" in frame.f_code.co_filename:
            seen += 1
            if seen == number:
                sys.setprofile(None)
                raise kind

    sys.setprofile(profile)
    try:
        with suppress(kind):
            call()
    finally:
        sys.setprofile(None)
    return seen >= number
