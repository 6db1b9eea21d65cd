"""The checks of `kessel doctor` for beanstalkd.

One sample of jobs is used for all checks of jobs: their types, leases, sizes and clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import attrs

from kessel_beanstalk.commands import ServerFacts
from kessel_beanstalk.operations import Operations
from kessel_beanstalk.shared import Shared
from kessel_core import DecodeError, Job, KesselError
from kessel_core.contract import AdapterError, DoctorContext, Finding, JobState, Level, StoredJob, decode

__all__ = ["clock_findings", "examine"]

#: How many of the latest ids are checked, however full the server is.
_MOST_IDS: Final = 2_000
#: Smaller differences of clocks are not reported; ages are in whole seconds.
_SAME_CLOCK: Final = timedelta(seconds=5)
#: A job whose lease ended longer ago will not come back by itself.
_LATE_RETURN: Final = timedelta(seconds=2)
_SHORT_TTR: Final = timedelta(seconds=5)


@attrs.frozen
class _Seen:
    """A sampled job, with its request if the body is one."""

    job: StoredJob
    request: Job | None


def examine(shared: Shared, operations: Operations, context: DoctorContext) -> list[Finding]:
    """Return the findings; raises nothing."""
    try:
        shared.server.connect().close()
    except KesselError as exc:
        return [Finding(Level.ERROR, "reachable", str(exc), "check host and port, and that beanstalkd runs")]
    facts = shared.server.facts
    findings = [
        Finding(Level.OK, "reachable", f"{shared.server.address}, beanstalkd {facts.version}"),
        *_server(facts),
        _ttr(shared.options.ttr, context.grace),
    ]
    try:
        seen = [_Seen(job, _job_in(job.body)) for job in operations.sample(context.queues, _MOST_IDS)]
        for queue in context.queues:
            findings.append(_queue(operations, queue))
            findings += _types(queue, context.types, seen)
        findings += _elsewhere(context.queues, seen)
        findings += _leases(seen, shared.clock.now() - _LATE_RETURN)
        findings.append(_sizes(shared.largest_body, seen))
        findings += clock_findings([(one.job, one.request) for one in seen if one.request is not None])
    except AdapterError as exc:
        findings.append(Finding(Level.ERROR, "jobs", str(exc), "look at the server's log"))
    return findings


def _job_in(body: bytes) -> Job | None:
    try:
        return decode(body)
    except DecodeError:
        return None


def _server(facts: ServerFacts) -> Iterator[Finding]:
    if facts.binlog:
        yield Finding(Level.OK, "binlog", "on")
    else:
        yield Finding(
            Level.WARNING, "binlog", "off: a restart loses every job", "start beanstalkd with -b DIR -f 0"
        )
    if facts.draining:
        yield Finding(
            Level.ERROR,
            "draining",
            "the server takes no new jobs",
            "restart beanstalkd; there is no other way back",
        )


def _ttr(ttr: timedelta, grace: timedelta) -> Finding:
    if ttr < _SHORT_TTR:
        return Finding(Level.WARNING, "ttr", f"{ttr} leaves little time to touch", "use 5 s or more")
    if ttr < grace:
        return Finding(
            Level.WARNING, "ttr", f"{ttr} is shorter than the grace of {grace}", "use a ttr above the grace"
        )
    return Finding(Level.OK, "ttr", f"{ttr}, grace {grace}")


def _queue(operations: Operations, queue: str) -> Finding:
    stats = operations.stats(queue)
    detail = f"{stats.ready} ready, {stats.delayed} delayed, {stats.reserved} reserved, {stats.buried} buried"
    if not stats.buried:
        return Finding(Level.OK, f"queue {queue}", detail)
    advice = f"kessel buried --queue {queue}; buried jobs keep binlog files alive"
    return Finding(Level.WARNING, f"queue {queue}", detail, advice)


def _types(queue: str, known: frozenset[str], seen: Sequence[_Seen]) -> Iterator[Finding]:
    waiting = [one for one in seen if one.job.queue == queue and one.job.state is not JobState.BURIED]
    unknown = sorted({one.request.type for one in waiting if one.request is not None} - known)
    if unknown and known:
        yield Finding(
            Level.WARNING,
            f"queue {queue}",
            f"holds jobs of types that have no handler here: {_few(unknown)}",
            "add their handlers, or put them into a queue of their own",
        )
    strange = [one.job.id for one in waiting if one.request is None]
    if strange:
        yield Finding(
            Level.WARNING,
            f"queue {queue}",
            f"holds bodies that are not requests: {_few(strange)}",
            "a worker will bury them; look for who puts them",
        )


def _elsewhere(queues: Sequence[str], seen: Sequence[_Seen]) -> Iterator[Finding]:
    others = {one.job.queue for one in seen if one.job.state is JobState.READY} - set(queues)
    if others:
        yield Finding(Level.OK, "other queues", f"also hold ready jobs, not for this worker: {_few(others)}")


def _leases(seen: Sequence[_Seen], latest: datetime) -> Iterator[Finding]:
    """Find jobs whose leases have ended unnoticed: beanstalkd misses most of those of silent connections."""
    overdue = [
        one.job.id
        for one in seen
        if one.job.state is JobState.RESERVED and one.job.due is not None and one.job.due < latest
    ]
    if overdue:
        yield Finding(
            Level.WARNING,
            "leases",
            f"have ended without the server noticing: {_few(overdue)}",
            "end the process or connection that holds them: a hung worker, or one whose network is gone",
        )


def _sizes(limit: int, seen: Sequence[_Seen]) -> Finding:
    largest = max((len(one.job.body) for one in seen), default=0)
    if largest * 10 > limit * 8:
        return Finding(
            Level.WARNING,
            "job size",
            f"a job of {largest} bytes, limit {limit}",
            "start beanstalkd with a larger -z",
        )
    return Finding(Level.OK, "job size", f"limit {limit} bytes, largest seen {largest}")


def clock_findings(seen: Sequence[tuple[StoredJob, Job]]) -> list[Finding]:
    """Compare the clocks of producers with ours, by the time in a request and the age of its job.

    The server has no time of day, and needs none: its delays and ages are spans. But delay and expiration in
    a request are times of the producer's clock, which workers compare with their own.
    """
    differences = [
        (request.requested_at - job.enqueued_at, job, request)
        for job, request in seen
        if request.requested_at is not None and job.enqueued_at is not None
    ]
    if not differences:
        return [Finding(Level.OK, "clocks", "not compared: no job here says when it was requested")]
    found: list[Finding] = []
    difference, job, request = max(differences, key=lambda one: one[0])
    if difference > _SAME_CLOCK:
        found.append(
            Finding(
                Level.WARNING,
                "clocks",
                f"{_producer(job, request)} has a clock {_seconds(difference)} ahead of this machine's",
                "set both clocks (NTP): here its jobs start and expire so much too late",
            )
        )
    difference, job, request = min(differences, key=lambda one: one[0])
    if difference < -_SAME_CLOCK:
        found.append(
            Finding(
                Level.WARNING,
                "clocks",
                f"{_producer(job, request)} has a clock {_seconds(-difference)} behind this machine's, "
                "or put the job so long after it was requested",
                "set both clocks (NTP): here its jobs expire so much too early",
            )
        )
    if not found:
        detail = f"producers' and ours agree within {_SAME_CLOCK} (jobs compared: {len(differences)})"
        found.append(Finding(Level.OK, "clocks", detail))
    return found


def _producer(job: StoredJob, request: Job) -> str:
    return f"the producer of job {job.id} (type {request.type!r}, queue {job.queue})"


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"


def _few(names: Sequence[str] | set[str], most: int = 5) -> str:
    shown = [f"{name:.60}" for name in sorted(names)[:most]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
