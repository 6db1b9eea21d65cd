"""What is said of a worker: who it is, and how it is. Values; the worker itself stays in its room."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import attrs

__all__ = ["Health", "WorkerInfo"]


@attrs.frozen(kw_only=True)
class Health:
    """What a worker is doing; `ok` is False when somebody should look."""

    #: No slot is dead or disconnected.
    ok: bool
    #: It was started and takes jobs; False before, and from a stop on.
    running: bool
    #: How many jobs it can run at the same time.
    slots: int
    #: Slots that run a job now.
    busy: int
    #: Slots that cannot reach the queue now.
    disconnected: int
    #: Slots whose thread has ended although the worker runs.
    dead: int
    #: Seconds that the longest running job has been running.
    longest: float
    #: Attempts by how they ended: `success`, `failed`, `failed-transient`, `lost`.
    counts: dict[str, int]


@attrs.frozen(kw_only=True)
class WorkerInfo:
    """A worker as plugins get to know it."""

    #: Names of the queues that it serves.
    queues: tuple[str, ...]
    #: How many jobs it can run at the same time, one or more.
    slots: int
    #: How long running jobs may take after a stop, zero or more; at a stop, what it was told.
    grace: timedelta
    #: Its process on its machine.
    pid: int
    #: The name of its machine.
    host: str
    #: Asks the worker how it is; cheap, for any thread.
    health: Callable[[], Health] = attrs.field(eq=False, repr=False)
