"""What `kessel doctor` passes to an adapter and to plugins, and the findings that it gets back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

import attrs

from kessel_core.contract.operations import QueueStats, StoredJob, ready_for
from kessel_core.model.states import JobState

__all__ = ["DoctorContext", "Finding", "Level", "ShowsJobs", "jobs_findings", "lease_findings"]

#: A lease below this is lost by a worker that stalls for a moment.
_SHORT_LEASE: Final = timedelta(seconds=5)
#: A job that is ready for so long is one that nobody takes.
_STUCK: Final = timedelta(days=1)


class Level(StrEnum):
    """The severity of a finding of `kessel doctor`."""

    #: All is well.
    OK = "ok"
    #: Works, but somebody should look.
    WARNING = "warning"
    #: Does not work.
    ERROR = "error"


@attrs.frozen
class Finding:
    """One line of `kessel doctor`: what was checked, what was found, what to do."""

    #: Its severity.
    level: Level
    #: What was checked, in two or three words.
    subject: str
    #: What was found.
    detail: str
    #: What to do; empty when all is well.
    advice: str = ""


@attrs.frozen(kw_only=True)
class DoctorContext:
    """What `QueueAdapter.doctor` and the hook `kessel_doctor` may compare with what they find."""

    #: Queues that the configuration names.
    queues: tuple[str, ...]
    #: Types that this application has handlers for.
    types: frozenset[str]
    #: How long a stopping worker waits for its running jobs.
    grace: timedelta


class ShowsJobs(Protocol):
    """What `jobs_findings` asks: an adapter that counts and shows its jobs."""

    def stats(self, queue: str) -> QueueStats:
        """As `QueueAdapter.stats`."""
        ...

    def peek(self, queue: str, state: JobState, limit: int = 1) -> Sequence[StoredJob]:
        """As `Browse.peek`."""
        ...


def lease_findings(lease: timedelta) -> Iterator[Finding]:
    """Yield what is to be said of the length of a lease; nothing if it is long enough."""
    if lease < _SHORT_LEASE:
        yield Finding(
            Level.WARNING,
            "lease",
            f"only {lease.total_seconds():g} s: a worker that stalls so long loses its jobs",
            "choose a lease of some ten seconds",
        )


def jobs_findings(operations: ShowsJobs, queues: Iterable[str], now: datetime) -> Iterator[Finding]:
    """Yield a line for each queue: how many jobs it has, whether some are buried, or wait in vain.

    Args:
        operations: The adapter; must say when a job was enqueued, else no job waits in vain.
        queues: Names of queues.
        now: The time by the clock that says when jobs were enqueued.

    Raises:
        AdapterError: The adapter cannot tell.
    """
    for queue in queues:
        stats = operations.stats(queue)
        text = (
            f"{queue}: {stats.ready} ready, {stats.delayed} delayed, {stats.reserved} reserved,"
            f" {stats.buried} buried"
        )
        first = operations.peek(queue, JobState.READY)
        age = ready_for(first[0] if first else None, now) or timedelta(0)
        if stats.buried:
            yield Finding(Level.WARNING, "jobs", text, f"look at them: kessel buried --queue {queue}")
        elif age > _STUCK:
            what = f"{text}; the next one has waited for {age.days} days"
            yield Finding(Level.WARNING, "jobs", what, "does a worker serve this queue?")
        else:
            yield Finding(Level.OK, "jobs", text)
