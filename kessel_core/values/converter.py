"""The only cattrs converter: JSON payloads and options to annotated types, with exact paths.

Strict, unlike cattrs by default: text is not a number, a bool is not a number, nothing is truncated or
rounded. Options in text form are converted before, by `reading`; the inverse is `unstructuring`. Imported
late: applications without annotated payloads never import cattrs.
"""

from __future__ import annotations

import operator
import threading
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cattrs
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationError,
)

from kessel_core.errors import Problem, StructureProblems
from kessel_core.model.json import JsonValue
from kessel_core.values import compound
from kessel_core.values.annotations import underlying
from kessel_core.values.choices import is_union, union
from kessel_core.values.payload_types import MODELS, PayloadType
from kessel_core.values.reading import EXPECTED, named
from kessel_core.values.single import SINGLE, choices, literal, refused

__all__ = ["converter", "problems_in", "structurer", "worded"]


def _unsupported(annotation: Any) -> Any:
    # Raised when the hook is asked for: cattrs 24 would wait for the first payload.
    raise refused(annotation, f"Unsupported type: {annotation!r}")


class _Converter(cattrs.Converter):
    """Asks plugins first, and refuses at once what cattrs would take for one of its own kinds."""

    def __init__(self, types: tuple[PayloadType, ...]) -> None:
        super().__init__(
            detailed_validation=True, forbid_extra_keys=False, structure_fallback_factory=_unsupported
        )
        self._offered = (*types, MODELS)
        self._begun = _Begun()
        #: What reads annotations with a choice or literals inside, by how these are written.
        self._chosen: dict[Any, Callable[[Any, Any], Any]] = {}

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> Callable[[Any, Any], Any]:  # noqa: A002  # the name in cattrs
        """Return what reads values of an annotation."""
        for offered in self._offered:
            if offered.takes(type):
                return offered.structure
        # Before cattrs looks, whose caches need notes that can be hashed.
        if (kind := underlying(type)) is not type:
            return self._named(type, kind)
        _refuse_subclasses(type)
        if (key := _as_written(type)) is None:
            return super().get_structure_hook(type, cache_result)
        # cattrs keeps hooks by equality, and `int | str` equals `str | int`, which are read in another order;
        # so are literals named where a value is none of them.
        if (known := self._chosen.get(key)) is None:
            known = self._chosen[key] = super().get_structure_hook(type, cache_result=False)
        return known

    def structure(self, obj: Any, cl: Any) -> Any:
        """Read a value; cattrs calls it for what holds itself, past `get_structure_hook`."""
        return self.get_structure_hook(cl)(obj, cl)

    def _named(self, name: Any, kind: Any) -> Callable[[Any, Any], Any]:
        """Return what reads values of a kind that has a name, or something else around it."""
        if name in self._begun.names:  # `type Tree = int | list[Tree]`: it is known when a value comes
            return lambda value, _: self.get_structure_hook(kind)(value, kind)
        before = self._begun.names
        self._begun.names = (*before, name)
        try:
            read = self.get_structure_hook(kind)
        finally:
            self._begun.names = before
        return lambda value, _: read(value, kind)


def _as_written(annotation: Any) -> Any:
    """Return something that equals only that of an annotation with the same parts in the same order.

    None where there are no choice and no literals inside: the annotation itself does.
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _as_written(args[0])
    if origin is None:
        return None
    if origin is typing.Literal:
        return (origin, *((type(one), one) for one in args))  # 1 equals True
    inside = [_as_written(one) for one in args]
    if not is_union(annotation) and not any(inside):
        return None
    parts = [tuple(one) if isinstance(one, list) else one for one in args]  # as of a Callable
    return (origin, *(key or one for key, one in zip(inside, parts, strict=True)))


class _Begun(threading.local):
    """The names that a thread is making hooks for; no set, because notes may have no hash."""

    names: tuple[Any, ...] = ()


def _refuse_subclasses(annotation: Any) -> None:
    if not isinstance(annotation, type) or annotation in SINGLE or issubclass(annotation, Enum):
        return
    if issubclass(annotation, (bytes, bytearray, memoryview)):
        # No form is the obvious one: base64, hexadecimal digits and Latin-1 are all in use.
        raise refused(annotation, "bytes have no form in JSON; take text, for example base64")
    for known in SINGLE:
        if issubclass(annotation, known) and known is not Path:
            # It would get an object of the base class.
            advice = "let a plugin offer it with kessel_payload_types"
            raise refused(
                annotation, f"{annotation.__name__} is another class than {known.__name__}; {advice}"
            )


# One for each set of plugins; an application has one or two.
@lru_cache(maxsize=32)
def converter(types: tuple[PayloadType, ...] = ()) -> cattrs.Converter:
    """Return the converter that also reads classes of others. Safe for any thread.

    Args:
        types: What plugins offer; asked before the built-in kinds.
    """
    made = _Converter(types)
    for annotation, read in SINGLE.items():
        made.register_structure_hook(annotation, read)
    made.register_structure_hook_func(partial(operator.is_, object), lambda value, _: value)
    # cattrs asks the last first.
    made.register_structure_hook_factory(_is_enum, choices)
    made.register_structure_hook_factory(_is_literal, literal)
    made.register_structure_hook_factory(compound.is_mapping, partial(compound.mapping, made))
    made.register_structure_hook_factory(compound.is_array, partial(compound.array, made))
    made.register_structure_hook_factory(compound.is_named_tuple, partial(compound.named_tuple, made))
    made.register_structure_hook_factory(compound.is_class, partial(compound.object_of, made))
    made.register_structure_hook_factory(is_union, partial(union, made))
    made.register_structure_hook_func(_is_json, lambda value, _: value)
    return made


def _is_json(annotation: Any) -> bool:
    """Say whether an annotation is `JsonValue`, in any of the shapes that resolving leaves it in."""
    name = annotation.__forward_arg__ if isinstance(annotation, typing.ForwardRef) else annotation
    if isinstance(name, str):  # inside of itself, where it is not resolved
        return name == "JsonValue"
    shapes = {typing.get_origin(part) or part for part in typing.get_args(annotation)}
    return shapes == {type(None), bool, int, float, str, list, dict}


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Literal


def structurer(annotation: Any, types: tuple[PayloadType, ...] = ()) -> Callable[[JsonValue], Any] | None:
    """Return a function that converts a JSON value to `annotation`; None if no conversion is needed.

    The function is thread-safe, and raises `StructureProblems` with paths such as `$.operands[1]`.

    Args:
        annotation: Of a payload.
        types: What plugins offer.

    Raises:
        Exception: The annotation is not supported; whatever cattrs raises.
    """
    if annotation in (Any, object):
        return None
    if annotation in (dict, list, str, int, bool):
        return _plain(annotation)
    convert = converter(types).get_structure_hook(
        annotation
    )  # fails early for types that cannot be structured

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
        yield from _model_problems(exc, where) or [Problem(where, worded(exc))]
        return
    noted, others = exc.group_exceptions()
    for inner, note in noted:
        part = note.name if isinstance(note, AttributeValidationNote) else note.index
        yield from problems_in(inner, (*where, part if isinstance(part, (str, int)) else str(part)))
    for inner in others:
        yield from problems_in(inner, where)


def _model_problems(exc: BaseException, where: tuple[str | int, ...]) -> list[Problem]:
    """Return what a model of pydantic found, which has a list of mistakes with their places."""
    listed = getattr(exc, "errors", None)
    if not callable(listed):
        return []
    try:
        return [Problem((*where, *found["loc"]), str(found["msg"])) for found in listed()]
    except Exception:  # it only looks alike
        return []


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
