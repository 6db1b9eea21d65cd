"""Typed payloads in both directions, and where their jobs go (findings of part B, and queues of types)."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import attrs
import pendulum
import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from kessel_core import (
    Config,
    InvalidConfig,
    InvalidRequest,
    JobManager,
    JobRequest,
    JsonValue,
    handler,
    hookimpl,
)
from kessel_core.errors import StructureProblems
from kessel_core.hooks import PayloadType
from kessel_core.values.converter import structurer
from kessel_core.values.unstructuring import unstructured

App = Callable[..., JobManager]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Point(NamedTuple):
    x: int
    y: Decimal


@attrs.frozen
class Line:
    sku: str
    price: Decimal
    amounts: dict[int, str] = attrs.field(factory=dict)


@dataclasses.dataclass(frozen=True)
class Address:
    street: str
    since: date
    opens: time | None = None


class Options(TypedDict, total=False):
    limit: Decimal
    colour: Colour


@attrs.frozen
class Order:
    id: UUID
    at: datetime
    lines: tuple[Line, ...]
    to: Address
    colour: Colour
    size: Size
    point: Point
    wait: timedelta
    file: Path
    tags: frozenset[str]
    by_colour: Mapping[Colour, Decimal]
    by_day: dict[date, int]
    note: int | str | None
    options: Options
    kind: Literal["new", "old"] = "new"


ORDER = Order(
    id=UUID("12345678123456781234567812345678"),
    at=datetime(2031, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
    lines=(Line("a", Decimal("19.90"), {1: "one", -2: "two"}), Line("b", Decimal("1E+3"))),
    to=Address("Main St", date(2030, 1, 2), time(9, 30)),
    colour=Colour.RED,
    size=Size.LARGE,
    point=Point(1, Decimal("2.5")),
    wait=timedelta(seconds=1, microseconds=5),
    file=Path("a/b"),
    tags=frozenset({"x"}),
    by_colour={Colour.BLUE: Decimal(1)},
    by_day={date(2031, 1, 1): 5},
    note="5",
    options={"limit": Decimal("0.1"), "colour": Colour.BLUE},
)


def read(kind: Any, value: Any) -> Any:
    structure = structurer(kind)
    assert structure is not None
    return structure(json.loads(json.dumps(value)))


def mistakes(kind: Any, value: Any) -> list[str]:
    with pytest.raises(StructureProblems) as caught:
        read(kind, value)
    return list(map(str, caught.value.problems))


# --- B4: what a payload class may hold -----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (Decimal, "19.90", Decimal("19.90")),
        (Decimal, 5, Decimal(5)),
        (time, "09:30", time(9, 30)),
        (dict[int, str], {"1": "a", "-2": "b"}, {1: "a", -2: "b"}),
        (dict[Colour, int], {"red": 1}, {Colour.RED: 1}),
        (dict[Size, int], {"2": 1}, {Size.LARGE: 1}),
        (dict[UUID, int], {"12345678-1234-5678-1234-567812345678": 1}, {ORDER.id: 1}),
        (dict[Literal["a", "b"], int], {"a": 1}, {"a": 1}),
        (collections.OrderedDict[str, int], {"a": 1}, collections.OrderedDict(a=1)),
        (Point, [1, "2"], Point(1, Decimal(2))),
        (int | str, 5, 5),
        (int | str, "5", "5"),
        (str | int | None, None, None),
        (Decimal | str, "5.0", Decimal("5.0")),
        (str | Decimal, "x", "x"),
        (date | datetime, "2031-01-02", date(2031, 1, 2)),
        (date | datetime, "2031-01-02T03:04:05Z", datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (float | int, 1, 1),
        (list[int] | int, [1], [1]),
        (Line | str, "a", "a"),
        (Line | None, {"sku": "a", "price": "1"}, Line("a", Decimal(1))),
        (Line | Address, {"street": "a", "since": "2030-01-02"}, Address("a", date(2030, 1, 2))),
        (list[Line | int], [1, {"sku": "a", "price": "1"}], [1, Line("a", Decimal(1))]),
        (Options, {"limit": "1.5"}, {"limit": Decimal("1.5")}),
    ],
    ids=str,
)
def test_finding_b4_these_kinds_are_read(kind: Any, value: Any, made: Any) -> None:
    assert read(kind, value) == made
    assert type(read(kind, value)) is type(made)


@attrs.frozen
class HasBytes:
    data: bytes


@attrs.frozen
class Twin:
    sku: str
    price: Decimal
    amounts: dict[int, str] = attrs.field(factory=dict)


class Money(Decimal):
    pass


class Odd(enum.Enum):
    A = (1, 2)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (bytes, "bytes have no form in JSON"),
        (pendulum.DateTime, "DateTime is another class than datetime"),
        (list[Money], "Money is another class than Decimal"),
        (HasBytes, "bytes have no form in JSON"),
        (list[bytes | None], "bytes have no form in JSON"),
        (dict[str, HasBytes], "bytes have no form in JSON"),
        (dict[tuple[int, int], str], "keys of JSON objects are text"),
        (dict[float, str], "keys of JSON objects are text"),
        (dict[bool, str], "keys of JSON objects are text"),
        (collections.defaultdict[str, int], "use dict"),
        (collections.Counter[str], "use dict"),
        (Line | Twin, "Line and Twin cannot be told apart in JSON"),
        (Odd, "no JSON values"),
        (Literal[b"a"], "no JSON value"),
        (complex, "Unsupported type"),
        (Fraction, "Unsupported type"),
        (Callable[[], None], "Unsupported type"),
    ],
    ids=str,
)
def test_finding_b4_what_could_never_be_read_is_refused_at_start_by_name(kind: Any, says: str) -> None:
    def handle(payload: Any) -> None: ...

    handle.__annotations__["payload"] = kind
    with pytest.raises(InvalidConfig, match=says) as caught:
        JobManager("memory://", handlers={"a": handle}).connect()
    assert caught.value.problems[0].path == "handlers.a"


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Decimal, 1.5, "$: expected a decimal number as text, got float 1.5"),
        (Decimal, "NaN", "$: expected a decimal number as text, got 'NaN'"),
        (Decimal, "x", "$: expected a decimal number as text, got 'x'"),
        (Decimal, True, "$: expected a decimal number as text, got bool True"),
        (time, 5, "$: expected an ISO-8601 time of day, got int 5"),
        (dict[int, str], {"1": "a", "x": "b", "01": "c"}, "$.x: expected a whole number as a key, got 'x'"),
        *(
            (dict[kind, str], {"1": "a", key: "b"}, f"{at}: expected a whole number as a key, got {key!r}")
            for kind in (int, Size)  # read leniently it would take the place of the other
            for key, at in (("01", "$['01']"), ("+1", "$['+1']"), (" 1", "$[' 1']"), ("1_0", "$['1_0']"))
        ),
        (dict[int, int], {"1": "a"}, "$['1']: expected a whole number, got str 'a'"),
        (Point, [1], "$: expected a list of 2, got one of 1"),
        (Point, [1, 2.5], "$[1]: expected a decimal number as text, got float 2.5"),
        (int | str, 1.5, "$: expected a whole number or text, got float 1.5"),
        (Line | None, {"sku": "a"}, "$.price: required field 'price' is missing"),
        (Line | int, "a", "$: expected Line or a whole number, got str 'a'"),
        (
            list[Line | Address],
            [{"sku": "a", "price": 0.5}],
            "$[0].price: expected a decimal number as text, got",
        ),
    ],
    ids=str,
)
def test_finding_b4_what_does_not_fit_is_said_with_its_path(kind: Any, value: Any, said: str) -> None:
    assert mistakes(kind, value)[0].startswith(said)


# --- E5: further kinds ------------------------------------------------------------------------------

Thing = TypeVar("Thing")
UserId = NewType("UserId", str)


class Pair(NamedTuple, Generic[Thing]):
    first: Thing
    others: list[Thing]
    last: Thing | None = None


class Couple(Pair[list[Thing]], Generic[Thing]):
    """Its own `Thing` is not that of its base."""


class Ones(Pair[int]):
    pass


@dataclasses.dataclass
class Seeded:
    size: int
    seed: dataclasses.InitVar[int]


@dataclasses.dataclass
class SeededOrNot:
    size: int
    seed: dataclasses.InitVar[int] = 3


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (Pair[int], [1, [2], None], Pair(1, [2])),
        (Pair[Pair[int] | None], [[1, [2], 3], [None], None], Pair(Pair(1, [2], 3), [None])),
        (list[Pair[Line]], [[{"sku": "a", "price": "1"}, [], None]], [Pair(Line("a", Decimal(1)), [])]),
        (Couple[Decimal], [["1"], [["2"]], None], Couple([Decimal(1)], [[Decimal(2)]])),
        (Ones, [1, [2], None], Ones(1, [2])),
        (collections.deque[str], ["a"], collections.deque("a")),
        (collections.deque, [1, "a"], collections.deque([1, "a"])),
        (dict[UserId, int], {"a": 1}, {"a": 1}),
        (dict[Annotated[int, "a note"], int], {"1": 1}, {1: 1}),
        (Annotated[list[int], {"doc": "ids"}], [1], [1]),
        (None, None, None),
        (dict[str, None], {"a": None}, {"a": None}),
        (SeededOrNot, {"size": 1}, SeededOrNot(1)),
    ],
    ids=str,
)
def test_e5_these_kinds_are_read_too(kind: Any, value: Any, made: Any) -> None:
    assert read(kind, value) == made
    assert type(read(kind, value)) is type(made)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Pair[int], ["x", [1, "y"], None], ["$[0]: expected a whole number", "$[1][1]: expected a whole"]),
        (Pair[int], [1], ["$: expected a list of 3, got one of 1"]),
        (Pair[int], "abc", ["$: expected a list, got str 'abc'"]),
        (collections.deque[str], "ab", ["$: expected a list, got str 'ab'"]),
        (collections.deque[int], [1, "a"], ["$[1]: expected a whole number, got str 'a'"]),
        (None, 5, ["$: expected null, got int 5"]),
    ],
    ids=str,
)
def test_e5_what_does_not_fit_these_kinds_is_said_with_its_path(
    kind: Any, value: Any, said: list[str]
) -> None:
    assert all(one.startswith(start) for one, start in zip(mistakes(kind, value), said, strict=True))


V = TypeVar("V")
D = typing_extensions.TypeVar("D", default=Decimal)
Text = NewType("Text", str)
Anything = NewType("Anything", JsonValue)
Number = TypeAliasType("Number", int)
Maybe = TypeAliasType("Maybe", list[V] | None, type_params=(V,))


@attrs.frozen
class Small:
    size: int = 0


@attrs.frozen
class Named:
    name: str
    size: int = 0


class Frozen(typing_extensions.TypedDict):
    limit: typing_extensions.ReadOnly[Decimal]
    size: typing_extensions.NotRequired[typing_extensions.ReadOnly[Number]]


class Branch(TypedDict, Generic[V], total=False):
    name: Annotated[Required[V], "a note"]
    above: NotRequired[Branch[V]]


class Trunk(Branch[Decimal]):
    length: NotRequired[int]


class Bough(Branch[list[D]], Generic[D]):
    length: NotRequired[D]


class Limb(Branch[list[V]], Generic[V]):
    """Its own `V` is not that of its base."""

    width: NotRequired[V]


Listed = TypeAliasType("Listed", list[D], type_params=(D,))


class Twig(typing_extensions.TypedDict, Generic[D]):
    name: D
    above: NotRequired[int]


@dataclasses.dataclass
class Node:
    size: int
    below: Nodes | None = None


Nodes = TypeAliasType("Nodes", list[Node])
Items = typing_extensions.TypeVarTuple("Items")
Several = TypeAliasType("Several", tuple[*Items], type_params=(Items,))


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (dict[Number, Number], {"1": 2}, {1: 2}),
        (Maybe[int], [1], [1]),
        (Maybe[int] | str, "x", "x"),
        (Annotated[str, "a note"] | timedelta, "5s", timedelta(seconds=5)),
        (Text | timedelta, "5s", timedelta(seconds=5)),
        (float | Annotated[int, "a note"], 1, 1),
        (float | Annotated[Number | None, "a note"], 1, 1),
        (Anything | None, {"a": [None]}, {"a": [None]}),
        (Anything | Line, {"a": [1.5]}, {"a": [1.5]}),
        (JsonValue | Line, {"a": [1.5]}, {"a": [1.5]}),
        (Annotated[Small, "a note"] | Named, {"name": "a"}, Named("a")),
        (Frozen, {"limit": "1.5", "size": 3}, {"limit": Decimal("1.5"), "size": 3}),
        (Frozen, {"limit": "1.5"}, {"limit": Decimal("1.5")}),
        (
            Branch[UUID],
            {"name": str(ORDER.id), "above": {"name": str(ORDER.id)}},
            {"name": ORDER.id, "above": {"name": ORDER.id}},
        ),
        (Trunk, {"name": "1"}, {"name": Decimal(1)}),
        (Bough[Decimal], {"name": ["1"]}, {"name": [Decimal(1)]}),
        (Limb[Decimal], {"name": ["1"], "width": "2"}, {"name": [Decimal(1)], "width": Decimal(2)}),
        (Twig, {"name": "1"}, {"name": Decimal(1)}),
        (Listed, ["1"], [Decimal(1)]),
        (Node, {"size": 1, "below": [{"size": 2}]}, Node(1, [Node(2)])),
    ],
    ids=str,
)
def test_e5_names_notes_and_marks_around_a_kind_change_nothing(kind: Any, value: Any, made: Any) -> None:
    assert read(kind, value) == made
    assert type(read(kind, value)) is type(made)


def test_e5_fields_of_a_typed_dict_are_needed_as_marked_also_where_annotations_are_text() -> None:
    assert mistakes(Branch[int], {"above": {}}) == [
        "$.name: required field 'name' is missing",
        "$.above.name: required field 'name' is missing",
    ]
    assert mistakes(Frozen, {}) == ["$.limit: required field 'limit' is missing"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no `type X = ...` yet")
def test_e5_a_name_may_stand_for_what_holds_it() -> None:
    names: dict[str, Any] = {}  # it is no syntax for older ones, so it stands in a text
    exec("type Tree[T] = T | list[Tree[T]]\ntype Bad = list[Bad | bytes]", names)
    tree = names["Tree"][int]
    assert read(tree, [1, [2, []]]) == [1, [2, []]]
    (mistake,) = mistakes(dict[str, tree], {"a": 1, "b": ["x"]})
    assert mistake.startswith("$.b: expected a whole number or list")
    with pytest.raises(Exception, match="bytes have no form in JSON"):  # at the start, all the same
        structurer(names["Bad"])


def test_e5_what_holds_itself_is_refused_with_its_path() -> None:
    (mistake,) = mistakes(Node, {"size": 1, "below": [{"size": "x"}]})
    assert mistake.startswith("$.below[0].size: expected a whole number")


def test_e5_a_name_for_kinds_of_any_number_is_refused_at_start() -> None:
    with pytest.raises(Exception, match="Unsupported type"):
        structurer(Several[int, str])


def test_e5_what_could_never_be_read_is_refused_at_start_each_time_that_its_name_is_met() -> None:
    share = NewType("Share", Fraction)
    for kind in (share, list[share], share):  # type: ignore[valid-type]  # a name is made here, for this test alone
        with pytest.raises(Exception, match="Unsupported type"):
            structurer(kind)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no `type X = ...` yet")
def test_e5_a_name_of_itself_is_refused_at_start() -> None:
    names: dict[str, Any] = {}
    exec("type Circle = Circle", names)
    with pytest.raises(Exception, match="is a name of itself"):
        structurer(names["Circle"])


def test_e5_a_dataclass_that_its_fields_alone_do_not_make_is_refused_at_start() -> None:
    def handle(payload: Any) -> None: ...

    handle.__annotations__["payload"] = list[Seeded]
    with pytest.raises(InvalidConfig, match=r"seed is an InitVar, .* give it a default"):
        JobManager("memory://", handlers={"a": handle}).connect()


def test_e5_a_payload_of_none_is_null_whether_annotations_are_text_or_not() -> None:
    def handle(payload: Any) -> None: ...

    for annotation in (None, "None"):
        handle.__annotations__["payload"] = annotation
        with JobManager("memory://", handlers={"a": handle}) as manager:
            done = [manager.process_single_job("a", payload) for payload in (None, 5)]
        assert [(str(one.status), one.reason) for one in done] == [
            ("success", None),
            ("failed", "bad-payload"),
        ]


@pytest.mark.parametrize(
    "span",
    [
        timedelta.max,
        timedelta.min,
        timedelta(days=999_999, microseconds=999_999),
        timedelta(seconds=2**33 - 1, microseconds=999_999),
        timedelta(seconds=2**33, microseconds=1),
        timedelta(days=-1, microseconds=1),
    ],
)
def test_e5_a_span_comes_back_exactly(span: timedelta) -> None:
    """Also one of more seconds than a float holds with their microseconds."""
    assert read(timedelta, unstructured(span)) == span


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (collections.OrderedDict(a=Decimal(1)), {"a": "1"}),
        (
            collections.defaultdict(list, a=[Line("a", Decimal(1))]),
            {"a": [unstructured(Line("a", Decimal(1)))]},
        ),
        ([type("Prices", (list,), {})([Decimal(1)])], [["1"]]),
        (Pair(collections.deque([Decimal(1)]), []), [["1"], [], None]),
    ],
    ids=str,
)
def test_e5_typed_objects_are_written_inside_of_other_dicts_and_lists_too(
    app: App, value: Any, written: Any
) -> None:
    assert app().request("a", value).payload == written


def test_e5_other_dicts_and_lists_without_typed_objects_are_not_copied() -> None:
    payload = collections.OrderedDict(a=[1])
    assert unstructured(payload) is payload


# --- B5: typed objects are written by what reads them ----------------------------------------------


def test_finding_b5_a_typed_object_arrives_as_it_was(app: App) -> None:
    seen: list[Order] = []

    def charge(order: Order) -> Decimal:
        seen.append(order)
        return order.lines[0].price

    manager = app({"order.charge": charge})
    job = manager.request("order.charge", ORDER)
    assert isinstance(job.payload, dict)
    assert job.payload["lines"][0] == {"sku": "a", "price": "19.90", "amounts": {"1": "one", "-2": "two"}}  # type: ignore[index, call-overload]
    manager.request(JobRequest(type="order.charge", payload=ORDER))
    manager.request_many([("order.charge", ORDER)])
    assert manager.worker(slots=1).drain() == {"success": 3}
    assert seen == [ORDER] * 3
    result = manager.process_single_job("order.charge", ORDER)
    assert result.ok
    assert result.value == "19.90"


def test_finding_b5_message_and_request_async_write_typed_objects_too(app: App) -> None:
    import asyncio

    manager = app()
    body = manager.message(JobRequest(type="a", payload=Colour.RED)).body
    assert json.loads(body)["payload"] == "red"
    assert asyncio.run(manager.request_async("a", Address("b", date(2030, 1, 2)))).payload == {
        "street": "b",
        "since": "2030-01-02",
        "opens": None,
    }


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("1.50"), "1.50"),
        (ORDER.id, "12345678-1234-5678-1234-567812345678"),
        (date(2031, 1, 2), "2031-01-02"),
        (time(9, 30), "09:30:00"),
        (ORDER.at, "2031-02-03T04:05:06.000007+00:00"),
        (pendulum.datetime(2031, 1, 2, tz="UTC"), "2031-01-02T00:00:00+00:00"),
        (timedelta(minutes=1), 60),
        (timedelta(milliseconds=1500), 1.5),
        (pendulum.duration(minutes=1), 60),
        (PurePosixPath("a/b"), "a/b"),
        (Colour.RED, "red"),
        (Odd.A, [1, 2]),
        (Point(1, Decimal(2)), [1, "2"]),
        ({"a": [Decimal(1), {"b": Colour.BLUE}]}, {"a": ["1", {"b": "blue"}]}),
    ],
    ids=str,
)
def test_finding_b5_single_values_are_written_wherever_they_are(app: App, value: Any, written: Any) -> None:
    payload = app().request("a", value).payload
    assert json.dumps(payload) == json.dumps(written), "a whole number stays one"


class Plain:
    pass


@attrs.frozen
class Basket:
    prices: tuple[int, ...]
    total: int = attrs.field(init=False)
    cache: object = attrs.field(init=False, factory=Plain, eq=False)

    @total.default
    def _sum(self) -> int:
        return sum(self.prices)


@dataclasses.dataclass
class Crate:
    prices: list[int]
    total: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(self.prices)


@pytest.mark.parametrize("value", [Basket((1, 2)), Crate([1, 2])], ids=["attrs", "dataclass"])
def test_e5_what_an_object_makes_of_itself_is_not_written_and_is_made_again(value: Any) -> None:
    """E5: it may be of any class, such as a cache, and nobody could hand it over."""
    written = unstructured(value)
    assert written == {"prices": [1, 2]}
    again = read(type(value), written)
    assert (again, again.total) == (value, 3)


@pytest.mark.parametrize(
    ("value", "path", "hint"),
    [
        (Plain(), "$.payload", "Plain is not a JSON value: use dicts and lists, or make its class an attrs"),
        ({"a": Plain()}, "$.payload.a", "kessel_payload_types"),
        (b"x", "$.payload", "base64"),
        ((1, 2), "$.payload", "use a list"),
        ({1, 2}, "$.payload", "use a list"),
        (collections.deque([1]), "$.payload", "use a list"),
        ((n for n in ()), "$.payload", "use list(...)"),
        (iter([]), "$.payload", "use list(...)"),
        (range(3), "$.payload", "use list(...)"),
        (Decimal("NaN"), "$.payload", "no finite number"),
        (datetime(2031, 1, 1), "$.payload", "give it a time zone"),
        (Line, "$.payload", "give an object of it"),
        (ValueError("x"), "$.payload", "use its text"),
        (print, "$.payload", "is not a JSON value"),
        (Line("a", Plain()), "$.payload.price", "Plain is not a JSON value"),  # type: ignore[arg-type]
        (Line("a", Decimal(1), {(1, 2): "x"}), "$.payload.amounts", "keys must be text"),  # type: ignore[dict-item]
        (Line("a", Decimal(1), {True: "x"}), "$.payload.amounts", "keys must be text"),
        # Both became "1", and one of the values was lost.
        (Line("a", Decimal(1), {1: "x", "1": "y"}), "$.payload.amounts", "keys must be text, got int 1"),  # type: ignore[dict-item]
    ],
    ids=lambda value: type(value).__name__,
)
def test_finding_b5_what_cannot_be_written_says_what_to_do(
    app: App, value: Any, path: str, hint: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        app().request("a", value)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert hint in problem.message


def test_finding_b5_what_contains_itself_is_one_clear_error(app: App) -> None:
    around: list[Any] = []
    around.append(Line("a", around))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        app().request("a", around)
    own: list[Any] = []
    own.append(own)
    with pytest.raises(InvalidRequest, match="contains itself"):
        app().request("a", own)


def test_finding_b5_plain_json_is_not_even_copied() -> None:
    payload = {"a": [1, {"b": None}], "c": "x"}
    assert unstructured(payload) is payload


@given(
    st.builds(
        Line,
        st.text(st.characters(codec="utf-8")),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.dictionaries(st.integers(), st.text(st.characters(codec="utf-8"))),
    )
    | st.builds(
        Address,
        st.text(st.characters(codec="utf-8")),
        st.dates(),
        st.none() | st.times(),
    )
)
def test_finding_b5_reading_is_the_inverse_of_writing(value: Any) -> None:
    again = read(Line | Address, unstructured(value))
    assert again == value


# --- hooks and pydantic ---------------------------------------------------------------------------


class Item(pydantic.BaseModel):
    name: str = pydantic.Field(alias="itemName")
    price: Decimal
    at: datetime | None = None


@attrs.frozen
class Basket:
    items: list[Item]
    first: Item | None = None


ITEM = Item(itemName="a", price=Decimal("1.50"), at=datetime(2031, 1, 1, tzinfo=UTC))


def test_finding_b4_models_of_pydantic_are_payloads_in_both_directions(app: App) -> None:
    seen: list[Any] = []

    def one(item: Item) -> Item:
        seen.append(item)
        return item

    def basket(basket: Basket) -> None:
        seen.append(basket)

    manager = app({"one": one, "basket": basket})
    assert manager.request("one", ITEM).payload == {
        "itemName": "a",
        "price": "1.50",
        "at": "2031-01-01T00:00:00Z",
    }
    manager.request("basket", Basket([ITEM], ITEM))
    assert manager.worker(slots=1).drain() == {"success": 2}
    assert seen == [ITEM, Basket([ITEM], ITEM)]
    assert manager.process_single_job("one", ITEM).value == manager.request("one", ITEM).payload


def test_finding_b4_what_a_model_refuses_is_named_with_its_path(app: App) -> None:
    said = mistakes(Basket, {"items": [{"itemName": "a"}, {"itemName": 5, "price": "1"}]})
    assert said == ["$.items[0].price: Field required", "$.items[1].itemName: Input should be a valid string"]


class Fractions:
    """A plugin that makes fractions payloads."""

    @hookimpl
    def kessel_payload_types(self) -> Iterable[object]:
        return [
            PayloadType(
                matches=lambda kind: issubclass(kind, Fraction),
                structure=lambda value, kind: kind(value),
                unstructure=str,
            ),
            "no payload type",
        ]


@attrs.frozen
class Ratio:
    value: Fraction
    others: list[Fraction | None] = attrs.field(factory=list)


def test_finding_b4_a_plugin_offers_further_classes(app: App) -> None:
    seen: list[Any] = []

    def take(ratio: Ratio) -> Fraction:
        seen.append(ratio)
        return ratio.value

    manager = app({"a": take}, plugin=Fractions())
    given = Ratio(Fraction(1, 3), [Fraction(1, 2), None])
    assert manager.request("a", given).payload == {"value": "1/3", "others": ["1/2", None]}
    assert manager.process_single_job("a", given).value == "1/3"
    assert seen == [given]
    bad = manager.process_single_job("a", {"value": "1/0"})
    assert bad.reason == "bad-payload"
    (status,) = [one for one in manager.plugins.report if one.name == "own"]
    assert "not a PayloadType" in status.warnings[0]


def test_finding_b4_a_type_of_a_plugin_that_fails_is_one_clear_error(app: App) -> None:
    class Failing:
        @hookimpl
        def kessel_payload_types(self) -> Iterable[PayloadType]:
            def fail(value: Any) -> Any:
                raise RuntimeError("no form")

            return [
                PayloadType(matches=lambda kind: kind is Plain, structure=lambda v, k: v, unstructure=fail)
            ]

    said = "Plain cannot be written as JSON: RuntimeError: no form"
    manager = app({"a": lambda payload: Plain()}, plugin=Failing())
    with pytest.raises(InvalidRequest, match=rf"\$\.payload: {said}"):
        manager.request("a", Plain())
    # Of a result it was said that no plugin offers its class.
    assert said in manager.process_single_job("a").message


def test_finding_b5_plugins_that_prepare_requests_see_json(app: App) -> None:
    seen: list[Any] = []

    class Sees:
        @hookimpl
        def kessel_prepare_request(self, request: JobRequest) -> None:
            seen.append(request.payload)

    app(plugin=Sees()).request("a", Colour.RED)
    assert seen == ["red"]


# --- C14: queue and priority, declared once -------------------------------------------------------


@handler("report", queue="slow", priority=900)
def report(payload: Any) -> None: ...


@handler("swift", queue="default")
def swift(payload: Any) -> None: ...


def test_finding_c14_a_handler_declares_queue_and_priority(app: App) -> None:
    manager = app([report])
    for job in (
        manager.request("report"),
        manager.request(" report "),
        manager.request(JobRequest(type="report")),
        *manager.request_many(["report"]),
        # Of typed payloads the fields are checked a second time.
        manager.request("report", Colour.RED),
        *manager.request_many([("report", Colour.RED)]),
    ):
        assert (job.queue, job.priority) == ("slow", 900)
    assert manager.adapter.stats("slow").ready == 6
    said = manager.request("report", queue="default", priority=1)
    assert (said.queue, said.priority) == ("default", 1)
    assert manager.request("other").queue == "default"


def test_finding_c14_the_configuration_is_asked_before_the_handler_and_without_one(opened: App) -> None:
    config = Config(routes={"report": {"queue": "night"}, " mail ": {"priority": 5}})
    manager = opened(config=config, handlers=[report])
    job = manager.request("report")
    assert (job.queue, job.priority) == ("night", 900)
    producer = opened(config=config, only_requests=True)
    assert [producer.request("report").queue, producer.request("mail").priority] == ["night", 5]


def test_finding_c14_a_worker_says_which_declared_queues_it_does_not_serve(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    manager = app([report, swift])
    with caplog.at_level("INFO", "kessel"):
        manager.worker()
        manager.worker(queues=["slow", "default"])
    said = [record.getMessage() for record in caplog.records]
    assert said == ["worker: does not serve slow, where jobs of report go"]


def test_finding_c14_a_job_that_is_requested_again_keeps_its_queue(app: App) -> None:
    manager = app([report])
    first = manager.request("report", queue="default")
    again = manager.request(attrs.evolve(first.as_request(), id=""))
    assert again.queue == "default"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"queue": "a b"}, "queue: 'a b' must be"), ({"priority": "x"}, "priority: expected a whole number")],
)
def test_finding_c14_a_wrong_declaration_is_refused(arguments: Any, says: str) -> None:
    with pytest.raises(InvalidConfig, match=says):
        handler("a", **arguments)


def test_finding_c14_every_mistake_in_routes_is_named() -> None:
    routes: Any = {"a": {"quue": "x"}, "b": {"queue": "a b", "priority": 1.5}, " ": {}, "c": "slow", " a": {}}
    with pytest.raises(InvalidConfig) as caught:
        Config(routes=routes)
    said = "\n".join(map(str, caught.value.problems))
    for one in (
        "routes.a.quue: unknown option; did you mean 'queue'?",
        "routes.b.queue: 'a b' must be",
        "routes.b.priority: expected a whole number",
        "a job type must not be blank",
        "routes.c: expected a table with queue and priority",
        "are the same type",
    ):
        assert one in said
