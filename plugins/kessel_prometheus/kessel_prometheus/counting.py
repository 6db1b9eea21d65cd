"""The counters and histograms of one worker process. A job costs some additions under one lock.

Labels come from names that this application knows: what a job calls itself is the choice of whoever writes to
the queue, and each new label would be kept for ever, here and in Prometheus.
"""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from kessel_core import AdapterError, EnqueueUnknown, Job, JobContext, JobResult, Status

__all__ = ["BUCKETS", "OTHER", "Attempts", "Counts", "Distribution", "Labels"]

#: The label of everything that has no label of its own.
OTHER: Final = "_other"
#: Most queues that get a label because this process requests jobs there.
_MOST_QUEUES: Final = 100
#: Upper bounds in seconds: from a quick handler to an hour.
BUCKETS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    900.0,
    3600.0,
)

#: The values of the labels, in the order of their names.
Labels = tuple[str, ...]


@attrs.define
class Distribution:
    """How many values fell into each bucket, the last one being without bound, and their sum."""

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BUCKETS) + 1))
    sum: float = 0.0

    def add(self, seconds: float) -> None:
        """Add a value; below zero counts as zero: clocks of two machines differ."""
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def copy(self) -> Distribution:
        """Return one that does not change any more."""
        return Distribution([*self.counts], self.sum)


@attrs.define(eq=False)
class Attempts:
    """The attempts at jobs of one queue and type."""

    queue: str
    type: str
    #: How many succeeded: an attribute of its own, because most do.
    successes: int = 0
    #: How many ended otherwise, by status and reason.
    others: Counter[Labels] = attrs.field(factory=Counter)
    #: How long handlers ran.
    runs: Distribution = attrs.field(factory=Distribution)

    def by_status(self) -> Iterator[tuple[Labels, int]]:
        """Yield the numbers of attempts by queue, type, status, reason."""
        if self.successes:
            yield (self.queue, self.type, Status.SUCCESS.value, ""), self.successes
        for (status, reason), number in self.others.items():
            yield (self.queue, self.type, status, reason), number


class Counts:
    """What has been counted since the start. Thread-safe.

    Args:
        queues: Those that the worker serves.
        types: Those that have handlers.
    """

    def __init__(self, queues: Iterable[str], types: Iterable[str]) -> None:
        self._queues = {queue: queue for queue in queues}
        self._types = {one: one for one in types}
        self._requested = dict(self._queues)
        # Of a kind that its own thread may take again: a signal handler that requests may come in between.
        self._lock = threading.RLock()
        #: By queue, type, outcome.
        self._requests: Counter[Labels] = Counter()
        self._attempts: dict[Labels, Attempts] = {}
        #: By queue.
        self._waits: dict[Labels, Distribution] = {(queue,): Distribution() for queue in self._queues}
        _all.add(self)

    # --- counting ---------------------------------------------------------------------------------------

    def requested(self, jobs: Sequence[Job], outcomes: Sequence[AdapterError | None]) -> None:
        """Count requests by what became of them."""
        with self._lock:
            for job, error in zip(jobs, outcomes, strict=True):
                queue = self._requested.get(job.queue)
                if queue is None:
                    queue = job.queue if len(self._requested) < _MOST_QUEUES else OTHER
                    if queue is not OTHER:
                        self._requested[queue] = queue
                self._requests[queue, self.type_of(job.type), _outcome(error)] += 1

    def started(self, job: JobContext) -> None:
        """Measure the time from when the job was due to its start."""
        request = job.request
        due = request.not_before or request.requested_at
        if due is None or job.started_at is None:  # other software has stored it
            return
        seconds = (job.started_at - due).total_seconds()
        labels = (self._queues.get(job.queue, OTHER),)
        with self._lock:
            waits = self._waits.get(labels)
            if waits is None:
                waits = self._waits[labels] = Distribution()
            waits.add(seconds)

    def settled(self, result: JobResult) -> None:
        """Count an attempt, and measure the handler if there was one."""
        request = result.request
        if request is None:  # its body could not be read
            labels = (OTHER, OTHER)
        else:
            labels = (self._queues.get(request.queue, OTHER), self._types.get(request.type, OTHER))
        begun, ended = result.started_at, result.finished_at
        with self._lock:
            attempts = self._attempts.get(labels)
            if attempts is None:
                attempts = self._attempts[labels] = Attempts(*labels)
            if result.status is Status.SUCCESS:
                attempts.successes += 1
            else:
                attempts.others[str(result.status), str(result.reason or "")] += 1
            if begun is not None and ended is not None:
                attempts.runs.add((ended - begun).total_seconds())

    # --- what was counted ----------------------------------------------------------------------------------

    def type_of(self, kind: str | None) -> str:
        """Return the label of a type."""
        return OTHER if kind is None else self._types.get(kind, OTHER)

    def requests(self) -> dict[Labels, int]:
        """Return the numbers of requests by queue, type, outcome."""
        with self._lock:
            return dict(self._requests)

    def attempts(self) -> dict[Labels, int]:
        """Return the numbers of attempts by queue, type, status, reason."""
        with self._lock:
            return dict(pair for one in self._attempts.values() for pair in one.by_status())

    def runs(self) -> dict[Labels, Distribution]:
        """Return how long handlers ran, by queue, type; of types that no handler ran of there is nothing."""
        with self._lock:
            return {labels: one.runs.copy() for labels, one in self._attempts.items() if any(one.runs.counts)}

    def waits(self) -> dict[Labels, Distribution]:
        """Return how long jobs waited, by queue."""
        with self._lock:
            return {labels: one.copy() for labels, one in self._waits.items()}

    def _unlock_in_child(self) -> None:
        # Another thread may have held it when a handler forked.
        self._lock = threading.RLock()


def _outcome(error: AdapterError | None) -> str:
    if error is None:
        return "stored"
    return "unknown" if isinstance(error, EnqueueUnknown) else "rejected"


_all: weakref.WeakSet[Counts] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for counts in list(_all):
        counts._unlock_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
