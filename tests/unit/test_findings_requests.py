"""Findings about errors, times and handlers that only need one process (findings of parts B and D)."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import pickle
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pendulum
import pytest

from kessel_core import (
    Config,
    DecodeError,
    Fatal,
    HandlerRegistry,
    InvalidConfig,
    InvalidRequest,
    JobManager,
    JobsConfig,
    Problem,
    Progress,
    Snooze,
    Status,
    Transient,
    errors,
    handler,
)
from kessel_core.config.options import HistoryConfig, ResultsConfig, WorkerConfig, options
from kessel_core.contract import JobState, Rollback, Store, need
from kessel_core.contract import Snooze as Snoozed
from kessel_core.errors import MOST_PROBLEMS, KesselError, UnusablePlugin
from kessel_core.model.policies import BadPayload
from kessel_core.testing import NeverIdle, VirtualClock, run_until_idle
from kessel_core.wire.requests import decode

if TYPE_CHECKING:
    from kessel_core import JobContext

App = Callable[..., JobManager]
ABSURD = (timedelta(seconds=10**12), timedelta.max)


def registered(target: object) -> Any:
    return HandlerRegistry().add("a", target, "test")


def refusal(target: object) -> str:
    with pytest.raises(InvalidConfig) as caught:
        registered(target)
    return str(caught.value)


# --- B2: times ------------------------------------------------------------------------------


class OddSpan(timedelta):
    """What a library may make of a span: other names, other arithmetic."""

    def __add__(self, other: Any) -> Any:
        raise AttributeError("years")

    __radd__ = __add__
    days = seconds = microseconds = property(lambda self: 1 / 0)  # type: ignore[assignment]


def odd() -> Iterator[tuple[Any, timedelta]]:
    yield OddSpan(minutes=5), timedelta(minutes=5)
    yield pendulum.duration(minutes=5), timedelta(minutes=5)
    yield pendulum.duration(years=1, months=2, microseconds=7), timedelta(days=425, microseconds=7)


@pytest.mark.parametrize(("given", "plain"), list(odd()))
def test_finding_b2_spans_of_other_libraries_are_made_plain_wherever_they_come_in(
    app: App, given: Any, plain: timedelta, clock: VirtualClock, deliver: Any
) -> None:
    def snooze(payload: Any) -> None:
        raise Snooze(given)

    def retry(payload: Any) -> None:
        raise Transient(after=given)

    manager = app({"snooze": snooze, "retry": retry})
    assert manager.request("a", delay=given).not_before == clock.now() + plain
    assert manager.request("a", expiration=given).expires_at == clock.now() + plain
    for kind, wanted in (("snooze", Snoozed), ("retry", Rollback)):
        (settled,) = deliver(manager, json.dumps({"type": kind}).encode()).settlements
        assert settled == wanted(plain)
        assert type(settled.pause) is timedelta
    declared = registered(handler("a", timeout=given, keep=given)(snooze))
    assert (type(declared.timeout), declared.timeout) == (timedelta, plain)
    assert (type(declared.keep), declared.keep) == (timedelta, plain)


@pytest.mark.parametrize(("given", "plain"), list(odd()))
def test_finding_b2_spans_of_other_libraries_in_a_configuration_are_made_plain(
    given: Any, plain: timedelta
) -> None:
    config = Config(
        worker=WorkerConfig(grace=given, heartbeat=given, deaf_after=given, patience=given),
        jobs=JobsConfig(retry_base=given, retry_cap=given),
        results=ResultsConfig(keep=given),
        history=HistoryConfig(keep=given),
    )
    spans = {
        path: option.of(config) for path, option in options().items() if "timedelta" in str(option.annotation)
    }
    assert len(spans) == 8
    for path, span in spans.items():
        assert (type(span), span) == (timedelta, plain), path


@pytest.mark.parametrize(("given", "plain"), list(odd()))
def test_finding_b2_s25_a_job_whose_result_is_kept_for_such_a_span_ends(
    tmp_path: Path, given: Any, plain: timedelta
) -> None:
    """SQLite writes the result with the settlement: if it cannot, the job runs again and again."""
    config = Config(adapter=f"sqlite:///{tmp_path / 'jobs.db'}", results=ResultsConfig(keep=given))
    with JobManager(config=config, handlers={"a": lambda payload: payload}) as manager:
        job = manager.request("a", 7)
        assert manager.worker().drain() == {"success": 1}
        assert manager.result(job.id).value == 7


@pytest.mark.parametrize(("given", "plain"), list(odd()))
def test_finding_b2_s19_an_entry_of_a_store_may_live_for_such_a_span(
    tmp_path: Path, given: Any, plain: timedelta
) -> None:
    with JobManager(f"sqlite:///{tmp_path / 'jobs.db'}") as manager:
        store = need(manager.adapter, Store)
        store.put("space", "key", b"", ttl=given)
        entry = store.get("space", "key")
        assert entry is not None
        assert entry.expires_at is not None
        assert timedelta(0) <= manager.clock.now() + plain - entry.expires_at < timedelta(minutes=1)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns"])
def test_finding_b2_moments_of_pendulum_are_made_plain(app: App, zone: str) -> None:
    at = pendulum.datetime(2031, 3, 4, 5, 6, 7, 8, tz=zone)
    job = app().request("a", delay=at, expiration=at.add(hours=1))
    assert type(job.not_before) is datetime
    assert job.not_before == at
    assert job.not_before.tzinfo is UTC
    assert job.expires_at == at + timedelta(hours=1)


def test_finding_b2_an_ambiguous_hour_of_pendulum_keeps_its_side(app: App) -> None:
    before = pendulum.datetime(2031, 10, 26, 0, 30, tz="UTC").in_timezone("Europe/Berlin")
    for at in (before, before.add(hours=1)):
        assert app().request("a", delay=at).not_before == at.in_timezone("UTC")


@pytest.mark.parametrize("pause", ABSURD)
@pytest.mark.parametrize("signal", [lambda after: Transient(after=after), Snooze])
def test_finding_d14_an_absurd_pause_is_cut_at_the_end_of_the_calendar_and_said_once(
    app: App, pause: timedelta, signal: Any, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(payload: Any) -> None:
        raise signal(pause)

    manager = app({"a": fail})
    manager.request("a")
    with pytest.raises(NeverIdle):
        run_until_idle(manager)
    (waiting,) = manager.adapter.peek("default", JobState.DELAYED, 5)  # type: ignore[attr-defined]
    assert waiting.due.year == 9999
    assert waiting.attempt <= 1
    said = [r for r in caplog.records if "longer than the queue can hold" in r.getMessage()]
    assert len(said) == 1


# --- B7: errors travel ---------------------------------------------------------------------------

_PROBLEMS = (Problem(("$", "payload"), "is wrong"), UnusablePlugin(("adapter",), "is not there"))
_WRONG = InvalidRequest(_PROBLEMS)


def _defined(kind: type) -> set[str]:
    return {name for base in kind.__mro__ if base.__module__ == errors.__name__ for name in vars(base)}


def examples() -> Iterator[BaseException]:
    """One of each error that users can meet, made of values that fit its parameters."""
    values: dict[str, Any] = {
        "problems": _PROBLEMS,
        "headline": "many are wrong",
        "plugin": "p",
        "why": "because",
        "distribution": "d",
        "capability": "priorities",
        "adapter": "memory",
        "job_id": "id",
        "queue": "q",
        "reason": "full",
        "stored": ("a",),
        "rejected": {"b": errors.EnqueueRejected("b", "because", "full")},
        "unknown": {"c": errors.EnqueueUnknown("c", "because")},
        "body": b"{",
        "message": "text",
        "after": timedelta(5),
        "state": JobState.BURIED,
        "held": {},
        "outcome": None,
        "progress": Progress(done=1, at=datetime(2026, 1, 1, tzinfo=UTC)),
        "space": "results",
        "key": "k",
        "version": 3,
        "value": b"v",
        "expires_at": None,
        "text": "text",
    }
    for name in errors.__all__:
        kind = getattr(errors, name)
        if not issubclass(kind, BaseException):
            continue
        parameters = {} if "__init__" not in _defined(kind) else dict(inspect.signature(kind).parameters)
        if not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
            yield kind("one", 2)
        else:
            positional = [values[n] for n, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
            named = {n: values[n] for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
            yield kind(*positional, **named)


@pytest.mark.parametrize("error", list(examples()), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "travel",
    [
        *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
        copy.copy,
        copy.deepcopy,
    ],
)
def test_finding_b7_every_error_pickles_and_copies(error: BaseException, travel: Any) -> None:
    error.add_note("seen in Berlin")
    again = travel(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again).keys() == vars(error).keys()
    for name, value in vars(error).items():
        other = vars(again)[name]
        assert other == value or str(other) == str(value)  # errors inside an error compare by identity


def _subclasses(kind: type) -> Iterator[type]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def test_finding_b7_errors_outside_of_the_list_travel_too() -> None:
    for kind in {*_subclasses(KesselError), *_subclasses(errors.HandlerSignal)}:
        assert "__reduce__" not in vars(kind), kind


def test_finding_b7_a_mistake_from_a_process_pool_arrives_whole() -> None:
    again = pickle.loads(pickle.dumps(_WRONG))
    assert again.problems == _PROBLEMS
    assert "2 problems" in str(again)


# --- a bounded number of problems ------------------------------------------------------------


def test_finding_d5_a_body_of_nothing_but_mistakes_keeps_a_hundred_and_counts_the_rest() -> None:
    headers = {f"h{number}": number for number in range(100_000)}
    with pytest.raises(DecodeError) as caught:
        decode(json.dumps({"type": "a", "headers": headers}).encode())
    *kept, rest = caught.value.problems
    assert len(kept) == MOST_PROBLEMS
    assert str(rest) == "... and 99,900 more"
    assert "100,000 problems" in str(caught.value)
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize("kind", [InvalidRequest, InvalidConfig])
def test_finding_d5_every_list_of_problems_is_bounded(kind: Any) -> None:
    error = kind([Problem((n,), "is wrong") for n in range(5_000)])
    assert len(error.problems) == MOST_PROBLEMS + 1


# --- B8: annotations -----------------------------------------------------------------------------


def test_finding_b8_only_the_annotation_of_the_payload_is_resolved() -> None:
    def send(payload: dict, job: JobContext) -> NotImportedAtAll:  # type: ignore[name-defined, type-arg]  # noqa: F821
        return None

    found = registered(send)
    assert found.wants_job
    assert found.structure({"a": 1}) == {"a": 1}


def test_finding_b8_a_payload_that_type_checkers_alone_know_is_blamed_by_name() -> None:
    def send(payload: OnlyForCheckers) -> None:  # type: ignore[name-defined]  # noqa: F821
        return None

    assert "annotation of 'payload' cannot be resolved: name 'OnlyForCheckers'" in refusal(send)
    assert "not only under TYPE_CHECKING" in refusal(send)


# --- B9: what is called --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Mock, MagicMock])
def test_finding_b9_a_mock_is_called_itself(app: App, make: Any) -> None:
    mock = make(return_value=None)
    assert app({"mail.send": mock}).process_single_job("mail.send", {"to": "a"}).ok
    mock.assert_called_once_with({"to": "a"})


def test_finding_b9_an_async_mock_is_awaited(app: App) -> None:
    mock = AsyncMock(return_value=5)
    assert app({"a": mock}).process_single_job("a").value == 5
    mock.assert_awaited_once_with(None)


def test_finding_b9_a_callable_object_is_called_even_if_it_can_handle() -> None:
    class Both:
        def __call__(self, payload: Any) -> str:
            return "called"

        def handle(self, payload: Any) -> str:
            return "handled"

    assert registered(Both()).function(None) == "called"


# --- B10: what cannot be a handler ---------------------------------------------------------------


def _yields(payload: Any) -> Iterator[int]:
    yield 1


async def _yields_async(payload: Any) -> Any:
    yield 1


class _YieldsAtCall:
    def __call__(self, payload: Any) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize("target", [_yields, _yields_async, _YieldsAtCall()])
def test_finding_b10_a_generator_is_refused_at_start_by_name(target: Any) -> None:
    assert "has a `yield`; a handler must return its value" in refusal(target)
    assert "ields" in refusal(target)


def _add(x: int, y: int) -> int:
    return x + y


def _three(payload: Any, job: Any, more: Any) -> None: ...


@pytest.mark.parametrize(
    ("target", "name"),
    [(_add, "_add(x, y)"), (_three, "_three(payload, job, more)"), (lambda: None, "<lambda>()")],
)
def test_finding_b10_wrong_arguments_are_refused_at_start_by_name(target: Any, name: str) -> None:
    assert f"{name} must take (payload) or (payload, job)" in refusal(target)


def test_finding_b10_a_second_argument_with_a_default_is_left_alone() -> None:
    assert not registered(lambda payload, again=None: None).wants_job
    assert registered(lambda payload, job=None: None).wants_job


def test_finding_b10_a_context_of_another_name_is_known_by_its_annotation() -> None:
    def run(payload: Any, context: JobContext) -> None: ...

    assert registered(run).wants_job


# --- B11: where an import failed -----------------------------------------------------------------


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_finding_b11_the_innermost_line_of_a_failed_import_is_named(
    modules: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (modules / "b11_one.py").write_text("import b11_two\n")
    (modules / "b11_two.py").write_text("import b11_three\n")
    (modules / "b11_three.py").write_text("x = 1\n\ny = 1 / 0\n")
    with caplog.at_level(logging.DEBUG, "kessel"):
        text = refusal("b11_one:run")
    assert f"ZeroDivisionError: division by zero ({modules / 'b11_three.py'}:3)" in text
    assert any(record.exc_info for record in caplog.records)


def test_finding_b11_a_module_that_is_missing_three_modules_down_names_who_wants_it(modules: Path) -> None:
    (modules / "b11_four.py").write_text("\nimport b11_nowhere\n")
    assert f"No module named 'b11_nowhere' ({modules / 'b11_four.py'}:2)" in refusal("b11_four:run")


def test_finding_b11_a_syntax_error_names_its_line(modules: Path) -> None:
    (modules / "b11_five.py").write_text("x = 1\ndef broken(:\n")
    assert f"({modules / 'b11_five.py'}:2)" in refusal("b11_five:run")


def test_finding_b11_a_class_that_cannot_be_made_names_the_line() -> None:
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("no settings")

        def handle(self, payload: Any) -> None: ...

    assert f"Broken() cannot be made: RuntimeError: no settings ({__file__}:" in refusal(Broken)


# --- B12: a rolling deployment -------------------------------------------------------------------


def whole(payload: int) -> int:
    return payload


def test_finding_b12_a_payload_that_does_not_fit_is_buried_at_once_by_default(app: App) -> None:
    result = app({"a": whole}).process_single_job("a", "x")
    assert (result.status, result.reason) == (Status.FAILED, "bad-payload")


def test_finding_b12_a_payload_that_does_not_fit_may_wait_for_a_newer_worker(app: App, deliver: Any) -> None:
    manager = app({"a": whole}, jobs=JobsConfig(bad_payload=BadPayload.RETRY, max_attempts=1))
    done = deliver(manager, b'{"type":"a","payload":"x"}')
    assert done.ending == ("snoozed", "bad-payload")
    assert isinstance(done.settlements[0], Snoozed)


def test_finding_b12_fatal_stays_fatal(app: App) -> None:
    def fail(payload: Any) -> None:
        raise Fatal("no")

    manager = app({"a": fail}, jobs=JobsConfig(bad_payload=BadPayload.RETRY))
    assert manager.process_single_job("a").status is Status.FAILED
