"""Values that describe a worker: its identity, its health, its entry. The worker itself is in `runtime`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import attrs

from kessel_core.model.readonly import EMPTY

__all__ = ["SLOT_THREAD", "BusyJob", "Health", "WorkerEntry", "WorkerInfo", "WorkerState"]

#: The names of the threads of slots begin so; the number of the slot follows.
SLOT_THREAD: Final = "kessel-slot-"


@attrs.frozen(kw_only=True)
class Health:
    """The health of a worker; `ok` is False when somebody should look."""

    #: No slot is dead or disconnected, and none idles for long while jobs wait.
    ok: bool
    #: It has started and takes jobs; False before that, and once a stop was asked for.
    running: bool
    #: How many jobs it can run at the same time.
    slots: int
    #: Slots that are running a job.
    busy: int
    #: Slots that cannot reach the queue at the moment.
    disconnected: int
    #: Slots whose thread has ended although the worker runs.
    dead: int
    #: Running time of the longest running job, in seconds.
    longest: float
    #: Whether it is alive: False when restarting its process would help (S38).
    live: bool
    #: Whether it takes jobs: False while the queue cannot be reached, before it has begun, and once it stops.
    ready: bool
    #: Why `live` or `ready` is False, in words; empty while both are True.
    reasons: tuple[str, ...]
    #: When one of its slots took a job last; aware; None: none did yet. Not compared: it is measured by two
    #: clocks, so it may differ by microseconds from look to look.
    last_reserved: datetime | None = attrs.field(eq=False)
    #: Since when the slot that has waited longest has had no job; as `last_reserved`; None: no slot waits.
    idle_since: datetime | None = attrs.field(eq=False)
    #: Why `ok` is False, in words; "" while it is True.
    reason: str
    #: Number of attempts by how they ended: `success`, `failed`, `failed-transient`, `snoozed`, `lost`.
    counts: Mapping[str, int]
    #: Number of attempts whose lease had ended before they could be settled, by queue; counted as `lost`.
    leases_lost: Mapping[str, int] = EMPTY
    #: Number of attempts that the queue could not be told the end of, by queue; counted as `lost`.
    settles_failed: Mapping[str, int] = EMPTY


@attrs.frozen(kw_only=True)
class WorkerInfo:
    """A worker as plugins see it."""

    #: Names of the queues that it serves.
    queues: tuple[str, ...]
    #: How many jobs it can run at the same time, one or more.
    slots: int
    #: How long running jobs may take after a stop, zero or more; at a stop, what was asked for then.
    grace: timedelta
    #: Its process id.
    pid: int
    #: The name of its machine.
    host: str
    #: Returns the worker's health; cheap, thread-safe.
    health: Callable[[], Health] = attrs.field(eq=False, repr=False)


# --- what a worker writes about itself --------------------------------------------------------------


class WorkerState(StrEnum):
    """What a worker does, as its entry says."""

    #: It takes jobs.
    RUNNING = "running"
    #: It takes no more jobs, and waits for those that run.
    STOPPING = "stopping"


@attrs.frozen(kw_only=True)
class BusyJob:
    """A job that a worker runs. Thread-safe."""

    #: Its id; None if other software stored it without one.
    id: str | None
    #: Its type; None if its body cannot be read.
    type: str | None
    #: The queue that it came from.
    queue: str
    #: When the worker took it; aware.
    since: datetime


@attrs.frozen(kw_only=True)
class WorkerEntry:
    """What a worker wrote about itself into the store (S27). Thread-safe.

    It is written every ten seconds and lives for thirty: a worker that died is gone after that.
    """

    #: Its own; each start of a worker has another one.
    id: str
    #: The name of its machine.
    host: str
    #: Its process id there.
    pid: int
    #: The version of kessel-core.
    version: str
    #: What it does.
    state: WorkerState
    #: Names of the queues that it serves.
    queues: tuple[str, ...]
    #: The job types that it has handlers for, sorted.
    types: tuple[str, ...]
    #: How many jobs it can run at the same time, one or more.
    slots: int
    #: How many it runs.
    busy: int
    #: How many of its slots cannot reach the queue.
    disconnected: int = 0
    #: These jobs, those that run longest first; at most a hundred.
    jobs: tuple[BusyJob, ...] = ()
    #: Number of attempts by how they ended: `success`, `failed`, `failed-transient`, `snoozed`, `lost`.
    counts: Mapping[str, int] = EMPTY
    #: When it was started; aware, by the clock of its machine, as all times here.
    started_at: datetime
    #: When it wrote this.
    seen_at: datetime

    def is_silent(self, now: datetime) -> bool:
        """Whether it has missed a time to write, so that it may be dead, or cannot reach the store."""
        return now - self.seen_at > 1.5 * ENTRY_EVERY


#: How often a worker writes its entry.
ENTRY_EVERY: Final = timedelta(seconds=10)
#: How long an entry lives.
ENTRY_LIVES: Final = timedelta(seconds=30)
