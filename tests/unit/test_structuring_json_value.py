"""`JsonValue` is what a handler may annotate when it takes JSON as it is."""

from __future__ import annotations

from typing import Any

import pytest

from kessel_core import HandlerRegistry, JsonValue


def whole(payload: JsonValue) -> None: ...


def table(payload: dict[str, JsonValue]) -> None: ...


def rows(payload: list[JsonValue]) -> None: ...


@pytest.mark.parametrize(
    ("function", "payload"),
    [(whole, {"a": [1, None]}), (table, {"a": [1, {"b": None}]}), (rows, [[1.5, "x"], None, {"a": True}])],
)
def test_json_value_is_handed_on_as_it_is(function: Any, payload: JsonValue) -> None:
    structure = HandlerRegistry().add("x", function, "test").structure
    assert structure is None or structure(payload) == payload
