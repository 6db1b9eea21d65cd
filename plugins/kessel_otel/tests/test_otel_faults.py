"""Tracing fails no job: garbage in headers, a broken API, SDK or propagator, too little room, no SDK."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kessel_conformance import MiddlewareConformance
from kessel_memory.adapter import MemoryAdapter, MemoryOptions
from kessel_otel.attributes import break_attempt
from kessel_otel.middleware import Otel
from kessel_otel.options import OtelOptions
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import attach, detach
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import Span
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from kessel_core import (
    Fatal,
    InvalidConfig,
    Job,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    Snooze,
    Status,
    SystemClock,
    Transient,
)
from kessel_core.contract import AdapterContext
from kessel_core.testing import VirtualClock, run_until_idle

from .conftest import Spans

Open = Callable[..., JobManager]

#: Of 128 bits: what no generator makes.
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"
RELATIONS = ["auto", "link", "child"]


def results(manager: JobManager) -> list[Status]:
    return [result.status for result in run_until_idle(manager)]


def attempt(otel: Otel, headers: dict[str, str], seen: list[Any] | None = None, job_id: str = "x") -> None:
    """Run an attempt with these headers in a context of its own, as the pipeline does."""
    job = JobContext(Job(type="t", id=job_id, headers=headers), 1, SystemClock())

    def run() -> None:
        running = otel.kessel_execute_job(job)
        next(running)
        if seen is not None:
            seen.append(dict(baggage.get_all()))
        with pytest.raises(StopIteration):
            running.send(JobResult(id="x", request=job.request, status=Status.SUCCESS))

    copy_context().run(run)


# --- headers from whoever writes to the queue ------------------------------------------------------------

_HEX = st.text("0123456789abcdefABCDEFg- ", max_size=40)
_ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
_TRACEPARENT = st.one_of(_ANY, st.tuples(_HEX, _HEX, _HEX, _HEX).map("-".join), st.just(GOOD))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    traceparent=_TRACEPARENT, tracestate=_ANY, given=_ANY, relation=st.sampled_from(["auto", "link", "child"])
)
@example(traceparent=GOOD, tracestate="a=b,c=d", given="tenant=north", relation="auto")
@example(traceparent="00-" + "0" * 32 + f"-{SPAN}-01", tracestate="", given="", relation="child")
@example(traceparent=f"00-{TRACE}-" + "0" * 16 + "-01", tracestate="", given="", relation="child")
@example(traceparent="ff" + GOOD[2:], tracestate="=" * 600, given="=" * 9000, relation="link")
@example(traceparent="", tracestate="", given="%", relation="auto")
def test_any_headers_give_one_span_of_a_valid_trace(
    spans: Spans, traceparent: str, tracestate: str, given: str, relation: Any
) -> None:
    before = len(spans.all())
    headers = {"traceparent": traceparent, "tracestate": tracestate, "baggage": given}
    attempt(Otel(OtelOptions(relation=relation)), headers)
    (process,) = spans.all()[before:]
    assert int(process.trace, 16) != 0
    assert not process.failed
    if traceparent == GOOD:
        assert process.links == (SPAN,)
        assert (process.trace == TRACE) == (relation != "link")
    elif TRACE not in traceparent:
        assert (process.parent, process.links) == ("", ()) or process.trace in traceparent


@pytest.mark.parametrize("headers", [{}, {"traceparent": "rubbish"}, {"traceparent": GOOD[:-1]}])
@pytest.mark.parametrize("relation", RELATIONS)
def test_without_a_context_that_can_be_read_a_trace_begins(
    spans: Spans, headers: dict[str, str], relation: Any
) -> None:
    attempt(Otel(OtelOptions(relation=relation)), headers)
    assert (spans.one("process").parent, spans.one("process").links) == ("", ())


def test_baggage_is_read_where_the_trace_is_garbage(spans: Spans) -> None:
    seen: list[Any] = []
    attempt(Otel(OtelOptions()), {"traceparent": "rubbish", "baggage": "tenant=north"}, seen)
    assert seen == [{"tenant": "north"}]


def test_baggage_that_nobody_would_read_is_not_sent_and_costs_no_request(spans: Spans, opened: Open) -> None:
    manager = opened()
    for value in ("x" * 9000, "\ud800"):
        token = attach(baggage.set_baggage("big", value))
        try:
            job = manager.request("t")
        finally:
            detach(token)
        assert list(job.headers) == ["traceparent"]


def test_a_header_that_is_too_long_is_not_sent_whoever_makes_it(spans: Spans, opened: Open) -> None:
    made = {"at-most": "x" * 8192, "longer": "x" * 8193}
    with put(propagate, "inject", lambda carrier, context: carrier.update(made)):
        assert list(opened().request("t").headers) == ["at-most"]


def test_s20_a_job_names_the_one_that_brought_it_along_whatever_the_propagator_sends(
    spans: Spans, opened: Open
) -> None:
    """`OTEL_PROPAGATORS=none` sends nothing."""
    told: list[dict[str, str]] = []
    manager = opened({"t": lambda payload: None, "told": lambda payload, job: told.append(dict(job.headers))})
    with put(propagate, "inject", lambda carrier, context: None):
        job = manager.request("t", callback="job:told")
        assert results(manager) == [Status.SUCCESS] * 2
    assert (job.headers, told) == ({}, [{"kessel-follows": job.id}])


def test_a_job_of_other_software_without_an_id_has_a_span(spans: Spans) -> None:
    attempt(Otel(OtelOptions()), {}, job_id="")
    assert "messaging.message.id" not in spans.one("process").attributes


def test_a_span_that_cannot_end_keeps_no_other_from_its_end(
    spans: Spans, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Span.end

    def end(self: Span, *args: Any) -> None:
        if self.name == "create bad":
            raise Broken("cannot end")
        ends(self, *args)

    monkeypatch.setattr(Span, "end", end)
    opened().request_many([JobRequest(type="t", queue="bad"), "t"])
    assert [one.name for one in spans.all()] == ["create default", "send"]


def test_s2_a_job_that_has_just_room_for_itself_is_stored_without_headers(spans: Spans, opened: Open) -> None:
    adapter = MemoryAdapter(MemoryOptions(max_body_bytes=400), AdapterContext(clock=VirtualClock()))
    manager = opened({"t": lambda payload: None}, adapter=adapter)
    assert list(manager.request("t").headers) == ["traceparent"]
    assert list(manager.request("t", "x" * 200).headers) == []
    assert results(manager) == [Status.SUCCESS] * 2


# --- what fails --------------------------------------------------------------------------------------------


class Broken(Exception):
    """What an SDK raises."""


def _raise(*args: Any, **kwargs: Any) -> Any:
    raise Broken("tracing is broken")


class BrokenSpan(NonRecordingSpan):
    """Fails wherever it can."""

    def __init__(self) -> None:
        super().__init__(SpanContext(int(TRACE, 16), int(SPAN, 16), False, TraceFlags(1)))

    set_attribute = set_status = add_event = end = _raise


class Bad:
    """A propagator that fails."""

    extract = inject = _raise
    fields: set[str] = set()  # noqa: RUF012  # as it is declared there


@contextmanager
def put(target: Any, name: str, value: Any) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(target, name, value)
    try:
        yield
    finally:
        patch.undo()


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("tracer", "start_span", _raise),
        ("tracer", "start_span", lambda *args, **kwargs: BrokenSpan()),
        ("tracer", "start_span", lambda *args, **kwargs: None),
        (propagate, "inject", _raise),
        (propagate, "extract", _raise),
        (propagate, "extract", lambda *args: None),
        (propagate, "inject", lambda carrier, context: carrier.update({"a": 7, 8: "b", "c": "\ud800"})),
        (trace, "set_span_in_context", _raise),
        (trace, "get_current_span", _raise),
        ("kessel_otel.sending", "attach", _raise),
        ("kessel_otel.sending", "detach", _raise),
        ("kessel_otel.middleware", "attach", _raise),
    ],
)
def test_whatever_raises_the_jobs_are_as_without_traces(
    spans: Spans, opened: Open, caplog: pytest.LogCaptureFixture, where: Any, name: str, value: Any
) -> None:
    def work(payload: Any, job: JobContext) -> int:
        job.follow_up("u")
        if payload:
            raise ValueError("v")
        return 7

    manager = opened({"t": work, "u": lambda payload: None})
    if where == "tracer":
        found = [one.function.__self__ for one in manager._need().producer._wrappers]
        where = found[0]._tracer
    elif isinstance(where, str):
        where = sys.modules[where]

    def all_of_it() -> list[Status]:
        with put(where, name, value):
            manager.request("t", 0, callback="job:u")
            manager.request("t", 1)
            assert [job.type for job in manager.request_many(["u", "u"])] == ["u", "u"]
            return results(manager)

    ended = copy_context().run(all_of_it)  # what cannot be detached stays in it
    assert sorted(ended) == sorted([Status.SUCCESS] * 5 + [Status.FAILED])
    assert caplog.text.count("tracing failed") <= 6, "once for each kind"


def test_a_tracer_that_makes_nothing_passes_the_trace_on(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As version 1.25 of the API has it without an SDK."""
    headers: list[dict[str, str]] = []
    manager = opened(
        {"t": lambda payload: None, "told": lambda payload, job: headers.append(dict(job.headers))}
    )
    otel = manager._need().producer._wrappers[0].function.__self__
    monkeypatch.setattr(otel._tracer, "start_span", lambda *args, **kwargs: trace.INVALID_SPAN)
    manager.request("t", headers={"traceparent": GOOD}, callback="job:told")
    assert results(manager) == [Status.SUCCESS] * 2
    assert headers[0]["traceparent"] == GOOD


def test_what_fails_is_logged_once(spans: Spans, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    manager = opened()
    with put(propagate, "inject", _raise):
        for _ in range(3):
            manager.request("t")
    assert caplog.text.count("tracing failed") == 1
    assert "tracing is broken" in caplog.text


def test_s14_an_error_of_the_queue_is_the_one_that_is_raised(spans: Spans, opened: Open) -> None:
    class Away(MemoryAdapter):
        def enqueue(self, message: Any) -> None:
            raise LookupError("the queue's own")

    manager = opened(adapter=Away(MemoryOptions(), AdapterContext(clock=VirtualClock())))
    with put(BrokenSpan, "end", _raise), pytest.raises(LookupError, match="own"):
        manager.request("t")


def test_an_exception_of_a_middleware_inside_is_on_the_span(spans: Spans) -> None:
    job = JobContext(Job(type="t", id="x"), 1, SystemClock())

    def run() -> None:
        running = Otel(OtelOptions()).kessel_execute_job(job)
        next(running)
        with pytest.raises(KeyError):
            running.throw(KeyError("k"))

    copy_context().run(run)
    process = spans.one("process")
    assert (process.failed, process.attributes["error.type"], process.events) == (
        True,
        "KeyError",
        ("exception",),
    )


@pytest.mark.parametrize(
    ("asked", "status", "kind"),
    [
        (Snooze(timedelta(minutes=1), "too many just now"), "snoozed", None),
        (Transient("later"), "failed-transient", "error"),
        (Fatal("never"), "failed", "error"),
    ],
)
def test_s21_what_a_middleware_inside_asks_for_is_told_as_if_the_handler_had(
    spans: Spans, asked: Exception, status: str, kind: str | None
) -> None:
    """One that limits a rate puts most deliveries off; none of them has failed."""

    def run() -> None:
        running = Otel(OtelOptions()).kessel_execute_job(JobContext(Job(type="t", id="x"), 1, SystemClock()))
        next(running)
        with pytest.raises(type(asked)):
            running.throw(asked)

    copy_context().run(run)
    process = spans.one("process")
    assert (process.failed, process.attributes["kessel.job.status"]) == (kind is not None, status)
    assert process.attributes.get("error.type") == kind
    assert process.events == ()


class Unreadable(Exception):
    def __str__(self) -> str:
        raise LookupError


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("x" * 3_000_000), "x" * 1000),
        (ValueError("bad \ud800 name"), "bad \\ud800 name"),
        (ValueError("cannot reach redis://:hunter2@h/0"), "cannot reach redis://***@h/0"),
        (ValueError("x" * 985 + "redis://:hunter2@h/0"), "x" * 985 + "redis://***@h/0"),
        (Unreadable(), "(its text cannot be read)"),
    ],
)
def test_f62_whatever_an_error_says_its_span_is_failed_and_small_and_can_be_sent_anywhere(
    spans: Spans, opened: Open, raised: Exception, said: str
) -> None:
    """A receiver refuses a message that is too large, and with it the spans of others."""

    def work(payload: Any) -> None:
        raise raised

    opened({"t": work}).process_single_job("t")
    (span,) = (one for one in spans.exported() if one.name.startswith("process"))
    assert not span.status.is_ok
    (event,) = span.events
    assert event.attributes is not None
    assert event.attributes["exception.message"] == said
    assert event.attributes["exception.type"] == span.attributes["error.type"]
    sent = encode_spans([span]).SerializeToString()
    assert len(sent) < 50_000
    assert b"hunter2" not in sent
    assert b"exception.stacktrace" in sent


@pytest.mark.parametrize("place", range(21))
@pytest.mark.parametrize("end", ["first", "last"])
def test_f62_where_a_long_stack_is_cut_no_part_of_a_secret_is_left(
    spans: Spans, place: int, end: str
) -> None:
    """Half of an address does not look like one: what is secret is taken out before anything is cut."""
    address, half = "redis://:hunter2@h/0", 10_000
    if end == "first":  # so many characters of it are before the cut
        text = "x" * (half - len("ValueError: ") - place) + address + "y" * 30_000
    else:
        text = "x" * 30_000 + address + "y" * (half - len("\n") - len(address) + place)

    with trace.get_tracer("t").start_as_current_span("attempt") as attempt:
        break_attempt(attempt, ValueError(text))  # never raised, so there is no line of a file before it
    (span,) = spans.exported()
    (event,) = span.events
    assert event.attributes is not None
    stack = str(event.attributes["exception.stacktrace"]).removeprefix("ValueError: ")
    assert 19_900 < len(stack) < 20_010
    assert not re.search("hu|nt|er|2@", stack)


@pytest.mark.parametrize("odd", [None, "text", 7])
def test_a_middleware_that_loses_the_result_still_has_a_span(spans: Spans, odd: Any) -> None:
    def run() -> None:
        running = Otel(OtelOptions()).kessel_execute_job(JobContext(Job(type="t", id="x"), 1, SystemClock()))
        next(running)
        with pytest.raises(StopIteration) as caught:
            running.send(odd)
        assert caught.value.value is odd

    copy_context().run(run)
    assert not spans.one("process").failed


def test_a_wrong_relation_is_refused_with_what_there_is(opened: Open) -> None:
    with pytest.raises(InvalidConfig, match=r"relation.*auto"):
        opened(relation="parent")


# --- without an SDK, and not configured -------------------------------------------------------------------

_WITHOUT = """
import sys
from kessel_core import JobManager
from kessel_core.testing import VirtualClock, run_until_idle
seen = []
def work(payload, job):
    from opentelemetry import trace
    seen.append(trace.format_trace_id(trace.get_current_span().get_span_context().trace_id))
def told(payload, job):
    seen.append(dict(job.headers))
options = dict(clock=VirtualClock(), handlers={"t": work, "told": told})
if sys.argv[1] == "off":
    with JobManager("memory://", **options) as manager:
        manager.request("t")
    assert not [name for name in sys.modules if name.startswith("opentelemetry")], "imported for nothing"
else:
    with JobManager("memory://", middleware=("otel",), **options) as manager:
        assert not manager.request("t").headers
        manager.request("t", headers={"traceparent": "GOOD"}, callback="job:told")
        run_until_idle(manager)
        manager.request("t", callback="job:told")
        run_until_idle(manager)
        assert seen.pop() == {}, "nothing is to be said"
        assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
    assert seen[:2] == ["0" * 32, "TRACE"], seen
    assert seen[2]["traceparent"] == "GOOD", seen
""".replace("GOOD", GOOD).replace("TRACE", TRACE)


@pytest.mark.parametrize("state", ["off", "without-sdk"])
def test_without_an_sdk_traces_are_passed_on_and_where_it_is_off_nothing_is_imported(state: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, state], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- the suite for middleware ----------------------------------------------------------------------------


class TestConformance(MiddlewareConformance):
    """The middleware passes the suite that any middleware has to pass."""

    def make(self) -> object:
        return Otel(OtelOptions())
