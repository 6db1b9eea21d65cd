"""How the end of a handler, and of the middleware around it, becomes a result: S5, S16, D9."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from typing import Any

import attrs
import kessel_memory.plugin
import pytest

from kessel_core import (
    Config,
    Fatal,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    JobsConfig,
    JsonValue,
    Reason,
    ResultsConfig,
    Snooze,
    Status,
    Transient,
    build_plugins,
    handler,
    hookimpl,
)
from kessel_core.contract import JobState
from kessel_core.model.policies import DefaultError
from kessel_core.testing import run_until_idle

App = Callable[..., JobManager]


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
    app: App, error: BaseException, status: Status
) -> None:
    result = app({"a": fail(error)}).process_single_job("a")
    assert (result.status, result.reason) == (status, Reason.ERROR)


def test_s11_s21_a_signal_of_a_class_of_ones_own_needs_no_init_of_its_base(app: App) -> None:
    """It was buried for the attribute that its base would have set."""

    class RateLimited(Transient):
        def __init__(self, host: str) -> None:
            self.host = host

    class Closed(Snooze):
        def __init__(self, shop: str) -> None:
            self.shop = shop

    manager = app({"a": fail(RateLimited("example.org")), "b": fail(Closed("north"))})
    results = [manager.process_single_job(kind) for kind in "ab"]
    assert [(result.status, result.after) for result in results] == [
        (Status.TRANSIENT, None),
        (Status.SNOOZED, None),
    ]


@pytest.mark.parametrize(
    ("errors", "status", "after"),
    [
        ([Transient("later", after=timedelta(seconds=3))], Status.TRANSIENT, timedelta(seconds=3)),
        ([Transient("later", after=timedelta(1)), ConnectionError("gone")], Status.TRANSIENT, timedelta(1)),
        ([Transient("later", after=timedelta(1)), ValueError("wrong")], Status.FAILED, None),
        ([ConnectionError("gone"), ExceptionGroup("inside", [Fatal("never")])], Status.FAILED, None),
        ([Snooze(timedelta(2)), Snooze(timedelta(1))], Status.SNOOZED, timedelta(2)),
        ([Snooze(timedelta(2)), Transient("later")], Status.TRANSIENT, timedelta(2)),
        ([BaseExceptionGroup("inside", [SystemExit(3)]), Transient("later")], Status.FAILED, None),
    ],
)
def test_s11_s21_a_group_of_errors_is_tried_again_if_that_can_help_with_all_of_them(
    app: App, errors: list[BaseException], status: Status, after: timedelta | None
) -> None:
    """`asyncio.TaskGroup` raises one of whatever a task raises: each `Transient` in it buried the job."""
    manager = app({"a": fail(BaseExceptionGroup("all", errors))})
    result = manager.process_single_job("a")
    assert (result.status, result.after) == (status, after)
    assert result.reason is (None if status is Status.SNOOZED else Reason.ERROR)
    for error in errors:
        assert str(error) in result.message


def test_s11_what_a_task_of_a_handler_raises_is_judged_as_what_the_handler_raises(app: App) -> None:
    async def ask(host: str) -> None:
        raise ConnectionError(f"{host} is away")

    async def handle(payload: JsonValue) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ask("example.org"))

    result = app({"a": handle}).process_single_job("a")
    assert result.status is Status.TRANSIENT
    assert "ConnectionError: example.org is away" in result.message
    assert "in ask" in result.frames


def test_a_handler_may_name_groups_as_transient(app: App) -> None:
    target = handler("a", transient=ExceptionGroup)(fail(ExceptionGroup("all", [ValueError("wrong")])))
    assert app([target]).process_single_job("a").status is Status.TRANSIENT


def test_errors_that_the_handler_names_as_transient_are(app: App) -> None:
    @handler("a", transient=KeyError)
    def failing(payload: JsonValue) -> None:
        raise KeyError("x")

    assert app([failing]).process_single_job("a").status is Status.TRANSIENT


def test_default_error_transient_turns_unknown_errors_round(app: App) -> None:
    rules = JobsConfig(default_error=DefaultError.TRANSIENT)
    manager = app({"a": fail(ValueError("x")), "b": fail(Fatal("x")), "c": fail(SystemExit())}, jobs=rules)
    statuses = [manager.process_single_job(kind).status for kind in "abc"]
    assert statuses == [Status.TRANSIENT, Status.FAILED, Status.FAILED]


def test_a_value_is_the_result_of_a_success(app: App) -> None:
    result = app({"a": lambda payload: [payload]}).process_single_job("a", {"x": 1})
    assert (result.ok, result.value, result.attempt) == (True, [{"x": 1}], 1)
    assert result.started_at is not None
    assert result.finished_at is not None


def test_a_value_that_is_no_json_is_a_failure_with_its_path(app: App) -> None:
    result = app({"a": lambda payload: {"x": {1}}}).process_single_job("a")
    assert (result.status, result.reason) == (Status.FAILED, Reason.ERROR)
    assert "$.x" in result.message


def test_a_job_result_is_taken_as_it_is_but_for_its_identity(app: App) -> None:
    given = JobResult(
        id="other", request=None, status=Status.FAILED, message="mine", reason=Reason.ERROR, attempt=7
    )
    manager = app({"a": lambda payload: given})
    result = manager.process_single_job(JobRequest(type="a", id="i"))
    assert (result.id, result.message, result.reason, result.attempt) == ("i", "mine", Reason.ERROR, 1)
    assert result.request is not None
    assert result.started_at == result.finished_at == manager.clock.now()
    given = JobResult(id="other", request=None, status=Status.SUCCESS, value=3, attempt=7)
    result = app({"a": lambda payload: given}).process_single_job(JobRequest(type="a", id="i"))
    assert (result.id, result.value, result.attempt) == ("i", 3, 1)


def test_a_payload_that_does_not_fit_is_fatal_and_says_where(app: App) -> None:
    manager = app({"a": count_of})
    assert manager.process_single_job("a", {"count": 3}).value == 3
    result = manager.process_single_job("a", {"count": "3"})
    assert (result.status, result.reason) == (Status.FAILED, Reason.BAD_PAYLOAD)
    assert "$.count" in result.message


def test_s16_every_attempt_gets_a_fresh_copy_of_its_payload(app: App) -> None:
    seen: list[Any] = []

    def spoil(payload: Any) -> None:
        seen.append(dict(payload))
        payload["x"] = 2
        raise Transient

    manager = app({"a": spoil}, jobs=JobsConfig(max_attempts=3))
    manager.request("a", {"x": 1})
    run_until_idle(manager)
    assert seen == [{"x": 1}] * 3


def test_x1_a_handler_cannot_write_into_headers_and_nothing_reaches_another_job_or_request(
    app: App,
) -> None:
    """Review X1: what one job wrote was seen by all later ones, and stored with the next request."""
    seen: list[dict[str, str]] = []

    def write(payload: JsonValue, job: JobContext) -> None:
        seen.append(dict(job.headers))
        for headers in (job.headers, job.request.headers):
            for attempt in (
                "headers['tenant'] = 'north'",
                "headers.clear()",
                "headers.update(tenant='north')",
            ):
                with pytest.raises((TypeError, AttributeError)):
                    exec(attempt, {"headers": headers})
        with pytest.raises(TypeError):
            job.headers["tenant"] = "north"  # type: ignore[index]
        job.request.extra["tenant"] = "north"  # type: ignore[index]

    manager = app({"a": write})
    manager.request("a")
    manager.request("a", headers={"trace": "1"})
    first, second = run_until_idle(manager)
    assert "this mapping cannot be changed" in first.message
    assert seen == [{}, {"trace": "1"}]
    stored = manager.request("a")
    assert (dict(stored.headers), dict(stored.extra)) == ({}, {})
    (waiting,) = manager.adapter.peek("default", JobState.READY)
    assert b"tenant" not in waiting.body
    assert dict(second.request.headers) == {"trace": "1"}


# --- async handlers ---------------------------------------------------------------------------------


def test_async_handlers_run_beside_plain_ones(app: App) -> None:
    async def slow(payload: JsonValue, job: JobContext) -> str:
        await asyncio.sleep(0)
        return job.type

    async def answer() -> int:
        return 42

    # A plain function that returns a coroutine is awaited, too.
    manager = app({"slow": slow, "plain": lambda payload: payload, "between": lambda payload: answer()})
    values = [manager.process_single_job(kind, 1).value for kind in ("slow", "plain", "between")]
    assert values == ["slow", 1, 42]


def test_an_async_handler_that_runs_too_long_is_cut_and_tried_again(app: App) -> None:
    @handler("a", timeout=timedelta(milliseconds=1))
    async def endless(payload: JsonValue) -> None:
        await asyncio.Event().wait()

    result = app([endless]).process_single_job("a")
    assert (result.status, result.reason) == (Status.TRANSIENT, Reason.TIMED_OUT)


def test_a_timeout_of_the_handlers_own_is_not_taken_for_its_limit(app: App) -> None:
    @handler("a", timeout=timedelta(minutes=1))
    async def failing(payload: JsonValue) -> None:
        raise TimeoutError("of a socket")

    result = app([failing]).process_single_job("a")
    assert (result.status, result.reason) == (Status.TRANSIENT, Reason.ERROR)


def test_d9_an_async_job_cut_by_the_end_of_its_worker_alarms_nobody(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """Its job was given back and will be run elsewhere: no traceback, no failure for good."""
    running = threading.Event()

    async def endless(payload: JsonValue) -> None:
        running.set()
        await asyncio.Event().wait()

    manager = app({"a": endless})
    results: list[JobResult] = []
    slot = threading.Thread(target=lambda: results.append(manager.process_single_job("a")))
    slot.start()
    assert running.wait(10)
    manager.close()  # as after the grace period of its worker
    slot.join(10)
    (result,) = results
    assert (result.status, result.message) == (Status.TRANSIENT, "cancelled, because its worker stopped")
    assert not [record for record in caplog.records if record.exc_info]


# --- around the handler -------------------------------------------------------------------------------


def test_a_failing_middleware_is_a_failing_handler(app: App) -> None:
    class Broken:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
            yield
            raise ConnectionError("middleware")

    result = app({"a": print}, plugin=Broken()).process_single_job("a")
    assert (result.status, result.reason) == (Status.TRANSIENT, Reason.ERROR)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"value": {1, 2}}, (Status.FAILED, None, "a middleware answered what is not a JSON value: $: set")),
        ({"value": Order(3)}, (Status.SUCCESS, {"count": 3}, "")),
        ({"message": "caf\udce9"}, (Status.SUCCESS, 1, r"caf\udce9")),
    ],
)
def test_what_a_middleware_answers_is_checked_as_what_a_handler_returns(
    app: App, changed: dict[str, Any], expected: tuple[Status, object, str]
) -> None:
    class Changing:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
            return attrs.evolve((yield), **changed)

    result = app({"a": lambda payload: 1}, plugin=Changing()).process_single_job("a")
    status, value, message = expected
    assert (result.status, result.value) == (status, value)
    assert result.message.startswith(message)


def test_s15_s22_who_waits_is_told_what_a_middleware_answers_without_the_request(app: App) -> None:
    class Cached:
        @hookimpl(tryfirst=True)
        def kessel_execute_job(self, job: JobContext) -> JobResult | None:
            return JobResult(id=job.id, request=None, status=Status.SUCCESS, value="cached")

    called, told = list[JobResult](), list[Any]()
    manager = app({"a": len, "told": told.append}, plugin=Cached())
    manager.request("a", [], callback=called.append)
    manager.request("a", [], callback="job:told")
    results = run_until_idle(manager)
    assert [result.value for result in called] == ["cached"]
    assert [result.request.type for result in results] == ["a", "a", "told"]


def test_s15_s22_s25_a_result_that_a_middleware_has_kept_of_another_job_is_told_and_kept_as_this_ones(
    app: App,
) -> None:
    """Else the first job was told twice, and who waited for the second heard nothing."""
    kept: dict[Any, JobResult] = {}

    class Once:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
            result = yield
            return kept.setdefault(job.request.payload, result) if job.type == "a" else result

    config = Config(results=ResultsConfig(keep=timedelta(hours=1)))
    called, told = list[JobResult](), list[Any]()
    manager = app({"a": lambda payload: "done", "told": told.append}, plugin=Once(), config=config)
    manager.request("a", "same", ref="first")
    second = manager.request("a", "same", ref="second", callback=called.append)
    third = manager.request("a", "same", ref="third", callback="job:told")
    run_until_idle(manager)
    assert [(one.id, one.request and one.request.ref, one.value) for one in called] == [
        (second.id, "second", "done")
    ]
    assert [(one["id"], one["ref"], one["value"]) for one in told] == [(third.id, "third", "done")]
    for job in (second, third):
        outcome = manager.result(job.id)
        assert (outcome.id, outcome.ref, outcome.value) == (job.id, job.ref, "done")


@pytest.mark.parametrize("moment", [datetime(2026, 1, 1), "2026-01-01"])
def test_s15_s25_times_of_a_middleware_that_are_none_are_those_of_the_attempt(app: App, moment: Any) -> None:
    """The settled job was told to nobody, and its slot began anew."""

    class Answering:
        @hookimpl
        def kessel_execute_job(self, job: JobContext) -> JobResult:
            request = job.request
            return JobResult(
                id=job.id, request=request, status=Status.FAILED, started_at=moment, finished_at=moment
            )

    config = Config(results=ResultsConfig(keep=timedelta(hours=1)))
    called = list[JobResult]()
    manager = app({"a": print}, plugin=Answering(), config=config)
    job = manager.request("a", callback=called.append)
    run_until_idle(manager)
    assert [(result.started_at, result.finished_at) for result in called] == [(None, manager.clock.now())]
    assert manager.result(job.id).finished_at == manager.clock.now()


def test_s25_a_value_that_became_no_json_after_the_handler_fails_its_job_once(app: App) -> None:
    """It was checked, and changed since by a middleware; its slot began anew with each attempt."""

    class Changing:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
            result = yield
            assert isinstance(result.value, dict)
            result.value["by"] = self
            return result

    config = Config(results=ResultsConfig(keep=timedelta(hours=1)))
    manager = app({"a": lambda payload: {}}, plugin=Changing(), config=config)
    job = manager.request("a")
    (result,) = run_until_idle(manager)
    assert (result.status, result.reason) == (Status.FAILED, Reason.ERROR)
    assert result.message.startswith("its outcome cannot be written: TypeError: ")
    assert manager.result(job.id).message == result.message


@pytest.mark.parametrize("by", ["handler", "middleware"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"status": "done"}, "'done' is not a valid Status"),
        ({"status": Status.FAILED, "reason": "card-declined"}, "'card-declined' is not a valid Reason"),
        ({"status": Status.FAILED, "message": None}, "a message that is no text, but NoneType"),
    ],
)
def test_a_result_that_cannot_be_one_fails_its_job_once_and_says_why(
    app: App, by: str, wrong: dict[str, Any], said: str
) -> None:
    """It was logged as a bug of kessel, and tried again until the retries were exhausted."""

    class Answering:
        @hookimpl
        def kessel_execute_job(self, job: JobContext) -> JobResult | None:
            return JobResult(id=job.id, request=job.request, **wrong) if by == "middleware" else None

    def handle(payload: Any, job: JobContext) -> JobResult:
        return JobResult(id=job.id, request=job.request, **wrong)

    manager = app({"a": handle}, plugin=Answering())
    manager.request("a")
    (result,) = run_until_idle(manager)
    assert (result.status, result.reason) == (Status.FAILED, Reason.ERROR)
    assert said in result.message


def test_a_result_with_the_texts_of_codes_has_the_codes(app: App) -> None:
    status: Any = "failed"
    reason: Any = "error"
    manager = app({"a": lambda payload: JobResult(id="", request=None, status=status, reason=reason)})
    result = manager.process_single_job("a")
    assert (result.status, result.reason) == (Status.FAILED, Reason.ERROR)
    assert result.reason is Reason.ERROR


def test_a_job_inside_of_another_does_not_get_the_answer_of_that_one() -> None:
    """Where nothing answers in the middleware around it."""

    class Losing:
        @hookimpl(wrapper=True, tryfirst=True)
        def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult | None]:
            if job.type == "inner":
                with contextlib.suppress(LookupError):
                    yield
                return None
            result = yield
            inner.append(manager.process_single_job("inner"))
            return result

    class Failing:
        @hookimpl
        def kessel_execute_job(self, job: JobContext) -> None:
            if job.type == "inner":
                raise LookupError

    inner = list[JobResult]()
    plugins = build_plugins(
        extra={"memory": kessel_memory.plugin, "losing": Losing(), "failing": Failing()}, distributions=[]
    )
    handlers = {"outer": lambda payload: "of the outer", "inner": print}
    with JobManager("memory://", handlers=handlers, plugins=plugins) as manager:
        assert manager.process_single_job("outer").value == "of the outer"
    assert [(result.status, result.value) for result in inner] == [(Status.SNOOZED, None)]


@pytest.mark.parametrize("level", ["INFO", "ERROR"])
def test_a_middleware_that_returns_something_else_is_a_failure(
    app: App, caplog: pytest.LogCaptureFixture, level: str
) -> None:
    """Whether kessel's own middleware logs the attempt or not."""
    caplog.set_level(level, "kessel")

    class Wrong:
        @hookimpl
        def kessel_execute_job(self, job: JobContext) -> Any:
            return "done"

    result = app({"a": print}, plugin=Wrong()).process_single_job("a")
    assert (result.status, result.reason) == (Status.FAILED, Reason.ERROR)
    assert "returned str" in result.message
