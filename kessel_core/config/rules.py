"""What makes the value of one option valid: its type, which `values.reading` checks, and a rule.

A rule gets only values of the right type, and yields every mistake with its path inside the option, in time
proportional to the length of the value. The options themselves are in `options`.
"""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import attrs

from kessel_core.errors import Problem
from kessel_core.model.names import queue_name_problem
from kessel_core.values.addresses import read_address
from kessel_core.values.durations import duration_text
from kessel_core.values.nearest import nearest_or_all
from kessel_core.values.reading import fit, named
from kessel_core.values.secrets import quoted

__all__ = [
    "Option",
    "Rule",
    "address_rule",
    "handlers_rule",
    "names_rule",
    "not_blank_rule",
    "options_of",
    "queues_rule",
    "routes_rule",
    "rule",
    "tables_rule",
    "within",
]


#: Yields the problems of a value that has the type of the option.
Rule = Callable[[Any], Iterator[Problem]]


def rule(check: Rule) -> dict[str, Rule]:
    """Return the metadata of a field with this rule."""
    return {"rule": check}


def within(least: Any, most: Any = None) -> dict[str, Rule]:
    """Return the metadata of a number or span with inclusive bounds; None passes if the type allows it."""

    def check(value: Any) -> Iterator[Problem]:
        if value is None or (least <= value and (most is None or value <= most)):
            return
        bounds = f"{_shown(least)} or more" if most is None else f"{_shown(least)} to {_shown(most)}"
        yield Problem((), f"expected {bounds}, got {_shown(value)}")

    return rule(check)


def _shown(value: Any) -> str:
    return duration_text(value) if isinstance(value, timedelta) else quoted(value)


def not_blank_rule(value: str | None) -> Iterator[Problem]:
    """Refuse blank text; None passes if the type allows it."""
    if value is not None and not value.strip():
        yield Problem((), "must not be blank")


def address_rule(value: str | None) -> Iterator[Problem]:
    """Refuse what `values.addresses` cannot read; None is fine."""
    if value is not None:
        try:
            read_address(value)
        except ValueError as exc:
            yield Problem((), str(exc))


def names_rule(names: tuple[object, ...]) -> Iterator[Problem]:
    """Check each name, then look for duplicates."""
    found = False
    for index, name in enumerate(names):
        if not isinstance(name, str):
            found = True
            yield Problem((index,), f"expected text, got {named(name)}")
        elif not name.strip():
            found = True
            yield Problem((index,), "must not be blank")
    if not found:
        for name, count in Counter(names).items():
            if count > 1:
                yield Problem((), f"{quoted(name)} given more than once")


def queues_rule(names: tuple[object, ...]) -> Iterator[Problem]:
    """Refuse an empty list, and what `names_rule` or adapters refuse."""
    if not names:
        yield Problem((), "expected at least one name")
    problems = list(names_rule(names))
    yield from problems
    if not problems:
        for index, name in enumerate(names):
            if (problem := queue_name_problem(name)) is not None:
                yield Problem((index,), problem)


def queue_rule(name: str | None) -> Iterator[Problem]:
    """Refuse what adapters refuse as the name of a queue; None is fine."""
    if name is not None and (problem := queue_name_problem(name)) is not None:
        yield Problem((), problem)


def tables_rule(tables: Mapping[str, object]) -> Iterator[Problem]:
    """Refuse what is not a table of tables."""
    for name, table in tables.items():
        if not isinstance(table, Mapping) or not all(isinstance(key, str) for key in table):
            yield Problem((name,), f"expected a table, got {type(table).__name__}")


def handlers_rule(handlers: Mapping[str, object]) -> Iterator[Problem]:
    """Refuse blank and duplicate job types, and targets that are not text."""
    seen: dict[str, str] = {}
    for key, target in handlers.items():
        job_type = key.strip()
        if not job_type:
            yield Problem((), "a job type must not be blank")
        elif job_type in seen:
            both = f"{seen[job_type]!r} and {key!r} are the same type"
            yield Problem((), f"{both}, blanks around it do not count")
        seen[job_type] = key
        if not isinstance(target, str) or not target.strip():
            yield Problem((key,), "expected 'module:attribute' or the name of a plugin's handler")


def routes_rule(routes: Mapping[str, object]) -> Iterator[Problem]:
    """Refuse blank and doubled job types, and tables of anything but a queue and a priority."""
    seen: dict[str, str] = {}
    for key, table in routes.items():
        kind = key.strip()
        if not kind:
            yield Problem((), "a job type must not be blank")
        elif kind in seen:
            yield Problem((), f"{seen[kind]!r} and {key!r} are the same type, blanks around it do not count")
        seen[kind] = key
        if not isinstance(table, Mapping):
            yield Problem((key,), f"expected a table with queue and priority, got {named(table)}")
            continue
        for name, value in table.items():
            if name not in ("queue", "priority"):
                yield Problem(
                    (key, str(name)), f"unknown option{nearest_or_all(str(name), ['queue', 'priority'])}"
                )
            elif name == "queue" and (text := queue_name_problem(value)) is not None:
                yield Problem((key, name), text)
            elif name == "priority" and (isinstance(value, bool) or not isinstance(value, int)):
                yield Problem((key, name), f"expected a whole number, got {named(value)}")


@attrs.frozen(kw_only=True)
class Option:
    """One option of the configuration."""

    #: Its path through sections, such as `("worker", "slots")`.
    where: tuple[str, ...]
    #: Its annotation.
    annotation: Any
    #: What its value must satisfy in addition; None: nothing.
    rule: Rule | None

    @property
    def path(self) -> str:
        """The path as people write it, such as `worker.slots`."""
        return ".".join(self.where)

    def of(self, config: object) -> object:
        """Return its value in a configuration."""
        value = config
        for name in self.where:
            value = getattr(value, name)
        return value

    def problems(self, value: object) -> Iterator[Problem]:
        """Yield the problems of a value."""
        try:
            fit(value, self.annotation)
        except (TypeError, ValueError) as exc:
            yield Problem(self.where, str(exc))
        else:
            for problem in self.rule(value) if self.rule is not None else ():
                yield problem.under(*self.where)


def options_of(section: type[attrs.AttrsInstance], above: tuple[str, ...] = ()) -> Iterator[Option]:
    """Yield the options of a class and of the sections inside it."""
    annotations = typing.get_type_hints(section)
    for field in attrs.fields(section):
        annotation, where = annotations[field.name], (*above, field.name)
        if attrs.has(annotation):
            yield from options_of(annotation, where)
        else:
            yield Option(where=where, annotation=annotation, rule=field.metadata.get("rule"))
