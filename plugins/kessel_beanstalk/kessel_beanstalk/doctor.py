"""`kessel doctor` for beanstalkd: what is wrong with the server, and what to do."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from kessel_core.adapter import DoctorContext, Finding, JobState, Level
from kessel_core.errors import AdapterError, KesselError

if TYPE_CHECKING:
    from kessel_beanstalk.adapter import BeanstalkAdapter

__all__ = ["examine"]


def examine(adapter: BeanstalkAdapter, context: DoctorContext) -> list[Finding]:
    """Return the findings; raises nothing."""
    try:
        adapter.server.connect().close()
    except KesselError as exc:
        return [Finding(Level.ERROR, "reachable", str(exc), "check host and port, and that beanstalkd runs")]
    facts = adapter.server.facts
    findings = [Finding(Level.OK, "reachable", f"{adapter.server.address}, beanstalkd {facts.version}")]
    if facts.binlog:
        findings.append(Finding(Level.OK, "binlog", "on"))
    else:
        findings.append(
            Finding(
                Level.WARNING, "binlog", "off: a restart loses every job", "start beanstalkd with -b DIR -f 0"
            )
        )
    if facts.draining:
        findings.append(
            Finding(
                Level.ERROR,
                "draining",
                "the server takes no new jobs",
                "restart beanstalkd; there is no other way back",
            )
        )
    ttr, grace = adapter.options.ttr, context.grace
    if ttr < timedelta(seconds=5):
        findings.append(
            Finding(Level.WARNING, "ttr", f"{ttr} leaves little time to touch", "use 5 s or more")
        )
    elif ttr < grace:
        findings.append(
            Finding(
                Level.WARNING,
                "ttr",
                f"{ttr} is shorter than the grace of {grace}",
                "use a ttr above the grace",
            )
        )
    else:
        findings.append(Finding(Level.OK, "ttr", f"{ttr}, grace {grace}"))
    largest = 0
    for queue in context.queues:
        try:
            largest = max(largest, _queue(adapter, context, queue, findings))
        except AdapterError as exc:
            findings.append(Finding(Level.ERROR, f"queue {queue}", str(exc)))
    limit = facts.max_job_size - 2
    if largest * 10 > limit * 8:
        findings.append(
            Finding(
                Level.WARNING,
                "job size",
                f"a job of {largest} bytes, limit {limit}",
                "start beanstalkd with a larger -z",
            )
        )
    else:
        findings.append(Finding(Level.OK, "job size", f"limit {limit} bytes, largest seen {largest}"))
    return findings


def _queue(adapter: BeanstalkAdapter, context: DoctorContext, queue: str, findings: list[Finding]) -> int:
    stats = adapter.stats(queue)
    detail = f"{stats.ready} ready, {stats.delayed} delayed, {stats.reserved} reserved, {stats.buried} buried"
    level, advice = Level.OK, ""
    if stats.buried:
        level, advice = Level.WARNING, f"kessel buried list {queue}; buried jobs keep binlog files alive"
    findings.append(Finding(level, f"queue {queue}", detail, advice))
    largest = 0
    states = [
        state for state, count in ((JobState.READY, stats.ready), (JobState.BURIED, stats.buried)) if count
    ]
    for state in states:
        for job in adapter.peek(queue, state, 20):
            largest = max(largest, len(job.body))
            if state is JobState.READY and context.types:
                _type_known(context, queue, job.body, findings)
    return largest


def _type_known(context: DoctorContext, queue: str, body: bytes, findings: list[Finding]) -> None:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    kind = fields.get("type") if isinstance(fields, dict) else None
    if not isinstance(kind, str) or kind.strip() not in context.types:
        shown = "a body that is no request" if kind is None else f"type {kind!r:.60}"
        finding = Finding(
            Level.WARNING,
            f"queue {queue}",
            f"holds {shown}, which has no handler here",
            "add its handler, or another queue",
        )
        if finding not in findings:
            findings.append(finding)
