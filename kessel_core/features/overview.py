"""What a live view shows, as one frozen value: queues, running jobs, last burials, workers.

Every view is drawn from this value, so that no two can differ in what they show; `watching` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

import attrs

from kessel_core.contract.operations import QueueStats, StoredJob
from kessel_core.model.progress import Progress
from kessel_core.model.readonly import EMPTY
from kessel_core.model.worker import BusyJob, WorkerEntry

__all__ = [
    "Action",
    "Away",
    "BurialView",
    "Overview",
    "Part",
    "QueueView",
    "RunningView",
    "Standing",
    "WorkerView",
]

T = TypeVar("T")


class Action(StrEnum):
    """What can be done from a view."""

    PAUSE = "pause"
    RESUME = "resume"
    KICK = "kick"
    DELETE = "delete"
    PURGE = "purge"


class Standing(StrEnum):
    """How a worker is; the first that holds."""

    #: It has missed a time to write its entry.
    SILENT = "silent"
    #: It takes no more jobs.
    STOPPING = "stopping"
    #: Some of its slots cannot reach the queue.
    DISCONNECTED = "disconnected"
    #: All its slots run a job.
    BUSY = "busy"
    #: It takes jobs.
    LIVE = "live"


@attrs.frozen(kw_only=True)
class Away:
    """Why a part of a picture is older than the rest. Thread-safe."""

    #: When it could not be looked at for the first time; aware.
    since: datetime
    #: The error, without secrets.
    why: str


@attrs.frozen(kw_only=True)
class Part(Generic[T]):
    """One part of a picture. Thread-safe."""

    rows: tuple[T, ...] = ()
    #: How many there are beside the rows.
    left_out: int = 0
    #: What cannot be shown, one sentence each, the name of the capability first.
    missing: tuple[str, ...] = ()
    #: Since when the rows are not looked at any more; None: they are of this picture's time.
    away: Away | None = None


@attrs.frozen(kw_only=True)
class QueueView:
    """A queue. Thread-safe."""

    stats: QueueStats
    #: By how many jobs a minute it has grown or shrunk, over the last minute or since the first picture if
    #: that is later; None: the first picture is too young.
    change: float | None = None
    #: How many workers that are not silent serve it; None: not known.
    workers: int | None = None


@attrs.frozen(kw_only=True)
class RunningView:
    """A job that a worker said it runs, up to ten seconds ago. Thread-safe."""

    job: BusyJob
    worker: WorkerEntry
    #: What this attempt reported last; None: nothing.
    progress: Progress | None = None
    #: Whether its worker is silent.
    is_silent: bool = False


@attrs.frozen(kw_only=True)
class BurialView:
    """A buried job. Thread-safe."""

    job: StoredJob
    #: None: its body is no request.
    type: str | None
    ref: str | None = None


@attrs.frozen(kw_only=True)
class WorkerView:
    """A worker. Thread-safe."""

    entry: WorkerEntry
    standing: Standing
    #: Attempts a minute that ended, between two of its entries; None: there is only one yet.
    rate: float | None = None


@attrs.frozen(kw_only=True)
class Overview:
    """All that a view shows. Thread-safe."""

    #: When it was made, by the clock of the process that looked; ages are computed from it.
    at: datetime
    queues: Part[QueueView] = Part()
    running: Part[RunningView] = Part()
    burials: Part[BurialView] = Part()
    workers: Part[WorkerView] = Part()
    #: What cannot be done from here, and why; all other actions can.
    refused: Mapping[str, str] = EMPTY

    def stats(self, queue: str) -> QueueStats | None:
        """Return the counts of a queue; None: it is not shown."""
        return next((one.stats for one in self.queues.rows if one.stats.queue == queue), None)
