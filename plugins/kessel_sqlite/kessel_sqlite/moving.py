"""Moving waiting jobs from one adapter to another, so that an interruption loses none of them.

Each job is stored in the target first and removed from the source after it: in between it is in both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import attrs

from kessel_core import ConfigError, DecodeError, SystemClock
from kessel_core.contract import (
    NO_PAUSE,
    AdapterError,
    CapabilityMissing,
    EnqueueUnknown,
    JobState,
    Message,
    QueueAdapter,
    StoredJob,
    UnknownJob,
)
from kessel_core.model.ids import new_id
from kessel_core.model.job import DEFAULT_PRIORITY
from kessel_core.wire.requests import decode

__all__ = ["Moved", "move_jobs"]

_BATCH: Final = 200
#: Seconds that the source delivers nothing, renewed for every batch; short, so that a mover that was killed
#: does not stop it for long.
_PAUSE: Final = (30.0, 60.0)
#: By how much two looks at one pause may differ: the clock of a server, and its whole seconds.
_SAME_PAUSE: Final = timedelta(seconds=2)


@attrs.define
class Moved:
    """What a move has done so far; right at any moment, also when it was interrupted."""

    #: How many are in the target, and not in the source any more.
    count: int = 0
    #: The job that is being moved: if the move was interrupted, it may be in both.
    current: str | None = None
    #: Jobs that are, or may be, in both: a worker of the source was faster, or the target did not answer.
    double: list[str] = attrs.field(factory=list)


def move_jobs(
    source: QueueAdapter,
    target: QueueAdapter,
    queues: Sequence[str],
    moved: Moved,
    progress: Callable[[Moved], None] = lambda _: None,
) -> None:
    """Move the ready and the delayed jobs of some queues, with their ids, priorities, delays, expirations.

    Reserved and buried jobs stay, and attempts start anew. Where the source can be paused it delivers nothing
    meanwhile. Stops at the first job that the target does not take: that one and the rest stay.

    Args:
        source: Where the jobs are; must declare `peek` and `delete`.
        target: Where they go.
        queues: Names of queues; they keep their names.
        moved: Is kept up to date.
        progress: Called after each job.

    Raises:
        CapabilityMissing: One of the two cannot do what the move needs; nothing was moved.
        ConfigError: The two are one: each job would be removed as its own copy. Found out where both can
            be paused.
        AdapterError: One of the two failed; `moved` says what was done.
    """
    for capability in ("peek", "delete"):
        if not getattr(source.capabilities, capability):
            raise CapabilityMissing(capability, source.name, "jobs cannot be moved away from it")
    if target.capabilities.delay_granularity is None and any(
        source.peek(queue, JobState.DELAYED) for queue in queues
    ):
        raise CapabilityMissing("delay_granularity", target.name, "delayed jobs cannot be moved to it")
    # Of a length that nobody else has just chosen, so that the target shows it only if it is the source.
    pause = timedelta(seconds=random.uniform(*_PAUSE))  # noqa: S311
    for queue in queues:
        was_paused = source.stats(queue).paused
        try:
            if source.capabilities.pause:
                source.pause(queue, pause)
                if target.capabilities.pause and _are_one(source, target, queue):
                    raise ConfigError("source and target are the same: nothing is moved")
            for state in (JobState.READY, JobState.DELAYED):
                _move_state(source, target, queue, state, pause, moved, progress)
        finally:
            if source.capabilities.pause:
                source.pause(queue, was_paused or NO_PAUSE)


def _are_one(source: QueueAdapter, target: QueueAdapter, queue: str) -> bool:
    """Say whether a pause of the source is seen in the target."""
    here, there = source.stats(queue).paused, target.stats(queue).paused
    return here is not None and there is not None and abs(here - there) <= _SAME_PAUSE


def _move_state(
    source: QueueAdapter,
    target: QueueAdapter,
    queue: str,
    state: JobState,
    pause: timedelta,
    moved: Moved,
    progress: Callable[[Moved], None],
) -> None:
    while True:
        if source.capabilities.pause:
            source.pause(queue, pause)
        jobs = source.peek(queue, state, _BATCH)
        if not jobs:
            return
        for job in jobs:
            message = _message(job, is_id_unique=source.capabilities.dedupe)
            moved.current = job.id
            try:
                target.enqueue(message)
            except EnqueueUnknown:
                moved.double.append(job.id)
                moved.current = None
                raise
            except AdapterError:
                moved.current = None
                raise
            try:
                source.delete(queue, job.id)
            except UnknownJob:
                moved.double.append(job.id)
            else:
                moved.count += 1
            moved.current = None
            progress(moved)


def _message(job: StoredJob, *, is_id_unique: bool) -> Message:
    # What has no id of its own was named by its source, perhaps by a number that another server gives as
    # well; the target would take the second for the first, and store nothing.
    own_id = job.id if is_id_unique else new_id(SystemClock().now())
    try:
        request = decode(job.body)
    except DecodeError:
        # Not ours to judge: it goes along as it is, and a worker will bury it (S13).
        return Message(own_id, job.queue, job.body, _or_default(job.priority), job.due)
    priority = request.priority if job.priority is None else job.priority
    return Message(request.id or own_id, job.queue, job.body, priority, job.due, request.not_after)


def _or_default(priority: int | None) -> int:
    return DEFAULT_PRIORITY if priority is None else priority
