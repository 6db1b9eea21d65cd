"""Texts as values, and JSON as every reader would take it: one place for each (E5)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kessel_core.values.reading import fit, from_text, moment_or_span, read
from kessel_core.values.strict_json import read_json


class Colour(StrEnum):
    RED = "red"
    GREEN = "Green"


class Level(IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        (" Yes ", bool, True),
        ("off", bool, False),
        ("7", int, 7),
        ("7", int | None, 7),
        ("0.5", float, 0.5),
        ("90s", timedelta, timedelta(seconds=90)),
        ("RED", Colour, Colour.RED),
        ("green", Colour, Colour.GREEN),
        ("a, b", tuple[str, ...], ("a", "b")),
        (" ", tuple[str, ...], ()),
        ('{"a": 1}', Mapping[str, Any], {"a": 1}),
        ("as it is", str, "as it is"),
        ("as it is", str | None, "as it is"),
    ],
)
def test_text_is_read_by_its_kind(text: str, kind: Any, value: object) -> None:
    assert read(text, kind, text=True) == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("perhaps", bool),
        ("", bool),
        ("1.5", int),
        ("", int),
        ("nan", float),
        ("1e999", float),
        ("soon", timedelta),
        ("blue", Colour),
        ("[1]", Mapping[str, Any]),
        ('{"a": 1, "a": 2}', Mapping[str, Any]),
        ("[" * 100_000, Mapping[str, Any]),
    ],
)
def test_text_that_is_none_of_its_kind_is_refused(text: str, kind: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="expected"):
        read(text, kind, text=True)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("5", int), ("true", bool), ("a", tuple[str, ...]), ("{}", Mapping[str, Any]), (True, int), (1.0, int)],
)
def test_text_is_no_number_where_numbers_have_a_form_of_their_own(value: object, kind: Any) -> None:
    with pytest.raises(TypeError, match="expected"):
        read(value, kind)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), 1e300, None, []])
def test_a_number_that_is_no_span_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError), match="duration"):
        read(value, timedelta)


def test_a_member_is_never_found_for_a_bool() -> None:
    assert fit(1, Level) is Level.LOW
    with pytest.raises(ValueError, match="expected one of 1; got True"):
        fit(True, Level)


def test_what_is_wrong_with_a_table_does_not_repeat_its_text() -> None:
    with pytest.raises(ValueError, match="expected a JSON object") as caught:
        from_text("password=hunter2", Mapping[str, Any])
    assert "hunter2" not in str(caught.value)


def test_a_moment_needs_its_zone() -> None:
    assert moment_or_span("2026-01-31T12:00:00Z") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert moment_or_span("5m") == timedelta(minutes=5)
    with pytest.raises(ValueError, match="give it a zone"):
        moment_or_span("2026-01-31T12:00:00")
    with pytest.raises(ValueError, match="expected a span"):
        moment_or_span("soon")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_what_is_json_for_all_is_read(value: object) -> None:
    import json

    assert read_json(f" {json.dumps(value)}\n") == value


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "a": 2}}]', "NaN", "[-Infinity]", "1e999", "{}{}", "", "{"]
)
def test_what_readers_take_differently_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_json(text)
