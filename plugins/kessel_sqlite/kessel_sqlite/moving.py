"""Moving waiting jobs from one adapter to another, so that an interruption loses none of them.

Each job is stored in the target first and removed from the source after it: in between it is in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import attrs

from kessel_core.adapter import NO_PAUSE, JobState, Message, QueueAdapter, StoredJob
from kessel_core.errors import AdapterError, CapabilityMissing, DecodeError, EnqueueUnknown, UnknownJob
from kessel_core.jobs import DEFAULT_PRIORITY
from kessel_core.wire import decode

__all__ = ["Moved", "move_jobs"]

_BATCH: Final = 200
#: The source delivers nothing meanwhile; short, so that a mover that was killed does not stop it for long.
_PAUSE: Final = timedelta(seconds=60)


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
        AdapterError: One of the two failed; `moved` says what was done.
    """
    for capability in ("peek", "delete"):
        if not getattr(source.capabilities, capability):
            raise CapabilityMissing(capability, source.name, "jobs cannot be moved away from it")
    if target.capabilities.delay_granularity is None and any(
        source.peek(queue, JobState.DELAYED) for queue in queues
    ):
        raise CapabilityMissing("delay_granularity", target.name, "delayed jobs cannot be moved to it")
    for queue in queues:
        was_paused = source.stats(queue).paused
        try:
            for state in (JobState.READY, JobState.DELAYED):
                _move_state(source, target, queue, state, moved, progress)
        finally:
            if source.capabilities.pause:
                source.pause(queue, was_paused or NO_PAUSE)


def _move_state(
    source: QueueAdapter,
    target: QueueAdapter,
    queue: str,
    state: JobState,
    moved: Moved,
    progress: Callable[[Moved], None],
) -> None:
    while True:
        if source.capabilities.pause:
            source.pause(queue, _PAUSE)
        jobs = source.peek(queue, state, _BATCH)
        if not jobs:
            return
        for job in jobs:
            message = _message(job)
            moved.current = message.id
            try:
                target.enqueue(message)
            except EnqueueUnknown:
                moved.double.append(message.id)
                moved.current = None
                raise
            except AdapterError:
                moved.current = None
                raise
            try:
                source.delete(queue, job.id)
            except UnknownJob:
                moved.double.append(message.id)
            else:
                moved.count += 1
            moved.current = None
            progress(moved)


def _message(job: StoredJob) -> Message:
    try:
        request = decode(job.body)
    except DecodeError:
        # Not ours to judge: it goes along as it is, and a worker will bury it (S13).
        return Message(job.id, job.queue, job.body, _or_default(job.priority), job.due)
    priority = request.priority if job.priority is None else job.priority
    return Message(request.id or job.id, job.queue, job.body, priority, job.due, request.not_after)


def _or_default(priority: int | None) -> int:
    return DEFAULT_PRIORITY if priority is None else priority
