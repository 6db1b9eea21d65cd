"""How long the watcher of a file rests between two looks: never long after a write, not often for others."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

__all__ = ["POLL_SECONDS", "Pace", "Rest", "Seen"]

#: Interval between two looks where there is no notice of writes, or none of them is for us, in seconds.
POLL_SECONDS: Final = 0.015
#: The shortest interval between two commits that are looked at.
_BETWEEN: Final = 0.001
#: The first pause after a notice that came before its commit; each pause is twice the one before.
_FIRST: Final = 0.0001
#: A notice so long after the last one is of another commit, not of another part of the same.
_APART: Final = 0.005
#: A commit is looked for so long after the last notice.
_SETTLING: Final = 0.5
#: Then there is a look after so many seconds even without notice: for a slower commit, or a lost notice.
_SURE: Final = 1.0
#: So many commits in a row that nobody waits for are looked at at once.
_FOREIGN: Final = 20


class Seen(Enum):
    """What one look saw."""

    #: No commit since the last look.
    NOTHING = "nothing"
    #: A commit, but nothing that anybody waits for.
    CHANGED = "changed"
    #: Something that somebody waits for.
    WANTED = "wanted"


class Rest(NamedTuple):
    """A pause between two looks."""

    #: How long it is at most.
    seconds: float
    #: Whether notice of a write ends it.
    is_cut_short: bool


class Pace:
    """The pauses of one watcher; for one thread.

    The notice of a write comes before its commit can be seen: the log is written first, then perhaps synced,
    then the commit is published. So a look that sees nothing is repeated, soon at first.
    """

    def __init__(self) -> None:
        self._foreign = 0
        self._next, self._settled = _FIRST, 0.0

    def noticed(self) -> None:
        """Expect a commit from now on: there was notice of a write."""
        self._next = _FIRST if self._settled >= _APART else _BETWEEN
        self._settled = 0.0

    def after(self, seen: Seen) -> Rest:
        """Return the pause until the next look."""
        if seen is not Seen.NOTHING:
            # Notice of the next commit may have come already, before this look.
            self._next, self._settled = _FIRST, 0.0
            self._foreign = 0 if seen is Seen.WANTED else self._foreign + 1
            return Rest(_BETWEEN if self._foreign < _FOREIGN else POLL_SECONDS, is_cut_short=False)
        if self._settled >= _SETTLING:
            self._foreign = 0
            return Rest(_SURE, is_cut_short=True)
        pause = self._next
        self._next = min(2 * pause, POLL_SECONDS)
        self._settled += pause
        return Rest(pause, is_cut_short=pause > _BETWEEN)
