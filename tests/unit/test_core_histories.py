"""Random lives of many jobs on a virtual clock, against what is promised: S4, S5, S9 to S11, S15, S21."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from datetime import datetime, timedelta
from typing import Any

import attrs
import kessel_memory.plugin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kessel_core import (
    Config,
    EnqueueIncomplete,
    Fatal,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    JobsConfig,
    JsonValue,
    Reason,
    Snooze,
    Status,
    Transient,
    build_plugins,
    hookimpl,
)
from kessel_core.contract import Bury, Commit, Delete, Rollback, Settlement, need
from kessel_core.contract import Snooze as Snoozed
from kessel_core.hooks import Middleware
from kessel_core.model.policies import OnExpired
from kessel_core.testing import VirtualClock, run_until_idle

SECONDS = st.integers(0, 100).map(lambda n: timedelta(seconds=n))
MOST = 4
ENDINGS = ["pass", "pass at once", "fatal", "slow", "snooze"]


@attrs.frozen
class Plan:
    """One job: when it may run, and how its attempts end, one after the other; then they succeed."""

    delay: timedelta | None
    life: timedelta | None
    endings: tuple[str, ...]
    priority: int

    @property
    def expiration(self) -> timedelta | None:
        return None if self.life is None else (self.delay or timedelta(0)) + self.life + timedelta(seconds=1)


PLANS = st.builds(
    Plan,
    delay=st.none() | SECONDS,
    life=st.none() | SECONDS,
    endings=st.lists(st.sampled_from(ENDINGS), max_size=8).map(tuple),
    priority=st.integers(0, 3),
)


class Watching:
    def __init__(self) -> None:
        self.settled: dict[str, list[Settlement]] = {}
        self.finished: Counter[str] = Counter()

    @hookimpl
    def kessel_job_settled(self, result: JobResult, settlement: Settlement) -> None:
        self.settled.setdefault(result.id, []).append(settlement)

    @hookimpl
    def kessel_job_finished(self, result: JobResult) -> None:
        self.finished[result.id] += 1


@settings(max_examples=60, deadline=None)
@given(st.lists(PLANS, min_size=1, max_size=12), st.sampled_from(OnExpired))
def test_every_job_keeps_its_times_and_comes_to_exactly_one_end(plans: list[Plan], rule: OnExpired) -> None:
    clock, watching = VirtualClock(), Watching()
    starts: dict[str, list[tuple[int, int, datetime]]] = {}
    told: Counter[str] = Counter()

    def handle(payload: JsonValue, job: JobContext) -> None:
        runs = starts.setdefault(job.id, [])
        assert isinstance(payload, list)
        ending = payload[len(runs)] if len(runs) < len(payload) else "success"
        runs.append((job.attempt, job.snoozes, clock.now()))
        if ending == "slow":
            clock.advance(timedelta(seconds=5))
        elif ending == "fatal":
            raise Fatal
        elif ending == "snooze":
            raise Snooze(timedelta(seconds=7))
        elif ending != "success":
            raise Transient(after=timedelta(0) if ending == "pass at once" else None)

    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "watching": watching}, distributions=[])
    config = Config(jobs=JobsConfig(max_attempts=MOST, on_expired=rule))
    with JobManager(
        "memory://", handlers={"a": handle}, clock=clock, config=config, plugins=plugins
    ) as manager:
        jobs = [
            manager.request(
                JobRequest(
                    type="a",
                    payload=list(plan.endings),
                    priority=plan.priority,
                    delay=plan.delay,
                    expiration=plan.expiration,
                    callback=lambda result: told.update([result.id]),
                )
            )
            for plan in plans
        ]
        results = run_until_idle(manager)
        stats, buried = manager.adapter.stats("default"), manager.adapter.buried("default")

    assert (stats.ready, stats.delayed, stats.reserved) == (0, 0, 0)
    last = {result.id: result for result in results}
    for job in jobs:
        runs = starts.get(job.id, [])
        for _, _, moment in runs:
            assert job.not_before is None or moment >= job.not_before  # S4
            assert job.expires_at is None or moment < job.expires_at  # S5
        *before, end = watching.settled[job.id]
        kinds = [type(settlement) for settlement in before]
        assert set(kinds) <= {Rollback, Snoozed}  # S11, S21
        counted = [(1 + kinds[:n].count(Rollback), kinds[:n].count(Snoozed)) for n in range(len(runs))]
        assert [(attempt, snoozes) for attempt, snoozes, _ in runs] == counted  # S10, S21
        assert all(attempt <= MOST for attempt, _, _ in runs)
        assert isinstance(end, (Commit, Bury))  # S9: one end
        assert (told[job.id], watching.finished[job.id]) == (1, 1)  # S15
        assert isinstance(end, Bury) == (job.id in {stored.id for stored in buried})
        if last[job.id].reason == "expired":
            assert isinstance(end, Bury) == (rule is OnExpired.BURY)
        else:
            assert isinstance(end, Commit) == last[job.id].ok


def manager_of(handlers: Any, url: str = "memory://", **more: Any) -> JobManager:
    plugins = build_plugins(extra={"memory": kessel_memory.plugin}, distributions=[])
    return JobManager(url, handlers=handlers, clock=VirtualClock(), plugins=plugins, **more)


@pytest.mark.parametrize(("early", "runs"), [(timedelta(microseconds=1), True), (timedelta(0), False)])
def test_s5_expiration_itself_is_too_late(early: timedelta, runs: bool) -> None:
    with manager_of({"a": len}) as manager:
        assert isinstance(manager.clock, VirtualClock)
        manager.request("a", [], expiration=timedelta(seconds=9))
        manager.clock.advance(timedelta(seconds=9) - early)
        assert [result.ok for result in run_until_idle(manager)] == [runs]


class Slow:
    """Lets a second pass before the job goes on."""

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
        assert isinstance(job.clock, VirtualClock)
        job.clock.advance(timedelta(seconds=1))
        return (yield)


class OffersSlow:
    @hookimpl
    def kessel_middleware(self) -> Any:
        return [Middleware(name="slow", factory=Slow)]


def test_x4_s5_a_job_that_expires_while_middleware_takes_its_time_is_not_run() -> None:
    """Review X4: whatever the configuration says, the last look is right before the handler."""
    ran: list[object] = []
    extra = {"memory": kessel_memory.plugin, "mine": OffersSlow()}
    with JobManager(
        "memory://",
        handlers={"a": ran.append},
        middleware=["slow"],
        clock=VirtualClock(),
        plugins=build_plugins(extra=extra, distributions=[]),
    ) as manager:
        manager.request("a", 1, expiration=timedelta(milliseconds=500))
        (result,) = run_until_idle(manager)
    assert (ran, result.status, result.reason) == ([], Status.FAILED, Reason.EXPIRED)
    assert result.message.startswith("expired at ")


def test_s15_a_second_delivery_of_a_job_tells_nobody_again() -> None:
    told: list[JobResult] = []
    with manager_of({"a": len}) as manager:
        for _ in range(2):
            manager.request(JobRequest(type="a", payload=[], id="same", callback=told.append))
            run_until_idle(manager)
        assert len(told) == 2  # asked for twice
        manager.request(JobRequest(type="a", payload=[], id="same"))
        run_until_idle(manager)
    assert len(told) == 2


def test_s15_of_two_requests_with_one_id_the_first_is_stored_and_its_function_told() -> None:
    told: list[object] = []
    twice = [
        JobRequest(type="a", payload=[], id="same", callback=lambda _: told.append("first")),
        JobRequest(type="a", payload=[], id="same", callback=lambda _: told.append("second")),
        JobRequest(type="a", payload=[], id="bare"),
        JobRequest(type="a", payload=[], id="bare", callback=lambda _: told.append("refused")),
    ]
    with manager_of({"a": len}) as manager:
        with pytest.raises(EnqueueIncomplete) as caught:
            manager.request_many(twice)
        assert (caught.value.stored, [*caught.value.held]) == (("same", "bare"), ["same", "bare"])
        run_until_idle(manager)
    assert told == ["first"]


@pytest.mark.parametrize("is_one", [True, False])
@pytest.mark.parametrize("callback", [None, "job:told"])
def test_s15_who_waits_for_a_deleted_job_is_not_told_of_the_next_one_with_its_id(
    is_one: bool, callback: str | None
) -> None:
    told: list[JobResult] = []
    with manager_of({"a": len, "told": lambda payload: None}) as manager:
        manager.request(JobRequest(type="a", payload=[], id="same", callback=told.append))
        need(manager.adapter, Delete).delete("default", "same")
        following = JobRequest(type="a", payload=[], id="same", callback=callback)
        if is_one:
            manager.request(following)
        else:
            manager.request_many([following])
        run_until_idle(manager)
    assert told == []


def test_s15_a_job_run_at_once_leaves_alone_who_waits_for_the_stored_one_with_its_id() -> None:
    told: list[object] = []
    with manager_of({"a": len}) as manager:
        stored = JobRequest(type="a", payload=[1], id="same", callback=lambda one: told.append(one.value))
        manager.request(stored)
        manager.process_single_job(JobRequest(type="a", payload=[], id="same"))
        assert told == []
        at_once = attrs.evolve(
            stored, payload=[1, 2], callback=lambda one: told.append(("at once", one.value))
        )
        manager.process_single_job(at_once)
        assert told == [("at once", 2)]
        run_until_idle(manager)
    assert told == [("at once", 2), 1]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_of_the_user_ends_what_runs_in_the_main_thread() -> None:
    with manager_of({"a": interrupt, "b": len}) as manager:
        with pytest.raises(KeyboardInterrupt):
            manager.process_single_job("a")
        with pytest.raises(KeyboardInterrupt):
            manager.process_single_job(JobRequest(type="b", payload=[], callback=lambda _: interrupt()))
