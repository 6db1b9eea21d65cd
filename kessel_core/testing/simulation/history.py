"""What happened in a simulation, line by line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kessel_core.testing.simulation.strands import Strands

__all__ = ["Event", "History", "Violation"]


class Event(NamedTuple):
    """One line of the history."""

    #: Its number.
    number: int
    #: Virtual seconds since the start.
    at: float
    #: The thread, with the number of its process; processes are numbered as they start.
    who: str
    #: What happened; in capitals what was made to go wrong, with the number of its place.
    what: str
    #: The id of the job; "": not of one job.
    job: str = ""
    #: More, for people.
    detail: str = ""

    def __str__(self) -> str:
        first = f"{self.number:>5} {self.at:>13.6f} s  {self.who:<19}"
        return " ".join(part for part in (first, self.what, self.job, self.detail) if part)


class Violation(AssertionError):
    """A promise was broken.

    Attributes:
        clause: Which: the number of a clause, `liveness`, or `unexpected error`.
        text: What happened instead.
        jobs: The ids of the jobs that show it.
    """

    def __init__(self, clause: str, text: str, jobs: Iterable[str] = ()) -> None:
        self.clause = clause
        self.text = text
        self.jobs = tuple(jobs)
        super().__init__(clause, text, self.jobs)  # as they are, so that it can be pickled

    def __str__(self) -> str:
        return f"{self.clause}: {self.text}"


class History:
    """All events, in order; written by whoever has the turn.

    Args:
        strands: The clock, and who has the turn.
    """

    def __init__(self, strands: Strands) -> None:
        self._strands = strands
        self.events: list[Event] = []

    def note(self, what: str, job: str = "", detail: str = "") -> None:
        """Write a line."""
        me = self._strands.me
        at = self._strands.passed.total_seconds()
        self.events.append(Event(len(self.events) + 1, at, me.name if me else "?", what, job, detail))

    def digest(self) -> str:
        """Return a digest of all of it."""
        text = "\n".join(map(str, self.events))
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]

    def of(self, jobs: Iterable[str]) -> Iterator[Event]:
        """Yield the events of some jobs, and what happened to whole processes meanwhile."""
        wanted = {"", *jobs}
        return (event for event in self.events if event.job in wanted)
