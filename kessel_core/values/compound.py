"""How lists, objects and choices between kinds are read from JSON, with exact paths for what is wrong.

Everything that can be refused is refused when a hook is made, at the start of an application, and not at the
first payload.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import threading
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import attrs
import cattrs
from cattrs.errors import IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from kessel_core.errors import MOST_PROBLEMS
from kessel_core.values.annotations import filled, has_reference, is_needed, underlying
from kessel_core.values.reading import named
from kessel_core.values.single import Hook, key_reader, refused

__all__ = ["MOST_MISTAKES", "Field", "array", "fields_of", "is_array", "is_class", "is_mapping"]
__all__ += ["is_named_tuple", "mapping", "named_tuple", "object_of"]

#: Of one list so many mistakes are named; the rest is not checked, so that a long list of
#: wrong items takes no longer than a long list of right ones.
MOST_MISTAKES: Final = MOST_PROBLEMS - 1


def _bare(annotation: Any) -> Any:
    # Without its arguments only: what stands around an annotation the converter has taken off before.
    return typing.get_origin(annotation) or annotation


def _is_typed_dict(kind: Any) -> bool:
    # Not `typing.is_typeddict`, which does not know those of `typing_extensions`.
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


# --- objects -------------------------------------------------------------------------------------


def is_class(annotation: Any) -> bool:
    """Return whether an annotation is a class with named fields."""
    bare = _bare(annotation)
    return isinstance(bare, type) and (
        attrs.has(bare) or dataclasses.is_dataclass(bare) or _is_typed_dict(bare)
    )


def object_of(cattr: cattrs.Converter, annotation: Any) -> Hook:
    """Return what reads an object of such a class."""
    if annotation in _making.classes:  # it holds itself: what reads it is known when a value comes
        return lambda value, _: cattr.get_structure_hook(annotation)(value, annotation)
    _refuse_arguments_of_init(annotation)
    before = _making.classes
    _making.classes = (*before, annotation)
    try:
        structure = _generated(cattr, annotation)
    finally:
        _making.classes = before

    # cattrs looks into whatever it is given, so that [] would do for a class whose fields all have defaults.
    def checked(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"expected an object, got {named(value)}")
        return structure(value, annotation)

    return checked


class _Making(threading.local):
    """The classes that a thread makes hooks for, the outermost first."""

    classes: tuple[Any, ...] = ()


_making: Final = _Making()


def _generated(cattr: cattrs.Converter, annotation: Any) -> Hook:
    """Return what cattrs makes of a class."""
    bare = _bare(annotation)
    if _is_typed_dict(bare):
        return cattr.gen_structure_typeddict(_exact(annotation))
    referring = [name for name, written in _written(bare).items() if has_reference(written)]
    if not referring:
        return cattr.gen_structure_attrs_fromdict(annotation)
    # cattrs resolves a text that is a whole annotation, and none inside of one, as in `list["Node"]`.
    kinds = {name: filled(field.kind, _given(annotation)) for name, field in fields_of(bare).items()}
    read = {name: override(struct_hook=_reader(cattr, kinds[name])) for name in referring}
    return make_dict_structure_fn(annotation, cattr, **read)  # type: ignore[arg-type]  # only names of fields


def _reader(cattr: cattrs.Converter, kind: Any) -> Hook:
    read = cattr.get_structure_hook(kind)
    return lambda value, _: read(value, kind)


class Field(NamedTuple):
    """One field of a class, as far as JSON is concerned."""

    #: What it holds.
    kind: Any
    #: Whether an object without it is refused.
    is_needed: bool


def fields_of(annotation: Any) -> dict[str, Field]:
    """Return the fields of such a class that an object of JSON may have, in their order."""
    bare = _bare(annotation)
    hints = typing.get_type_hints(bare, include_extras=True)
    if _is_typed_dict(bare):
        return {name: Field(hint, _is_needed(bare, name, hint)) for name, hint in hints.items()}
    if attrs.has(bare):
        own = {one.name: one.default is attrs.NOTHING for one in attrs.fields(bare) if one.init}
    else:
        own = {
            one.name: one.default is one.default_factory is dataclasses.MISSING
            for one in dataclasses.fields(bare)
            if one.init
        }
    return {name: Field(hints.get(name, Any), needed) for name, needed in own.items()}


def _written(bare: Any) -> dict[str, Any]:
    """Return the annotations of the fields of a class as they are written."""
    listed: Any = attrs.fields(bare) if attrs.has(bare) else dataclasses.fields(bare)
    return {one.name: one.type for one in listed if one.init}


@cache  # the same each time, so that cattrs notices one that holds itself
def _exact(annotation: Any) -> Any:
    """Return a typed dict that knows which fields it needs: where annotations are text, Python does not.

    Any other class is returned as it is.
    """
    bare = _bare(annotation)
    if not _is_typed_dict(bare):
        return annotation
    hints = typing.get_type_hints(bare, include_extras=True)
    needed = {name for name, hint in hints.items() if _is_needed(bare, name, hint)}
    if needed == bare.__required_keys__:
        return annotation
    fields = {
        name: typing.Required[kind] if name in needed else typing.NotRequired[kind]
        for name, kind in _fields(annotation).items()
    }
    make: Any = typing.TypedDict  # to mypy it is a form and no function
    return make(bare.__name__, fields)


def _fields(annotation: Any) -> dict[str, Any]:
    """Return what each field of a typed dict holds, with type variables of the class that names it."""
    bare, given = _bare(annotation), _given(annotation)
    inherited: dict[str, Any] = {}
    written: dict[str, Any] = {}
    for base in getattr(bare, "__orig_bases__", ()):
        if _is_typed_dict(_bare(base)):
            inherited |= _fields(filled(base, given))
            written |= _bare(base).__annotations__
    hints = typing.get_type_hints(bare, include_extras=True)
    own = [name for name in hints if bare.__annotations__[name] != written.get(name)]
    return inherited | {name: filled(underlying(hints[name]), given) for name in own}


def _given(annotation: Any) -> dict[Any, Any]:
    """Return what the type variables of a class stand for."""
    return dict(
        zip(getattr(_bare(annotation), "__parameters__", ()), typing.get_args(annotation), strict=False)
    )


def _is_needed(bare: Any, name: str, hint: Any) -> bool:
    said = is_needed(hint)
    return name in bare.__required_keys__ if said is None else said


def _refuse_arguments_of_init(annotation: Any) -> None:
    """Refuse a dataclass that cannot be made of its fields alone."""
    for name, field in getattr(_bare(annotation), "__dataclass_fields__", {}).items():
        is_init_only = field._field_type is dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]  # no public name
        if is_init_only and field.default is field.default_factory is dataclasses.MISSING:
            why = f"{name} is an InitVar, which no object keeps and JSON cannot give; give it a default"
            raise refused(annotation, why)


#: What an object of JSON may become.
_MAPPINGS: Final[Mapping[Any, Callable[[dict[Any, Any]], Any]]] = {
    dict: dict,
    collections.OrderedDict: collections.OrderedDict,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}


def is_mapping(annotation: Any) -> bool:
    """Return whether an annotation is a mapping, one that cannot be read included."""
    bare = _bare(annotation)
    return isinstance(bare, type) and issubclass(bare, collections.abc.Mapping) and not _is_typed_dict(bare)


def mapping(cattr: cattrs.Converter, annotation: Any) -> Hook:
    """Return what reads a mapping: its keys are made of texts."""
    make = _MAPPINGS.get(_bare(annotation))
    if make is None:
        raise refused(annotation, f"a JSON object becomes no {annotation!r}; use dict")
    keys, items = typing.get_args(annotation) or (Any, Any)
    keys = underlying(keys)
    read_key, read_item = key_reader(keys), cattr.get_structure_hook(items)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"expected an object, got {named(value)}")
        made: dict[Any, Any] = {}
        errors: list[Exception] = []
        for key, item in value.items():
            if len(errors) == MOST_MISTAKES:
                errors.append(ValueError("more of them were not checked"))
                break
            try:
                made[read_key(key, keys)] = read_item(item, items)
            except Exception as exc:
                exc.add_note(IterableValidationNote(f"Structuring {annotation} @ key {key!r}", key, items))
                errors.append(exc)
        if errors:
            raise IterableValidationError(f"While structuring {annotation}", errors, annotation)
        return make(made)

    return structure


# --- lists ---------------------------------------------------------------------------------------

#: What an array of JSON may become; the abstract ones become what cattrs makes of them.
_ARRAYS: Final[Mapping[Any, Callable[[list[Any]], Any]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    collections.abc.Sequence: tuple,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}


def is_array(annotation: Any) -> bool:
    """Return whether an annotation is a list or the like."""
    bare = _bare(annotation)
    return isinstance(bare, type) and bare in _ARRAYS


def array(cattr: cattrs.Converter, annotation: Any) -> Hook:
    """Return what reads a list or the like."""
    # cattrs takes any iterable for a list, so that "ab" would become ["a", "b"].
    bare, args = _bare(annotation), typing.get_args(annotation)
    if any(typing.get_origin(one) is typing.Unpack or _is_starred(one) for one in args):
        raise refused(annotation, "a part of any length inside of a tuple is not read; take a list")
    kinds = args or (() if typing.get_origin(annotation) is tuple else (Any, ...))
    fixed, is_hashed = (
        bare is tuple and (not kinds or kinds[-1] is not Ellipsis),
        _ARRAYS[bare] in (set, frozenset),
    )
    return _items(
        cattr, annotation, [item for item in kinds if item is not Ellipsis], _ARRAYS[bare], fixed, is_hashed
    )


def _is_starred(annotation: Any) -> bool:
    """Whether it is `*tuple[...]`, which looks like the tuple otherwise."""
    return bool(getattr(annotation, "__unpacked__", False))


def is_named_tuple(annotation: Any) -> bool:
    """Return whether an annotation is a tuple with names."""
    bare = _bare(annotation)
    return isinstance(bare, type) and issubclass(bare, tuple) and hasattr(bare, "_fields")


def named_tuple(cattr: cattrs.Converter, annotation: Any) -> Hook:
    """Return what reads a tuple with names: a list, as JSON has it for every tuple."""
    bare = _bare(annotation)
    return _items(cattr, annotation, _places(annotation), lambda made: bare(*made), True, False)


def _places(annotation: Any) -> list[Any]:
    """Return what each place of a tuple with names holds; the class that names them says it."""
    bare, given = _bare(annotation), _given(annotation)
    for base in getattr(bare, "__orig_bases__", bare.__bases__) if "_fields" not in vars(bare) else ():
        if is_named_tuple(base):
            return _places(filled(base, given))
    hints = typing.get_type_hints(bare, include_extras=True)
    return [filled(hints.get(name, Any), given) for name in bare._fields]


def _items(
    cattr: cattrs.Converter,
    annotation: Any,
    kinds: list[Any],
    make: Callable[[list[Any]], Any],
    fixed: bool,
    is_hashed: bool,
) -> Hook:
    hooks = [(cattr.get_structure_hook(item), item) for item in kinds]

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
                    hash(one)  # here, where it is known which item cannot be
                made.append(one)
            except Exception as exc:
                # The note is how cattrs names the path of an item.
                exc.add_note(
                    IterableValidationNote(f"Structuring {annotation} @ index {index}", index, wanted)
                )
                errors.append(exc)
        if errors:
            raise IterableValidationError(f"While structuring {annotation}", errors, annotation)
        return make(made)

    return structure
