"""`run_until_idle`: hours of delays, retries and expiries in milliseconds (S18)."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from queue import Queue
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kessel_core import (
    CapabilityMissing,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    KesselError,
    Reason,
    Snooze,
    Status,
    Transient,
)
from kessel_core.contract import VirtualTime
from kessel_core.testing import NeverIdle, VirtualClock, run_until_idle
from kessel_core.testing.strategies import job_requests

Open = Callable[..., JobManager]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def opened(clock: VirtualClock) -> Iterator[Open]:
    """Connects managers with handlers to a private memory queue."""
    managers: list[JobManager] = []

    def open_(adapter: str = "memory://", **handlers: object) -> JobManager:
        managers.append(JobManager(adapter, clock=clock, handlers=handlers))
        return managers[-1].connect()

    yield open_
    for manager in managers:
        manager.close()


def echo(payload: Any) -> Any:
    return payload


def test_nothing_to_do_is_done_at_once(opened: Open, clock: VirtualClock) -> None:
    before = clock.now()
    assert run_until_idle(opened()) == []
    assert clock.now() == before


def test_jobs_run_in_their_order_and_at_their_time(opened: Open, clock: VirtualClock) -> None:
    """S4, S6."""
    start = clock.now()
    manager = opened(echo=echo)
    manager.request("echo", "late", delay=timedelta(hours=3))
    manager.request("echo", "soon", delay=timedelta(minutes=1), queue="other")
    manager.request("echo", "now")
    manager.request("echo", "urgent", priority=0)
    results = run_until_idle(manager)
    assert [(result.value, result.started_at) for result in results] == [
        ("urgent", start),
        ("now", start),
        ("soon", start + timedelta(minutes=1)),
        ("late", start + timedelta(hours=3)),
    ]
    assert clock.now() == start + timedelta(hours=3)


def test_a_retry_takes_its_pause_and_every_attempt_is_there(opened: Open, clock: VirtualClock) -> None:
    """S10, S11."""
    start = clock.now()

    def flaky(payload: object, job: JobContext) -> str:
        if job.attempt < 3:
            raise Transient("not yet", after=timedelta(minutes=10))
        return "at last"

    told: list[JobResult] = []
    manager = opened(flaky=flaky)
    manager.request("flaky", callback=told.append)
    results = run_until_idle(manager)
    assert [(result.status, result.attempt) for result in results] == [
        (Status.TRANSIENT, 1),
        (Status.TRANSIENT, 2),
        (Status.SUCCESS, 3),
    ]
    assert told == results[2:]
    assert clock.now() == start + timedelta(minutes=20)


def test_s21_a_snooze_takes_its_pause_and_no_attempt(opened: Open, clock: VirtualClock) -> None:
    start = clock.now()

    def closed(payload: object, job: JobContext) -> str:
        if clock.now() < start + timedelta(hours=2):
            raise Snooze(timedelta(hours=1), "the shop is closed")
        return f"{job.snoozes} snoozes"

    manager = opened(closed=closed)
    manager.request("closed")
    results = run_until_idle(manager)
    assert [(str(result.status), result.attempt) for result in results] == [
        ("snoozed", 1),
        ("snoozed", 1),
        ("success", 1),
    ]
    assert (results[-1].value, clock.now()) == ("2 snoozes", start + timedelta(hours=2))


def test_what_expires_before_its_turn_is_not_handled(opened: Open, clock: VirtualClock) -> None:
    """S5."""
    handled: list[object] = []

    def slow(payload: object) -> None:
        handled.append(payload)
        clock.advance(timedelta(seconds=30))

    manager = opened(slow=slow)
    manager.request("slow", 1)
    manager.request("slow", 2, expiration=timedelta(seconds=10))
    assert [result.reason for result in run_until_idle(manager)] == [None, Reason.EXPIRED]
    assert handled == [1]


def test_jobs_that_handlers_request_are_run_too(opened: Open) -> None:
    def first(payload: object) -> None:
        manager.request("echo", 2, queue="new", delay=timedelta(days=1))

    manager: JobManager = opened(echo=echo, first=first)
    manager.request("first")
    assert [result.value for result in run_until_idle(manager)] == [None, 2]


def test_a_job_that_outlives_its_lease_comes_back(opened: Open, clock: VirtualClock) -> None:
    """S7, S9: its first delivery has no result of its own, because it could not be settled."""

    def hangs_once(payload: object, job: JobContext) -> None:
        if job.attempt == 1:
            clock.advance(timedelta(minutes=2))

    manager = opened(hangs=hangs_once)
    manager.request("hangs")
    assert [(result.ok, result.attempt) for result in run_until_idle(manager)] == [(True, 2)]


def test_only_the_queues_asked_for_are_served(opened: Open) -> None:
    manager = opened(echo=echo)
    manager.request("echo", 1, queue="one")
    manager.request("echo", 2, queue="two")
    assert [result.value for result in run_until_idle(manager, queues=["two"])] == [2]
    assert manager.adapter.stats("one").ready == 1


def test_one_queue_may_be_asked_for_by_its_name_alone(opened: Open) -> None:
    manager = opened(echo=echo)
    manager.request("echo", 1, queue="one")
    manager.request("echo", 2, queue="two")
    assert [result.value for result in run_until_idle(manager, queues="two")] == [2]


def test_no_limit_is_too_far_away(opened: Open) -> None:
    manager = opened(echo=echo)
    manager.request("echo", 1, delay=timedelta(days=400))
    assert [result.value for result in run_until_idle(manager, limit=timedelta.max)] == [1]


def test_a_limit_may_be_after_the_last_moment_that_there_is() -> None:
    clock = VirtualClock(datetime(9999, 12, 30, tzinfo=UTC))
    with JobManager("memory://", clock=clock, handlers={"echo": echo}) as manager:
        manager.request("echo", 1, delay=timedelta(hours=3))
        assert [result.value for result in run_until_idle(manager)] == [1]


def test_buried_jobs_stay(opened: Open) -> None:
    """S8, S12."""
    manager = opened()
    manager.request("unknown")
    (result,) = run_until_idle(manager)
    assert result.reason is Reason.NO_HANDLER
    assert manager.adapter.stats("default").buried == 1
    assert run_until_idle(manager) == []


def test_an_application_that_never_comes_to_rest_is_told_so(opened: Open, clock: VirtualClock) -> None:
    def again(payload: object) -> None:
        manager.request("again", delay=timedelta(days=1))

    manager = opened(again=again)
    manager.request("again")
    with pytest.raises(NeverIdle, match=r"7 days.*8 attempts") as caught:
        run_until_idle(manager, limit=timedelta(days=7))
    assert len(caught.value.results) == 8
    with pytest.raises(NeverIdle, match="5 jobs"):
        run_until_idle(manager, max_jobs=5)
    assert manager.adapter.stats("default").total == 1, "the job that was one too many was given back"


def test_what_never_becomes_idle_can_be_told_to_another_process(opened: Open) -> None:
    """As from a pool of processes, which was broken by an error that could not be read again."""
    manager = opened(again=lambda payload: manager.request("again", delay=timedelta(days=1)) and None)
    manager.request("again")
    with pytest.raises(NeverIdle) as caught:
        run_until_idle(manager, max_jobs=3)
    for again in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert str(again) == str(caught.value) == "not idle after 3 jobs; 3 attempts were run"
        assert again.results == caught.value.results


def test_a_job_cannot_run_its_own_queue_until_it_is_idle(opened: Open, clock: VirtualClock) -> None:
    """Time moved past the end of its lease, so it was delivered again, and called it again."""

    def outer(payload: Any) -> int:
        with JobManager("memory://", clock=clock, handlers={"other": print}) as others:
            others.request("other")
            assert len(run_until_idle(others)) == 1, "that of another queue may be run"
        with pytest.raises(KesselError, match="cannot wait until its own queue is idle"):
            run_until_idle(manager)
        return 1

    manager = opened(outer=outer)
    manager.request("outer")
    assert [result.value for result in run_until_idle(manager)] == [1]
    assert run_until_idle(manager) == []


def test_another_clock_or_adapter_is_refused_by_name(opened: Open) -> None:
    """S17."""
    with JobManager("memory://") as manager, pytest.raises(TypeError, match="clock=VirtualClock"):
        run_until_idle(manager)
    with pytest.raises(KesselError, match="not connected"):
        run_until_idle(JobManager("memory://", clock=VirtualClock()))


def test_an_adapter_that_lives_on_another_clock_is_refused(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S17."""
    manager = opened()
    real = manager.adapter.facet
    monkeypatch.setattr(manager.adapter, "facet", lambda kind: None if kind is VirtualTime else real(kind))
    with pytest.raises(CapabilityMissing, match=VirtualTime.facet_name):
        run_until_idle(manager)


def test_the_threads_of_a_worker_live_on_a_clock_that_the_test_moves() -> None:
    """S18: nothing sleeps, and the job starts at its very moment."""
    clock, results = VirtualClock(auto_advance=False), Queue[JobResult]()
    start = clock.now()
    with JobManager("memory://", clock=clock, handlers={"echo": echo}) as manager:
        manager.start(slots=3)
        for hours in (1, 2, 3):
            manager.request("echo", hours, delay=timedelta(hours=1), callback=results.put)
            clock.advance_to(start + timedelta(hours=hours))
            result = results.get(timeout=20)
            assert (result.value, result.started_at) == (hours, start + timedelta(hours=hours))
        manager.stop()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(job_requests(types=["echo"]), max_size=8, unique_by=lambda request: request.id or id(request))
)
def test_whatever_is_requested_ends_in_time_and_comes_back_equal(requests: list[JobRequest]) -> None:
    """S4, S5, S9, S16: every request ends exactly once, not before its delay, never after its expiration."""
    with JobManager("memory://", clock=VirtualClock(), handlers={"echo": echo}) as manager:
        stored = {request.id: request for request in manager.request_many(requests)}
        results = run_until_idle(manager)
        assert sorted(result.id for result in results) == sorted(stored)
        for result in results:
            request = stored[result.id]
            if result.ok:
                assert result.value == request.payload
                assert result.started_at is not None
                assert request.not_before is None or result.started_at >= request.not_before
                assert request.expires_at is None or result.started_at < request.expires_at
            else:
                assert result.reason is Reason.EXPIRED
