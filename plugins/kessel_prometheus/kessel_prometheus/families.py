"""The metrics by name: what a worker process tells, and what is told of the queues when Prometheus asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from kessel_core import Clock, KesselError, Status
from kessel_core.contract import QueueStats
from kessel_core.hooks import PageContext, get_logger
from kessel_prometheus.counting import BUCKETS, Counts, Distribution, Labels

__all__ = ["of_exporter", "of_worker"]

log = get_logger("kessel.prometheus")

_ATTEMPT: Final = ("queue", "type", "status", "reason")
_FINAL: Final = frozenset({Status.SUCCESS.value, Status.FAILED.value})


def of_worker(counts: Counts, context: PageContext, clock: Clock) -> Iterator[Metric]:
    """Return what a worker process has counted, how its slots are, and what its queues hold now."""
    health, attempts = context.health(), counts.attempts()
    # An attempt that succeeds or fails for good is the last one of its job.
    ends = {labels: number for labels, number in attempts.items() if labels[2] in _FINAL}
    snoozes: Counter[Labels] = Counter()
    for (queue, _, status, _), number in attempts.items():
        if status == Status.SNOOZED:
            snoozes[(queue,)] += number
    yield _counter("kessel_requests", "Requests of jobs.", ("queue", "type", "outcome"), counts.requests())
    yield _counter("kessel_attempts", "Attempts at jobs that were settled.", _ATTEMPT, attempts)
    yield _counter("kessel_jobs_finished", "Jobs that succeeded or failed for good.", _ATTEMPT, ends)
    yield _counter("kessel_snoozes", "Deliveries that were put off until later.", ("queue",), snoozes)
    for name, text, lost in (
        ("kessel_leases_lost", "Attempts whose lease had ended too early.", health.leases_lost),
        ("kessel_settles_failed", "Attempts that the queue could not be told of.", health.settles_failed),
    ):
        # From zero, because a counter that appears with its first loss has not grown.
        yield _counter(name, text, ("queue",), {(queue,): lost.get(queue, 0) for queue in context.queues})
    text = "Time from when a job was due to its first start."
    yield _histogram("kessel_job_wait_seconds", text, ("queue",), counts.waits())
    yield _histogram("kessel_job_run_seconds", "Time that a handler ran.", ("queue", "type"), counts.runs())
    slots = GaugeMetricFamily("kessel_slots", "Slots of workers by what they do.", labels=["state"])
    idle = health.slots - health.busy - health.disconnected - health.dead
    for state, number in (
        ("busy", health.busy),
        ("idle", max(idle, 0)),
        ("disconnected", health.disconnected),
        ("dead", health.dead),
    ):
        slots.add_metric([state], number)
    yield slots
    longest = GaugeMetricFamily(
        "kessel_longest_running_seconds", "Time that the longest running job has run.", labels=["type"]
    )
    now, seen = clock.now(), set()
    for job in context.running():
        kind = counts.type_of(job.type)
        if kind not in seen:  # those that run longest come first
            seen.add(kind)
            longest.add_metric([kind], max((now - job.since).total_seconds(), 0.0))
    yield longest
    yield from _queues(lambda: [context.stats(queue) for queue in context.queues], context.adapter)


def of_exporter(counted: Callable[[], Sequence[QueueStats]], adapter: str) -> Iterator[Metric]:
    """Return what the queues hold now."""
    yield from _queues(counted, adapter)


def _queues(counted: Callable[[], Iterable[QueueStats]], adapter: str) -> Iterator[Metric]:
    """Return the gauges of queues; while they cannot be reached, only that."""
    up = GaugeMetricFamily("kessel_queue_up", "Whether the queues could be asked.")
    jobs = GaugeMetricFamily("kessel_queue_jobs", "Jobs in a queue by state.", labels=["queue", "state"])
    paused = GaugeMetricFamily("kessel_queue_paused", "Whether a queue is paused.", labels=["queue"])
    oldest = GaugeMetricFamily(
        "kessel_queue_oldest_ready_seconds", "Time that the next ready job has been ready.", labels=["queue"]
    )
    try:
        stats = list(counted())
    except Exception as exc:  # an adapter that fails in its own way must not hide what was counted
        log.debug("the queues cannot be asked: %s", exc, exc_info=not isinstance(exc, KesselError))
        up.add_metric([], 0)
    else:
        up.add_metric([], 1)
        for one in stats:
            for state in ("ready", "delayed", "reserved", "buried"):
                jobs.add_metric([one.queue, state], getattr(one, state))
            paused.add_metric([one.queue], one.paused is not None)
            if one.oldest_ready is not None:
                oldest.add_metric([one.queue], one.oldest_ready.total_seconds())
            elif not one.ready:
                oldest.add_metric([one.queue], 0)
    yield from (up, jobs, paused, oldest)
    info = GaugeMetricFamily("kessel_build_info", "Which kessel it is.", labels=["version", "adapter"])
    info.add_metric([version("kessel-core"), adapter], 1)
    yield info


def _counter(name: str, text: str, names: Sequence[str], values: Mapping[Labels, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=names)
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def _histogram(name: str, text: str, names: Sequence[str], values: Mapping[Labels, Distribution]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=names)
    bounds = [*map(str, BUCKETS), "+Inf"]
    for labels, distribution in sorted(values.items(), key=lambda item: item[0]):
        total, buckets = 0, []
        for bound, count in zip(bounds, distribution.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric(labels, buckets, distribution.sum)
    return family
