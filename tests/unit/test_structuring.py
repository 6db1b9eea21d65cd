"""Payloads become their annotated types strictly, and every mistake has its path (E5)."""

from __future__ import annotations

import dataclasses
import enum
import tomllib
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypedDict
from uuid import UUID

import attrs
import pytest

from kessel_core import InvalidConfig
from kessel_core.errors import StructureProblems
from kessel_core.values.compound import MOST_MISTAKES
from kessel_core.values.converter import structurer
from kessel_core.values.options import structure_options


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Note(TypedDict, total=False):
    note: str


class Box(Note):
    size: int


@dataclasses.dataclass
class Point:
    x: int = 0


@attrs.frozen
class Item:
    count: int = attrs.field(default=1, validator=attrs.validators.ge(0))
    tags: list[str] = attrs.field(factory=list)
    box: Box | None = None


@attrs.frozen
class Node:
    name: str
    children: list[Node] = attrs.field(factory=list)


def structured(kind: Any, value: Any) -> Any:
    structure = structurer(kind)
    assert structure is not None
    return structure(value)


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (int, 5, 5),
        (float, 5, 5.0),
        (bool, True, True),
        (int | None, None, None),
        (list[int], [1, 2], [1, 2]),
        (list, [1, "a"], [1, "a"]),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (set[int], [1, 1], {1}),
        (frozenset[int], [1], frozenset({1})),
        (Sequence[int], [1], (1,)),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (datetime, "2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        (date, "2026-01-01", date(2026, 1, 1)),
        (timedelta, "5m", timedelta(minutes=5)),
        (timedelta, 1.5, timedelta(seconds=1.5)),
        (UUID, "12345678123456781234567812345678", UUID(int=0x12345678123456781234567812345678)),
        (Color, "red", Color.RED),
        (Level, 1, Level.LOW),
        (Literal["a", 1], 1, 1),
        (Box, {"size": 1}, {"size": 1}),
        (Point, {"x": 1}, Point(1)),
        (Item, {}, Item()),
        (Item | None, {"count": 2, "box": {"size": 1}}, Item(2, [], {"size": 1})),
        (Node, {"name": "a", "children": [{"name": "b"}]}, Node("a", [Node("b")])),
    ],
)
def test_fitting_value_is_structured(kind: Any, value: Any, made: Any) -> None:
    got = structured(kind, value)
    assert got == made
    assert type(got) is type(made)


@pytest.mark.parametrize(
    ("kind", "value", "paths"),
    [
        (int, "5", ["$"]),
        (int, True, ["$"]),
        (int, 5.0, ["$"]),
        (int | None, "5", ["$"]),
        (float, "5", ["$"]),
        (float, True, ["$"]),
        (float, 10**400, ["$"]),
        (bool, 1, ["$"]),
        (str, 5, ["$"]),
        (dict, [], ["$"]),
        (list[str], "ab", ["$"]),
        (tuple[str, ...], "ab", ["$"]),
        (set[str], {"a": 1}, ["$"]),
        (Sequence[str], "ab", ["$"]),
        (tuple[int, int], [1], ["$"]),
        (tuple[int, int], ["x", "y"], ["$[0]", "$[1]"]),
        (list[list[int]], [[1], [2, "x"]], ["$[1][1]"]),
        (dict[str, int], {"a": "x"}, ["$.a"]),
        (dict[str, int], [1], ["$"]),
        (datetime, "soon", ["$"]),
        (datetime, 5, ["$"]),
        (datetime, "2026-01-01T00:00:00", ["$"]),
        (datetime, "2026-01-01", ["$"]),
        (list[datetime | None], ["2026-01-01T00:00Z", None, "2026-01-01T00:00"], ["$[2]"]),
        (date, 5, ["$"]),
        (timedelta, True, ["$"]),
        (timedelta, 1e300, ["$"]),
        (UUID, 5, ["$"]),
        (UUID, "x", ["$"]),
        (Color, "blue", ["$"]),
        (Color, [], ["$"]),
        (Level, True, ["$"]),
        (Literal[1], True, ["$"]),
        (Literal["a"], [1], ["$"]),
        (Box, {}, ["$.size"]),
        (Box, [1], ["$"]),
        (Point, [], ["$"]),
        (Item, [], ["$"]),
        (Item, None, ["$"]),
        (Item, "", ["$"]),
        (Item, {"count": "x", "tags": ["a", 1]}, ["$.count", "$.tags[1]"]),
        (Item, {"box": {"size": None}}, ["$.box.size"]),
        (list[Item], [{}, {"tags": 1}], ["$[1].tags"]),
        (Node, {"name": "a", "children": [{"name": 1}]}, ["$.children[0].name"]),
        (Node, {}, ["$.name"]),
    ],
)
def test_misfit_says_every_path(kind: Any, value: Any, paths: list[str]) -> None:
    with pytest.raises(StructureProblems) as caught:
        structured(kind, value)
    assert [problem.path for problem in caught.value.problems] == paths


def test_what_cannot_be_hashed_is_named_by_its_index() -> None:
    with pytest.raises(StructureProblems) as caught:
        structured(set[Any], [1, [], 2, {}])
    assert [problem.where for problem in caught.value.problems] == [("$", 1), ("$", 3)]


def test_a_list_of_nothing_but_mistakes_names_the_first_and_counts_the_rest() -> None:
    with pytest.raises(StructureProblems) as caught:
        structured(list[int], ["x"] * 200_000)
    *named, rest = caught.value.problems
    assert [problem.where for problem in named] == [("$", index) for index in range(MOST_MISTAKES)]
    assert str(rest) == "$: 199901 more items were not checked"


def test_broken_validator_is_said_in_its_own_words_only() -> None:
    with pytest.raises(StructureProblems) as caught:
        structured(Item, {"count": -1})
    assert "Attribute(" not in str(caught.value)
    assert "must be >= 0" in str(caught.value)


@pytest.mark.parametrize("kind", [Any, object])
def test_anything_is_passed_as_it_is(kind: Any) -> None:
    assert structurer(kind) is None


@pytest.mark.parametrize("kind", [list[type(print)], int | type(print)])  # type: ignore[misc]  # made at run time
def test_type_that_cannot_be_structured_is_refused_at_once(kind: Any) -> None:
    with pytest.raises(Exception, match="Unsupported type"):
        structurer(kind)


# --- options -------------------------------------------------------------------------------------


@attrs.frozen
class Options:
    host: str
    port: int = 1
    ratio: float = 0.5
    tls: bool = False
    lease: timedelta = timedelta(seconds=60)
    most: int | None = None
    path: Path = Path()
    color: Color = Color.RED

    def __attrs_post_init__(self) -> None:
        if self.port == 0:
            raise ValueError("port must not be 0")


@pytest.mark.parametrize(
    ("name", "text", "made"),
    [
        ("port", "5", 5),
        ("ratio", "0.25", 0.25),
        ("tls", "YES", True),
        ("tls", "0", False),
        ("lease", "500ms", timedelta(milliseconds=500)),
        ("lease", "7d", timedelta(days=7)),
        ("lease", "90", timedelta(seconds=90)),
        ("most", "3", 3),
        ("most", None, None),
        ("path", "/x", Path("/x")),
        ("color", "red", Color.RED),
    ],
)
def test_text_is_read_by_the_type_of_the_option(name: str, text: str | None, made: object) -> None:
    assert getattr(structure_options(Options, {"host": "h", name: text}, "URL"), name) == made


Port = NewType("Port", int)


@attrs.frozen
class Wrapped:
    port: Port = Port(1)
    ratio: Annotated[float | None, "a note"] = None
    point: Annotated[Item, "a note"] = attrs.field(factory=Item)


def test_text_is_read_by_the_type_of_an_option_that_has_a_name_or_a_note() -> None:
    made = structure_options(Wrapped, {"port": "5", "ratio": "0.25", "point": {"count": "2"}}, "URL")
    assert made == Wrapped(Port(5), 0.25, Item(2))


def test_all_wrong_options_are_one_error_with_their_origin() -> None:
    given = {
        "prot": "1",
        "port": "x",
        "ratio": "y",
        "tls": "maybe",
        "lease": "soon",
        "most": True,
        "color": "b",
    }
    with pytest.raises(InvalidConfig) as caught:
        structure_options(Options, given, "moon://h")
    assert [(p.origin, p.where) for p in caught.value.problems] == [
        ("moon://h", (name,)) for name in ("prot", "port", "ratio", "tls", "lease", "most", "color", "host")
    ]
    assert "did you mean 'port'" in str(caught.value)


def test_a_time_without_zone_is_refused_and_says_how_to_write_one() -> None:
    """S2 for payloads that come from elsewhere: no machine's own zone decides which moment is meant."""
    with pytest.raises(StructureProblems, match="with its zone, as 2026-01-31T12:00:00Z"):
        structured(datetime, "2026-01-01T00:00:00")
    with pytest.raises(StructureProblems, match="with its zone"):
        structured(datetime, datetime(2026, 1, 1))  # naive, as TOML can write it


@attrs.frozen
class Bounded:
    least: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    most: int = attrs.field(default=9, validator=attrs.validators.le(9))
    #: Compared with another option, which only the class as a whole can do.
    step: int = attrs.field(default=1)

    @step.validator
    def _fits(self, _: object, value: int) -> None:
        if value > self.most - self.least:
            raise ValueError("step must fit between least and most")


def test_every_option_that_its_own_validator_refuses_is_told() -> None:
    with pytest.raises(InvalidConfig) as caught:
        structure_options(Bounded, {"least": "0", "most": "10", "step": "3"}, "here")
    assert [(p.origin, p.path) for p in caught.value.problems] == [("here", "least"), ("here", "most")]
    with pytest.raises(InvalidConfig, match=r"here: step must fit"):
        structure_options(Bounded, {"step": "9"}, "here")


def test_options_may_lie_inside_of_others() -> None:
    with pytest.raises(InvalidConfig) as caught:
        structure_options(Bounded, {"least": "0", "lest": "1"}, where=("a", "b"))
    assert [p.where for p in caught.value.problems] == [("a", "b", "least"), ("a", "b", "lest")]


@attrs.frozen
class Harbour:
    depth: int


@attrs.frozen
class Coast:
    one: Harbour | None = None
    by_name: dict[str, Harbour] = attrs.field(factory=dict)
    in_order: tuple[Harbour, ...] = ()
    in_list: list[Harbour] = attrs.field(factory=list)


def test_tables_inside_of_options_are_options_however_they_are_held() -> None:
    """A misspelt option was left out in silence wherever a table was not alone or in a `Mapping`."""
    table = {"depth": "3"}
    given = {"one": table, "by_name": {"a": table}, "in_order": [table], "in_list": [table]}
    deep = Harbour(3)
    assert structure_options(Coast, given) == Coast(deep, {"a": deep}, (deep,), [deep])
    wrong = {"depth": 3, "dept": 4}
    with pytest.raises(InvalidConfig) as caught:
        structure_options(
            Coast, {"one": wrong, "by_name": {"a": wrong}, "in_order": [table, wrong], "in_list": [7]}
        )
    places = [("one", "dept"), ("by_name", "a", "dept"), ("in_order", 1, "dept"), ("in_list", 0)]
    assert [problem.where for problem in caught.value.problems] == places


@attrs.frozen
class Days:
    day: date
    hour: time


def test_an_option_that_is_a_date_or_a_time_of_day_is_taken_as_toml_has_it() -> None:
    made = Days(date(2026, 1, 31), time(7, 32))
    assert structure_options(Days, tomllib.loads("day = 2026-01-31\nhour = 07:32:00")) == made
    assert structure_options(Days, {"day": "2026-01-31", "hour": "07:32"}) == made
    with pytest.raises(InvalidConfig, match="day: expected an ISO-8601 date"):
        structure_options(Days, tomllib.loads("day = 2026-01-31T07:00:00Z\nhour = 07:32:00"))


@attrs.frozen
class Derived:
    host: str = "h"
    address: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "address", f"{self.host}:1")


def test_what_options_make_of_themselves_is_neither_required_nor_an_option() -> None:
    assert structure_options(Derived, {"host": "x"}).address == "x:1"
    with pytest.raises(InvalidConfig, match="address: unknown option; known: host"):
        structure_options(Derived, {"address": "y:1"})


def test_what_the_options_class_refuses_is_a_problem_of_the_origin() -> None:
    with pytest.raises(InvalidConfig, match="moon://h: port must not be 0"):
        structure_options(Options, {"host": "h", "port": 0}, "moon://h")
