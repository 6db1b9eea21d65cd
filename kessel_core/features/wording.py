"""Words of an explanation: moments from now, workers, numbers, and lists that name a few."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from kessel_core.model.worker import WorkerEntry
from kessel_core.values.moments import span_text, when

__all__ = ["FEW", "ago", "at", "counted", "few", "first_line", "named"]

#: How many names a text holds.
FEW: Final = 3


def ago(moment: datetime, now: datetime) -> str:
    """Say how far a moment is from now, such as `3 h ago` or `in 5 min`."""
    return f"{span_text(now - moment)} ago" if moment <= now else f"in {span_text(moment - now)}"


def at(moment: datetime, now: datetime) -> str:
    """Write a moment, and how far it is from now."""
    return f"{when(moment)} ({ago(moment, now)})"


def named(worker: WorkerEntry) -> str:
    """Return how a worker is called."""
    return f"{worker.host}:{worker.pid}"


def few(names: Iterable[str]) -> str:
    """List the first names, and say how many more there are."""
    found = list(names)
    more = len(found) - FEW
    return ", ".join(found[:FEW]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, what: str) -> str:
    """Write a number of things, such as `1 job` or `5,000 jobs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def first_line(text: str) -> str:
    """Return the first line of a text, cut."""
    return text.partition("\n")[0][:200]
