"""Choices between kinds of payloads, and classes that name themselves (findings of part B)."""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import attrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kessel_core import InvalidConfig, JobManager
from kessel_core.errors import StructureProblems
from kessel_core.values.annotations import has_reference
from kessel_core.values.converter import structurer
from kessel_core.values.unstructuring import unstructured


def read(kind: Any, value: Any) -> Any:
    structure = structurer(kind)
    assert structure is not None
    return structure(value)


def mistakes(kind: Any, value: Any) -> list[str]:
    with pytest.raises(StructureProblems) as caught:
        read(kind, value)
    return [str(problem) for problem in caught.value.problems]


class Way(enum.Enum):
    CARD = "card"
    CASH = "cash"


@dataclasses.dataclass(frozen=True)
class Card:
    number: str
    way: Literal[Way.CARD] = Way.CARD


@dataclasses.dataclass(frozen=True)
class Cash:
    amount: int
    way: Literal[Way.CASH] = Way.CASH


@attrs.frozen
class Cat:
    kind: Annotated[Literal["cat", "kitten"], "a note"]


@attrs.frozen
class Dog:
    kind: Literal["dog"] = "dog"
    age: int = 0


class Circle(TypedDict):
    radius: int


class Square(TypedDict):
    side: int


class Red(TypedDict):
    colour: Literal["red"]


class Blue(TypedDict):
    colour: Literal["blue"]


@attrs.frozen
class Small:
    a: int


@attrs.frozen
class Large:
    a: int
    b: int


@attrs.frozen
class Empty:
    note: str | None = None


class Note(pydantic.BaseModel):
    note: str = ""


class Order(pydantic.BaseModel):
    id: int


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Card | Cash, Card("4")),
        (Card | Cash, Cash(5)),
        (Cash | Card | None, Card("4")),
        (Cat | Dog, Cat("kitten")),
        (Cat | Dog, Dog(age=3)),
        (Circle | Square, {"side": 1}),
        (Red | Blue, {"colour": "blue"}),
        (Small | Large, Small(1)),
        (Small | Large, Large(1, 2)),
        (Large | Small | Empty, Empty()),
        (Note | Order, Order(id=5)),
        (Note | Order, Note(note="n")),
        (Order | Note, Note(note="n")),
        (Small | Note | Order, Small(1)),
        (list[Card | Cash], [Cash(1), Card("2")]),
        (dict[str, Card | Cash | None], {"a": Cash(1), "b": None}),
    ],
    ids=str,
)
def test_finding_b4_a_choice_of_classes_comes_back_as_the_class_that_was_written(
    kind: Any, value: Any
) -> None:
    assert read(kind, unstructured(value)) == value


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Card | Cash, {"way": "cheque"}, "$.way: expected one of 'card', 'cash'; got 'cheque'"),
        (Card | Cash, {"way": ["card"]}, "$.way: expected one of 'card', 'cash'; got ['card']"),
        (Card | Cash, {"number": "4"}, "$: required field 'way' is missing"),
        (Cat | Dog, {"kind": 1}, "$.kind: expected one of 'cat', 'kitten', 'dog'; got 1"),
        (Card | Cash, 5, "$: expected Card or Cash, got int 5"),
        (Card | Cash, {"way": "cash", "amount": "x"}, "$.amount: expected a whole number, got str 'x'"),
        (
            Circle | Square,
            {"height": 1},
            "$: expected Circle or Square, which have a field of their own each: radius, side",
        ),
        (list[Card | Cash], [{"way": "no"}], "$[0].way: expected one of 'card', 'cash'; got 'no'"),
    ],
)
def test_finding_b4_what_is_of_no_class_of_a_choice_is_told_with_its_path(
    kind: Any, value: Any, said: str
) -> None:
    assert mistakes(kind, value) == [said]


@pytest.mark.parametrize("kind", [Card | Cash | dict[str, int], dict[str, int] | Cash | Card])
def test_finding_b4_an_object_that_is_of_no_class_may_be_a_mapping(kind: Any) -> None:
    assert read(kind, {"k": 1}) == {"k": 1}
    assert read(kind, {"way": "cash", "amount": 1}) == Cash(1)


@pytest.mark.parametrize("kind", [Small | Annotated[Empty, "n"] | Note, Dog | Empty])
def test_finding_b4_classes_that_cannot_be_told_apart_are_refused_at_start(kind: Any) -> None:
    if Note in kind.__args__:
        assert read(kind, {"a": 1}) == Small(1)  # of two, one may have nothing of its own
    else:
        with pytest.raises(Exception, match="Dog and Empty cannot be told apart in JSON"):
            structurer(kind)


@pytest.mark.parametrize("kind", [tuple[int, *tuple[str, ...]], list[tuple[*tuple[int, ...]]]])
def test_finding_b4_a_tuple_with_a_part_of_any_length_is_refused_at_start(kind: Any) -> None:
    with pytest.raises(Exception, match="a part of any length inside of a tuple is not read"):
        structurer(kind)


ID = "12345678-1234-5678-1234-567812345678"


def test_finding_b4_a_choice_is_read_in_its_own_order_whatever_was_read_before() -> None:
    """`int | str` equals `str | int`, for Python and for caches."""
    found = [read(kind, ID) for kind in (Path | UUID, UUID | Path) * 2]
    found += [read(kind, [ID])[0] for kind in (list[Path | UUID], list[UUID | Path])]
    found += [
        read(kind, {"a": [ID]})["a"][0]
        for kind in (dict[str, list[Path | UUID]], dict[str, list[UUID | Path]])
    ]
    assert [type(one) for one in found] == [type(Path()), UUID] * 4


def test_finding_b4_literals_are_named_in_their_own_order_whatever_was_read_before() -> None:
    """`Literal["a", "b"]` equals `Literal["b", "a"]`, and a message named those of another handler."""
    kinds: tuple[Any, ...] = (Literal["a", "b"], Literal["b", "a"])
    said = ["$: expected one of 'a', 'b'; got 'c'", "$: expected one of 'b', 'a'; got 'c'"]
    assert [mistakes(kind, "c") for kind in kinds * 2] == [[one] for one in said * 2]
    assert [mistakes(list[kind], ["c"]) for kind in kinds] == [[one.replace("$", "$[0]")] for one in said]
    assert [read(kind, True) for kind in (Literal[True, 2], Literal[2, True])] == [True, True]
    assert [mistakes(kind, True) for kind in (Literal[1, 2], Literal[2, 1])] == [
        ["$: expected one of 1, 2; got True"],
        ["$: expected one of 2, 1; got True"],
    ]


# --- classes that name themselves, in modules whose annotations are no text ------------------------------

SOURCE = """
import dataclasses
from typing import Any, Generic, Optional, TypeVar

import attrs

from kessel_core import JsonValue

T = TypeVar("T")

@dataclasses.dataclass
class Tree:
    value: int
    kids: list["Tree"] = dataclasses.field(default_factory=list)

@attrs.define
class Chain:
    value: int
    after: Optional["Chain"] = None
    extra: JsonValue = None

@dataclasses.dataclass
class Left:
    right: Optional["Right"] = None

@dataclasses.dataclass
class Right:
    lefts: dict[str, "Left"] = dataclasses.field(default_factory=dict)

@attrs.define
class Box(Generic[T]):
    holds: T
    boxes: list["Box[T]"] = attrs.field(factory=list)

def trees(payload: list["Tree"]):
    return repr(payload)

def maybe(payload: Optional["Chain"]):
    return repr(payload)

def wrong(payload: list["Nowhere"]):
    pass
"""


@pytest.fixture(scope="module")
def named() -> Iterator[Any]:
    module = types.ModuleType("named_for_tests")
    sys.modules["named_for_tests"] = module
    exec(SOURCE, module.__dict__)
    yield module
    del sys.modules["named_for_tests"]


def test_finding_b4_a_class_may_name_itself_inside_of_an_annotation(named: Any) -> None:
    tree = named.Tree(1, [named.Tree(2), named.Tree(3, [named.Tree(4)])])
    assert read(named.Tree, unstructured(tree)) == tree
    chain = named.Chain(1, named.Chain(2, extra={"a": [1]}))
    assert read(named.Chain, unstructured(chain)) == chain
    left = named.Left(named.Right({"a": named.Left()}))
    assert read(named.Left, unstructured(left)) == left
    box = named.Box(1, [named.Box(2)])
    assert read(named.Box[int], unstructured(box)) == box
    assert mistakes(named.Tree, {"value": 1, "kids": [{"value": 1}, {"value": "x"}]}) == [
        "$.kids[1].value: expected a whole number, got str 'x'"
    ]
    assert mistakes(named.Box[int], {"holds": 1, "boxes": [{"holds": "x"}]}) == [
        "$.boxes[0].holds: expected a whole number, got str 'x'"
    ]


def test_finding_b4_the_annotation_of_a_handler_may_name_a_class_inside(named: Any) -> None:
    handlers = {"trees": named.trees, "maybe": named.maybe}
    with JobManager("memory://", handlers=handlers) as manager:
        assert manager.process_single_job("trees", [{"value": 1}]).value == "[Tree(value=1, kids=[])]"
        assert manager.process_single_job("maybe", None).value == "None"
    with pytest.raises(InvalidConfig, match="the annotation of 'payload' cannot be resolved: name 'Nowhere'"):
        JobManager("memory://", handlers={"wrong": named.wrong}).connect()


@given(st.text(min_size=1).filter(lambda text: text != "JsonValue"))
def test_a_text_in_an_annotation_is_a_reference_unless_it_is_a_value(text: str) -> None:
    assert has_reference(text)
    assert has_reference(dict[str, list[text]])  # type: ignore[valid-type]  # known here only
    assert not has_reference(Literal[text])  # type: ignore[valid-type]  # known here only
    assert not has_reference(Annotated[int, text])
