"""S23: what is sent of an outcome."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kessel_http.body import FIELDS, LONGEST, encoded

from .conftest import payload


def outcome(**fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = payload(**fields)["outcome"]
    return made


def test_s23_a_body_has_type_timestamp_and_data() -> None:
    assert json.loads(encoded(outcome())) == {
        "type": "job.succeeded",
        "timestamp": "2026-01-05T09:00:01Z",
        "data": outcome(),
    }


@pytest.mark.parametrize("status", ["failed", "failed-transient", "snoozed", "cancelled", ""])
def test_s23_what_is_no_success_is_a_failure(status: str) -> None:
    assert json.loads(encoded(outcome(status=status)))["type"] == "job.failed"


def test_s23_the_payload_of_the_request_is_never_sent_nor_what_is_not_listed() -> None:
    body = json.loads(encoded(outcome(payload={"hush": 1}, request={"payload": "hush"}, frames="hush")))
    assert tuple(body["data"]) == FIELDS
    assert "hush" not in json.dumps(body)


def test_s23_what_an_outcome_lacks_is_null() -> None:
    body = json.loads(encoded({"status": "failed"}))
    assert body["timestamp"] is None
    assert body["data"] == dict.fromkeys(FIELDS) | {"status": "failed"}


def test_s23_a_value_is_left_out_when_the_body_would_pass_20_kb() -> None:
    room = LONGEST - len(encoded(outcome(value="")))
    fits, too_long = (encoded(outcome(value="x" * size)) for size in (room, room + 1))
    assert len(fits) == LONGEST
    assert json.loads(fits)["data"]["value"] == "x" * room
    in_bytes = json.loads(encoded(outcome(value="\u20ac" * (room // 3 + 1))))
    assert in_bytes["data"].get("value_omitted"), "bytes count, and not characters"
    data = json.loads(too_long)["data"]
    assert "value" not in data
    assert data["value_omitted"] is True
    assert data["status"] == "success"


def test_s23_a_value_that_was_left_out_before_is_said_to_be_left_out() -> None:
    data = json.loads(encoded(outcome(value=None, value_omitted=True)))["data"]
    assert "value" not in data
    assert data["value_omitted"] is True
    assert "value_omitted" not in json.loads(encoded(outcome(value_omitted=False)))["data"]


@given(st.text(max_size=50), st.one_of(st.none(), st.text(max_size=10_000), st.lists(st.integers())))
def test_s23_the_same_outcome_gives_the_same_bytes_which_are_json(message: str, value: Any) -> None:
    body = encoded(outcome(message=message, value=value))
    assert body == encoded(outcome(message=message, value=value))
    assert json.loads(body)["data"]["message"] == message


def test_s23_text_that_is_no_unicode_does_not_stop_a_delivery() -> None:
    assert json.loads(encoded(outcome(message="\ud800")))["data"]["message"] == "?"
