"""How a choice between kinds is read from JSON: `int | str`, `Card | Cash`.

A number is taken as it is, an object becomes the class that its fields tell apart from the others, and the
rest is tried in its order. What cannot be told apart is refused when the hook is made.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import cattrs
from cattrs.errors import AttributeValidationNote, ClassValidationError

from kessel_core.values.annotations import underlying
from kessel_core.values.compound import fields_of, is_class
from kessel_core.values.payload_types import MODELS
from kessel_core.values.reading import EXPECTED, named
from kessel_core.values.single import Hook, refused

__all__ = ["is_union", "union"]

#: Returns the class that an object of JSON is of; raises what is wrong with it.
Teller: typing.TypeAlias = Callable[[Mapping[str, Any]], Any]

_ADVICE: Final = "give each a field that only it has and needs, or a Literal that names it"


def is_union(annotation: Any) -> bool:
    """Return whether an annotation is a choice between kinds, None among them or not."""
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def union(cattr: cattrs.Converter, annotation: Any) -> Hook:
    """Return what reads one of several kinds.

    Numbers and truth values are taken as they are where they are among the kinds; an object becomes the class
    that its fields tell apart from the others; then each annotation is tried in its order, plain text last.
    """
    kinds = dict(_kinds(annotation))
    is_optional = kinds.pop(types.NoneType, None) is not None
    members = [*kinds]
    classes = [member for member in members if is_class(member)]
    models = [member for member in members if _is_model(member)]
    hooks = {member: cattr.get_structure_hook(written) for member, written in kinds.items()}
    if len(models) > 1:
        hooks[models[0]] = _one_of_models(models)
    told = _told_apart(cattr, classes) if len(classes) > 1 else lambda _: classes[0]
    rest = [member for member in members if member not in classes and member not in models[1:]]
    rest.sort(key=lambda one: one is str)
    exact = {member for member in members if member in (bool, int, float)}
    expected = " or ".join([*map(_called, members), *(["null"] if is_optional else [])])

    def of_class(value: Any) -> Any:
        chosen = told(value)
        return hooks[chosen](value, chosen)

    def structure(value: Any, _: Any) -> Any:
        if (value is None and is_optional) or type(value) in exact:
            return value
        errors: list[Exception] = []
        is_object = bool(classes) and isinstance(value, Mapping)
        if is_object:
            try:
                return of_class(value)
            except Exception as exc:
                errors.append(exc)
        elif len(members) == 1 and classes:
            return hooks[members[0]](value, members[0])  # which says that it is no object
        for member in rest:
            try:
                return hooks[member](value, member)
            except Exception as exc:
                errors.append(exc)
        if len(members) == 1 or is_object:
            raise errors[0]  # it says more, with its paths
        raise ValueError(f"expected {expected}, got {named(value)}")

    return structure


def _kinds(annotation: Any) -> Iterator[tuple[Any, Any]]:
    """Yield all kinds of a choice, each with how it is written there; those of a choice inside of it, too."""
    for written in typing.get_args(annotation):
        kind = underlying(written)
        if is_union(kind):
            yield from _kinds(kind)
        else:
            yield kind, written


def _called(annotation: Any) -> str:
    return EXPECTED.get(annotation) or getattr(annotation, "__name__", None) or str(annotation)


# --- models of pydantic ----------------------------------------------------------------------------


def _is_model(annotation: Any) -> bool:
    return MODELS.takes(annotation) and hasattr(annotation, "__pydantic_validator__")


def _one_of_models(models: list[Any]) -> Hook:
    """Return what reads one of several models; pydantic tells them apart, by how many fields fit."""
    from pydantic import TypeAdapter

    choice: Any = typing.Union[tuple(models)]  # noqa: UP007 - of what is known here only
    adapter: Any = TypeAdapter(choice)
    return lambda value, _: adapter.validate_python(value)


# --- classes ---------------------------------------------------------------------------------------


def _told_apart(cattr: cattrs.Converter, classes: list[Any]) -> Teller:
    """Return what tells classes apart: a field that names each, or fields that only one has and needs."""
    tell = _by_names(cattr, classes) or _by_fields(classes)
    if tell is None:
        names = " and ".join(map(_called, classes))
        raise refused(classes[0], f"{names} cannot be told apart in JSON: {_ADVICE}")
    return tell


def _by_names(cattr: cattrs.Converter, classes: list[Any]) -> Teller | None:
    """Tell by a field that is a Literal in all of them, and another one in each."""
    literals = [
        {name: kind for name, field in fields_of(one).items() if _is_literal(kind := underlying(field.kind))}
        for one in classes
    ]
    for name in literals[0]:
        if not all(name in others for others in literals):
            continue
        kinds = [others[name] for others in literals]
        values = [value for kind in kinds for value in typing.get_args(kind)]
        if len({(type(value), value) for value in values}) == len(values):
            return _named_by(cattr, name, dict(zip(classes, kinds, strict=True)))
    return None


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Literal


def _named_by(cattr: cattrs.Converter, name: str, kinds: Mapping[Any, Any]) -> Teller:
    values = {(type(value), value): one for one, kind in kinds.items() for value in typing.get_args(kind)}
    wanted = typing.Literal[tuple(value for _, value in values)]  # type: ignore[valid-type]  # known here only
    read = cattr.get_structure_hook(wanted)

    def tell(value: Mapping[str, Any]) -> Any:
        given = value[name]
        try:
            found = read(given, wanted)
        except Exception as exc:
            exc.add_note(AttributeValidationNote(f"Structuring @ attribute {name}", name, wanted))
            raise ClassValidationError("While telling classes apart", [exc], next(iter(kinds))) from None
        return values[type(found), found]

    return tell


def _by_fields(classes: list[Any]) -> Teller | None:
    """Tell by a field that a class needs and none of those left has; one of them may be without such a field.

    Those with the most fields come first: of `{a, b}` and `{a}` only the first has a `b`.
    """
    left = sorted(((one, fields_of(one)) for one in classes), key=lambda pair: len(pair[1]), reverse=True)
    own: dict[str, Any] = {}
    others: list[Any] = []
    for one, fields in left:
        taken = {name for rest, its in left if rest is not one and rest not in own.values() for name in its}
        mark = next((name for name, field in fields.items() if field.is_needed and name not in taken), None)
        if mark is None:
            others.append(one)
        else:
            own[mark] = one
    if len(others) > 1:
        return None

    def tell(value: Mapping[str, Any]) -> Any:
        for name, one in own.items():
            if name in value:
                return one
        if others:
            return others[0]
        names = " or ".join(map(_called, classes))
        raise ValueError(f"expected {names}, which have a field of their own each: {', '.join(sorted(own))}")

    return tell
