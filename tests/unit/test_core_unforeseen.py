"""Attempts are looked at before anything that can fail, and what nobody foresaw is an attempt: S10, S13."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kessel_core import (
    JobContext,
    JobManager,
    JobResult,
    JobsConfig,
    JsonValue,
    Status,
    Transient,
    handler,
    hookimpl,
)
from kessel_core.contract import Bury, Message, Reservation, Rollback
from kessel_core.model.lifecycle import RULES, Situation
from kessel_core.runtime import pipeline
from kessel_core.testing import VirtualClock, run_until_idle

App = Callable[..., JobManager]
BODY = b'{"type": "a", "id": "i"}'


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def broken_decode(patch: pytest.MonkeyPatch, error: BaseException) -> list[bytes]:
    """Let decoding fail for bodies with the word `poison`; returns what is read."""
    read: list[bytes] = []
    real = pipeline.decode

    def decode(body: bytes) -> Any:
        read.append(body)
        if b"poison" in body:
            raise error
        return real(body)

    patch.setattr(pipeline, "decode", decode)
    return read


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), MemoryError(), RecursionError("too deep"), KeyError("x"), Unreadable()]
)
def test_finding_d4_s13_whatever_decoding_raises_is_undecodable_and_the_slot_lives_on(
    app: App, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    broken_decode(monkeypatch, error)
    manager = app({"a": len})
    manager.adapter.enqueue(Message("i", "default", b"poison", 0))
    manager.request("a", [])
    assert manager.worker(slots=1).drain() == {"failed": 1, "success": 1}
    (buried,) = manager.adapter.buried("default")
    assert (buried.body, buried.reason, buried.attempt) == (b"poison", "undecodable", 1)
    assert buried.message


def test_finding_d4_s10_a_job_past_all_its_attempts_is_buried_even_if_its_body_cannot_be_read(
    app: App, deliver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_decode(monkeypatch, MemoryError())
    done = deliver(app(jobs=JobsConfig(max_attempts=3)), b"poison", attempt=4)
    assert done.ending == ("failed", "undecodable")
    assert [type(settlement) for settlement in done.settlements] == [Bury]


def test_finding_d4_s10_a_body_that_ended_its_worker_even_then_is_not_read_again(
    app: App, deliver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more than the most that any handler allows: then it is not its handler that kills the worker."""
    read = broken_decode(monkeypatch, MemoryError())
    patient = handler("b", max_attempts=5)(lambda payload: None)
    done = deliver(app([patient], jobs=JobsConfig(max_attempts=3)), b"poison", attempt=7)
    assert done.ending == ("failed", "worker-lost")
    assert "delivered 6 times without coming to an end, at most 5 are allowed" in done.result.message
    assert read == []
    assert deliver(app([patient]), b"poison", attempt=9, exact=6).ending == ("failed", "undecodable")
    assert read == [b"poison"]


# --- what nobody foresaw --------------------------------------------------------------------------------


def exhausted(manager: JobManager, clock: VirtualClock, attempts: int = 3) -> list[JobResult]:
    """Run the one job of a manager; it must use up its attempts, with a pause after each."""
    begun = clock.monotonic()
    results = run_until_idle(manager)
    assert [result.status for result in results] == [Status.TRANSIENT] * (attempts - 1) + [Status.FAILED]
    assert [result.attempt for result in results] == list(range(1, attempts + 1))
    assert str(results[-1].reason) == "retries-exhausted"
    assert clock.monotonic() - begun >= attempts - 1  # a second each, not a loop that runs hot
    (buried,) = manager.adapter.buried("default")
    assert buried.reason == "retries-exhausted"
    return results


def test_finding_d4_s10_a_registry_that_raises_counts_as_an_attempt(
    app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not as a body that cannot be read."""
    manager = app({"a": print}, jobs=JobsConfig(max_attempts=3))

    def failing(kind: str) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(manager.registry, "get", failing, raising=True)
    manager.request("a")
    results = exhausted(manager, clock)
    assert results[-1].message == "unexpected error: LookupError: a bug"


def test_finding_d4_s10_a_table_that_lacks_a_row_counts_as_an_attempt_and_tells_the_callback(
    app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[JobResult] = []
    monkeypatch.delitem(RULES, Situation(Status.SUCCESS, None, True, True))
    manager = app({"a": lambda payload: 1}, jobs=JobsConfig(max_attempts=3))
    job = manager.request("a", callback=told.append)
    with caplog.at_level(logging.ERROR, logger="kessel"):
        results = exhausted(manager, clock)
    assert told == [results[-1]]
    assert (told[0].id, told[0].request) == (job.id, job)
    assert [vars(record)["job_id"] for record in caplog.records] == [job.id] * 3  # each with its traceback


def test_s10_it_may_use_as_many_attempts_as_its_handler_allows(
    app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(RULES, Situation(Status.SUCCESS, None, True, True))
    manager = app([handler("a", max_attempts=2)(lambda payload: 1)], jobs=JobsConfig(max_attempts=9))
    manager.request("a")
    exhausted(manager, clock, attempts=2)


def test_s10_a_consumer_that_fails_when_it_is_asked_for_the_attempt_costs_no_more_than_its_answer(
    app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: object, reservation: Reservation) -> int:
        raise ZeroDivisionError("a bug")

    def handle(payload: object) -> None:
        raise Transient(after=timedelta(seconds=1))

    manager = app({"a": handle}, jobs=JobsConfig(max_attempts=3))
    kind = type(manager.adapter.consumer(["default"]))
    monkeypatch.setattr(kind, "attempt", failing)
    manager.request("a")
    exhausted(manager, clock)


def test_s10_the_exact_number_is_asked_where_a_reservation_does_not_know_it(
    app: App, deliver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that only knows it when asked would be tried for ever."""
    monkeypatch.delitem(RULES, Situation(Status.SUCCESS, None, True, True))
    manager = app({"a": lambda payload: 1}, jobs=JobsConfig(max_attempts=3))
    assert deliver(manager, BODY, exact=2).settlements == [Rollback(timedelta(seconds=1))]
    assert deliver(manager, BODY, exact=3).ending == ("failed", "retries-exhausted")


def test_s10_the_exact_number_is_asked_before_a_job_is_given_up_by_its_own_limit(
    app: App, deliver: Callable[..., Any]
) -> None:
    """Another handler may allow more attempts than this one; an estimate that is too high buries nothing."""

    @handler("few", max_attempts=2)
    def few(payload: JsonValue) -> str:
        return "done"

    @handler("many", max_attempts=9)
    def many(payload: JsonValue) -> None: ...

    done = deliver(app([few, many]), b'{"type": "few", "id": "i"}', attempt=3, exact=2)
    assert done.ending == ("success", None)
    assert done.result.attempt == 2


def test_s10_a_result_with_a_pause_that_is_none_counts_as_an_attempt(app: App, clock: VirtualClock) -> None:
    class Wrong:
        @hookimpl
        def kessel_execute_job(self, job: JobContext) -> JobResult:
            wrong: Any = "soon"
            return JobResult(id=job.id, request=job.request, status=Status.TRANSIENT, after=wrong)

    manager = app({"a": print}, plugin=Wrong(), jobs=JobsConfig(max_attempts=3))
    manager.request("a")
    exhausted(manager, clock)


def test_s10_what_cannot_even_fail_ends_by_the_one_rule_that_looks_at_nothing_else(
    app: App, deliver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a row for failures nothing is decided; the slot gives the job back, and it counts."""
    for situation in [key for key in RULES if key.status in (Status.SUCCESS, Status.TRANSIENT)]:
        monkeypatch.delitem(RULES, situation)
    manager = app({"a": lambda payload: 1}, jobs=JobsConfig(max_attempts=2))
    for attempt in (1, 2):
        with pytest.raises(KeyError):
            deliver(manager, BODY, attempt=attempt)
    assert deliver(manager, BODY, attempt=3).ending == ("failed", "worker-lost")
