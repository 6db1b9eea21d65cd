"""The JSON Schema of the wire says what the code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kessel_core import DecodeError, JobRequest
from kessel_core.model.checks import job_from
from kessel_core.testing import VirtualClock
from kessel_core.testing.strategies import job_requests, json_values
from kessel_core.wire.requests import WIRE_VERSION, decode, encode

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "job.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
KEYS = sorted(SCHEMA["properties"])
FULL: dict[str, Any] = SCHEMA["examples"][1] | {"callback": "log:x"}


def reads(body: dict[str, Any]) -> bool:
    try:
        decode(json.dumps(body).encode())
    except DecodeError:
        return False
    return True


def test_the_schema_is_a_schema_and_its_examples_are_requests() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for shown in SCHEMA["examples"]:
        VALIDATOR.validate(shown)
        assert reads(shown)


def test_the_schema_knows_every_key_of_the_model_and_no_other() -> None:
    model = {field.name for field in attrs.fields(JobRequest)} - {"extra"} | {"requested_at"}
    assert set(KEYS) == model | {"v"}
    assert SCHEMA["properties"]["v"]["const"] == WIRE_VERSION


def test_the_defaults_of_the_schema_are_those_of_the_model() -> None:
    request = decode(b'{"type": "a"}')
    for key, rule in SCHEMA["properties"].items():
        if "default" in rule:
            field = {"delay": "not_before", "expiration": "expires_at"}.get(key, key)
            assert getattr(request, field) == rule["default"]


@given(job_requests())
def test_whatever_is_written_keeps_the_schema(wish: JobRequest) -> None:
    VALIDATOR.validate(json.loads(encode(job_from(wish, VirtualClock().now()))))


NEAR_MISSES = st.sampled_from(
    [
        *("", " ", ":", " :x", "x", "x:", "a b", "-a", "a" * 200, "a" * 201),
        *("2026-01-05T09:00:00", "2026-01-05T09:00:00Z", "2026-01-05T09:00:00.25+02:00", "yesterday"),
        *(None, True, False, 0, 1, 2, -1, 2**40, 0.5, [], {}, [""], {"a": "b"}, {"a": 1}),
    ]
)


@given(st.dictionaries(st.sampled_from(KEYS), NEAR_MISSES | json_values(max_leaves=4), max_size=3))
@example({"headers": []})
@example({"headers": ""})
@example({"callback": ":x"})
@example({"id": "a" * 201})
def test_schema_and_reader_take_and_refuse_the_same(changes: dict[str, Any]) -> None:
    """S13: what a machine may write is the same question for the schema and for the worker."""
    body = {"type": "a"} | changes
    if any(isinstance(value, float) and value.is_integer() for value in changes.values()):
        return  # a schema cannot tell 1.0 from 1; the reader refuses it where a whole number is asked for
    assert VALIDATOR.is_valid(body) == reads(body), body


@pytest.mark.parametrize("key", KEYS)
def test_an_absent_key_has_its_default_and_only_type_is_needed(key: str) -> None:
    body = {name: value for name, value in FULL.items() if name != key}
    assert VALIDATOR.is_valid(body) == reads(body) == (key != "type")
