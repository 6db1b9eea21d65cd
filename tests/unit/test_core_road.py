"""The road of a job, from its bytes to its report, on the in-memory queue and a virtual clock.

D7; S4, S5, S7, S8, S10 to S13, S15, S16.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta
from typing import Any

import attrs
import pytest
from kessel_core.runtime.executor import SETTLE_PAUSES, Case

from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    Config,
    Fatal,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    JobsConfig,
    JsonValue,
    LeaseLost,
    Reason,
    Status,
    Transient,
    build_plugins,
    handler,
    hookimpl,
)
from kessel_core.contract import COMMIT, NO_PAUSE, Bury, Consumer, Message, Reservation, Rollback, Settlement
from kessel_core.model.policies import DefaultError, OnExpired, UnknownType
from kessel_core.testing import VirtualClock, run_until_idle

Open = Callable[..., JobManager]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def opened(clock: VirtualClock) -> Iterator[Open]:
    """Connects managers to a private memory queue; `jobs` are the rules, `plugin` a further plugin."""
    managers: list[JobManager] = []

    def open_(
        handlers: Any = None, *, plugin: object = None, jobs: JobsConfig | None = None, **more: Any
    ) -> JobManager:
        import kessel_memory.plugin

        extra = {"memory": kessel_memory.plugin} | ({"watcher": plugin} if plugin is not None else {})
        plugins = build_plugins(extra=extra, distributions=[])
        config = Config(jobs=jobs if jobs is not None else JobsConfig())
        manager = JobManager(
            "memory://", clock=clock, handlers=handlers, config=config, plugins=plugins, **more
        )
        managers.append(manager)
        return manager.connect()

    yield open_
    for manager in managers:
        manager.close()


class Settled(Consumer):
    """A consumer that notes how it is settled, and may fail first."""

    def __init__(self, *failures: Exception, attempt: int | Exception = 1) -> None:
        self.failures = list(failures)
        self.settlements: list[Settlement] = []
        self.exact = attempt

    def reserve(self, timeout: timedelta) -> Reservation | None:
        return None

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.settlements.append(settlement)

    def extend(self, reservation: Reservation) -> None:
        raise LeaseLost(reservation.id, "too late")

    def attempt(self, reservation: Reservation) -> int:
        if isinstance(self.exact, Exception):
            raise self.exact
        return max(self.exact, reservation.attempt)

    def cancel(self) -> None: ...

    def close(self) -> None: ...


def body(kind: str = "a", **fields: Any) -> bytes:
    return json.dumps({"type": kind, "id": "i", **fields}).encode()


def ran(
    manager: JobManager, raw: bytes, consumer: Settled, attempt: int = 1, deadline: float | None = None
) -> Case:
    reservation = Reservation("i", "default", raw, attempt)
    reservation.deadline = deadline
    return manager.executor.run(Case(reservation, consumer))


def outcome(case: Case) -> tuple[Status, Reason | None]:
    assert case.result is not None
    return case.result.status, case.result.reason


def fail(error: BaseException) -> Callable[[JsonValue], None]:
    def failing(payload: JsonValue) -> None:
        raise error

    return failing


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@attrs.frozen
class Order:
    count: int


def count_of(order: Order) -> int:
    return order.count


# --- how a handler's end becomes a result -----------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Transient("later"), Status.TRANSIENT),
        (Fatal("never"), Status.FAILED),
        (ConnectionError("gone"), Status.TRANSIENT),
        (TimeoutError("slow"), Status.TRANSIENT),
        (ValueError("wrong"), Status.FAILED),
        (SystemExit(3), Status.FAILED),
        (Unreadable(), Status.FAILED),
        (asyncio.CancelledError(), Status.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_handler_raises_says_whether_a_retry_can_help(
    opened: Open, error: BaseException, status: Status
) -> None:
    result = opened({"a": fail(error)}).process_single_job("a")
    assert (result.status, result.reason) == (status, Reason.ERROR)


def test_errors_that_the_handler_names_as_transient_are(opened: Open) -> None:
    @handler("a", transient=KeyError)
    def failing(payload: JsonValue) -> None:
        raise KeyError("x")

    assert opened([failing]).process_single_job("a").status is Status.TRANSIENT


def test_default_error_transient_turns_unknown_errors_round(opened: Open) -> None:
    rules = JobsConfig(default_error=DefaultError.TRANSIENT)
    manager = opened({"a": fail(ValueError("x")), "b": fail(Fatal("x")), "c": fail(SystemExit())}, jobs=rules)
    statuses = [manager.process_single_job(kind).status for kind in "abc"]
    assert statuses == [Status.TRANSIENT, Status.FAILED, Status.FAILED]


def test_a_value_is_the_result_of_a_success(opened: Open) -> None:
    result = opened({"a": lambda payload: [payload]}).process_single_job("a", {"x": 1})
    assert (result.ok, result.value, result.attempt) == (True, [{"x": 1}], 1)
    assert result.started_at is not None
    assert result.finished_at is not None


def test_a_value_that_is_no_json_is_a_failure_with_its_path(opened: Open) -> None:
    result = opened({"a": lambda payload: {"x": {1}}}).process_single_job("a")
    assert (result.status, result.reason) == (Status.FAILED, Reason.ERROR)
    assert "$.x" in result.message


def test_a_job_result_is_taken_as_it_is_but_for_its_identity(opened: Open) -> None:
    given = JobResult(id="other", request=None, status=Status.FAILED, message="mine", reason=Reason.ERROR)
    result = opened({"a": lambda payload: given}).process_single_job("a")
    assert (result.message, result.request is not None, result.id != "other") == ("mine", True, True)


def test_a_payload_that_does_not_fit_is_fatal_and_says_where(opened: Open) -> None:
    manager = opened({"a": count_of})
    assert manager.process_single_job("a", {"count": 3}).value == 3
    result = manager.process_single_job("a", {"count": "3"})
    assert (result.status, result.reason) == (Status.FAILED, Reason.BAD_PAYLOAD)
    assert "$.count" in result.message


def test_s16_every_attempt_gets_a_fresh_copy_of_its_payload(opened: Open) -> None:
    seen: list[Any] = []

    def spoil(payload: Any) -> None:
        seen.append(dict(payload))
        payload["x"] = 2
        raise Transient

    manager = opened({"a": spoil}, jobs=JobsConfig(max_attempts=3))
    manager.request("a", {"x": 1})
    run_until_idle(manager)
    assert seen == [{"x": 1}] * 3


# --- async handlers ---------------------------------------------------------------------------------


def test_async_handlers_run_beside_plain_ones(opened: Open) -> None:
    async def slow(payload: JsonValue, job: JobContext) -> str:
        await asyncio.sleep(0)
        return job.type

    async def answer() -> int:
        return 42

    # A plain function that returns a coroutine is awaited, too.
    manager = opened({"slow": slow, "plain": lambda payload: payload, "between": lambda payload: answer()})
    values = [manager.process_single_job(kind, 1).value for kind in ("slow", "plain", "between")]
    assert values == ["slow", 1, 42]


def test_an_async_handler_that_runs_too_long_is_cut_and_tried_again(opened: Open) -> None:
    @handler("a", timeout=timedelta(milliseconds=1))
    async def endless(payload: JsonValue) -> None:
        await asyncio.Event().wait()

    result = opened([endless]).process_single_job("a")
    assert (result.status, result.reason) == (Status.TRANSIENT, Reason.TIMED_OUT)


def test_a_timeout_of_the_handlers_own_is_not_taken_for_its_limit(opened: Open) -> None:
    @handler("a", timeout=timedelta(minutes=1))
    async def failing(payload: JsonValue) -> None:
        raise TimeoutError("of a socket")

    result = opened([failing]).process_single_job("a")
    assert (result.status, result.reason) == (Status.TRANSIENT, Reason.ERROR)


def test_d9_an_async_job_cut_by_the_end_of_its_worker_alarms_nobody(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Its job was rolled back and will be run elsewhere: no traceback, no failure for good."""
    running = threading.Event()

    async def endless(payload: JsonValue) -> None:
        running.set()
        await asyncio.Event().wait()

    manager = opened({"a": endless})
    results: list[JobResult] = []
    slot = threading.Thread(target=lambda: results.append(manager.process_single_job("a")))
    slot.start()
    assert running.wait(10)
    manager.close()  # as after the grace period of its worker
    slot.join(10)
    (result,) = results
    assert (result.status, result.message) == (Status.TRANSIENT, "cancelled, because its worker stopped")
    assert not [record for record in caplog.records if record.exc_info]


# --- before the handler -----------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"\xff", b"{}", b"[1]"])
def test_s13_a_body_that_is_no_request_is_buried_and_the_worker_goes_on(opened: Open, raw: bytes) -> None:
    manager, consumer = opened(), Settled()
    assert outcome(ran(manager, raw, consumer)) == (Status.FAILED, Reason.UNDECODABLE)
    (settlement,) = consumer.settlements
    assert isinstance(settlement, Bury)
    assert settlement.reason == "undecodable"


def test_s13_its_bytes_stay_untouched(opened: Open) -> None:
    manager = opened()
    manager.adapter.enqueue(Message("i", "default", b"\x00poison", 0, None, None))
    run_until_idle(manager)
    (buried,) = manager.adapter.buried("default")
    assert (buried.body, buried.reason) == (b"\x00poison", "undecodable")


def test_s12_an_unknown_type_is_buried_and_names_the_known_ones(opened: Open) -> None:
    manager, consumer = opened({"b": print, "c": print}), Settled()
    case = ran(manager, body("a"), consumer)
    assert outcome(case) == (Status.FAILED, Reason.NO_HANDLER)
    assert "known types: b, c" in case.message
    assert isinstance(consumer.settlements[0], Bury)


def test_s12_it_is_tried_again_while_workers_are_replaced(opened: Open) -> None:
    manager = opened(jobs=JobsConfig(unknown_type=UnknownType.RETRY, max_attempts=2))
    consumer = Settled()
    assert outcome(ran(manager, body(), consumer)) == (Status.TRANSIENT, Reason.NO_HANDLER)
    consumer.exact = 2
    assert outcome(ran(manager, body(), consumer, attempt=2)) == (Status.FAILED, Reason.NO_HANDLER)
    assert [type(s) for s in consumer.settlements] == [Rollback, Bury]


def test_s10_a_job_that_kills_its_worker_is_buried_unhandled(opened: Open) -> None:
    called: list[Any] = []
    manager, consumer = opened({"a": called.append}, jobs=JobsConfig(max_attempts=3)), Settled(attempt=4)
    case = ran(manager, body(), consumer, attempt=4)
    assert outcome(case) == (Status.FAILED, Reason.WORKER_LOST)
    assert isinstance(consumer.settlements[0], Bury)
    assert called == []


def test_s10_the_last_failure_buries_the_job(opened: Open) -> None:
    manager = opened({"a": fail(Transient("no luck"))}, jobs=JobsConfig(max_attempts=2))
    manager.request("a")
    results = run_until_idle(manager)
    assert [r.status for r in results] == [Status.TRANSIENT, Status.FAILED]
    (buried,) = manager.adapter.buried("default")
    assert (buried.reason, buried.message) == ("retries-exhausted", "no luck")


def test_s10_an_unknown_number_of_attempts_is_taken_from_the_reservation(opened: Open) -> None:
    consumer = Settled(attempt=AdapterUnavailable("away"))
    case = ran(opened({"a": fail(Transient())}), body(), consumer)
    assert outcome(case) == (Status.TRANSIENT, Reason.ERROR)


def test_s4_a_delivery_before_the_delay_is_given_back_unhandled(opened: Open, clock: VirtualClock) -> None:
    called: list[Any] = []
    delay = (clock.now() + timedelta(hours=1)).isoformat()
    consumer = Settled()
    case = ran(opened({"a": called.append}), body(delay=delay), consumer)
    assert case.result is None
    assert consumer.settlements == [Rollback(timedelta(hours=1))]
    assert called == []


def test_s4_giving_it_back_once_costs_no_attempt(opened: Open, clock: VirtualClock) -> None:
    manager, consumer = opened({"a": fail(Transient())}, jobs=JobsConfig(max_attempts=1)), Settled(attempt=2)
    case = ran(manager, body(delay=clock.now().isoformat()), consumer, attempt=2)
    assert outcome(case) == (Status.FAILED, Reason.RETRIES_EXHAUSTED)


@pytest.mark.parametrize(("rule", "kind"), [(OnExpired.COMMIT, type(COMMIT)), (OnExpired.BURY, Bury)])
def test_s5_an_expired_job_is_never_handled(
    opened: Open, clock: VirtualClock, rule: OnExpired, kind: type
) -> None:
    called: list[Any] = []
    manager, consumer = opened({"a": called.append}, jobs=JobsConfig(on_expired=rule)), Settled()
    case = ran(manager, body(expiration=clock.now().isoformat()), consumer)
    assert outcome(case) == (Status.FAILED, Reason.EXPIRED)
    assert isinstance(consumer.settlements[0], kind)
    assert called == []


def test_s5_expiration_is_checked_again_just_before_the_handler(opened: Open, clock: VirtualClock) -> None:
    called: list[Any] = []

    class Slow:
        @hookimpl
        def kessel_job_started(self, job: JobContext) -> None:
            clock.advance(timedelta(hours=2))

    manager, consumer = opened({"a": called.append}, plugin=Slow()), Settled()
    expiration = (clock.now() + timedelta(hours=1)).isoformat()
    assert outcome(ran(manager, body(expiration=expiration), consumer)) == (Status.FAILED, Reason.EXPIRED)
    assert (consumer.settlements, called) == ([COMMIT], [])


def test_s11_a_retry_that_could_only_start_after_expiration_ends_as_expired_now(
    opened: Open, clock: VirtualClock
) -> None:
    manager, consumer = opened({"a": fail(Transient(after=timedelta(hours=2)))}), Settled()
    expiration = (clock.now() + timedelta(hours=1)).isoformat()
    assert outcome(ran(manager, body(expiration=expiration), consumer)) == (Status.FAILED, Reason.EXPIRED)


@pytest.mark.parametrize("after", [NO_PAUSE, timedelta(minutes=7), timedelta.max])
def test_s11_after_overrides_the_policy(opened: Open, after: timedelta) -> None:
    consumer = Settled()
    ran(opened({"a": fail(Transient(after=after))}), body(), consumer)
    assert consumer.settlements == [Rollback(after)]


@pytest.mark.parametrize(
    ("pause", "used"),
    [
        (timedelta(5), timedelta(5)),
        (timedelta(-5), NO_PAUSE),
        ("soon", NO_PAUSE),
        (None, timedelta(seconds=1)),
    ],
)
def test_s11_a_plugin_may_say_the_pause_and_may_fail(opened: Open, pause: Any, used: timedelta) -> None:
    class Policy:
        @hookimpl
        def kessel_retry_pause(self, job: JobContext) -> Any:
            if pause is None:
                raise RuntimeError("broken")
            return pause

    consumer = Settled()
    ran(opened({"a": fail(Transient())}, plugin=Policy()), body(), consumer)
    assert consumer.settlements == [Rollback(used)]


# --- around the handler -------------------------------------------------------------------------------


def test_a_failing_middleware_is_a_failing_handler(opened: Open) -> None:
    class Broken:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
            yield
            raise ConnectionError("middleware")

    result = opened({"a": print}, plugin=Broken()).process_single_job("a")
    assert (result.status, result.reason) == (Status.TRANSIENT, Reason.ERROR)


def test_a_middleware_that_returns_something_else_is_a_failure(opened: Open) -> None:
    class Wrong:
        @hookimpl
        def kessel_execute_job(self, job: JobContext) -> Any:
            return "done"

    result = opened({"a": print}, plugin=Wrong()).process_single_job("a")
    assert (result.status, result.reason) == (Status.FAILED, Reason.ERROR)
    assert "returned str" in result.message


def test_d3_a_watcher_that_raises_changes_nothing_and_is_named(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        @hookimpl
        def kessel_job_started(self) -> None:
            raise RuntimeError("started")

        @hookimpl
        def kessel_job_settled(self, settlement: Settlement) -> None:
            raise RuntimeError("settled")

        @hookimpl
        def kessel_job_finished(self, result: JobResult) -> None:
            raise RuntimeError("finished")

    assert opened({"a": print}, plugin=Broken()).process_single_job("a").ok
    named = [r.getMessage() for r in caplog.records if r.name == "kessel.plugins"]
    assert len(named) == 3
    assert all("watcher" in text for text in named)


# --- settling and telling ------------------------------------------------------------------------------


def test_s7_a_lost_lease_settles_and_reports_nothing(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    told: list[JobResult] = []

    class Watching:
        @hookimpl
        def kessel_job_finished(self, result: JobResult) -> None:
            told.append(result)

    consumer = Settled(LeaseLost("i", "too late"))
    case = ran(opened({"a": print}, plugin=Watching()), body(), consumer)
    assert (case.lost, consumer.settlements, told) == (True, [], [])
    assert "delivered again" in caplog.text


def test_a_settle_is_tried_again_while_the_queue_is_away(opened: Open, clock: VirtualClock) -> None:
    consumer = Settled(AdapterUnavailable("away"), AdapterUnavailable("away"))
    case = ran(opened({"a": print}), body(), consumer, deadline=clock.monotonic() + 60)
    assert (case.lost, consumer.settlements) == (False, [COMMIT])


@pytest.mark.parametrize(
    ("failures", "lease"),
    [
        ([AdapterUnavailable("away")] * (len(SETTLE_PAUSES) + 1), 60.0),
        ([AdapterUnavailable("away")] * 2, 0.01),
        ([AdapterUnavailable("away"), LeaseLost("i", "late")], 60.0),
        ([AdapterError("refused")], 60.0),
        ([RuntimeError("a bug")], 60.0),
    ],
    ids=["away for long", "lease ends", "lost meanwhile", "refused", "bug"],
)
def test_s9_what_cannot_be_settled_is_said_with_its_body(
    opened: Open,
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
    failures: list[Exception],
    lease: float,
) -> None:
    consumer = Settled(*failures)
    case = ran(opened({"a": print}), body(), consumer, deadline=clock.monotonic() + lease)
    assert (case.lost, consumer.settlements) == (True, [])
    assert "could not be settled" in caplog.text
    assert '"type": "a"' in caplog.text


def test_whoever_claims_first_settles(opened: Open) -> None:
    consumer = Settled()
    case = Case(Reservation("i", "default", body(), 1), consumer)
    assert case.claim()  # as a stopping worker does
    opened({"a": print}).executor.run(case)
    assert (case.lost, consumer.settlements) == (True, [])


def test_s7_extend_of_a_lost_lease_reaches_the_handler(opened: Open) -> None:
    def extending(payload: JsonValue, job: JobContext) -> None:
        with pytest.raises(LeaseLost):
            job.extend()

    assert outcome(ran(opened({"a": extending}), body(), Settled())) == (Status.SUCCESS, None)


def test_s15_a_callback_is_told_once_after_the_last_settlement(opened: Open) -> None:
    told: list[JobResult] = []
    manager = opened({"a": fail(Transient())}, jobs=JobsConfig(max_attempts=3))
    manager.request("a", callback=told.append)
    run_until_idle(manager)
    assert [(r.status, r.reason, r.attempt) for r in told] == [(Status.FAILED, Reason.RETRIES_EXHAUSTED, 3)]


def test_s15_an_expired_job_tells_its_callback(opened: Open, clock: VirtualClock) -> None:
    told: list[JobResult] = []
    manager = opened({"a": print})
    manager.request("a", expiration=timedelta(hours=1), callback=told.append)
    clock.advance(timedelta(hours=1))
    run_until_idle(manager)
    assert [r.reason for r in told] == [Reason.EXPIRED]


def test_s15_a_callback_that_fails_is_logged_and_changes_nothing(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(result: JobResult) -> None:
        raise RuntimeError("callback")

    manager = opened({"a": print})
    manager.request("a", callback=failing)
    assert [r.ok for r in run_until_idle(manager)] == [True]
    assert "callback of job" in caplog.text


def test_s15_a_scheme_finds_the_callback_of_a_plugin(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[bool, str]] = []

    class Telling:
        @hookimpl
        def kessel_callbacks(self) -> Any:
            return {"tell": lambda result, target: told.append((result.ok, target))}

    manager = opened({"a": print}, plugin=Telling())
    manager.request("a", callback="tell:me:now")
    manager.request("a", callback="shout:me")
    run_until_idle(manager)
    assert told == [(True, "me:now")]
    assert "no callback is registered for 'shout' (known: tell)" in caplog.text


def test_a_job_that_no_middleware_saw_is_logged_by_the_executor(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="kessel"):
        ran(opened(), body("unknown"), Settled())
    assert any(r.name == "kessel.executor" and "no-handler" in r.getMessage() for r in caplog.records)


def test_s10_a_burial_that_middleware_could_not_foresee_is_logged(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    manager = opened({"a": fail(Transient("no luck"))}, jobs=JobsConfig(max_attempts=2))
    with caplog.at_level(logging.INFO, logger="kessel"):
        manager.request("a")
        run_until_idle(manager)
    (said,) = [record for record in caplog.records if record.name == "kessel.executor"]
    assert "failed: retries-exhausted (no luck)" in said.getMessage()
    assert (vars(said)["job_type"], vars(said)["attempt"]) == ("a", 2)


def test_debug_lines_follow_a_job_to_its_settlements(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    tries = [Transient("no luck", after=timedelta(seconds=90))]

    def once(payload: JsonValue) -> None:
        if tries:
            raise tries.pop()

    manager = opened({"a": once})
    with caplog.at_level(logging.DEBUG, logger="kessel.executor"):
        job_id = manager.request("a").id
        run_until_idle(manager)
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]
    assert said == [
        f"job {job_id}: reserved from default, delivery 1",
        f"job {job_id}: settled by rollback, to be tried again in 90 s",
        f"job {job_id}: reserved from default, delivery 2",
        f"job {job_id}: settled by commit",
    ]


def test_a_job_of_another_language_gets_the_id_of_its_queue(opened: Open) -> None:
    case = ran(opened({"a": print}), b'{"type": "a"}', Settled())
    assert case.result is not None
    assert case.result.id == "i"


def test_s8_a_kicked_job_runs_again(opened: Open) -> None:
    tries: list[JsonValue] = []

    def twice(payload: JsonValue) -> None:
        tries.append(payload)
        if len(tries) == 1:
            raise Fatal("first")

    manager = opened({"a": twice})
    request = manager.request(JobRequest(type="a", payload=1))
    run_until_idle(manager)
    manager.adapter.kick("default", request.id)
    assert [r.ok for r in run_until_idle(manager)] == [True]
