"""Options of adapters and middleware as frozen objects, every mistake at once."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

import attrs

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.values.converter import _converter, _member, _problems, worded
from kessel_core.values.nearest import nearest_or_all

__all__ = ["structure_options"]


def structure_options(
    cls: type, given: Mapping[str, Any], origin: str = "", *, where: tuple[str, ...] = ()
) -> Any:
    """Make an options object; text is read by the option's type.

    Args:
        cls: An attrs class.
        given: Option names and values.
        origin: What they come from, as a URL or a file; named in every problem.
        where: What the names are below of, in every problem; its last part is an option's name.

    Raises:
        InvalidConfig: Unknown options (with the nearest name) and wrong values, all at once.
    """
    try:
        return _made(cls, given)
    except InvalidConfig as exc:
        placed = [problem.under(*where).given_by(origin) for problem in exc.problems]
        raise InvalidConfig(placed, "invalid options") from exc


def _made(cls: type, given: Mapping[str, Any]) -> Any:
    attrs.resolve_types(cls)
    fields = {field.alias or field.name: field for field in attrs.fields(cls)}
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        field = fields.get(name)
        if field is None:
            problems.append(Problem((name,), f"unknown option{nearest_or_all(name, fields)}"))
            continue
        try:
            values[name] = _option(value, field.type)
        except Exception as exc:
            problems.extend(_problems(exc, (name,)))
        else:
            problems.extend(Problem((name,), text) for text in _judged_alone(field, values[name]))
    for name, field in fields.items():
        if field.default is attrs.NOTHING and name not in given and field.init:
            problems.append(Problem((name,), "is required"))
    if not problems:
        try:
            return cls(**values)
        except InvalidConfig as exc:
            problems.extend(exc.problems)
        except (ValueError, TypeError) as exc:
            problems.append(Problem((), worded(exc)))
    raise InvalidConfig(problems)


def _judged_alone(field: attrs.Attribute[Any], value: Any) -> Iterator[str]:
    """Ask the validator of one option, because the class as a whole stops at the first mistake."""
    if field.validator is None or field.converter is not None:
        return
    try:
        field.validator(None, field, value)
    except (ValueError, TypeError) as exc:
        yield worded(exc)
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
