"""Finds the handlers that a module declares: whatever stands in it under a name and has `@handler`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType

import attrs

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.handlers.declare import options_of
from kessel_core.values.logs import get_logger
from kessel_core.values.raised import raised

__all__ = ["Imported", "declared_in", "imported_handlers"]

log = get_logger("kessel.handlers")


@attrs.frozen
class Imported:
    """Handlers of modules, and where the modules are named, for errors."""

    handlers: tuple[object, ...]
    origin: str

    def __iter__(self) -> Iterator[object]:
        return iter(self.handlers)


def declared_in(module: ModuleType) -> list[object]:
    """Return the functions, classes and objects of a module that `@handler` marked, each once."""
    found: list[object] = []
    for value in vars(module).values():
        if options_of(value) is not None and not any(value is known for known in found):
            found.append(value)
    return found


def imported_handlers(names: Iterable[str], origin: str) -> Imported:
    """Import modules by name and return the handlers that they declare.

    Args:
        names: Dotted names, as for `import`.
        origin: Where they are written, for errors.

    Raises:
        InvalidConfig: With every module that is not there, fails, or declares no handler.
    """
    handlers: list[object] = []
    problems: list[Problem] = []
    for name in names:
        if (why := _name_problem(name)) is not None:
            problems.append(Problem((), f"{name!r} {why}", origin))
            continue
        try:
            found = declared_in(importlib.import_module(name))
        except (Exception, SystemExit) as exc:  # a script named by mistake must not end the program
            log.debug("%r cannot be imported", name, exc_info=exc)
            problems.append(Problem((), f"{name!r} cannot be imported: {raised(exc)}", origin))
            continue
        if not found:
            why = "declares no handler: mark its functions with @handler(TYPE)"
            problems.append(Problem((), f"{name!r} {why}", origin))
        handlers += found
    if problems:
        raise InvalidConfig(problems, "invalid handlers")
    return Imported(tuple(handlers), origin)


def _name_problem(name: str) -> str | None:
    if all(part.isidentifier() for part in name.split(".")) and not name.endswith(".py"):
        return None
    likely = name.removesuffix(".py").strip("./").replace("/", ".").partition(":")[0]
    hint = f", as {likely!r}" if all(part.isidentifier() for part in likely.split(".")) else ""
    return f"is not the name of a module{hint}"
