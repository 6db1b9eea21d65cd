"""Creates the options objects of adapters and middleware; reports all mistakes at once."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, TypeVar

import attrs

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.values.annotations import underlying
from kessel_core.values.converter import converter, problems_in, worded
from kessel_core.values.nearest import nearest_or_all
from kessel_core.values.reading import from_text
from kessel_core.values.secrets import is_secret

__all__ = ["structure_options"]

_Key = TypeVar("_Key", str, int)


def structure_options(
    cls: type, given: Mapping[str, Any], origin: str = "", *, where: tuple[str, ...] = ()
) -> Any:
    """Create an options object; text is converted to the type of the option.

    Args:
        cls: An attrs class.
        given: Option names and values.
        origin: Where they come from, such as a URL or a file; part of every problem.
        where: The path above the names; part of every problem.

    Raises:
        InvalidConfig: Unknown options (with the nearest name) and wrong values, all at once.
    """
    try:
        return _create(cls, given)
    except InvalidConfig as exc:
        placed = [problem.under(*where).given_by(origin) for problem in exc.problems]
        raise InvalidConfig(placed, "invalid options") from exc


def _create(cls: type, given: Mapping[str, Any]) -> Any:
    attrs.resolve_types(cls)
    fields = {field.alias or field.name: field for field in attrs.fields(cls) if field.init}
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        field = fields.get(name)
        if field is None:
            problems.append(Problem((name,), f"unknown option{nearest_or_all(name, fields)}"))
            continue
        try:
            values[name] = _option(value, field.type)
        except InvalidConfig as exc:  # of a table inside, which has left out its own secrets
            problems.extend(problem.under(name) for problem in exc.problems)
        except Exception as exc:
            problems.extend(_untold(problem, name) for problem in problems_in(exc, (name,)))
        else:
            problems.extend(_refused_alone(field, values[name]))
    for name, field in fields.items():
        if field.default is attrs.NOTHING and name not in given:
            problems.append(Problem((name,), "is required"))
    if not problems:
        try:
            return cls(**values)
        except InvalidConfig as exc:
            problems.extend(exc.problems)
        except (ValueError, TypeError) as exc:
            problems.append(Problem((), worded(exc)))
    raise InvalidConfig(problems)


def _untold(problem: Problem, name: str) -> Problem:
    """Leave the value out of what is wrong with a secret one."""
    if not is_secret(name):
        return problem
    expected = problem.message.partition(", got")[0]
    text = expected if expected.startswith("expected ") else "is not usable; its value is not shown"
    return attrs.evolve(problem, message=text)


def _refused_alone(field: attrs.Attribute[Any], value: Any) -> Iterator[Problem]:
    """Run the validator of one option, because creating the object stops at the first mistake."""
    if field.validator is None or field.converter is not None:
        return
    try:
        field.validator(None, field, value)
    except InvalidConfig as exc:  # it names what is wrong inside, and has left out what is secret
        yield from exc.problems
    except (ValueError, TypeError) as exc:
        name = field.alias or field.name
        yield _untold(Problem((name,), worded(exc)), name)
    except Exception:  # noqa: S110  # it needs the other options, too; creating the object runs it again
        pass


def _option(value: Any, annotation: Any) -> Any:
    """Convert one value; tables for attrs classes, however they are held, are options themselves."""
    annotation = underlying(annotation)
    inner = _without_none(annotation)
    if isinstance(value, Mapping) and attrs.has(inner):
        return _create(inner, value)
    holder, held = typing.get_origin(inner), [underlying(arg) for arg in typing.get_args(inner)]
    if isinstance(value, Mapping) and holder in (Mapping, dict) and held[0] is str and attrs.has(held[1]):
        return _tables(value.items(), held[1])
    is_list = holder in (list, tuple, Sequence) and held[1:] in ([], [Ellipsis])
    if isinstance(value, list) and is_list and attrs.has(held[0]):
        made = _tables(enumerate(value), held[0]).values()
        return [*made] if holder is list else tuple(made)
    if isinstance(value, str):
        value = from_text(value, annotation)
    return converter().get_structure_hook(annotation)(value, annotation)


def _without_none(annotation: Any) -> Any:
    """Return what an option may be besides None; anything else as it is."""
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        kinds = [underlying(arg) for arg in typing.get_args(annotation)]
        others = [kind for kind in kinds if kind is not NoneType]
        if len(others) == 1 and len(others) < len(kinds):
            return others[0]
    return annotation


def _tables(given: Iterable[tuple[_Key, Any]], cls: type) -> dict[_Key, Any]:
    made: dict[_Key, Any] = {}
    problems: list[Problem] = []
    for name, table in given:
        if not isinstance(table, Mapping):
            problems.append(Problem((name,), f"expected a table, got {type(table).__name__}"))
            continue
        try:
            made[name] = _create(cls, table)
        except InvalidConfig as exc:
            problems.extend(problem.under(name) for problem in exc.problems)
    if problems:
        raise InvalidConfig(problems)
    return made
