"""The strategies give what they promise: requests that are accepted and come back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import find, given
from hypothesis import strategies as st

from kessel_core import JobRequest, JsonValue
from kessel_core.contract import queue_name_problem
from kessel_core.model.checks import job_from
from kessel_core.model.json import json_problems
from kessel_core.testing.strategies import (
    headers,
    job_requests,
    job_types,
    json_values,
    moments,
    queue_names,
    texts,
)
from kessel_core.wire.requests import decode, encode

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(json_values())
def test_json_values_are_accepted(value: JsonValue) -> None:
    """S2."""
    assert json_problems(value) == []


@given(texts(), job_types(), headers())
def test_texts_can_be_stored_and_types_are_not_blank(text: str, kind: str, some: dict[str, str]) -> None:
    """S1, S2."""
    assert text.encode().decode() == text
    assert kind.strip()
    assert json_problems(dict(some)) == []


@given(queue_names())
def test_queue_names_are_accepted_by_the_one_rule_for_all_adapters(name: str) -> None:
    assert queue_name_problem(name) is None


@given(moments(NOW, NOW + timedelta(days=1)))
def test_moments_are_aware_and_within_their_bounds(moment: datetime) -> None:
    assert moment.tzinfo is not None
    assert NOW <= moment <= NOW + timedelta(days=1)


@given(job_requests(now=NOW, queues=queue_names()))
def test_requests_are_accepted_and_come_back_from_the_wire(request: JobRequest) -> None:
    """S1-S5, S16."""
    stored = job_from(request, NOW)
    assert decode(encode(stored)) == stored


@given(job_requests())
def test_without_a_now_requests_are_good_at_any_time(request: JobRequest) -> None:
    job_from(request, datetime(2050, 1, 1, tzinfo=UTC))


@given(job_requests(types=["a", "b"], payloads=st.just(1), queues=["x"]))
def test_requests_are_limited_to_what_is_asked_for(request: JobRequest) -> None:
    assert request.type in ("a", "b")
    assert request.payload == 1
    assert request.queue == "x"


def test_requests_of_every_kind_are_found() -> None:
    anything = job_requests(types=st.just("a"), now=NOW)
    assert find(anything, lambda request: isinstance(request.delay, datetime)).delay
    assert find(anything, lambda request: isinstance(request.expiration, timedelta)).expiration
    assert find(anything, lambda request: request.delay is None and request.expiration is None).type == "a"
