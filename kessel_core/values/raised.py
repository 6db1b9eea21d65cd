"""Tells what an exception from other people's code is: its type, its message, and where it was raised.

What such code was given may be an address with a password, which its message then repeats.
"""

from __future__ import annotations

import threading
import traceback
from pathlib import Path
from typing import Final

from kessel_core.values.secrets import without_secrets

__all__ = ["is_interrupt", "place_of", "raised", "said"]

#: Frames that are skipped: the machinery of imports, and kessel itself.
_MACHINERY: Final = ("<frozen importlib", "<frozen runpy")
_OWN: Final = str(Path(__file__).parents[1])


def is_interrupt(exc: BaseException) -> bool:
    """Whether it is the user's Ctrl-C, which comes in the main thread only; in others it is an error."""
    return isinstance(exc, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def said(exc: BaseException) -> str:
    """Return `Type: text` without secrets; never raises an `Exception`."""
    try:
        # `str` of a syntax error would repeat the place.
        text = without_secrets(exc.msg if isinstance(exc, SyntaxError) else str(exc))
    except Exception:
        text = "(its text cannot be read)"
    return f"{type(exc).__name__}: {text}".removesuffix(": ")


def raised(exc: BaseException) -> str:
    """Return `Type: text (file:line)` without secrets; never raises an `Exception`."""
    place = place_of(exc)
    return f"{said(exc)} ({place})" if place else said(exc)


def place_of(exc: BaseException) -> str:
    """Return `file:line` of the innermost frame outside of kessel and imports, or an empty text."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return f"{exc.filename}:{exc.lineno}"
    place = ""
    for frame, line in traceback.walk_tb(exc.__traceback__):
        name = frame.f_code.co_filename
        is_import = name.startswith(_MACHINERY) or "importlib" in Path(name).parts
        if not is_import and not name.startswith(_OWN):
            place = f"{name}:{line}"
    return place
