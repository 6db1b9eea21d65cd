"""Where a handler failed: the last frames of the user's code. Names of files and functions only.

Never a line of source and never a local variable: either may hold a secret.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from functools import cache
from pathlib import Path
from typing import Final

import pluggy

__all__ = ["frames_of"]

#: Frames that are kept, and characters of each.
_MOST: Final = 3
_WIDTH: Final = 120
#: What lies between the worker and the user's code.
_OWN: Final = (str(Path(__file__).parents[1]), str(Path(pluggy.__file__).parent))


def _libraries() -> tuple[str, ...]:
    try:
        return _all_libraries()
    except OSError:  # it is read from a file, and the process may have no descriptor left
        return (str(Path(os.__file__).parent),)


@cache
def _all_libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def frames_of(exc: BaseException) -> str:
    """Return the last frames of the user's code, one a line, the innermost last; "" if there is none.

    Those of libraries are left out, unless nothing else is there.
    """
    found = [
        (code.co_filename, line, code.co_name)
        for frame, line in traceback.walk_tb(exc.__traceback__)
        if not (code := frame.f_code).co_filename.startswith(_OWN)
    ]
    users = [one for one in found if not one[0].startswith((*_libraries(), "<frozen"))]
    return "\n".join(
        f"  {_short(name)}:{line}, in {function}"[:_WIDTH]
        for name, line, function in (users or found)[-_MOST:]
    )


def _short(name: str) -> str:
    """Return a file as its module is found: without the folder that the path of modules begins with."""
    roots = [root for root in sys.path if root and name.startswith(root.rstrip("/") + "/")]
    shown = name[len(max(roots, key=len).rstrip("/")) + 1 :] if roots else name
    return shown if len(shown) <= _WIDTH // 2 else "..." + shown[-_WIDTH // 2 :]
