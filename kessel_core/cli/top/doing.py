"""Does to queues and jobs what a key asked for, one thing at a time, and says what became of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kessel_core.cli.noting import Note, noted
from kessel_core.cli.output import jobs_text
from kessel_core.contract.adapter import need
from kessel_core.contract.facets import Buried, Delete, Pause
from kessel_core.errors import UnknownJob
from kessel_core.features.finding import buried_jobs
from kessel_core.features.overview import Action
from kessel_core.features.waiting import FOR_EVER
from kessel_core.model.history import EventKind
from kessel_core.model.settlement import NO_PAUSE

if TYPE_CHECKING:
    from kessel_core.cli.top.keys import Do
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.operations import StoredJob

__all__ = ["done"]


def done(adapter: QueueAdapter, do: Do, note: Note, is_stopped: Callable[[], bool] = lambda: False) -> str:
    """Do it, and return what was done, in words.

    Args:
        adapter: Where.
        do: What.
        note: Takes note of what was done to a job.
        is_stopped: Whether somebody wants no more of many jobs to be touched.

    Raises:
        CapabilityMissing: The adapter cannot.
        AdapterError: It cannot be reached, or refuses.
    """
    match do.action:
        case Action.PAUSE:
            need(adapter, Pause).pause(do.queue, FOR_EVER)
            return f"paused queue {do.queue} until resumed"
        case Action.RESUME:
            need(adapter, Pause).pause(do.queue, NO_PAUSE)
            return f"resumed queue {do.queue}"
        case Action.KICK if do.job is None:
            return _kicked_all(adapter, do.queue, note, is_stopped)
        case Action.KICK if do.job is not None:
            kick = noted(need(adapter, Buried).kick_shown, EventKind.KICKED, note)
            return _one(kick, do.job, "kicked")
        case Action.DELETE if do.job is not None:
            return _deleted(adapter, do.job, note)
        case Action.PURGE:
            return f"removed {jobs_text(adapter.purge(do.queue))} of queue {do.queue}"
    raise AssertionError(f"no key asks for {do}")


def _one(operation: Callable[[StoredJob], None], job: StoredJob, word: str) -> str:
    try:
        operation(job)
    except UnknownJob:
        return f"not done: job {job.id} is no longer buried in queue {job.queue}"
    return f"{word} job {job.id}"


def _deleted(adapter: QueueAdapter, job: StoredJob, note: Note) -> str:
    """Remove a buried job; one that was kicked since it was shown is somebody's work again, and stays."""
    facet = need(adapter, Delete)
    if all(other.id != job.id for other in buried_jobs(adapter, (job.queue,))):
        return f"not done: job {job.id} is no longer buried in queue {job.queue}"
    return _one(noted(facet.delete_shown, EventKind.DELETED, note), job, "deleted")


def _kicked_all(adapter: QueueAdapter, queue: str, note: Note, is_stopped: Callable[[], bool]) -> str:
    facet = need(adapter, Buried)
    count = 0
    for job in buried_jobs(adapter, (queue,)):
        if is_stopped():
            return f"stopped: kicked {jobs_text(count, 'buried job')} of queue {queue}"
        at = datetime.now(UTC)
        try:
            facet.kick_shown(job)
        except UnknownJob:  # somebody else was faster
            continue
        note(job.id, EventKind.KICKED, at)
        count += 1
    return f"kicked {jobs_text(count, 'buried job')} of queue {queue}"
