"""How much of the side tubes is known: when each was last read, and whether others have written since.

Reading one costs a command for each of its records, so whoever looks at many jobs must not read it for each
of them. Here is what saves that; what was read is in `sidetubes`. All times are of the process's
monotonic clock.
"""

from __future__ import annotations

from typing import Final

from kessel_beanstalk.commands import JobStats, TubeStats
from kessel_beanstalk.records import fingerprint

__all__ = ["Readings"]

_MOST_SEEN: Final = 200_000


class Readings:
    """The last readings. For any thread: single steps on dicts, and each loss costs one more reading."""

    def __init__(self) -> None:
        self.forget()
        #: Records that this process has written, or was about to.
        self._written: dict[str, int] = {}

    def forget(self) -> None:
        """Forget all: what was read is not complete any more."""
        self._began: dict[str, float] = {}
        #: Records that others had written by the last reading: the tube's total without our own.
        self._of_others: dict[str, int] = {}
        #: Buried jobs that were looked at: body, kicks, and when.
        self._seen: dict[int, tuple[str, int, float]] = {}

    def noted(self, tube: str, began: float, told: TubeStats | None) -> None:
        """Note a reading that is complete, and what the server said of the tube at its end."""
        self._began[tube] = began
        if told is None or told.ready:  # it is gone, or there are new ones
            self._of_others.pop(tube, None)
        else:
            self._of_others[tube] = told.total - self._written.get(tube, 0)

    def writes(self, tube: str) -> None:
        """Note that this process is about to write a record."""
        self._written[tube] = self._written.get(tube, 0) + 1

    def age(self, tube: str, now: float) -> float:
        """Return how long ago the last reading began, in seconds."""
        return now - self._began.get(tube, -1e9)

    def is_complete(self, tube: str, told: TubeStats | None) -> bool:
        """Whether what was read, and written since by this process, is all that there is."""
        return told is None or self._of_others.get(tube) == told.total - self._written.get(tube, 0)

    def is_later(self, tube: str, told_at: float | None) -> bool:
        """Whether the last reading began after that time."""
        return told_at is not None and self._began.get(tube, -1e9) > told_at

    def saw_buried(self, stats: JobStats, body: bytes, at: float) -> None:
        """Note that a job was buried at that time."""
        if len(self._seen) >= _MOST_SEEN:
            self._seen = {}
        if self.buried_by(stats, body) is None:
            self._seen[stats.server_id] = (fingerprint(body), stats.kicks, at)

    def buried_by(self, stats: JobStats, body: bytes) -> float | None:
        """Return when this burial was first seen, or None; a reading that began later knows its record."""
        mark, kicks, at = self._seen.get(stats.server_id, ("", 0, 0.0))
        return at if (mark, kicks) == (fingerprint(body), stats.kicks) else None
