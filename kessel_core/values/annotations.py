"""What annotations say of values, without what stands around it. Imports only `typing`."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from types import NoneType
from typing import Any, Final

__all__ = ["filled", "has_reference", "is_needed", "underlying"]

#: These say how a field may be used, and nothing of its values; by name: `typing_extensions` has some, too.
_MARKS: Final = frozenset({"Final", "NotRequired", "ReadOnly", "Required"})
#: More than anybody puts around an annotation.
_MOST_AROUND: Final = 1000


def underlying(annotation: Any) -> Any:
    """Return an annotation without the names, notes and marks around it; None as its class.

    Names are those of `NewType` and `type X = ...`, notes those of `Annotated`, marks `Required` and the
    like. What is inside of it, as the items of a list, is left as it is.

    Raises:
        RecursionError: It is a name of itself, as `type X = X`.
    """
    for _ in range(_MOST_AROUND):
        origin = typing.get_origin(annotation)
        named = origin or annotation
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif origin is typing.Annotated or _mark(origin) in _MARKS:
            annotation = typing.get_args(annotation)[0]
        elif type(named).__name__ == "TypeAliasType":  # Python 3.11 has it elsewhere
            given = zip(named.__type_params__, typing.get_args(annotation), strict=False)
            annotation = filled(named.__value__, dict(given))
        else:
            return NoneType if annotation is None else annotation
    raise RecursionError(f"{annotation!r} is a name of itself")


def is_needed(annotation: Any) -> bool | None:
    """Return what `Required` or `NotRequired` say of a field; None: there is neither."""
    origin = typing.get_origin(annotation)
    if (mark := _mark(origin)) in ("Required", "NotRequired"):
        return mark == "Required"
    if origin is typing.Annotated or mark in _MARKS:
        return is_needed(typing.get_args(annotation)[0])
    return None


def _mark(origin: Any) -> str:
    return repr(origin).rpartition(".")[2]


def filled(annotation: Any, given: Mapping[Any, Any]) -> Any:
    """Return an annotation with what type variables stand for in their place: what is given, or a default."""
    if isinstance(annotation, typing.TypeVar):
        variable: Any = annotation  # defaults came with Python 3.13, and with `typing_extensions`
        has_default = getattr(variable, "has_default", bool)()
        return given.get(variable, variable.__default__ if has_default else variable)
    # A class alone has variables, too, which are not those of the class around it.
    places = getattr(annotation, "__parameters__", ()) if typing.get_origin(annotation) else ()
    return annotation[tuple(filled(one, given) for one in places)] if places else annotation


def has_reference(annotation: Any) -> bool:
    """Return whether an annotation is, or holds, one that is written as text; `JsonValue` holds itself so."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return annotation != "JsonValue"
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return False
    return any(map(has_reference, args[:1] if origin is typing.Annotated else args))
