"""`kessel doctor` against a real server, each finding provoked."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs
import greenstalk
import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.doctor import clock_findings
from kessel_beanstalk.operations import Operations
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import Job
from kessel_core.contract import Bury, DoctorContext, Finding, JobState, Level, Message, StoredJob

Opened = Callable[..., BeanstalkAdapter]
CONTEXT = DoctorContext(queues=("q",), types=frozenset({"known"}), grace=timedelta(seconds=30))


def put(server: Beanstalkd, body: bytes, tube: str = "q") -> None:
    """Put a body as a client in another language does."""
    with greenstalk.Client(("127.0.0.1", server.port), encoding=None, use=tube) as client:
        client.put(body)


def known(requested: timedelta | None = None) -> bytes:
    """Return the body of a request that was made at that distance from now."""
    fields: dict[str, object] = {"v": 1, "id": f"job-{requested}", "type": "known"}
    if requested is not None:
        fields["requested_at"] = (datetime.now(UTC) + requested).isoformat().replace("+00:00", "Z")
    return json.dumps(fields).encode()


def found(adapter: BeanstalkAdapter, subject: str, context: DoctorContext = CONTEXT) -> list[Finding]:
    return [finding for finding in adapter.doctor(context) if finding.subject == subject]


def test_a_healthy_server_gives_no_warning(opened: Opened, durable: Beanstalkd) -> None:
    put(durable, known(timedelta(0)))
    findings = opened(durable.port).doctor(CONTEXT)
    assert {finding.level for finding in findings} == {Level.OK}
    assert {finding.subject for finding in findings} == {
        "reachable", "binlog", "ttr", "queue q", "job size", "clocks",
    }  # fmt: skip
    assert not any(finding.advice for finding in findings)


def test_a_server_that_is_gone_is_the_only_finding(adapter: BeanstalkAdapter, server: Beanstalkd) -> None:
    server.kill()
    [finding] = adapter.doctor(CONTEXT)
    assert (finding.level, finding.subject) == (Level.ERROR, "reachable")


def test_a_server_without_binlog_is_a_warning(adapter: BeanstalkAdapter) -> None:
    [finding] = found(adapter, "binlog")
    assert finding.level is Level.WARNING and "-b" in finding.advice


def test_a_draining_server_is_an_error_and_is_looked_at_all_the_same(
    adapter: BeanstalkAdapter, server: Beanstalkd
) -> None:
    put(server, b'{"type": "strange"}')
    server.signal(signal.SIGUSR1)
    until = time.monotonic() + 5
    while not found(adapter, "draining") and time.monotonic() < until:
        time.sleep(0.01)
    [finding] = found(adapter, "draining")
    assert finding.level is Level.ERROR
    assert any("strange" in finding.detail for finding in found(adapter, "queue q"))


@pytest.mark.parametrize(("ttr", "what"), [(3, "little time"), (20, "shorter than the grace")])
def test_a_ttr_too_short_to_touch_or_to_stop_is_a_warning(
    opened: Opened, server: Beanstalkd, ttr: int, what: str
) -> None:
    [finding] = found(opened(server.port, ttr=timedelta(seconds=ttr)), "ttr")
    assert finding.level is Level.WARNING and what in finding.detail


def test_a_job_near_the_size_limit_is_a_warning(servers: Callable[..., Beanstalkd], opened: Opened) -> None:
    server = servers("-z", "1000")
    adapter = opened(server.port)
    put(server, b'{"type": "known", "payload": "%s"}' % (b"x" * 700))
    [finding] = found(adapter, "job size")
    assert finding.level is Level.OK and "limit 998 bytes, largest seen 732" in finding.detail
    put(server, b'{"type": "known", "payload": "%s"}' % (b"x" * 800))
    [finding] = found(adapter, "job size")
    assert finding.level is Level.WARNING


def test_types_without_a_handler_and_bodies_without_a_request_are_named(
    adapter: BeanstalkAdapter, server: Beanstalkd
) -> None:
    for body in (known(), b'{"type": "strange"}', b"\xff", b'{"type": "strange"}'):
        put(server, body)
    put(server, b'{"type": "of others"}', tube="others")
    _, types, bodies = found(adapter, "queue q")
    assert types.level is bodies.level is Level.WARNING
    assert types.detail == "holds jobs of types that have no handler here: strange"
    assert bodies.detail == "holds bodies that are not requests: @3"
    [others] = found(adapter, "other queues")
    assert others.level is Level.OK and others.detail.endswith(": others")
    knows_none = attrs.evolve(CONTEXT, types=frozenset())
    assert not any("no handler" in finding.detail for finding in found(adapter, "queue q", knows_none))


def test_the_next_jobs_of_a_queue_are_looked_at_however_many_came_later(
    adapter: BeanstalkAdapter, server: Beanstalkd
) -> None:
    put(server, b'{"type": "old"}')
    adapter.enqueue_many([Message("x", "others", known(), 9) for _ in range(3_000)])
    assert any(finding.detail.endswith(": old") for finding in found(adapter, "queue q"))


def test_buried_jobs_are_a_warning(adapter: BeanstalkAdapter, server: Beanstalkd) -> None:
    put(server, b"\xff")
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(timedelta(seconds=1))
    assert held is not None
    consumer.settle(held, Bury("undecodable"))
    consumer.close()
    [finding] = found(adapter, "queue q")
    assert finding.level is Level.WARNING and "1 buried" in finding.detail


def test_jobs_whose_lease_the_server_has_forgotten_are_named(
    adapter: BeanstalkAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It forgets most, not all: which job it will be is not for a test to choose."""
    now = datetime.now(UTC)
    jobs = [
        StoredJob(
            id=f"job-{late}",
            queue="q",
            state=JobState.RESERVED,
            body=b'{"type": "known"}',
            due=now - timedelta(seconds=late),
        )
        for late in (-9, 0, 30)
    ]
    monkeypatch.setattr(Operations, "sample", lambda *_: jobs)
    [finding] = found(adapter, "leases")
    assert finding.level is Level.WARNING and finding.detail.endswith(": job-30")


def test_clocks_are_compared_by_when_a_job_was_requested_and_its_age(
    adapter: BeanstalkAdapter, server: Beanstalkd
) -> None:
    [finding] = found(adapter, "clocks")
    assert finding.level is Level.OK and "not compared" in finding.detail
    put(server, known(timedelta(seconds=-2)))
    [finding] = found(adapter, "clocks")
    assert finding.level is Level.OK and "agree within 0:00:05 (jobs compared: 1)" in finding.detail
    put(server, known(timedelta(hours=1)))
    put(server, known(timedelta(hours=-2)))
    ahead, behind = found(adapter, "clocks")
    assert ahead.level is behind.level is Level.WARNING
    assert "job-1:00:00" in ahead.detail and "ahead" in ahead.detail
    assert "job--1 day, 22:00:00" in behind.detail and "behind" in behind.detail


def test_a_job_that_has_waited_long_says_nothing_against_its_producers_clock() -> None:
    now = datetime.now(UTC)
    request = Job(type="known", requested_at=now - timedelta(days=3))
    job = StoredJob(
        id="old", queue="q", state=JobState.READY, body=b"", enqueued_at=now - timedelta(days=3, seconds=1)
    )
    [finding] = clock_findings([(job, request)])
    assert finding.level is Level.OK
