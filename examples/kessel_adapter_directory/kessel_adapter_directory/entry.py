"""The state of a job, as the name of its file says it.

The content of a file never changes; a change of state is one `rename`, which is atomic. So a process that is
killed leaves the old state or the new one. Every delivery gives the file a name that it never had before and
never gets again: who still holds an old name holds nothing.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs
from kessel_core.contract import JobState

__all__ = ["AT_ONCE", "Entry", "digest_of", "moment", "tick_of"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The unit of all times in names.
_TICK: Final = timedelta(microseconds=1)
#: The last moment that a datetime can be.
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _TICK
_SUFFIX: Final = ".job"


#: Of a job without a delay: ready, also when the wall clock is set back.
AT_ONCE: Final = 0


def tick_of(moment: datetime) -> int:
    """Return a moment in microseconds since 1970."""
    return (moment - _EPOCH) // _TICK


def moment(tick: int) -> datetime:
    """Return the moment of so many microseconds since 1970; at most the last that there is."""
    return _EPOCH + min(tick, _LAST) * _TICK


def digest_of(job_id: str) -> str:
    """Return what stands for an id in names: an id may hold any character, a name may not."""
    return hashlib.sha256(job_id.encode()).hexdigest()[:32]


@attrs.frozen
class Entry:
    """One job, as its file is named; names sort in the order of delivery."""

    priority: int
    #: The place in the order of enqueueing, unique for ever.
    number: int
    #: `ready` until it is reserved or buried, also while it waits for its delay.
    stored: JobState = attrs.field(converter=JobState)
    #: When it is ready (`AT_ONCE` without a delay), when its lease ends, or when it was buried.
    tick: int
    #: Deliveries that count as attempts.
    attempts: int
    #: Deliveries that do not.
    snoozes: int
    #: All deliveries; tells one from the next, which the attempts do not, as a snooze takes one back.
    delivery: int
    #: Stands for the id.
    digest: str

    @property
    def name(self) -> str:
        """The name of the file."""
        parts = (self.stored, self.tick, self.attempts, self.snoozes, self.delivery, self.digest)
        return f"{self.priority:010}_{self.number:016}_{'_'.join(map(str, parts))}{_SUFFIX}"

    @classmethod
    def named(cls, name: str) -> Entry | None:
        """Read the name of a file; None if it is not that of a job."""
        if not name.endswith(_SUFFIX):
            return None
        priority, number, stored, tick, attempts, snoozes, delivery, digest = name[: -len(_SUFFIX)].split("_")
        numbers = (int(tick), int(attempts), int(snoozes), int(delivery))
        return cls(int(priority), int(number), JobState(stored), *numbers, digest)

    def state(self, now: int) -> JobState:
        """Return the state at a time: delays and leases end by themselves."""
        if self.stored is JobState.BURIED:
            return JobState.BURIED
        if self.tick <= now:
            return JobState.READY
        return JobState.RESERVED if self.stored is JobState.RESERVED else JobState.DELAYED
