"""What operators do with the jobs of a store. Everything is called with the store's lock held."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import timedelta
from itertools import islice
from typing import Final

from kessel_core.contract import JobState, QueueStats, StoredJob, UnknownJob
from kessel_memory.queue import Job, MemoryQueue, first_entries
from kessel_memory.store import Store

__all__ = ["counts", "delete", "in_state", "kick", "listing", "names", "pause", "purge", "shown"]

#: Seconds of a thousand years: a longer pause could not be counted from now as a date.
_LONGEST_PAUSE: Final = 31_557_600_000.0


def names(store: Store) -> list[str]:
    """Return the names of the queues that hold jobs, are consumed or are paused, sorted."""
    store.catch_up()
    return sorted(queue.name for queue in store.queues.values() if not queue.is_idle)


def counts(store: Store, name: str) -> QueueStats:
    """Count the jobs of a queue; as quick for a million jobs as for one."""
    store.catch_up()
    queue = store.queues.get(name)
    if queue is None:
        return QueueStats(queue=name)
    rest = None
    if queue.paused_until is not None:
        rest = timedelta(seconds=queue.paused_until - store.clock.monotonic())
    return QueueStats(
        queue=name,
        ready=queue.ready_count,
        delayed=queue.delayed_count,
        reserved=len(queue.reserved),
        buried=len(queue.buried),
        paused=rest,
        oldest_ready=_oldest_ready(store, queue),
    )


def _oldest_ready(store: Store, queue: MemoryQueue) -> timedelta | None:
    job = next(first_entries(queue.ready, 1), None)
    if job is None:
        return None
    since = max(job.enqueued_at, getattr(job, "due", job.enqueued_at))  # it may never have been delayed
    return max(store.clock.now() - since, timedelta(0))


def listing(store: Store, name: str, state: JobState, limit: int) -> list[StoredJob]:
    """Show the jobs of a queue that are in a state; reserved ones by the end of their lease."""
    return [_stored(store, job, state) for job in in_state(store, name, state, limit)]


def in_state(store: Store, name: str, state: JobState, limit: int) -> Iterable[Job]:
    """Return the jobs of a queue that are in a state, next one first."""
    store.catch_up()
    queue = store.queues.get(name)
    if queue is None:
        return ()
    jobs: Iterable[Job]
    match state:
        case JobState.READY:
            jobs = first_entries(queue.ready, limit)
        case JobState.DELAYED:
            jobs = first_entries(queue.delayed, limit)
        case JobState.RESERVED:
            jobs = queue.reserved.values()
        case JobState.BURIED:
            jobs = queue.buried.values()
    return islice(jobs, max(0, limit))


def shown(store: Store, job: Job, name: str, state: JobState) -> StoredJob | None:
    """Show a job that was in a state; None if it is not any more."""
    store.catch_up()
    if job.state is not state or job.queue.name != name:
        return None
    return _stored(store, job, state)


def find(store: Store, job_id: str) -> StoredJob | None:
    """Return the job with an id."""
    store.catch_up()
    job = store.jobs.get(job_id)
    if job is None or job.state is None:
        return None
    return _stored(store, job, job.state)


def _stored(store: Store, job: Job, state: JobState) -> StoredJob:
    due = reason = message = buried_at = None
    if state is JobState.DELAYED:
        due = job.due
    elif state is JobState.RESERVED:
        due = store.clock.now() + timedelta(seconds=job.deadline - store.clock.monotonic())
    elif state is JobState.BURIED:
        reason, message, buried_at = job.burial.reason, job.burial.message, job.burial.at
    return StoredJob(
        id=job.message.id,
        queue=job.queue.name,
        state=state,
        body=job.message.body,
        priority=job.message.priority,
        attempt=job.attempt,
        snoozes=job.snoozes,
        enqueued_at=job.enqueued_at,
        due=due,
        reason=reason,
        message=message,
        buried_at=buried_at,
    )


def kick(store: Store, name: str, job_id: str) -> None:
    """Make a buried job ready again.

    Raises:
        UnknownJob: No buried job of that id is in the queue.
    """
    store.catch_up()
    job = _job(store, name, job_id)
    if job.state is not JobState.BURIED:
        raise UnknownJob(job_id, name)
    del job.queue.buried[job_id], job.burial
    job.attempt = 0
    job.kicks += 1
    store.make_ready(job)


def delete(store: Store, name: str, job_id: str) -> None:
    """Remove a job that nobody has reserved.

    Raises:
        UnknownJob: No such job is in the queue, or it is reserved.
    """
    store.catch_up()
    job = _job(store, name, job_id)
    queue = job.queue
    match job.state:
        case JobState.RESERVED:
            raise UnknownJob(job_id, name)
        case JobState.BURIED:
            del queue.buried[job_id]
        case JobState.READY:
            queue.dead_ready += 1
        case _:
            queue.dead_delayed += 1
    store.forget(job)
    queue.clear_dead()


def _job(store: Store, name: str, job_id: str) -> Job:
    job = store.jobs.get(job_id)
    if job is None or job.queue.name != name:
        raise UnknownJob(job_id, name)
    return job


def purge(store: Store, name: str) -> int:
    """Remove all jobs of a queue that nobody has reserved; return how many."""
    store.catch_up()
    queue = store.queues.get(name)
    if queue is None:
        return 0
    count = 0
    for job in queue.unreserved():
        store.forget(job)
        count += 1
    queue.ready, queue.delayed, queue.buried = [], [], OrderedDict()
    queue.dead_ready = queue.dead_delayed = 0
    return count


def pause(store: Store, name: str, duration: timedelta) -> None:
    """Deliver nothing from a queue for a while; zero resumes."""
    store.catch_up()
    if duration > timedelta(0):
        queue = store.queue(name)
        queue.paused_until = store.clock.monotonic() + min(duration.total_seconds(), _LONGEST_PAUSE)
        if queue.paused_until < store.next_mono:
            store.set_bound(queue.paused_until)
    elif name in store.queues:
        store.queues[name].paused_until = None
        store.wake_all(store.queues[name])
