"""Options of adapters and middleware as frozen objects, every mistake at once."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, Final

import attrs

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.values.converter import _converter, _member, _problems, _worded
from kessel_core.values.nearest import nearest_or_all

__all__ = ["structure_options"]


def structure_options(cls: type, given: Mapping[str, Any], origin: str | Callable[[str], str]) -> Any:
    """Make an options object; text is read by the option's type.

    Args:
        cls: An attrs class.
        given: Option names and values.
        origin: Where they come from, named in every problem; or a function that names the place
            of one option, and for the empty name that of all together.

    Raises:
        InvalidConfig: Unknown options (with the nearest name) and wrong values, all at once.
    """

    def place(name: str) -> str:
        if callable(origin):
            return origin(name)
        return f"{origin}: {name}" if name else origin

    attrs.resolve_types(cls)
    fields = {field.alias or field.name: field for field in attrs.fields(cls)}
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        field = fields.get(name)
        if field is None:
            problems.append(Problem(place(name), f"unknown option{nearest_or_all(name, fields)}"))
            continue
        try:
            values[name] = _option(value, field.type)
        except Exception as exc:
            problems.extend(Problem(place(name), p.message) for p in _problems(exc))
        else:
            problems.extend(Problem(place(name), text) for text in _judged_alone(field, values[name]))
    for name, field in fields.items():
        if field.default is attrs.NOTHING and name not in given and field.init:
            problems.append(Problem(place(name), "is required"))
    if not problems:
        try:
            return cls(**values)
        except InvalidConfig as exc:
            problems.extend(attrs.evolve(p, where=place(p.path)) for p in exc.problems)
        except (ValueError, TypeError) as exc:
            problems.append(Problem(place(""), _worded(exc, None)))
    raise InvalidConfig(problems, "invalid adapter options")


def _judged_alone(field: attrs.Attribute[Any], value: Any) -> Iterator[str]:
    """Ask the validator of one option, because the class as a whole stops at the first mistake."""
    if field.validator is None or field.converter is not None:
        return
    try:
        field.validator(None, field, value)
    except (ValueError, TypeError) as exc:
        yield _worded(exc, None)
    except Exception:  # noqa: S110  # it wants to see the other options, too: the class will ask it again
        pass


_WORDS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _option(value: Any, kind: Any) -> Any:
    inner = [part for part in typing.get_args(kind) if part is not type(None)]
    optional = len(inner) < len(typing.get_args(kind)) and typing.get_origin(kind) is not tuple
    if optional:
        if value is None:
            return None
        kind = inner[0] if len(inner) == 1 else kind
    if isinstance(value, str):
        if kind is bool:
            if value.lower() not in _WORDS:
                raise ValueError(f"expected true or false, got {value!r:.60}")
            return _WORDS[value.lower()]
        if kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                raise ValueError(
                    f"expected {'a whole number' if kind is int else 'a number'}, got {value!r:.60}"
                ) from None
        if isinstance(kind, type) and issubclass(kind, Enum):
            return _member(value, kind)
    return _converter().structure(value, kind)
