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
from collections.abc import Iterable
from typing import Final

import attrs

from kessel_core import Job, JobContext, JobResult

__all__ = ["BUCKETS", "OTHER", "Counts", "Distribution", "Labels"]

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
        self._lock = threading.Lock()
        #: By queue, type.
        self.requests: Counter[Labels] = Counter()
        #: By queue, type, status, reason.
        self.attempts: Counter[Labels] = Counter()
        #: By queue, type, status, reason.
        self.ends: Counter[Labels] = Counter()
        #: By queue.
        self.snoozes: Counter[Labels] = Counter()
        #: By queue.
        self.waits: dict[Labels, Distribution] = {(queue,): Distribution() for queue in self._queues}
        #: By queue, type.
        self.runs: dict[Labels, Distribution] = {}
        _all.add(self)

    def stored(self, request: Job) -> None:
        """Count a request that was stored."""
        queue = self._requested.get(request.queue)
        kind = self._types.get(request.type, OTHER)
        with self._lock:
            if queue is None:
                queue = request.queue if len(self._requested) < _MOST_QUEUES else OTHER
                if queue is not OTHER:
                    self._requested[queue] = queue
            self.requests[queue, kind] += 1

    def started(self, job: JobContext) -> None:
        """Measure the time from when the job was due to its start."""
        request = job.request
        due = request.not_before or request.requested_at
        if due is None or job.started_at is None:  # other software has stored it
            return
        seconds = (job.started_at - due).total_seconds()
        queue = self._queues.get(job.queue, OTHER)
        with self._lock:
            waits = self.waits.get((queue,))
            if waits is None:
                waits = self.waits[queue,] = Distribution()
            waits.add(seconds)

    def settled(self, result: JobResult, *, is_snoozed: bool) -> None:
        """Count an attempt, and measure the handler if there was one."""
        labels = self._labels(result)
        begun, ended = result.started_at, result.finished_at
        with self._lock:
            self.attempts[labels] += 1
            if is_snoozed:
                self.snoozes[labels[:1]] += 1
            if begun is not None and ended is not None:
                runs = self.runs.get(labels[:2])
                if runs is None:
                    runs = self.runs[labels[:2]] = Distribution()
                runs.add((ended - begun).total_seconds())

    def finished(self, result: JobResult) -> None:
        """Count a job that has ended."""
        labels = self._labels(result)
        with self._lock:
            self.ends[labels] += 1

    def type_of(self, kind: str | None) -> str:
        """Return the label of a type."""
        return OTHER if kind is None else self._types.get(kind, OTHER)

    def copied(self) -> Counts:
        """Return what has been counted so far; it does not change any more."""
        copy = Counts((), ())
        with self._lock:
            copy.requests = Counter(self.requests)
            copy.attempts = Counter(self.attempts)
            copy.ends = Counter(self.ends)
            copy.snoozes = Counter(self.snoozes)
            copy.waits = {labels: one.copy() for labels, one in self.waits.items()}
            copy.runs = {labels: one.copy() for labels, one in self.runs.items()}
        return copy

    def _labels(self, result: JobResult) -> Labels:
        request = result.request
        reason = result.reason or ""
        if request is None:  # its body could not be read
            return OTHER, OTHER, str(result.status), str(reason)
        queue = self._queues.get(request.queue, OTHER)
        return queue, self._types.get(request.type, OTHER), str(result.status), str(reason)

    def _unlock_in_child(self) -> None:
        # Another thread may have held it when a handler forked.
        self._lock = threading.Lock()


_all: weakref.WeakSet[Counts] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for counts in list(_all):
        counts._unlock_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
