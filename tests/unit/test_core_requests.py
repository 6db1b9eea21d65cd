"""The rules that a request keeps, S1, S2, S3 and S5, and the ids it gets."""

from __future__ import annotations

import copy
import json
import os
import pickle
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

from kessel_core import DecodeError, InvalidRequest, Job, JobRequest
from kessel_core.model.checks import job_from
from kessel_core.model.ids import new_id
from kessel_core.model.job import DEFAULT_PRIORITY, LOWEST_PRIORITY
from kessel_core.model.json import MAX_DEPTH, json_problems
from kessel_core.testing import VirtualClock
from kessel_core.wire.requests import decode

CLOCK = VirtualClock()
NOW = CLOCK.now()


def problems_of(**fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        job_from(JobRequest(**{"type": "a", **fields}), NOW)
    return {problem.path: problem.message for problem in caught.value.problems}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_draws_ids_of_its_own() -> None:
    """The same ids would be taken for repeated requests, and jobs be lost."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "\n".join(new_id(NOW) for _ in range(5)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as ids:
        theirs = set(ids.read().split())
    assert os.waitpid(child, 0)[1] == 0
    ours = {new_id(NOW) for _ in range(5)}
    assert len(theirs) == 5
    assert not ours & theirs


def test_s1_blanks_around_a_type_do_not_count() -> None:
    assert job_from(JobRequest(type="  mail.send\n"), NOW).type == "mail.send"


@pytest.mark.parametrize("kind", ["", "  ", 3, None, "\ud800"])
def test_s1_a_type_is_text_that_is_not_blank(kind: Any) -> None:
    assert "$.type" in problems_of(type=kind)


@pytest.mark.parametrize("key", ["id", "queue"])
def test_s1_ids_and_names_of_queues_have_200_characters_at_most(key: str) -> None:
    """The longest that all backends can hold; in a body of other software as well."""
    for name in ("x" * 200, "x" * 201):
        given = {"type": "a", key: name}
        if len(name) == 200:
            assert getattr(job_from(JobRequest(**given), NOW), key) == name
            assert getattr(decode(json.dumps(given).encode()), key) == name
        else:
            assert set(problems_of(**given)) == {f"$.{key}"}
            with pytest.raises(DecodeError, match=rf"\$\.{key}"):
                decode(json.dumps(given).encode())


def test_s1_everything_wrong_is_reported_at_once() -> None:
    found = problems_of(
        type=" ",
        payload={"a": [1, {2}]},
        priority=True,
        queue="-x",
        ref=5,
        id="x" * 201,
        delay=3,
        expiration=datetime(2026, 1, 1),
        callback=":target",
        headers={"trace": 1},
        extra={"payload": 1},
    )
    paths = "type payload.a[1] priority queue ref id delay expiration callback headers.trace payload"
    assert set(found) == {f"$.{path}" for path in paths.split()}


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        (float("nan"), "$", "not a JSON number"),
        ([float("inf")], "$[0]", "not a JSON number"),
        ({"a": (1, 2)}, "$.a", "use a list"),
        ({"a": {1}}, "$.a", "use a list"),
        (b"x", "$", "base64"),
        ({"a b": NOW}, "$['a b']", "ISO-8601"),
        ({1: 2}, "$", "keys must be text"),
        ({"\ud800": 2}, "$", "lone surrogate"),
        ("\udfff", "$", "lone surrogate"),
        (10**5000, "$", "4300 digits"),
        (nested(MAX_DEPTH + 1), "$" + "[0]" * MAX_DEPTH, "nested deeper"),
        (object(), "$", "object is not a JSON value"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() else type(value).__name__,
)
def test_s2_what_is_not_json_is_refused_with_its_path(value: Any, path: str, says: str) -> None:
    (problem,) = json_problems(value)
    assert problem.path == path
    assert says in problem.message


def test_s2_keys_that_are_one_text_are_refused() -> None:
    """They were stored, and the job was undecodable."""

    class Same(str):
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    (problem,) = json_problems({"a": {Same("é"): 1, Same("é"): 2}})
    assert (problem.path, problem.message) == ("$.a", "several keys are written as 'é'")


def test_s2_a_cycle_is_refused_with_its_path() -> None:
    value: dict[str, Any] = {"a": []}
    value["a"].append(value)
    (problem,) = json_problems(value)
    assert (problem.path, problem.message) == ("$.a[0]", "contains itself")


@pytest.mark.parametrize(
    "value",
    [nested(MAX_DEPTH), 2**70, 10**4299, "é", {"é": ["ü"]}, [[1], [1]], True],
    ids=["deep", "big", "biggest", "text", "keys", "lists", "true"],
)
def test_s2_unusual_json_is_accepted(value: Any) -> None:
    assert json_problems(value) == []


def test_s2_the_same_value_twice_is_no_cycle() -> None:
    shared = ["é"]
    assert json_problems({"a": shared, "b": shared}) == []


def test_s2_naive_times_are_refused() -> None:
    naive = NOW.replace(tzinfo=None)
    assert "naive" in problems_of(delay=naive)["$.delay"]
    assert "naive" in problems_of(expiration=naive)["$.expiration"]


@pytest.mark.parametrize(
    ("given", "stored"),
    [(-5, 0), (0, 0), (7, 7), (LOWEST_PRIORITY, LOWEST_PRIORITY), (LOWEST_PRIORITY + 1, LOWEST_PRIORITY)],
)
def test_s3_a_priority_is_brought_into_its_range(given: int, stored: int) -> None:
    assert job_from(JobRequest(type="a", priority=given), NOW).priority == stored


def test_s3_the_default_priority_is_65536() -> None:
    assert job_from(JobRequest(type="a"), NOW).priority == DEFAULT_PRIORITY == 65536


@pytest.mark.parametrize("priority", [1.5, "7", True])
def test_s3_a_priority_is_a_whole_number(priority: Any) -> None:
    assert "whole number" in problems_of(priority=priority)["$.priority"]


def test_spans_become_times_from_now_in_utc() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5))) + timedelta(hours=2)
    stored = job_from(JobRequest(type="a", delay=timedelta(hours=1), expiration=elsewhere), NOW)
    assert (stored.not_before, stored.expires_at) == (NOW + timedelta(hours=1), NOW + timedelta(hours=2))
    assert stored.expires_at is not None
    assert stored.expires_at.tzinfo is UTC
    assert stored.requested_at == NOW


@pytest.mark.parametrize(
    ("fields", "path", "says"),
    [
        ({"expiration": timedelta(0)}, "$.expiration", "already past"),
        ({"expiration": NOW - timedelta(seconds=1)}, "$.expiration", "already past"),
        ({"delay": timedelta(2), "expiration": timedelta(2)}, "$.expiration", "after the delay"),
        ({"delay": timedelta(-1)}, "$.delay", "negative"),
        ({"delay": timedelta.max}, "$.delay", "9999"),
        ({"delay": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))}, "$.delay", "UTC"),
    ],
)
def test_s5_times_that_cannot_be_kept_are_refused(fields: dict[str, Any], path: str, says: str) -> None:
    assert says in problems_of(**fields)[path]


@pytest.mark.parametrize("headers", [["a"], {1: "a"}, {"a": None}])
def test_headers_are_a_mapping_of_texts(headers: Any) -> None:
    assert any(path.startswith("$.headers") for path in problems_of(headers=headers))


@pytest.mark.parametrize("callback", [3, ":x", "\ud800:x"])
def test_a_callback_is_a_scheme_and_target_or_a_function(callback: Any) -> None:
    assert "$.callback" in problems_of(callback=callback)
    assert job_from(JobRequest(type="a", callback=print), NOW).callback is None


def test_a_given_id_is_kept_and_another_one_made() -> None:
    assert job_from(JobRequest(type="a", id="mine"), NOW).id == "mine"
    made = uuid.UUID(job_from(JobRequest(type="a"), NOW).id)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_ids_carry_their_millisecond_and_differ() -> None:
    ids = {new_id(CLOCK.now()) for _ in range(1000)}
    assert len(ids) == 1000
    assert {uuid.UUID(one).int >> 80 for one in ids} == {int(NOW.timestamp() * 1000)}


def test_a_request_is_frozen() -> None:
    for noun in (JobRequest(type="a"), Job(type="a")):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            noun.type = "b"  # type: ignore[misc]  # that it is refused is the promise


@pytest.mark.parametrize("noun", [JobRequest, Job])
@pytest.mark.parametrize("headers", [None, {}, {"tenant": "south"}])
def test_x1_headers_are_read_only_and_a_copy_of_what_was_given(noun: Any, headers: Any) -> None:
    given = dict(headers or {})
    made = noun(type="a") if headers is None else noun(type="a", headers=given)
    for change in (
        lambda: made.headers.__setitem__("tenant", "north"),
        lambda: made.headers.update(tenant="north"),
        lambda: made.headers.setdefault("x", "y"),
        lambda: made.headers.pop("tenant", None),
        lambda: made.headers.clear(),
        lambda: made.headers.__ior__({"x": "y"}),
        lambda: made.headers.__delitem__("tenant"),
        lambda: made.headers.popitem(),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    given["late"] = "x"
    assert "late" not in made.headers
    assert noun(type="a").headers == {}


def test_a_job_can_be_copied_pickled_and_asked_for_again() -> None:
    job = job_from(JobRequest(type="a", headers={"a": "b"}, delay=timedelta(5), extra={"k": 1}), NOW)
    assert pickle.loads(pickle.dumps(job)) == copy.deepcopy(job) == job
    assert job_from(job.as_request(), NOW) == job
