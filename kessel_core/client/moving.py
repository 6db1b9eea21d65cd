"""Moves waiting jobs from one adapter to another; an interruption loses none of them.

Each job is stored in the target before it is removed from the source, so in between it is in both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import attrs

from kessel_core.clock import SystemClock
from kessel_core.contract.adapter import QueueAdapter, need
from kessel_core.contract.facets import Browse, Delete, Pause
from kessel_core.contract.messages import Message
from kessel_core.contract.operations import StoredJob
from kessel_core.errors import (
    AdapterError,
    CapabilityMissing,
    ConfigError,
    DecodeError,
    EnqueueUnknown,
    IdHeld,
    UnknownJob,
)
from kessel_core.model.ids import new_id
from kessel_core.model.job import DEFAULT_PRIORITY
from kessel_core.model.settlement import NO_PAUSE
from kessel_core.model.states import JobState
from kessel_core.wire.requests import decode

__all__ = ["Moved", "move_jobs"]

_BATCH: Final = 200
#: How long the source is paused, in seconds; renewed for every batch, and short, so that a move that was
#: killed does not stop the queue for long.
_PAUSE: Final = (30.0, 60.0)
#: Largest difference between two readings of one pause: servers have their own clock, and whole seconds.
_SAME_PAUSE: Final = timedelta(seconds=2)


@attrs.define
class Moved:
    """What a move has done so far; correct at any moment, even if it is interrupted."""

    #: How many jobs are in the target, and no longer in the source.
    count: int = 0
    #: The job that is being moved; if the move is interrupted, it may be in both.
    current: str | None = None
    #: Jobs that may run twice: a worker of the source was faster, or the target did not reply.
    double: list[str] = attrs.field(factory=list)


def move_jobs(
    source: QueueAdapter,
    target: QueueAdapter,
    queues: Sequence[str],
    moved: Moved,
    progress: Callable[[Moved], None] = lambda _: None,
) -> None:
    """Move the ready and delayed jobs of some queues, with their ids, priorities, delays and expirations.

    Reserved and buried jobs stay, and attempts are counted from zero again. If the source can be paused, it
    delivers nothing during the move. The first job that the target refuses ends the move; it and the rest
    stay.

    Args:
        source: Where the jobs are; must have the facets `Browse` and `Delete`.
        target: Where they go.
        queues: Names of queues; they keep their names.
        moved: Updated during the move.
        progress: Called after each job.

    Raises:
        CapabilityMissing: One of the two cannot do what the move needs; nothing was moved.
        ConfigError: Both are the same queue, so each job would be removed as its own copy. Detected if
            both can be paused.
        AdapterError: One of the two failed; `moved` says what was done before.
    """
    browse = need(source, Browse, "jobs cannot be moved away from it")
    removal = need(source, Delete, "jobs cannot be moved away from it")
    if target.capabilities.delay_granularity is None and any(
        browse.peek(queue, JobState.DELAYED) for queue in queues
    ):
        raise CapabilityMissing("delay_granularity", target.name, "delayed jobs cannot be moved to it")
    move = _Move(source, target, browse, removal, moved, progress)
    # A random length, so that the target shows the same pause only if it is the source itself.
    pause = timedelta(seconds=random.uniform(*_PAUSE))  # noqa: S311 - no secret
    for queue in queues:
        with _paused(source, queue, pause) as keep_paused:
            if _are_one(source, target, queue):
                raise ConfigError("source and target are the same: nothing is moved")
            for state in (JobState.READY, JobState.DELAYED):
                move.all_of(queue, state, keep_paused)


@contextmanager
def _paused(source: QueueAdapter, queue: str, pause: timedelta) -> Iterator[Callable[[], None]]:
    """Pause a queue if the source can; yields a function that renews the pause."""
    facet = source.facet(Pause)
    if facet is None:
        yield lambda: None
        return
    before = source.stats(queue).paused
    try:
        facet.pause(queue, pause)
        yield lambda: facet.pause(queue, pause)
    finally:
        facet.pause(queue, before or NO_PAUSE)


def _are_one(source: QueueAdapter, target: QueueAdapter, queue: str) -> bool:
    """Whether the pause of the source shows in the target; False unless both can be paused."""
    if source.facet(Pause) is None or target.facet(Pause) is None:
        return False
    here, there = source.stats(queue).paused, target.stats(queue).paused
    return here is not None and there is not None and abs(here - there) <= _SAME_PAUSE


@attrs.frozen
class _Move:
    """One move: both sides, the facets that it uses, and its progress."""

    source: QueueAdapter
    target: QueueAdapter
    browse: Browse
    removal: Delete
    moved: Moved
    progress: Callable[[Moved], None]

    def all_of(self, queue: str, state: JobState, keep_paused: Callable[[], None]) -> None:
        """Move all jobs of a queue that are in this state."""
        while True:
            keep_paused()
            jobs = self.browse.peek(queue, state, _BATCH)
            if not jobs:
                return
            for job in jobs:
                self._one(queue, job)

    def _one(self, queue: str, job: StoredJob) -> None:
        moved = self.moved
        message = _message(job, is_id_unique=self.source.capabilities.dedupe)
        moved.current = job.id
        try:
            self.target.enqueue(message)
        except IdHeld:
            pass  # an interrupted move has stored it
        except AdapterError as exc:
            if isinstance(exc, EnqueueUnknown):
                moved.double.append(job.id)
            moved.current = None
            raise
        try:
            self.removal.delete(queue, job.id)
        except UnknownJob:
            moved.double.append(job.id)
        else:
            moved.count += 1
        moved.current = None
        self.progress(moved)


def _message(job: StoredJob, *, is_id_unique: bool) -> Message:
    # The source has named a job without an id, perhaps by a number that another server uses as well; the
    # target would take the second such job for a duplicate, and store nothing.
    own_id = job.id if is_id_unique else new_id(SystemClock().now())
    try:
        request = decode(job.body)
    except DecodeError:
        # Not for a move to decide: it is moved as it is, and a worker will bury it (S13).
        return Message(own_id, job.queue, job.body, _or_default(job.priority), job.due)
    priority = request.priority if job.priority is None else job.priority
    return Message(request.id or own_id, job.queue, job.body, priority, job.due, request.expires_at)


def _or_default(priority: int | None) -> int:
    return DEFAULT_PRIORITY if priority is None else priority
