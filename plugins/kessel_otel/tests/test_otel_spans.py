"""The spans of requests and attempts: how they are related, and what they say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from kessel_memory.adapter import MemoryAdapter, MemoryOptions
from kessel_otel.attributes import fail_attempt
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach

from kessel_core import (
    AdapterUnavailable,
    EnqueueIncomplete,
    EnqueueRejected,
    EnqueueUnknown,
    Fatal,
    IdHeld,
    InvalidRequest,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    Snooze,
    Status,
    Transient,
)
from kessel_core.contract import AdapterContext, Message
from kessel_core.hooks import get_logger
from kessel_core.testing import VirtualClock, run_until_idle

from .conftest import Seen, Spans

Open = Callable[..., JobManager]
MINUTE = timedelta(minutes=1)
TRACER = trace.get_tracer("tests")


def nothing(payload: Any) -> None:
    return None


class Failing(MemoryAdapter):
    """Fails to store what is of the type `refused`."""

    error: Callable[[str], Exception]

    def enqueue(self, message: Message) -> None:
        if b'"refused"' in message.body:
            raise self.error(message.id)
        super().enqueue(message)

    def enqueue_many(self, messages: Sequence[Message]) -> list[Any]:
        outcomes: list[Any] = []
        for message in messages:
            try:
                self.enqueue(message)
                outcomes.append(None)
            except Exception as exc:
                outcomes.append(exc)
        return outcomes


def failing(error: Callable[[str], Exception]) -> Failing:
    adapter = Failing(MemoryOptions(), AdapterContext(clock=VirtualClock()))
    adapter.error = error
    return adapter


# --- what is related to what -------------------------------------------------------------------------------


def test_a_plain_job_is_one_trace_below_whoever_requests(spans: Spans, opened: Open) -> None:
    def work(payload: Any) -> None:
        with TRACER.start_as_current_span("inner"):
            pass

    manager = opened({"t": work})
    with TRACER.start_as_current_span("outer"):
        manager.request("t")
    run_until_idle(manager)
    outer, send, process, inner = (spans.one(name) for name in ("outer", "send", "process", "inner"))
    assert [one.parent for one in (send, process, inner)] == [outer.id, send.id, process.id]
    assert {one.trace for one in (send, process, inner)} == {outer.trace}
    assert [one.kind for one in (send, process)] == ["producer", "consumer"]
    assert process.links == (send.id,)
    assert len(spans.all()) == 4


def is_apart(process: Seen, origin: Seen) -> bool:
    return process.parent == "" and process.trace != origin.trace and process.links == (origin.id,)


def is_child(process: Seen, origin: Seen) -> bool:
    return process.parent == origin.id and process.trace == origin.trace and process.links == (origin.id,)


def test_a_delayed_job_begins_a_trace_of_its_own_with_a_link(spans: Spans, opened: Open) -> None:
    manager = opened({"t": nothing})
    manager.request("t", delay=MINUTE)
    run_until_idle(manager)
    send, process = spans.one("send"), spans.one("process")
    assert is_apart(process, send)
    assert send.attributes["kessel.job.delay_seconds"] == 60.0
    assert process.attributes["kessel.job.delay_seconds"] == 60.0


def test_the_delay_of_a_span_is_all_of_it_in_seconds(spans: Spans, opened: Open) -> None:
    opened({"t": nothing}).request("t", delay=timedelta(days=2, seconds=1.5))
    assert spans.one("send").attributes["kessel.job.delay_seconds"] == 172_801.5


@pytest.mark.parametrize("error", [Transient("again"), Snooze(MINUTE)])
def test_only_the_first_attempt_at_a_job_is_a_child(spans: Spans, opened: Open, error: Exception) -> None:
    left = [error]

    def work(payload: Any) -> None:
        if left:
            raise left.pop()

    manager = opened({"t": work})
    manager.request("t")
    run_until_idle(manager)
    send, (first, second) = spans.one("send"), spans.of("process")
    assert is_child(first, send)
    assert is_apart(second, send)


@pytest.mark.parametrize("relation", ["link", "child"])
def test_the_relation_is_an_option(spans: Spans, opened: Open, relation: str) -> None:
    failed: list[str] = []

    def work(payload: Any, job: JobContext) -> None:
        if job.attempt == 1:
            job.follow_up("followed")
            failed.append(job.id)
            raise Transient("again")
        job.follow_up("followed")

    manager = opened({"t": work, "followed": nothing}, relation)
    manager.request("t")
    manager.request("t", delay=MINUTE)
    run_until_idle(manager)
    sends = {one.id: one for one in spans.of("send")}
    processes = spans.of("process")
    assert len(processes) == 6
    check = is_child if relation == "child" else is_apart
    assert all(check(one, sends[one.links[0]]) for one in processes)


def test_s20_follow_ups_and_callback_jobs_come_from_the_attempt_that_brings_them(
    spans: Spans, opened: Open
) -> None:
    def work(payload: Any, job: JobContext) -> None:
        job.follow_up("followed")

    manager = opened({"t": work, "followed": nothing, "told": nothing})
    job = manager.request("t", callback="job:told", ref="R")
    run_until_idle(manager)
    process = spans.one("process", "t")
    for kind in ("followed", "told"):
        create, done = spans.one("create", kind), spans.one("process", kind)
        assert (create.parent, create.trace, create.kind) == (process.id, process.trace, "producer")
        assert is_apart(done, create)
        assert done.attributes["kessel.job.follows"] == job.id
    (send,) = [one for one in spans.of("send") if one.kind == "client"]
    assert send.parent == process.id
    assert set(send.links) == {one.id for one in spans.of("create")}
    assert "kessel.job.follows" not in process.attributes


def test_s20_a_job_in_a_row_follows_the_one_before_it(spans: Spans, opened: Open) -> None:
    ran: list[JobContext] = []

    def work(payload: Any, job: JobContext) -> None:
        ran.append(job)
        if len(ran) < 3:
            job.follow_up("t", headers=job.headers)

    manager = opened({"t": work})
    manager.request("t")
    run_until_idle(manager)
    ids = [one.attributes["messaging.message.id"] for one in spans.of("process")]
    assert [job.headers.get("kessel-follows") for job in ran] == [None, ids[0], ids[1]]
    for before, send in zip(spans.of("process"), spans.of("send")[1:], strict=False):
        assert send.parent == before.id


def test_s22_one_callback_job_is_sent_by_one_span(spans: Spans, opened: Open) -> None:
    manager = opened({"t": nothing, "told": nothing})
    manager.request("t", callback="job:told")
    run_until_idle(manager)
    send = spans.one("send", "told")
    assert (send.parent, send.kind) == (spans.one("process", "t").id, "producer")
    assert is_apart(spans.one("process", "told"), send)


def test_s22_the_callback_job_of_a_buried_job_comes_from_its_attempt(spans: Spans, opened: Open) -> None:
    def work(payload: Any) -> None:
        raise Fatal("never")

    manager = opened({"t": work, "told": nothing})
    manager.request("t", callback="job:told")
    run_until_idle(manager)
    assert spans.one("send", "told").parent == spans.one("process", "t").id


def test_s22_a_callback_job_has_no_state_of_a_trace_that_is_not_its_own(spans: Spans, opened: Open) -> None:
    """`tracestate` belongs to its `traceparent` (W3C); a delayed job and its callback begin a new trace."""
    seen: dict[str, dict[str, str]] = {}

    def look(payload: Any, job: JobContext) -> None:
        seen[job.type] = dict(job.headers)

    manager = opened({"t": look, "told": look})
    state = trace.TraceState([("vendor", "north")])
    before = trace.SpanContext(1, 2, True, trace.TraceFlags(1), state)
    token = attach(trace.set_span_in_context(trace.NonRecordingSpan(before)))
    manager.request("t", callback="job:told", delay=MINUTE)
    detach(token)
    run_until_idle(manager)
    assert seen["t"]["tracestate"] == "vendor=north"
    assert not seen["told"].get("tracestate")
    assert seen["told"]["traceparent"].split("-")[1] == spans.one("process", "t").trace


def test_many_jobs_have_an_origin_each_and_one_span_of_the_call(spans: Spans, opened: Open) -> None:
    manager = opened({"t": nothing, "u": nothing})
    with TRACER.start_as_current_span("outer"):
        manager.request_many(
            [JobRequest(type="t"), JobRequest(type="u", queue="other"), JobRequest(type="t")]
        )
        manager.request_many(["t", "t"])
    run_until_idle(manager)
    outer, (mixed, same) = spans.one("outer"), spans.of("send")
    creates = spans.of("create")
    assert [one.name for one in creates] == ["create default", "create other"] + ["create default"] * 3
    assert {one.parent for one in (mixed, same, *creates)} == {outer.id}
    assert mixed.links == tuple(one.id for one in creates[:3])
    assert (mixed.name, same.name) == ("send", "send default")
    assert "messaging.destination.name" not in mixed.attributes
    assert same.attributes == {
        "messaging.system": "kessel",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "default",
        "messaging.batch.message_count": 2,
    }
    assert {one.kind for one in (mixed, same)} == {"client"}
    assert {one.links[0] for one in spans.of("process")} == {one.id for one in creates}
    assert all(one.parent == one.links[0] for one in spans.of("process"))


def test_jobs_that_a_job_requests_by_the_manager_are_below_its_span(spans: Spans, opened: Open) -> None:
    manager = opened({"t": lambda payload: manager.request("u") and None, "u": nothing})
    manager.request("t")
    run_until_idle(manager)
    assert spans.one("send", "u").parent == spans.one("process", "t").id
    assert is_child(spans.one("process", "u"), spans.one("send", "u"))


@pytest.mark.parametrize("relation", ["auto", "link", "child"])
def test_a_job_that_runs_without_a_queue_is_below_the_current_span(
    spans: Spans, opened: Open, relation: str
) -> None:
    manager = opened({"t": nothing}, relation)
    with TRACER.start_as_current_span("outer") as outer:
        manager.process_single_job("t")
        assert trace.get_current_span() is outer, "what a job sets is gone with it"
    process = spans.one("process")
    assert (process.parent, process.links) == (spans.one("outer").id, ())


def test_no_job_sees_the_span_of_the_one_before(spans: Spans, opened: Open) -> None:
    manager = opened({"t": nothing})
    manager.request("t", headers={"traceparent": "rubbish"}, delay=MINUTE)
    manager.request("t")
    manager.worker(slots=1).drain()
    assert not trace.get_current_span().get_span_context().is_valid
    assert len({one.trace for one in spans.of("send")}) == 2


async def _async(payload: Any) -> None:
    with TRACER.start_as_current_span("inner"):
        pass


def test_async_handlers_keep_the_context(spans: Spans, opened: Open) -> None:
    manager = opened({"t": _async})
    manager.request("t")
    run_until_idle(manager)
    assert spans.one("inner").parent == spans.one("process").id


def test_baggage_reaches_the_handler_however_late(spans: Spans, opened: Open) -> None:
    got: list[Any] = []
    manager = opened({"t": lambda payload: got.append(baggage.get_baggage("tenant"))})
    token = attach(baggage.set_baggage("tenant", "north"))
    try:
        manager.request("t")
        manager.request("t", delay=MINUTE)
    finally:
        detach(token)
    run_until_idle(manager)
    assert got == ["north", "north"]


def test_a_process_that_only_requests_sends_spans(spans: Spans, opened: Open) -> None:
    job = opened(only_requests=True).request("t")
    assert job.headers["traceparent"].split("-")[2] == spans.one("send").id


# --- what they say -----------------------------------------------------------------------------------------


def test_attributes_are_those_of_the_conventions(spans: Spans, opened: Open) -> None:
    manager = opened({"t": nothing})
    job = manager.request("t", ref="R", queue="mail")
    run_until_idle(manager)
    common = {
        "messaging.system": "kessel",
        "messaging.destination.name": "mail",
        "messaging.message.id": job.id,
        "messaging.message.conversation_id": "R",
        "kessel.job.type": "t",
    }
    send, process = spans.one("send mail"), spans.one("process mail")
    operation = "messaging.operation."
    assert send.attributes == common | {f"{operation}name": "send", f"{operation}type": "send"}
    assert process.attributes == common | {
        f"{operation}name": "process",
        f"{operation}type": "process",
        "kessel.job.attempt": 1,
        "kessel.job.status": "success",
    }
    assert not send.failed
    assert not process.failed


class Odd(Exception):
    """Not transient."""


@pytest.mark.parametrize(
    ("error", "status", "kind", "text"),
    [
        (Odd("odd"), "failed", f"{__name__}.Odd", "Odd: odd"),
        (ValueError("v"), "failed", "ValueError", "ValueError: v"),
        (ConnectionError("c"), "failed-transient", "ConnectionError", "ConnectionError: c"),
        (Fatal("f"), "failed", "error", "f"),
        (Transient("t"), "failed-transient", "error", "t"),
        (IdHeld("x", "ready"), "failed", "IdHeld", None),
    ],
)
def test_a_failed_attempt_says_why(
    spans: Spans, opened: Open, error: Exception, status: str, kind: str, text: str | None
) -> None:
    left = [error]

    def work(payload: Any) -> None:
        if left:
            raise left.pop()

    manager = opened({"t": work})
    manager.request("t")
    run_until_idle(manager)
    process = spans.of("process")[0]
    assert process.failed
    assert process.attributes["error.type"] == kind
    assert process.attributes["kessel.job.status"] == status
    assert text is None or process.description == text
    assert process.events == (() if isinstance(error, (Fatal, Transient)) else ("exception",))


def test_s21_a_snooze_is_no_failure(spans: Spans, opened: Open) -> None:
    left = [Snooze(MINUTE)]

    def work(payload: Any) -> None:
        if left:
            raise left.pop()

    manager = opened({"t": work})
    manager.request("t")
    run_until_idle(manager)
    first, second = spans.of("process")
    assert (first.failed, first.attributes["kessel.job.status"]) == (False, "snoozed")
    assert "error.type" not in first.attributes
    assert second.attributes["kessel.job.attempt"] == 1


def test_a_failure_that_says_no_reason_is_of_the_kind_that_stands_for_all_others(
    spans: Spans, opened: Open
) -> None:
    """As the conventions have it: an `error.type` of its own would be a kind that does not exist."""
    with TRACER.start_as_current_span("attempt") as span:
        fail_attempt(span, JobResult(id="i", request=None, status=Status.FAILED, message="no"))
    assert spans.one("attempt").attributes["error.type"] == "_OTHER"


def test_a_long_text_is_cut(spans: Spans, opened: Open) -> None:
    def work(payload: Any) -> None:
        raise Fatal("x" * 5000)

    manager = opened({"t": work})
    manager.request("t")
    run_until_idle(manager)
    assert len(spans.one("process").description) == 1000


def test_what_a_job_does_not_have_is_no_attribute(
    spans: Spans, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    manager = opened({"t": nothing})
    manager.request("t")
    run_until_idle(manager)
    for span in spans.all():
        assert not [name for name in span.attributes if name.endswith(("conversation_id", "delay_seconds"))]
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


def test_attempts_are_counted(spans: Spans, opened: Open) -> None:
    def work(payload: Any) -> None:
        raise Transient("again")

    manager = opened({"t": work})
    manager.request("t")
    run_until_idle(manager)
    attempts = [one.attributes["kessel.job.attempt"] for one in spans.of("process")]
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(attempts) > 2


@pytest.mark.parametrize(
    "error",
    [
        lambda job_id: EnqueueRejected(job_id, "no", "invalid"),
        lambda job_id: EnqueueUnknown(job_id, "who knows"),
        lambda job_id: AdapterUnavailable("away"),
    ],
)
def test_s14_a_request_that_was_not_stored_is_a_failed_span(
    spans: Spans, opened: Open, error: Callable[[str], Exception]
) -> None:
    manager = opened(adapter=failing(error))
    with pytest.raises(type(error("x"))) as caught:
        manager.request("refused")
    send = spans.one("send")
    assert send.failed
    assert send.attributes["error.type"] == type(caught.value).__name__
    assert send.description == str(caught.value)


def test_s14_of_many_those_that_were_not_stored_are_failed_spans(spans: Spans, opened: Open) -> None:
    manager = opened(adapter=failing(lambda job_id: EnqueueUnknown(job_id, "who knows")))
    with pytest.raises(EnqueueIncomplete):
        manager.request_many(["a", "refused", "b"])
    assert [one.failed for one in spans.of("create")] == [False, True, False]
    send = spans.one("send")
    assert send.failed
    assert send.attributes["error.type"] == "EnqueueUnknown"
    assert send.description.startswith("1 of 3 jobs: ")


def test_s14_of_many_with_several_errors_the_call_names_none(spans: Spans, opened: Open) -> None:
    errors = [EnqueueRejected("x", "no", "invalid"), EnqueueUnknown("y", "who knows")]
    manager = opened(adapter=failing(lambda job_id: errors.pop()))
    with pytest.raises(EnqueueIncomplete):
        manager.request_many(["refused", "refused"])
    assert spans.one("send").attributes["error.type"] == "_OTHER"


def test_s1_an_invalid_request_has_no_span(spans: Spans, opened: Open) -> None:
    with pytest.raises(InvalidRequest):
        opened().request(" ")
    assert spans.all() == []


def test_a_call_that_is_interrupted_is_a_failed_span(spans: Spans, opened: Open) -> None:
    manager = opened(adapter=failing(lambda job_id: KeyboardInterrupt()))  # type: ignore[arg-type,return-value]
    with pytest.raises(KeyboardInterrupt):
        manager.request("refused")
    assert spans.one("send").attributes["error.type"] == "KeyboardInterrupt"
    assert not trace.get_current_span().get_span_context().is_valid


def test_the_call_is_current_while_the_queue_is_asked_and_not_afterwards(spans: Spans, opened: Open) -> None:
    class Instrumented(MemoryAdapter):
        def enqueue(self, message: Message) -> None:
            with TRACER.start_as_current_span("INSERT"):
                super().enqueue(message)

    manager = opened(adapter=Instrumented(MemoryOptions(), AdapterContext(clock=VirtualClock())))
    manager.request("t")
    assert spans.one("INSERT").parent == spans.one("send").id
    assert not trace.get_current_span().get_span_context().is_valid


# --- the log ---------------------------------------------------------------------------------------------


def test_log_lines_have_the_ids_of_the_current_span(
    spans: Spans, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def work(payload: Any, job: JobContext) -> None:
        job.logger.info("outside")
        with TRACER.start_as_current_span("inner"):
            job.logger.info("inside")
        if payload:
            raise Fatal("no")

    manager = opened({"t": work})
    with caplog.at_level(logging.INFO, "kessel"):
        get_logger("kessel.tests").info("before")
        manager.request("t", 0)
        manager.request("t", 1)
        run_until_idle(manager)
    ids = {
        (record.getMessage().split(" ")[3] if record.name == "kessel.jobs" else record.getMessage()): (
            getattr(record, "trace_id", None),
            getattr(record, "span_id", None),
        )
        for record in caplog.records
    }
    (first, second), (inner, inner2) = spans.of("process"), spans.of("inner")
    assert ids["before"] == (None, None)
    assert ids["success"] == (first.trace, first.id)
    assert ids["failed,"] == (second.trace, second.id), "said after the middleware"
    assert ids["outside"] == (second.trace, second.id)
    assert ids["inside"] == (inner2.trace, inner2.id)
    assert inner2.id != inner.id
