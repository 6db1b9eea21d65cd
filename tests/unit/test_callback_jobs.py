"""Callbacks that are text are jobs: stored with the settlement, retried, inspectable (S22)."""

from __future__ import annotations

import asyncio
import functools
import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

import attrs
import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import (
    CapabilityMissing,
    Config,
    Fatal,
    InvalidRequest,
    Job,
    JobContext,
    JobFailed,
    JobManager,
    JobRequest,
    JobsConfig,
    Outcome,
    Reason,
    Snooze,
    Status,
    Transient,
    handler,
    hookimpl,
)
from kessel_core.config.options import CallbacksConfig
from kessel_core.contract import AdapterContext, Browse, Capabilities, JobState, Reach, need
from kessel_core.model.callbacks import CallbackTarget, parsed_callback
from kessel_core.testing import VirtualClock, run_until_idle
from kessel_core.wire.results import decode_outcome, encode_outcome

App = Callable[..., JobManager]


class Shared(MemoryAdapter):
    """A memory adapter that says that others see its jobs, too."""

    name: ClassVar[str] = "shared"

    @property
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities, reach=Reach.HOST)


def shared(**options: Any) -> Shared:
    return Shared(MemoryOptions(**options), AdapterContext(clock=VirtualClock()))


def run_of(
    do: Callable[[Any], Any], callback: Any = "job:told", **request: Any
) -> tuple[Job, list[tuple[Outcome, JobContext]]]:
    """Run a job with a callback to its end; return it, and what was told in which job."""
    told: list[tuple[Outcome, JobContext]] = []

    def tell(outcome: Outcome, job: JobContext) -> None:
        told.append((outcome, job))

    adapter = shared()
    config = Config(jobs=JobsConfig(max_attempts=3))
    handlers = {"asked": do, "told": tell}
    with JobManager(adapter, handlers=handlers, config=config, clock=adapter._store.clock) as manager:
        job = manager.request(JobRequest(type="asked", callback=callback, **request))
        run_until_idle(manager)
    return job, told


def raising(*errors: BaseException) -> Callable[[Any], Any]:
    left = list(errors)

    def do(payload: Any) -> str:
        if left:
            raise left.pop(0)
        return "done"

    return do


def test_s22_a_job_of_the_type_is_told_the_outcome() -> None:
    job, told = run_of(lambda payload: {"sum": payload}, payload=7, ref="r", headers={"trace": "t"})
    ((outcome, telling),) = told
    assert (outcome.id, outcome.type, outcome.ref, outcome.value) == (job.id, "asked", "r", {"sum": 7})
    assert outcome.ok
    assert outcome.raise_for_failure() is outcome
    assert outcome.started_at is not None
    assert outcome.finished_at is not None
    assert telling.request.ref == "r"
    assert dict(telling.headers) == {"trace": "t"}
    assert uuid.UUID(telling.id).version == 5


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Fatal("no"), Reason.ERROR), (ValueError("no"), Reason.ERROR)],
)
def test_s22b_a_burial_is_told(error: Exception, reason: Reason) -> None:
    _, ((outcome, _),) = run_of(raising(error))
    assert (outcome.status, outcome.reason) == (Status.FAILED, reason)
    with pytest.raises(JobFailed, match="no") as caught:
        outcome.raise_for_failure()
    assert caught.value.outcome is outcome


def test_s22b_a_failure_that_is_tried_again_is_not_told() -> None:
    _, told = run_of(raising(Transient("t"), Snooze(timedelta(seconds=1)), Transient("t")))
    assert [(outcome.ok, outcome.attempt) for outcome, _ in told] == [(True, 3)]


def test_s22b_an_expiration_is_told() -> None:
    told: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        told.append(outcome)

    clock = VirtualClock()
    with JobManager("memory://", handlers={"asked": print, "told": tell}, clock=clock) as manager:
        manager.request("asked", expiration=timedelta(hours=1), callback="job:told")
        clock.advance(timedelta(hours=2))
        run_until_idle(manager)
    assert [(outcome.reason, outcome.started_at) for outcome in told] == [(Reason.EXPIRED, None)]


def test_s22_a_job_of_an_unknown_type_is_told_and_an_undecodable_one_has_nobody() -> None:
    told: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        told.append(outcome)

    with JobManager("memory://", handlers={"told": tell}, clock=VirtualClock()) as manager:
        manager.request("nobody", callback="job:told")
        from kessel_core.contract import Message

        manager.adapter.enqueue(Message("i", "default", b'{"callback":"job:told"}', 0))
        run_until_idle(manager)
    assert [outcome.reason for outcome in told] == [Reason.NO_HANDLER]


def test_s22c_a_kicked_job_tells_again_under_another_id() -> None:
    ids: list[str] = []
    left: list[Exception] = [Fatal("1"), Fatal("2")]

    def asked(payload: Any) -> None:
        if left:
            raise left.pop(0)

    def tell(outcome: Outcome, job: JobContext) -> None:
        ids.append(job.id)

    with JobManager("memory://", handlers={"asked": asked, "told": tell}, clock=VirtualClock()) as manager:
        job = manager.request("asked", callback="job:told")
        for _ in range(3):
            run_until_idle(manager)
            if left or len(ids) < 3:
                from kessel_core.contract import Buried

                need(manager.adapter, Buried).kick("default", job.id)
        run_until_idle(manager)
    assert len(ids) == 3
    assert len(set(ids)) == 3


def test_s22d_a_handler_given_as_callback_stands_for_its_type() -> None:
    told: list[Outcome] = []

    @handler("orders.told")
    def decorated(outcome: Outcome) -> None:
        told.append(outcome)

    def mapped(outcome: Outcome) -> None:
        told.append(outcome)

    adapter = shared()
    handlers = {"asked": lambda payload: None, "orders.told": decorated, "mapped": mapped}
    with JobManager(adapter, handlers=handlers, clock=adapter._store.clock) as manager:
        assert manager.request("asked", callback=decorated).callback == "job:orders.told"
        assert manager.request(JobRequest(type="asked", callback=mapped)).callback == "job:mapped"
        (many,) = manager.request_many([JobRequest(type="asked", callback=mapped)])
        assert many.callback == "job:mapped"
        with pytest.raises(InvalidRequest, match="give a handler, 'job:TYPE' or 'scheme:target'"):
            manager.request("asked", callback=print)
        run_until_idle(manager)
    assert len(told) == 3


def test_s22d_a_handler_given_as_callback_of_a_job_without_a_queue_stands_for_its_type() -> None:
    told: list[Outcome] = []

    def mapped(outcome: Outcome, job: JobContext) -> None:
        told.append(outcome)

    adapter = shared()
    handlers = {"asked": lambda payload: 7, "mapped": mapped}
    with JobManager(adapter, handlers=handlers, clock=adapter._store.clock) as manager:
        assert manager.process_single_job(JobRequest(type="asked", callback=mapped)).ok
        assert told == []
        run_until_idle(manager)
    assert [one.value for one in told] == [7]


def test_s22d_a_function_that_waits_for_a_follow_up_is_refused_and_never_forgotten_in_silence() -> None:
    """In this process, too: it waits for what is requested, and would never be called."""
    told: list[Outcome] = []

    def mapped(outcome: Outcome) -> None:
        told.append(outcome)

    def asked(payload: Any, job: JobContext) -> None:
        assert job.follow_up("later", callback=mapped).callback == "job:mapped"
        with pytest.raises(InvalidRequest, match="a function cannot wait for a job that follows") as caught:
            job.follow_up(JobRequest(type="later", callback=print))
        assert [problem.path for problem in caught.value.problems] == ["$.callback"]

    clock = VirtualClock()
    handlers = {"asked": asked, "later": lambda payload: 7, "mapped": mapped}
    with JobManager("memory://", handlers=handlers, clock=clock) as manager:
        manager.request("asked")
        results = run_until_idle(manager)
    assert [result.status for result in results] == [Status.SUCCESS] * 3
    assert [one.value for one in told] == [7]


def test_s22d_a_producer_without_handlers_knows_a_decorated_one() -> None:
    @handler("orders.told")
    def decorated(outcome: Outcome) -> None:
        pass

    with JobManager(shared(), only_requests=True) as manager:
        assert manager.request("asked", callback=decorated).callback == "job:orders.told"


def test_s22_an_application_may_answer_the_scheme_of_a_plugin_itself(app: App) -> None:
    class Telling:
        @hookimpl
        def kessel_callbacks(self) -> Any:
            return {"tell": lambda outcome, target: told.append("plugin")}

    told: list[str] = []
    manager = app({"a": print, "kessel.tell": lambda call: told.append(call["target"])}, plugin=Telling())
    manager.request("a", callback="tell:me")
    run_until_idle(manager)
    assert told == ["me"]


@pytest.mark.parametrize("is_async", [False, True])
def test_s22_a_scheme_of_a_plugin_is_called_in_a_job_of_its_own_and_tried_again(
    app: App, is_async: bool
) -> None:
    """An async function was never run, and its job a success."""
    told: list[tuple[bool, str]] = []
    failures: list[BaseException] = [RuntimeError("away"), SystemError("away"), SystemExit()]

    class Telling:
        @hookimpl
        def kessel_callbacks(self) -> Any:
            def tell(outcome: Outcome, target: str) -> None:
                if failures:
                    raise failures.pop(0)
                told.append((outcome.ok, target))

            async def tell_later(outcome: Outcome, target: str) -> None:
                await asyncio.sleep(0)
                tell(outcome, target)

            return {"tell": tell_later if is_async else tell}

    manager = app({"a": print}, plugin=Telling())
    manager.request("a", callback="tell:me:now")
    results = run_until_idle(manager)
    assert told == [(True, "me:now")]
    assert [(result.request.type, result.status) for result in results if result.request] == [
        ("a", Status.SUCCESS),
        *[("kessel.tell", Status.TRANSIENT)] * 3,
        ("kessel.tell", Status.SUCCESS),
    ]


def told_by_yield(result: Any) -> Any:
    yield


async def told_by_async_yield(result: Any) -> Any:
    yield


class ToldByObject:
    def __call__(self, result: Any) -> Any:
        yield


@pytest.mark.parametrize(
    "callback", [told_by_yield, told_by_async_yield, functools.partial(told_by_yield), ToldByObject()]
)
def test_s15_a_function_that_a_call_does_not_run_is_refused_as_a_callback(app: App, callback: Any) -> None:
    manager = app({"a": print})
    for ask in (
        lambda: manager.request("a", callback=callback),
        lambda: manager.request_many([JobRequest(type="a", callback=callback)]),
        lambda: manager.process_single_job(JobRequest(type="a", callback=callback)),
    ):
        with pytest.raises(InvalidRequest, match="nobody runs what that makes"):
            ask()
    assert manager.adapter.stats("default").total == 0


def test_s15_what_a_callback_returns_instead_of_running_it_is_an_error_in_the_log(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    assert app({"a": print}).process_single_job(
        JobRequest(type="a", callback=lambda result: told_by_yield(result))
    )
    assert "callback of job" in caplog.text
    assert "nobody runs what that makes" in caplog.text


def test_s22_a_scheme_that_nobody_offers_is_a_buried_job_and_not_a_line_in_a_log(app: App) -> None:
    manager = app({"a": print})
    manager.request("a", callback="shout:me")
    run_until_idle(manager)
    (buried,) = manager.adapter.buried("default")  # type: ignore[attr-defined]  # the memory adapter
    assert (buried.job().type, buried.reason) == ("kessel.shout", "no-handler")
    assert buried.job().payload["target"] == "me"


def test_s22_a_value_that_is_too_large_is_left_out_and_then_the_message_is_cut() -> None:
    for text, ok in (("x" * 900, True), ("m" * 900, False)):
        told: list[Outcome] = []

        def asked(payload: Any, text: str = text, ok: bool = ok) -> str:
            if not ok:
                raise Fatal(text)
            return text

        def tell(outcome: Outcome, told: list[Outcome] = told) -> None:
            told.append(outcome)

        adapter = shared(max_body_bytes=900)
        handlers = {"asked": asked, "told": tell}
        with JobManager(adapter, handlers=handlers, clock=adapter._store.clock) as manager:
            manager.request("asked", callback="job:told")
            run_until_idle(manager)
        ((outcome),) = told
        assert outcome.value is None
        assert outcome.value_omitted
        assert len(outcome.message) == (0 if ok else 200)


@pytest.mark.parametrize("beside", [{"ref": "r" * 500}, {"headers": {"trace": "h" * 600}}])
def test_s22_a_callback_leaves_behind_what_its_job_carries_before_nobody_is_told(beside: Any) -> None:
    """The job just fits into the queue; with its reference twice, or its headers, the callback does not."""
    told: list[dict[str, Any]] = []
    adapter = shared(max_body_bytes=900)
    handlers = {"asked": lambda payload: None, "tell": told.append}
    with JobManager(adapter, handlers=handlers, clock=adapter._store.clock) as manager:
        job = manager.request("asked", callback="job:tell", **beside)
        run_until_idle(manager)
    assert [(outcome["id"], outcome["ref"]) for outcome in told] == [(job.id, beside.get("ref"))]


def test_s22_a_callback_goes_to_the_queue_of_its_job_or_where_it_is_told_to(app: App) -> None:
    def queue_of(callback: str, config: str | None = None) -> tuple[str, int]:
        manager = app(
            {"a": lambda payload: None},
            config=Config(callbacks=CallbacksConfig(queue=config)),
        )
        manager.request("a", queue="reports", callback=callback)
        worker = manager.adapter.consumer(["reports"])
        from kessel_core.testing import run_delivery

        reservation = worker.reserve(timedelta(0))
        assert reservation is not None
        run_delivery(manager, reservation, worker)
        worker.close()
        browse = need(manager.adapter, Browse)
        ((stored,),) = [
            found for name in ("reports", "c", "d") if (found := browse.peek(name, JobState.READY, 9))
        ]
        return stored.queue, stored.job().priority

    assert queue_of("job:told") == ("reports", 65536)
    assert queue_of("job:told", "c") == ("c", 65536)
    assert queue_of("job:told?queue=d&priority=10", "c") == ("d", 10)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("job:orders.told", CallbackTarget("orders.told")),
        ("job:a:b", CallbackTarget("a:b")),
        ("job: a ?queue=q", CallbackTarget("a", queue="q")),
        ("job:a?priority=0", CallbackTarget("a", priority=0)),
        ("http:billing", CallbackTarget("kessel.http", "billing")),
        ("https://h/x?job:y", CallbackTarget("kessel.http", "https://h/x?job:y")),
        ("HTTPS://h/x", CallbackTarget("kessel.http", "HTTPS://h/x")),
        ("http://h", CallbackTarget("kessel.http", "http://h")),
        ("log:x", CallbackTarget("kessel.log", "x")),
        ("plugin/log:", CallbackTarget("kessel.plugin/log", "")),
    ],
)
def test_what_a_callback_stands_for(text: str, target: CallbackTarget) -> None:
    assert parsed_callback(text) == target


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (":x", "expected `scheme:target`"),
        ("addition", "expected `scheme:target`"),
        ("an address:x", "expected `scheme:target`"),
        ("log :x", "expected `scheme:target`"),
        ("https:/hooks", "a URL begins with https://"),
        ("job:", "expected `job:TYPE`"),
        ("job:  ?queue=a", "expected `job:TYPE`"),
        ("job:kessel.http", "kept for kessel"),
        ("job:a?colour=red", "unknown key 'colour'; known: queue, priority"),
        ("job:a?", "unknown key ''"),
        ("job:a?queue=-x", "queue: '-x' must be"),
        ("job:a?priority=-1", "priority: expected a whole number"),
        ("job:a?priority=1&priority=2", "given twice"),
    ],
)
def test_a_callback_that_cannot_work_is_refused_at_the_request(text: str, why: str) -> None:
    with JobManager("memory://") as manager, pytest.raises(InvalidRequest, match=why) as caught:
        manager.request("a", callback=text)
    assert [problem.path for problem in caught.value.problems] == ["$.callback"]


def test_s22_a_callback_has_no_callback() -> None:
    with JobManager("memory://") as manager, pytest.raises(InvalidRequest, match="is a callback itself"):
        manager.request("kessel.http", {}, callback="job:told")


def test_s17_a_callback_that_asks_for_more_than_the_queue_has_is_logged_and_the_job_ends(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    class Plain(MemoryAdapter):
        name: ClassVar[str] = "plain"

        @property
        def capabilities(self) -> Capabilities:
            return attrs.evolve(super().capabilities, priorities=None)

    adapter = Plain(MemoryOptions(), AdapterContext(clock=VirtualClock()))
    manager = app({"a": print}, adapter=adapter, clock=adapter._store.clock)
    manager.request("a", callback="job:told?priority=3")
    (result,) = run_until_idle(manager)
    assert result.ok
    assert "nobody is told" in caplog.text
    with pytest.raises(CapabilityMissing):
        manager.request("a", priority=3)


def test_an_outcome_comes_back_as_it_was_written() -> None:
    _, ((outcome, _),) = run_of(raising(Fatal("größer")))
    assert decode_outcome(encode_outcome(outcome)) == outcome
    fields = json.loads(encode_outcome(outcome))
    assert list(fields)[:4] == ["id", "type", "ref", "status"]
    assert "value_omitted" not in fields
