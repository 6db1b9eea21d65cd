"""Python's recursion limit is that of the process: a job that lowers it would take its whole worker along."""

from __future__ import annotations

import sys
from typing import Final

from kessel_core.values.logs import get_logger

__all__ = ["LEAST", "restore"]

log = get_logger("kessel.worker")

#: A lower limit is set back after a handler: what was there at the start, or Python's own.
LEAST: Final = min(sys.getrecursionlimit(), 1000)


def restore(what: str) -> None:
    """Set the limit back, and say so.

    Args:
        what: What has lowered it, for the log.
    """
    found = sys.getrecursionlimit()
    sys.setrecursionlimit(LEAST)
    log.warning("%s left a recursion limit of %d, too low for its worker; it is %d again", what, found, LEAST)
