"""Values that describe a worker: its identity and its health. The worker itself is in `runtime`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import attrs

__all__ = ["SLOT_THREAD", "Health", "WorkerInfo"]

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
    #: Why `ok` is False, in words; "" while it is True.
    reason: str
    #: Number of attempts by how they ended: `success`, `failed`, `failed-transient`, `snoozed`, `lost`.
    counts: dict[str, int]


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
