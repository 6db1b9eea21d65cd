"""Handlers: how they are declared, registered, found and given their payload (S16, E5)."""

from __future__ import annotations

import contextlib
import functools
import inspect
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal, TypedDict

import attrs
import pytest

from kessel_core import (
    HandlerRegistry,
    InvalidConfig,
    Job,
    JobContext,
    JsonValue,
    Transient,
    handler,
)
from kessel_core.errors import StructureProblems
from kessel_core.handlers.declare import options_of
from kessel_core.testing import VirtualClock
from kessel_core.values.converter import structurer
from kessel_core.values.options import structure_options


def take(payload: JsonValue) -> JsonValue:
    return payload


def take_with_job(payload: JsonValue, job: JobContext) -> str:
    return job.id


class Handling:
    def handle(self, payload: JsonValue) -> str:
        return "handled"


@handler("  marked ", transient=OSError, max_attempts=2, timeout=timedelta(seconds=3))
class Marked:
    async def handle(self, payload: JsonValue, job: JobContext) -> None:
        return None


def added(target: object, kind: str | None = "a") -> Any:
    return HandlerRegistry().add(kind, target, "test")


def refusal(target: object, kind: str | None = "a") -> str:
    with pytest.raises(InvalidConfig) as caught:
        added(target, kind)
    return str(caught.value)


@pytest.mark.parametrize(
    ("target", "wants_job"),
    [
        (take, False),
        (take_with_job, True),
        (Handling, False),
        (Handling(), False),
        (Handling().handle, False),
    ],
)
def test_functions_and_objects_with_handle_are_handlers(target: object, wants_job: bool) -> None:
    found = added(target)
    assert (found.wants_job, found.is_async) == (wants_job, False)


def test_options_of_a_class_are_kept() -> None:
    found = added(Marked, None)
    assert (found.type, found.max_attempts, found.transient) == ("marked", 2, (OSError,))
    assert (found.is_async, found.wants_job, found.timeout) == (True, True, timedelta(seconds=3))
    assert options_of(take) is None


def test_a_text_is_imported() -> None:
    assert added("math:sqrt").function(4) == 2
    assert added("os:path.basename").function("a/b") == "b"


def test_a_callable_object_that_is_async_is_seen_as_async() -> None:
    class Called:
        async def __call__(self, payload: JsonValue) -> None:
            return None

    assert added(Called()).is_async


def test_optional_and_spread_parameters_are_no_obstacle() -> None:
    def spread(*payloads: JsonValue) -> None: ...
    def optional(payload: JsonValue, job: JobContext | None = None) -> None: ...
    def other(payload: JsonValue, depth: int = 3) -> None: ...

    assert not added(spread).wants_job
    assert added(optional).wants_job
    assert not added(other).wants_job


@pytest.mark.parametrize(
    ("target", "kind", "says"),
    [
        (take, " ", "not blank"),
        (take, None, "has no type"),
        (3, "a", "neither a function"),
        ("math", "a", "module:attribute"),
        ("math:nothing", "a", "cannot be imported: AttributeError"),
        ("nowhere_at_all:x", "a", "ModuleNotFoundError"),
        (lambda: None, "a", "must take"),
        (lambda a, b, c: None, "a", "must take"),
        (lambda payload, *, needed: None, "a", "must take"),
        (int.from_bytes, "a", ""),
        (type("Needy", (), {"__init__": lambda self, needed: None}), "a", "cannot be made"),
    ],
)
def test_what_is_no_handler_is_refused_and_says_why(target: object, kind: str | None, says: str) -> None:
    if target == int.from_bytes:
        assert not added(target).wants_job
    else:
        assert says in refusal(target, kind)


def test_an_annotation_that_cannot_be_resolved_or_structured_is_refused() -> None:
    def unresolved(payload: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # on purpose

    assert "cannot be resolved" in refusal(unresolved)


@attrs.frozen
class Note:
    text: str


def decorated_elsewhere(function: Any) -> Any:
    """Decorate as a library does: with a wrapper of another module, which knows no name of this one."""
    return contextlib.contextmanager(lambda: iter([None]))()(function)


def prefixed(prefix: str, payload: Note, job: JobContext | None = None) -> str:
    return prefix + payload.text


class Desks:
    def prefixed(self, prefix: str, payload: Note) -> str:
        return prefix + payload.text

    bound = functools.partialmethod(prefixed, "a")

    @decorated_elsewhere
    def __call__(self, payload: Note) -> str:
        return payload.text


def with_signature_of(function: Any) -> Any:
    def wrapper(*args: object) -> object:
        return args

    wrapper.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return wrapper


@pytest.mark.parametrize(
    "target",
    [
        functools.partial(prefixed, "a"),
        functools.partial(functools.partial(prefixed), "a"),
        functools.partial(Desks().prefixed, "a"),
        Desks().bound,
        Desks(),
        Desks,
        with_signature_of(functools.partial(prefixed, "a")),
        decorated_elsewhere(functools.partial(prefixed, "a")),
    ],
)
def test_an_annotation_that_is_text_is_found_behind_what_is_around_the_function(target: object) -> None:
    """E5: as without `from __future__ import annotations`, which this module has."""
    assert added(target).structure({"text": "b"}) == Note("b")


def test_a_signature_of_its_own_whose_annotation_is_unknown_is_refused() -> None:
    parameter = inspect.Parameter("payload", inspect.Parameter.POSITIONAL_ONLY, annotation="Nowhere")
    made = with_signature_of(take)
    made.__signature__ = inspect.Signature([parameter])
    assert "the annotation of 'payload' cannot be resolved" in refusal(made)


def test_a_context_in_the_place_of_the_payload_is_refused_by_what_is_wrong() -> None:
    """It was said that payloads cannot be structured into it, for a name inside of kessel."""

    def only(job: JobContext) -> None: ...

    def turned(job: JobContext, payload: JsonValue = None) -> None: ...

    for target in (only, turned):
        with pytest.raises(InvalidConfig, match=r"must take \(payload\) or \(payload, job\)"):
            HandlerRegistry().add("a", target, "here")


def test_a_context_that_may_be_none_is_given_whatever_its_name_is() -> None:
    """It was None at each job."""

    def written(payload: JsonValue, context: JobContext | None = None) -> None: ...

    def annotated(payload: JsonValue, context: Any = None) -> None: ...

    annotated.__annotations__["context"] = JobContext | None
    for target in (written, annotated):
        assert HandlerRegistry().add("a", target, "here").wants_job


def test_the_context_may_be_annotated_in_quotes() -> None:
    def quoted(payload: JsonValue, context: "JobContext") -> None: ...  # noqa: UP037  # on purpose

    assert added(quoted).wants_job


def test_a_doubly_mapped_type_names_both_sources() -> None:
    registry = HandlerRegistry()
    registry.add("a", take, "first")
    with pytest.raises(InvalidConfig, match=r"first and again by second"):
        registry.add(" a ", lambda payload: None, "second")


def other_take(payload: object) -> object:
    return payload


def test_a_type_that_one_source_maps_twice_names_both_functions_and_their_modules() -> None:
    registry = HandlerRegistry()
    registry.add("a", take, "--handlers")
    with pytest.raises(InvalidConfig, match=r"again by --handlers: \S+\.take and \S+\.other_take"):
        registry.add("a", other_take, "--handlers")


class Desk:
    def handle(self, payload: object) -> object:
        return payload


DESK = Desk()


@pytest.mark.parametrize("target", [take, Marked, DESK, f"{__name__}:take"])
def test_mapping_the_very_same_thing_twice_is_no_conflict(target: object) -> None:
    """Whether it comes from a plugin and from the application, or twice from one."""
    registry = HandlerRegistry()
    first = registry.add("a", target, "first")
    assert registry.add("a", target, "second") is first
    assert first.source == "first"


def test_all_problems_of_many_handlers_come_at_once() -> None:
    with pytest.raises(InvalidConfig) as caught:
        HandlerRegistry().add_all({"a": 3, " ": take, "b": take}, "test")
    assert len(caught.value.problems) == 2


def test_a_registry_lists_and_counts_its_types() -> None:
    registry = HandlerRegistry()
    registry.add_all({"b": take, "a": take}, "test")
    registry.add_all([Marked], "test")
    assert registry.types() == ("a", "b", "marked")
    assert (len(registry), {one.type for one in registry}) == (3, {"a", "b", "marked"})
    assert registry.get("c") is None


def test_a_single_decorated_target_may_stand_alone() -> None:
    registry = HandlerRegistry()
    registry.add_all(Marked, "test")
    assert registry.types() == ("marked",)


def test_every_mistake_in_the_decorator_is_listed() -> None:
    with pytest.raises(InvalidConfig) as caught:
        handler(" ", transient=("x",), max_attempts=0, timeout=timedelta(0))  # type: ignore[arg-type]  # on purpose
    assert [p.path for p in caught.value.problems] == ["type", "transient", "max_attempts", "timeout"]


def test_static_and_class_methods_are_marked_on_either_side_of_the_decorator() -> None:
    """The error for the other side said that there is no @handler."""

    class Shop:
        @handler("static")
        @staticmethod
        def static(payload: JsonValue) -> str:
            return "static"

        @handler("class")
        @classmethod
        def of_class(cls, payload: JsonValue) -> str:
            return cls.__name__

    registry = HandlerRegistry()
    registry.add_all([Shop.static, Shop.of_class], "here")
    assert registry.types() == ("class", "static")


@pytest.mark.parametrize("target", [len, 3, Handling().handle], ids=["builtin", "number", "bound method"])
def test_what_cannot_be_marked_is_a_wrong_use_of_the_decorator(target: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"'x': .* cannot be marked; map the type instead"):
        handler("x")(target)


def test_a_second_type_on_one_function_is_refused_and_not_put_in_place_of_the_first() -> None:
    """Jobs of the type below were buried for want of a handler."""
    with pytest.raises(InvalidConfig, match=r"is the handler of 'two' already; map the type instead"):

        @handler("one")
        @handler("two")
        def both(payload: JsonValue) -> None: ...


def test_a_mark_may_be_given_anew_and_be_another_for_what_wraps_or_derives_from_a_handler() -> None:
    @handler("one", max_attempts=3)
    @handler("one")
    def first(payload: JsonValue) -> None: ...

    @handler("two")
    @functools.wraps(first)
    def second(payload: JsonValue) -> None:
        first(payload)

    @handler("three")
    class Derived(Marked): ...

    found = [options_of(one) for one in (first, second, Derived, Marked)]
    assert [one and one.type for one in found] == ["one", "two", "three", "marked"]
    assert found[0] is not None
    assert found[0].max_attempts == 3


def test_a_context_shows_its_request_and_extends_its_lease() -> None:
    extended: list[bool] = []

    class Held:
        def extend(self) -> None:
            extended.append(True)

    request = Job(type="a", id="i", headers={"trace": "t"})
    job = JobContext(request, 2, VirtualClock(), held=Held())
    job.extend()
    assert (job.id, job.type, job.headers, job.queue, extended) == (
        "i",
        "a",
        {"trace": "t"},
        "default",
        [True],
    )
    JobContext(request, 1, VirtualClock()).extend()  # nothing to extend without a queue


def test_the_logger_of_a_job_adds_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    job = JobContext(Job(type="a", id="i"), 2, VirtualClock())
    with caplog.at_level("INFO", logger="kessel.handlers.a"):
        job.logger.info("hello", extra={"own": 1})
    (record,) = caplog.records
    assert (record.job_id, record.job_type, record.attempt, record.own) == ("i", "a", 2, 1)  # type: ignore[attr-defined]  # extra


# --- structuring ----------------------------------------------------------------------------------


class Colour(StrEnum):
    RED = "red"


class Level(Enum):
    LOW = 1


@attrs.frozen
class Line:
    sku: str
    count: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@attrs.frozen
class Whole:
    lines: list[Line]
    colour: Colour = Colour.RED
    when: datetime | None = None
    span: timedelta | None = None
    price: float = 0.0
    marks: dict[str, bool] = attrs.field(factory=dict)
    level: Level = Level.LOW
    size: Literal["s", "l"] = "s"


class Typed(TypedDict):
    a: int


def structured(annotation: Any, value: JsonValue) -> Any:
    structure = structurer(annotation)
    assert structure is not None
    return structure(value)


def test_a_payload_becomes_the_annotated_class() -> None:
    payload: Any = {
        "lines": [{"sku": "x", "count": 2}],
        "when": "2026-01-02T03:04:05Z",
        "price": 2,
        "marks": {"a": True},
        "size": "l",
        "span": "90s",
    }
    whole = structured(Whole, payload)
    assert whole.lines == [Line("x", 2)]
    assert whole.when == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (whole.price, whole.marks, whole.size, whole.span) == (
        2.0,
        {"a": True},
        "l",
        timedelta(seconds=90),
    )
    assert structured(Typed, {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"lines": None}, "$.lines"),
        ({"lines": [{"sku": 5}]}, "$.lines[0].sku"),
        ({"lines": [{"sku": "x"}, {"sku": "x", "count": "5"}]}, "$.lines[1].count"),
        ({"lines": [{"sku": "x", "count": True}]}, "$.lines[0].count"),
        ({"lines": [{}]}, "$.lines[0]"),
        ({"lines": [{"sku": "x", "count": 0}]}, "$.lines[0]"),
        ({"colour": "blue"}, "$.colour"),
        ({"when": "yesterday"}, "$.when"),
        ({"price": "2"}, "$.price"),
        ({"marks": {"a": 1}}, "$.marks"),
        ({"level": "1"}, "$.level"),
        ({"size": "m"}, "$.size"),
    ],
)
def test_a_wrong_payload_says_where(change: dict[str, Any], path: str) -> None:
    with pytest.raises(StructureProblems) as caught:
        structured(Whole, {"lines": [], **change})
    assert caught.value.problems[0].path.startswith(path)


@attrs.frozen(kw_only=True)
class Options:
    port: int = attrs.field(default=1, validator=attrs.validators.le(65535))
    fast: bool = False
    ratio: float = 1.0
    wait: timedelta = timedelta(0)
    colour: Colour = Colour.RED
    name: str | None = None


def test_text_options_are_read_by_their_type() -> None:
    texts = {"port": "7", "fast": "yes", "ratio": "0.5", "wait": "500ms", "colour": "red", "name": "n"}
    read = structure_options(Options, texts, "here")
    half = timedelta(milliseconds=500)
    assert read == Options(port=7, fast=True, ratio=0.5, wait=half, colour=Colour.RED, name="n")
    assert structure_options(Options, {"name": None}, "here") == Options()


def test_every_wrong_option_is_listed_with_its_origin() -> None:
    wrong = {"prot": "7", "fast": "perhaps", "ratio": "x", "port": "x", "wait": "soon", "colour": "blue"}
    with pytest.raises(InvalidConfig) as caught:
        structure_options(Options, wrong, "here")
    assert [(p.origin, p.where) for p in caught.value.problems] == [("here", (name,)) for name in wrong]
    assert "did you mean 'port'" in caught.value.problems[0].message


def test_a_refusing_options_class_and_a_missing_option_are_reported() -> None:
    with pytest.raises(InvalidConfig, match="65535"):
        structure_options(Options, {"port": 70000}, "here")
    with pytest.raises(InvalidConfig, match="sku: is required"):
        structure_options(Line, {}, "here")


def test_module_that_ends_the_program_at_import_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script mapped by mistake: `sys.exit()` at import must not end a worker without a word."""
    (tmp_path / "script_mapped_by_mistake.py").write_text("raise SystemExit(5)")
    monkeypatch.syspath_prepend(tmp_path)
    assert "cannot be imported: SystemExit: 5" in refusal("script_mapped_by_mistake:main")


@pytest.mark.parametrize("after", [5, "5m", 0.5])
def test_a_pause_that_is_no_timedelta_is_named(after: Any) -> None:
    with pytest.raises(TypeError, match="after: expected a timedelta, got"):
        Transient(after=after)
