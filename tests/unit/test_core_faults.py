"""Faults that requests, bodies and handlers may have; the numbers are those of the fault catalogue."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import kessel_memory.plugin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kessel_core import (
    Config,
    Fatal,
    InvalidRequest,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    JobsConfig,
    JsonValue,
    Transient,
    build_plugins,
)
from kessel_core.contract import Message, queue_name_problem
from kessel_core.model.checks import job_from
from kessel_core.model.json import json_problems
from kessel_core.model.policies import UnknownType
from kessel_core.testing import NeverIdle, VirtualClock, run_until_idle
from kessel_core.testing.strategies import json_values, texts
from kessel_core.wire.requests import decode, encode

Open = Callable[..., JobManager]
NAN, INFINITY = float("nan"), float("inf")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def opened() -> Iterator[Open]:
    managers: list[JobManager] = []

    def open_(handlers: Any, **jobs: Any) -> JobManager:
        plugins = build_plugins(extra={"memory": kessel_memory.plugin}, distributions=[])
        config = Config(jobs=JobsConfig(**jobs))
        managers.append(
            JobManager("memory://", handlers=handlers, clock=VirtualClock(), config=config, plugins=plugins)
        )
        return managers[-1].connect()

    yield open_
    for manager in managers:
        manager.close()


def put(manager: JobManager, body: bytes, job_id: str = "raw") -> None:
    manager.adapter.enqueue(Message(job_id, "default", body, 65536))


# --- f12, f13: values ---------------------------------------------------------------------------------

BAD = st.one_of(
    st.sampled_from([NAN, INFINITY, -INFINITY, b"x", (), (1,), {1}, frozenset(), object(), print, "\ud800"]),
    st.sampled_from([Decimal(1), Fraction(1, 2), 1j, date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)]),
    st.sampled_from([timedelta(1), range(3), bytearray(b"x"), int, {1: 1}, {"\udfff": 1}]),
)
ANYTHING = st.recursive(
    json_values(max_leaves=3) | BAD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner),
)


def at(value: Any, path: str) -> Any:
    """Look up a path such as `$.payload.a[0]['b c']`."""
    rest = path.removeprefix("$")
    while rest:
        if rest[0] == ".":
            length = next((n for n, char in enumerate(rest[1:], 1) if char in ".["), len(rest))
            value, rest = value[rest[1:length]], rest[length:]
        else:
            # A key may contain brackets: the shortest prefix that is a literal is the index.
            end = next(n for n in range(2, len(rest)) if rest[n] == "]" and is_literal(rest[1:n]))
            value, rest = value[literal(rest[1:end])], rest[end + 1 :]
    return value


def literal(text: str) -> Any:
    return ast.literal_eval(text)


def is_literal(text: str) -> bool:
    try:
        literal(text)
    except (ValueError, SyntaxError):
        return False
    return True


@given(ANYTHING)
def test_f12_s2_s16_what_is_accepted_comes_back_equal_and_what_is_refused_says_where(value: Any) -> None:
    problems = json_problems(value)
    if problems:
        for problem in problems:
            found = at(value, problem.path)  # the path leads to a value
            assert not isinstance(found, (bool, type(None)))
            assert problem.message
    else:
        request = job_from(JobRequest(type="a", payload=value), NOW)
        back = decode(encode(request)).payload
        assert back == value
        assert json.dumps(back) == json.dumps(value)  # also 1, 1.0 and True are kept apart


@given(json_values())
def test_f12_s2_every_json_value_is_accepted(value: JsonValue) -> None:
    assert json_problems(value) == []


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("this has no text")


@pytest.mark.parametrize("key", ["10**5000", "Mute()"])
def test_f12_s2_a_key_that_cannot_even_be_shown_is_refused(key: str) -> None:
    (problem,) = json_problems({"a": {eval(key): 1}})
    assert (problem.path, problem.message[:17]) == ("$.a", "keys must be text")


@given(st.integers())
@pytest.mark.parametrize("digits", [0, 4290])
def test_f12_s2_long_integers_are_kept_to_the_last_digit(digits: int, number: int) -> None:
    value = number * 10**digits
    if json_problems(value):
        assert value.bit_length() > 14_200
    else:
        assert decode(encode(job_from(JobRequest(type="a", payload=value), NOW))).payload == value


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"a": inner}])
@pytest.mark.parametrize("depth", [101, 100_000])
def test_f13_s2_too_deep_nesting_is_refused_without_recursion(make: Callable[[Any], Any], depth: int) -> None:
    value: Any = None
    for _ in range(depth):
        value = make(value)
    with pytest.raises(InvalidRequest, match="nested deeper than 100 levels"):
        job_from(JobRequest(type="a", payload=value), NOW)
    while value:  # taken apart by hand: the interpreter would recurse
        value = value[0] if isinstance(value, list) else value["a"]


def test_f13_s2_the_deepest_that_is_accepted_is_read_back() -> None:
    value: Any = 1
    for _ in range(100):
        value = [value]
    assert decode(encode(job_from(JobRequest(type="a", payload=value), NOW))).payload == value


# --- f14, f15: numbers and names ------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [NAN, True, "5", 0.5, Decimal(1)])
def test_f14_s3_a_priority_that_is_no_number_is_refused(priority: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        job_from(JobRequest(type="a", priority=priority), NOW)
    assert [p.path for p in caught.value.problems] == ["$.priority"]


@pytest.mark.parametrize("field", ["delay", "expiration"])
@pytest.mark.parametrize("time", [-1, 2**32, NAN, True, "5", 0.5, date(2026, 1, 1), datetime(2026, 1, 1)])
def test_f14_s2_a_time_that_is_none_is_refused(field: str, time: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        job_from(JobRequest(type="a", **{field: time}), NOW)
    assert [p.path for p in caught.value.problems] == [f"$.{field}"]


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a\r\n", "a\n", "\0", "a\0b", "é", "a" * 201, "-a", "a,b", "kessel.a", 5, b"a"],
)
def test_f15_a_queue_name_that_no_adapter_takes_is_refused(name: Any) -> None:
    assert queue_name_problem(name) is not None
    with pytest.raises(InvalidRequest) as caught:
        job_from(JobRequest(type="a", queue=name), NOW)
    assert [p.path for p in caught.value.problems] == ["$.queue"]


# --- f38 to f51: handlers -----------------------------------------------------------------------------------


def test_f47_failing_jobs_do_not_starve_good_ones(opened: Open) -> None:
    def failing(payload: JsonValue) -> None:
        raise Transient

    done: list[JsonValue] = []
    manager = opened({"bad": failing, "good": done.append}, max_attempts=4)
    manager.request_many([("bad", n) if n % 2 else ("good", n) for n in range(200)])
    first_round = run_until_idle(manager)[:200]
    assert done == list(range(0, 200, 2))
    assert sum(result.ok for result in first_round) == 100
    assert manager.adapter.stats("default").buried == 100


def test_f48_a_job_that_is_put_twice_shows_the_same_id(opened: Open) -> None:
    seen: list[tuple[str, int]] = []

    def note(payload: JsonValue, job: JobContext) -> None:
        seen.append((job.id, job.attempt))

    manager = opened({"a": note})
    body = b'{"type": "a", "id": "same"}'
    put(manager, body, "one")
    put(manager, body, "two")
    run_until_idle(manager)
    assert seen == [("same", 1), ("same", 1)]


class Huge(Exception):
    def __str__(self) -> str:
        return "x" * 10_000_000


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


@pytest.mark.parametrize("error", [Huge(), Silent(), Fatal("y" * 100_000)])
def test_f50_the_text_of_a_failure_is_cut_and_need_not_be_readable(opened: Open, error: Exception) -> None:
    def failing(payload: JsonValue) -> None:
        raise error

    manager = opened({"a": failing})
    manager.request("a")
    (result,) = run_until_idle(manager)
    assert 0 < len(result.message) <= 2000
    assert [len(stored.message or "") <= 2000 for stored in manager.adapter.buried("default")] == [True]


@pytest.mark.parametrize("value", [NAN, {1, 2}, b"x", object(), [[(1,)]], {1: 2}, [10**5000]])
def test_f50_a_result_that_is_no_json_is_a_failure_and_the_worker_goes_on(opened: Open, value: Any) -> None:
    manager = opened({"a": lambda payload: value, "b": len})
    manager.request_many([("a", 1), ("b", [])])
    assert [str(result.status) for result in run_until_idle(manager)] == ["failed", "success"]


def test_f51_s16_a_handler_that_changes_its_payload_gets_the_original_again(opened: Open) -> None:
    seen: list[JsonValue] = []

    def change(payload: dict[str, list[int]], job: JobContext) -> None:
        seen.append(json.loads(json.dumps(payload)))
        payload["n"].append(payload["n"].pop() + 1)
        payload.clear()
        if job.attempt < 3:
            raise Transient

    manager = opened({"a": change})
    manager.request("a", {"n": [1]})
    run_until_idle(manager)
    assert seen == [{"n": [1]}] * 3


# --- f52 to f57: jobs in the queue --------------------------------------------------------------------------

FOREIGN = {
    "empty": b"",
    "not utf-8": b"\xff\xfe\x00",
    "malformed": b'{"type": "a"',
    "bom": b'\xef\xbb\xbf{"type": "a"}',
    "utf-16": '{"type": "a"}'.encode("utf-16"),
    "same key twice": b'{"type": "a", "type": "b"}',
    "scalar": b"5",
    "too deep": b'{"type": "a", "payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "long integer": b'{"type": "a", "payload": ' + b"9" * 5000 + b"}",
    "NaN": b'{"type": "a", "payload": NaN}',
    "beyond numbers": b'{"type": "a", "payload": 1e999}',
    "surrogate": b'{"type": "a", "payload": "\\ud800"}',
    "no type": b'{"payload": 1}',
    "newer version": b'{"type": "a", "v": 2}',
    "version as text": b'{"type": "a", "v": "1"}',
    "version as bool": b'{"type": "a", "v": true}',
    "wrong types": b'{"type": 1, "priority": "x", "delay": 5, "headers": []}',
    "trailing": b'{"type": "a"} {"type": "b"}',
}


@pytest.mark.parametrize("name", FOREIGN)
def test_f52_f53_s13_foreign_bytes_are_buried_untouched_once_and_the_worker_goes_on(
    opened: Open, name: str
) -> None:
    manager = opened({"a": len})
    put(manager, FOREIGN[name])
    manager.request("a", [])
    results = run_until_idle(manager)
    assert [(str(r.status), r.reason and str(r.reason)) for r in results] == [
        ("failed", "undecodable"),
        ("success", None),
    ]
    assert [(s.body, s.reason) for s in manager.adapter.buried("default")] == [(FOREIGN[name], "undecodable")]
    assert results[0].request is None


def test_f53_unknown_keys_reach_the_handler_and_are_kept_by_a_retry(opened: Open) -> None:
    seen: list[Any] = []

    def note(payload: JsonValue, job: JobContext) -> None:
        seen.append(dict(job.request.extra))
        if job.attempt == 1:
            raise Transient(after=timedelta(0))

    manager = opened({"a": note})
    put(manager, b'{"type": "a", "vendor": {"trace": [1]}}')
    run_until_idle(manager)
    assert seen == [{"vendor": {"trace": [1]}}] * 2


@pytest.mark.parametrize(
    "name", ["os.system", "os:system", "a.__class__", "__import__", "../../etc/passwd", "builtins:exec"]
)
def test_f55_a_type_is_looked_up_and_never_imported(opened: Open, name: str) -> None:
    loaded = set(sys.modules)
    manager = opened({"a": len})
    put(manager, json.dumps({"type": name, "payload": "true"}).encode())
    (result,) = run_until_idle(manager)
    assert str(result.reason) == "no-handler"
    assert {module.partition(".")[0] for module in set(sys.modules) - loaded} <= {
        "kessel_core",
        "kessel_memory",
    }


def test_f54_s12_s21_an_unknown_type_waits_for_a_worker_that_knows_it_and_uses_no_attempt(
    opened: Open,
) -> None:
    known: dict[str, Any] = {"a": len}
    manager = opened(known, unknown_type=UnknownType.RETRY, max_attempts=2)
    manager.request("later")
    with pytest.raises(NeverIdle) as stopped:
        run_until_idle(manager, limit=timedelta(days=1))
    assert {(str(r.status), str(r.reason), r.attempt) for r in stopped.value.results} == {
        ("snoozed", "no-handler", 1)
    }
    manager.registry.add("later", lambda payload: "at last", "a newer version")
    assert [(r.value, r.attempt) for r in run_until_idle(manager)] == [("at last", 1)]


def test_f54_s12_by_default_an_unknown_type_is_buried_at_once(opened: Open) -> None:
    manager = opened({"a": len}, max_attempts=3)
    manager.request("later")
    assert [str(r.status) for r in run_until_idle(manager)] == ["failed"]
    assert [s.reason for s in manager.adapter.buried("default")] == ["no-handler"]


def test_f57_s5_expired_while_waiting_for_its_retry_is_never_started_again(opened: Open) -> None:
    runs: list[int] = []

    def failing(payload: JsonValue, job: JobContext) -> None:
        runs.append(job.attempt)
        raise Transient(after=timedelta(minutes=4))

    told: list[JobResult] = []
    manager = opened({"a": failing}, max_attempts=10)
    manager.request("a", expiration=timedelta(minutes=10), callback=told.append)
    run_until_idle(manager)
    assert runs == [1, 2, 3]  # the next could only start in the twelfth minute
    assert [str(r.reason) for r in told] == ["expired"]


def test_f57_s5_expiration_does_not_cut_a_running_handler(opened: Open) -> None:
    manager: JobManager

    def slow(payload: JsonValue) -> str:
        clock = manager.clock
        assert isinstance(clock, VirtualClock)
        clock.advance(timedelta(seconds=30))
        return "done"

    manager = opened({"a": slow})
    manager.request("a", expiration=timedelta(seconds=10))
    assert [result.value for result in run_until_idle(manager)] == ["done"]


# --- S11: pauses, as they are lived through ----------------------------------------------------------------


def test_s11_the_first_delay_is_never_applied_again(opened: Open) -> None:
    starts: list[datetime] = []

    def failing(payload: JsonValue, job: JobContext) -> None:
        starts.append(job.clock.now())
        if job.attempt == 1:
            raise Transient(after=timedelta(seconds=1))

    manager = opened({"a": failing})
    stored = manager.request("a", delay=timedelta(hours=3))
    run_until_idle(manager)
    assert stored.not_before is not None
    assert starts == [stored.not_before, stored.not_before + timedelta(seconds=1)]


def test_s10_s18_three_days_of_retries_pass_in_no_time(opened: Open) -> None:
    def failing(payload: JsonValue) -> None:
        raise ConnectionError("away")

    hours = timedelta(hours=1)
    manager = opened({"a": failing}, max_attempts=200, retry_base=hours, retry_cap=hours)
    manager.request("a")
    results = run_until_idle(manager)
    assert [result.attempt for result in results] == list(range(1, 201))
    assert str(results[-1].reason) == "retries-exhausted"
