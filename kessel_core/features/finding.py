"""Jobs that are looked for in any adapter: by what they hold, or by how their ids begin. Looks only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Final

from kessel_core.contract.adapter import QueueAdapter, need
from kessel_core.contract.facets import Browse, Buried, Find
from kessel_core.contract.operations import StoredJob
from kessel_core.errors import DecodeError
from kessel_core.model.job import Job
from kessel_core.model.states import JobState

__all__ = [
    "ALL",
    "LEAST_START",
    "buried_jobs",
    "decoded",
    "is_start",
    "jobs_named",
    "stored_jobs",
    "waiting_jobs",
]

#: Adapters list at most what they are asked for; this is more than a person looks at.
ALL: Final = 1_000_000
#: Shortest accepted start of an id, in characters.
LEAST_START: Final = 8


def decoded(job: StoredJob) -> Job | None:
    """Decode a stored job; None if its body is not a request."""
    try:
        return job.job()
    except DecodeError:
        return None


def stored_jobs(
    adapter: QueueAdapter,
    queues: Iterable[str],
    states: Iterable[JobState] = tuple(JobState),
    limit: int | None = None,
) -> Iterator[StoredJob]:
    """Yield the jobs of some queues in some states, reading a few at a time where that is possible.

    One that moves meanwhile may be missed.

    Args:
        adapter: Where they are.
        queues: Names of queues.
        states: The states.
        limit: How many jobs are looked at in each queue and state, at most; None: all.

    Raises:
        CapabilityMissing: The adapter does not show its jobs.
        AdapterError: It cannot be asked.
    """
    for queue in queues:
        count = adapter.stats(queue)
        there = [state for state in states if getattr(count, state.value)]
        # A job that moves from one state to the next is met twice; those of the last one meet no other.
        seen: set[str] = set()
        for state in there:
            for job in _in_state(adapter, queue, state, limit):
                if job.id in seen:
                    continue
                if state is not there[-1]:
                    seen.add(job.id)
                yield job


def _in_state(adapter: QueueAdapter, queue: str, state: JobState, limit: int | None) -> Iterable[StoredJob]:
    if state is JobState.BURIED and (facet := adapter.facet(Buried)) is not None:
        return facet.each_buried(queue) if limit is None else facet.buried(queue, limit)
    browse = need(adapter, Browse)
    # With a limit as a listing, because not every adapter can stop in the middle of all.
    return browse.each(queue, state) if limit is None else browse.peek(queue, state, limit)


def buried_jobs(adapter: QueueAdapter, queues: Sequence[str]) -> Iterator[StoredJob]:
    """Yield the buried jobs of some queues, oldest burial first.

    They are read a few at a time where that is possible. What is kicked meanwhile, fails and is buried
    again is not yielded a second time.

    Raises:
        CapabilityMissing: The adapter does not show its buried jobs.
        AdapterError: It cannot be asked.
    """
    facet = need(adapter, Buried)

    def each(queue: str) -> Iterator[StoredJob]:
        # What is buried again stands at the end, behind all that were there before.
        most = adapter.stats(queue).buried if adapter.capabilities.counts else None
        return islice(facet.each_buried(queue), most)

    return merge(*map(each, queues), key=_burial)


def _burial(job: StoredJob) -> float:
    return job.buried_at.timestamp() if job.buried_at is not None else 0.0


def waiting_jobs(adapter: QueueAdapter, queue: str, limit: int) -> list[StoredJob]:
    """Return the next jobs of a queue that are ready, in the order of their delivery.

    Raises:
        CapabilityMissing: The adapter does not show its jobs.
        AdapterError: It cannot be asked.
    """
    return need(adapter, Browse).peek(queue, JobState.READY, limit)


def jobs_named(
    adapter: QueueAdapter, queues: Sequence[str], text: str, limit: int | None = None
) -> tuple[list[StoredJob], list[StoredJob]]:
    """Find jobs by an id, or by how their ids begin.

    Returns:
        Those whose whole id is `text`, of which there may be one in each queue where the adapter does not
        declare `dedupe`; and, if there is none, those whose ids begin so.

    Raises:
        CapabilityMissing: The adapter neither finds nor shows jobs.
        AdapterError: It cannot be asked.
    """
    finding = adapter.facet(Find)
    if finding is not None and adapter.capabilities.dedupe:
        job = finding.find(text)
        if job is not None:
            return ([job] if job.queue in queues else []), []
        if len(text) < LEAST_START:
            return [], []
    whole: list[StoredJob] = []
    begun: list[StoredJob] = []
    for job in stored_jobs(adapter, queues, limit=limit):
        if job.id == text:
            whole.append(job)
        elif is_start(text, job.id):
            begun.append(job)
    return whole, [] if whole else begun


def is_start(text: str, job_id: str) -> bool:
    """Whether somebody who types `text` may mean that job; its id is longer."""
    # A number of the server, such as @1234, is whole or it is another job's.
    return len(text) >= LEAST_START and not text.startswith("@") and job_id.startswith(text)
