"""The only cattrs converter: JSON payloads and options to annotated types, with exact paths.

Strict, unlike cattrs by default: text is not a number, a bool is not a number, nothing is truncated or
rounded. Options in text form are converted before, by `reading`. Imported late: applications without
annotated payloads never import cattrs.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import operator
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs
import cattrs
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
)

from kessel_core.errors import MOST_PROBLEMS, Problem, StructureProblems
from kessel_core.model.json import JsonValue
from kessel_core.values.reading import EXPECTED, choice, named, read
from kessel_core.values.secrets import quoted

__all__ = ["MOST_MISTAKES", "converter", "problems_in", "structurer", "worded"]


#: Most mistakes that are reported for one list; the rest is not checked, so that a long list of wrong items
#: takes no longer than a long list of right ones.
MOST_MISTAKES: Final = MOST_PROBLEMS - 1


def _exactly(annotation: type) -> Callable[[Any, Any], Any]:
    def check(value: Any, wanted: Any) -> Any:
        if wanted is not annotation and issubclass(wanted, Enum):
            return choice(value, wanted)  # cattrs uses this check for StrEnum and IntEnum, too
        if type(value) is not annotation:
            raise TypeError(f"expected {EXPECTED[annotation]}, got {named(value)}")
        return value

    return check


def _literal(value: Any, annotation: Any) -> Any:
    for one in typing.get_args(annotation):
        plain = one.value if isinstance(one, Enum) else one
        if type(plain) is type(value) and plain == value:
            return one
    raise ValueError(
        f"expected one of {', '.join(map(repr, typing.get_args(annotation)))}; got {quoted(value)}"
    )


def _number(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, got {named(value)}")
    return float(value)


def _time(value: Any, _: Any) -> datetime:
    if not isinstance(value, (str, datetime)):
        raise TypeError(f"expected an ISO-8601 time, got {named(value)}")
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if moment.utcoffset() is None:
        # As in S2 for requests: otherwise the moment would depend on the machine that reads it.
        raise ValueError(f"expected a time with its zone, as 2026-01-31T12:00:00Z, got {quoted(str(value))}")
    return moment


def _day(value: Any, _: Any) -> date:
    if not isinstance(value, str):
        raise TypeError(f"expected an ISO-8601 date, got {named(value)}")
    return date.fromisoformat(value)


def _uuid(value: Any, _: Any) -> UUID:
    if not isinstance(value, str):
        raise TypeError(f"expected a UUID as text, got {named(value)}")
    return UUID(value)


def _path(value: Any, _: Any) -> Path:
    if not isinstance(value, (str, Path)):
        raise TypeError(f"expected a path, got {named(value)}")
    return Path(value)


def _unsupported(annotation: Any) -> Any:
    # Raised when the hook is looked up; cattrs 24 would only fail at the first payload.
    raise cattrs.StructureHandlerNotFoundError(f"Unsupported type: {annotation!r}", annotation)


@cache
def converter() -> cattrs.Converter:
    """Return the converter, created at the first call. Thread-safe."""
    made = cattrs.Converter(
        detailed_validation=True, forbid_extra_keys=False, structure_fallback_factory=_unsupported
    )
    for annotation in (str, int, bool, bytes):
        made.register_structure_hook(annotation, _exactly(annotation))
    made.register_structure_hook_func(partial(operator.is_, object), lambda value, _: value)
    made.register_structure_hook(float, _number)
    made.register_structure_hook(datetime, _time)
    made.register_structure_hook(timedelta, read)
    made.register_structure_hook(date, _day)
    made.register_structure_hook(UUID, _uuid)
    made.register_structure_hook(Path, _path)
    made.register_structure_hook_func(_is_enum, choice)
    made.register_structure_hook_func(_is_literal, _literal)
    made.register_structure_hook_factory(_is_array, partial(_array, made))
    made.register_structure_hook_factory(_is_class, partial(_object, made))
    # Last, so that it is tried first: a value from JSON is a JSON value already.
    made.register_structure_hook_func(_is_json, lambda value, _: value)
    return made


def _is_json(annotation: Any) -> bool:
    """Whether an annotation is `JsonValue`, in any form that resolving may leave it in."""
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__ == "JsonValue"
    shapes = {typing.get_origin(part) or part for part in typing.get_args(annotation)}
    return shapes == {type(None), bool, int, float, str, list, dict}


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Literal


def _is_class(annotation: Any) -> bool:
    bare = typing.get_origin(annotation) or annotation
    return isinstance(bare, type) and (
        attrs.has(bare) or dataclasses.is_dataclass(bare) or typing.is_typeddict(bare)
    )


def _object(cattr: cattrs.Converter, annotation: Any) -> Callable[[Any, Any], Any]:
    # cattrs accepts any container, so that [] would do for a class whose fields all have defaults.
    made_of = typing.get_origin(annotation) or annotation
    generate: Callable[[Any], Callable[[Any, Any], Any]] = (
        cattr.gen_structure_typeddict if typing.is_typeddict(made_of) else cattr.gen_structure_attrs_fromdict
    )
    structure = generate(annotation)

    def checked(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"expected an object, got {named(value)}")
        return structure(value, annotation)

    return checked


#: The types that a JSON array can become; for abstract ones the same types as in cattrs.
_ARRAYS: Final[Mapping[Any, Callable[[list[Any]], Any]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: tuple,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}


def _is_array(annotation: Any) -> bool:
    bare = typing.get_origin(annotation) or annotation
    return isinstance(bare, type) and bare in _ARRAYS


def _array(cattr: cattrs.Converter, annotation: Any) -> Callable[[Any, Any], Any]:
    # cattrs accepts any iterable as a list, so that "ab" would become ["a", "b"].
    bare = typing.get_origin(annotation) or annotation
    make, annotations = _ARRAYS[bare], typing.get_args(annotation) or (Any, ...)
    fixed, is_hashed = bare is tuple and annotations[-1] is not Ellipsis, make in (set, frozenset)
    hooks = [(cattr.get_structure_hook(item), item) for item in annotations if item is not Ellipsis]

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"expected a list, got {named(value)}")
        if fixed and len(value) != len(hooks):
            raise ValueError(f"expected a list of {len(hooks)}, got one of {len(value)}")
        made: list[Any] = []
        errors: list[Exception] = []
        for index, item in enumerate(value):
            if len(errors) == MOST_MISTAKES:
                errors.append(ValueError(f"{len(value) - index} more items were not checked"))
                break
            hook, wanted = hooks[index if fixed else 0]
            try:
                one = hook(item, wanted)
                if is_hashed:
                    hash(one)  # here, where the index of the item is known
                made.append(one)
            except Exception as exc:
                # cattrs keeps the path of an item in such notes.
                exc.add_note(
                    IterableValidationNote(f"Structuring {annotation} @ index {index}", index, wanted)
                )
                errors.append(exc)
        if errors:
            raise IterableValidationError(f"While structuring {annotation}", errors, annotation)
        return make(made)

    return structure


def structurer(annotation: Any) -> Callable[[JsonValue], Any] | None:
    """Return a function that converts a JSON value to `annotation`; None if no conversion is needed.

    The function is thread-safe, and raises `StructureProblems` with paths such as `$.operands[1]`.

    Raises:
        Exception: The annotation is not supported; whatever cattrs raises.
    """
    if annotation in (Any, object, None):
        return None
    if annotation in (dict, list, str, int, bool):
        return _plain(annotation)
    convert = converter().get_structure_hook(annotation)  # fails early for types that cannot be structured

    def structure(value: JsonValue) -> Any:
        try:
            return convert(value, annotation)
        except Exception as exc:
            raise StructureProblems(tuple(problems_in(exc, ("$",)))) from exc

    return structure


def _plain(annotation: type) -> Callable[[JsonValue], Any]:
    def structure(value: JsonValue) -> Any:
        if type(value) is not annotation:
            raise StructureProblems(
                (Problem(("$",), f"expected {EXPECTED[annotation]}, got {named(value)}"),)
            )
        return value

    return structure


def problems_in(exc: BaseException, where: tuple[str | int, ...]) -> Iterator[Problem]:
    """Yield every problem in an error of cattrs, whose notes hold the field or index of each nested error."""
    if not isinstance(exc, (ClassValidationError, IterableValidationError)):
        yield Problem(where, worded(exc))
        return
    noted, others = exc.group_exceptions()
    for inner, note in noted:
        part = note.name if isinstance(note, AttributeValidationNote) else note.index
        yield from problems_in(inner, (*where, part if isinstance(part, (str, int)) else str(part)))
    for inner in others:
        yield from problems_in(inner, where)


def worded(exc: BaseException) -> str:
    """Return the message of an error for people, without class names and details of validators."""
    if isinstance(exc, KeyError):
        return f"required field {exc.args[0]!r} is missing"
    if isinstance(exc, cattrs.ForbiddenExtraKeysError):
        return f"unknown fields {', '.join(sorted(exc.extra_fields))}"
    if isinstance(exc, AttributeError):
        return "expected an object"
    # The validators of attrs append the field and other details to the arguments.
    text = exc.args[0] if exc.args and isinstance(exc.args[0], str) else str(exc)
    return text or type(exc).__name__
