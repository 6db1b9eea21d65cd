"""Snooze, the way back that does not count as an attempt, from the core's side: S21."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import (
    JobContext,
    JobManager,
    JobResult,
    JobsConfig,
    JsonValue,
    Snooze,
    Status,
    Transient,
    hookimpl,
)
from kessel_core.contract import COMMIT, NO_PAUSE, AdapterContext, Bury, Capabilities, Rollback
from kessel_core.contract import Snooze as Snoozed
from kessel_core.model.policies import OnExpired, UnknownType
from kessel_core.testing import VirtualClock, run_until_idle

App = Callable[..., JobManager]
HOUR = timedelta(hours=1)


def body(**fields: Any) -> bytes:
    return json.dumps({"type": "a", "id": "i", **fields}).encode()


def snoozing(after: timedelta = HOUR) -> Callable[[JsonValue], None]:
    def handle(payload: JsonValue) -> None:
        raise Snooze(after, "the shop is closed")

    return handle


def test_s21_a_handler_that_snoozes_gets_its_job_again_after_the_pause(app: App, deliver: Any) -> None:
    done = deliver(app({"a": snoozing()}), body())
    assert done.ending == ("snoozed", None)
    assert (done.result.message, done.result.after) == ("the shop is closed", HOUR)
    assert done.settlements == [Snoozed(HOUR)]


def test_s21_an_async_handler_may_snooze(app: App, deliver: Any) -> None:
    async def handle(payload: JsonValue) -> None:
        await asyncio.sleep(0)
        raise Snooze(HOUR)

    done = deliver(app({"a": handle}), body())
    assert (done.ending, done.settlements) == (("snoozed", None), [Snoozed(HOUR)])


@pytest.mark.parametrize("late", [False, True])
def test_s21_a_middleware_may_snooze_before_the_handler_or_after_it(
    app: App, deliver: Any, late: bool
) -> None:
    runs: list[JsonValue] = []

    class Quota:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
            if late:
                yield
            raise Snooze(HOUR, "the quota is used up")
            yield

    done = deliver(app({"a": runs.append}, plugin=Quota()), body())
    assert (done.ending, done.settlements) == (("snoozed", None), [Snoozed(HOUR)])
    assert len(runs) == late


def test_s21_a_middleware_may_turn_a_result_into_a_snooze(app: App, deliver: Any) -> None:
    class Softening:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
            return attrs.evolve((yield), status=Status.SNOOZED, after=2 * HOUR)

    assert deliver(app({"a": print}, plugin=Softening()), body()).settlements == [Snoozed(2 * HOUR)]


def test_s21_snoozes_use_no_attempt_and_are_told_to_the_handler(app: App) -> None:
    seen: list[tuple[int, int]] = []

    def handle(payload: JsonValue, job: JobContext) -> None:
        seen.append((job.attempt, job.snoozes))
        if job.snoozes in (0, 1, 3):
            raise Snooze(HOUR)
        if job.attempt == 1:
            raise Transient(after=HOUR)
        if job.snoozes < 3:
            raise Snooze(HOUR)

    manager = app({"a": handle}, jobs=JobsConfig(max_attempts=2))
    manager.request("a")
    results = run_until_idle(manager)
    assert seen == [(1, 0), (1, 1), (1, 2), (2, 2), (2, 3), (2, 4)]
    statuses = ["snoozed", "snoozed", "failed-transient", "snoozed", "snoozed", "success"]
    assert [str(result.status) for result in results] == statuses


def test_s21_a_job_may_snooze_for_ever_with_one_attempt_only(app: App, clock: VirtualClock) -> None:
    def handle(payload: JsonValue, job: JobContext) -> None:
        if job.snoozes < 100:
            raise Snooze(HOUR)

    manager = app({"a": handle}, jobs=JobsConfig(max_attempts=1))
    begun = clock.monotonic()
    manager.request("a")
    results = run_until_idle(manager)
    assert (len(results), results[-1].ok, results[-1].attempt) == (101, True, 1)
    assert clock.monotonic() - begun == 100 * HOUR.total_seconds()


def test_s21_no_retry_policy_is_asked_for_a_snooze_that_says_its_pause(app: App, deliver: Any) -> None:
    class Policy:
        @hookimpl
        def kessel_retry_pause(self, job: JobContext) -> timedelta:
            raise AssertionError("asked")

    manager = app({"a": snoozing(NO_PAUSE)}, plugin=Policy())
    assert deliver(manager, body()).settlements == [Snoozed(NO_PAUSE)]


def test_s21_a_snoozed_job_keeps_its_priority(app: App) -> None:
    order: list[JsonValue] = []

    def handle(payload: JsonValue, job: JobContext) -> None:
        order.append(payload)
        if job.snoozes == 0 and payload == "urgent":
            raise Snooze(NO_PAUSE)

    manager = app({"a": handle})
    manager.request("a", "ordinary")
    manager.request("a", "urgent", priority=1)
    run_until_idle(manager)
    assert order == ["urgent", "urgent", "ordinary"]


@pytest.mark.parametrize(
    ("after", "ending"), [(HOUR, "failed"), (HOUR - timedelta(microseconds=1), "snoozed")]
)
def test_s21_a_snooze_that_would_end_at_the_expiration_or_after_it_ends_as_expired_now(
    app: App, deliver: Any, clock: VirtualClock, after: timedelta, ending: str
) -> None:
    done = deliver(app({"a": snoozing(after)}), body(expiration=(clock.now() + HOUR).isoformat()))
    assert done.result.status == ending
    assert (done.result.reason == "expired") == (ending == "failed")
    assert done.settlements == ([COMMIT] if ending == "failed" else [Snoozed(after)])


def test_s21_such_a_job_is_buried_where_expired_jobs_are(app: App, deliver: Any, clock: VirtualClock) -> None:
    manager = app({"a": snoozing(2 * HOUR)}, jobs=JobsConfig(on_expired=OnExpired.BURY))
    done = deliver(manager, body(expiration=(clock.now() + HOUR).isoformat()))
    assert done.ending == ("failed", "expired")
    assert done.settlements == [Bury("expired", "the shop is closed")]


def test_s21_a_snooze_beyond_all_time_is_a_pause_and_with_an_expiration_its_end(
    app: App, deliver: Any, clock: VirtualClock
) -> None:
    manager = app({"a": snoozing(timedelta.max)})
    (settled,) = deliver(manager, body()).settlements
    assert isinstance(settled, Snoozed)
    assert (clock.now() + settled.pause).year == 9999
    late = datetime.max.replace(tzinfo=clock.now().tzinfo).isoformat()
    assert deliver(manager, body(expiration=late)).ending == ("failed", "expired")


@pytest.mark.parametrize("longest", [HOUR, timedelta.max])
@pytest.mark.parametrize(("kind", "settled"), [(Snooze, Snoozed), (Transient, Rollback)])
def test_s11_s21_a_pause_ends_within_what_the_queue_holds_and_within_the_calendar(
    opened: App,
    deliver: Any,
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
    kind: Callable[..., Exception],
    settled: Callable[[timedelta], Any],
    longest: timedelta,
) -> None:
    """An adapter may declare more than there are years; what is cut is said once."""

    class Bounded(MemoryAdapter):
        @property
        def capabilities(self) -> Capabilities:
            return attrs.evolve(super().capabilities, longest_delay=longest)

    def handle(payload: JsonValue) -> None:
        raise kind(after=timedelta.max)

    adapter = Bounded(MemoryOptions(), AdapterContext(clock=clock))
    done = deliver(opened(adapter, handlers={"a": handle}, clock=clock), body())
    held = min(longest, datetime(9999, 12, 31, tzinfo=UTC) - clock.now())
    assert done.settlements == [settled(held)]
    assert caplog.text.count("is longer than the queue can hold") == 1


def test_s21_a_job_of_unknown_type_ends_by_its_expiration_and_never_by_its_attempts(app: App) -> None:
    manager = app(jobs=JobsConfig(unknown_type=UnknownType.RETRY, max_attempts=1))
    manager.request("a", expiration=30 * timedelta(days=1))
    results = run_until_idle(manager)
    assert len(results) > 10
    assert {str(result.status) for result in results[:-1]} == {"snoozed"}
    assert (str(results[-1].reason), results[-1].attempt) == ("expired", 1)


def test_s21_a_job_run_without_a_queue_shows_its_snooze(app: App) -> None:
    result = app({"a": snoozing()}).process_single_job("a")
    assert (result.status, result.after) == (Status.SNOOZED, HOUR)
