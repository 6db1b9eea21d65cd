"""Inspects the hooks of an object before pluggy gets it (D6): which it has, and what is wrong with them.

pluggy silently ignores many mistakes; they are reported here. Nothing is registered or changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import attrs

from kessel_core.hooks.specs import HOOKS, WRAPPABLE, WRAPPED
from kessel_core.values.nearest import did_you_mean
from kessel_core.values.raised import said

__all__ = ["Inspection", "inspected"]


@attrs.frozen(kw_only=True)
class Inspection:
    """What was found in an object."""

    #: Names of the hooks that the object implements.
    hooks: tuple[str, ...] = ()
    #: Why it cannot be used; empty if it can.
    why: str = ""
    #: What is wrong with it, although it can be used.
    warnings: tuple[str, ...] = ()


def inspected(plugin: object) -> Inspection:
    """Inspect any object; never raises an `Exception`."""
    if inspect.isclass(plugin):
        return Inspection(why=f"{plugin.__name__} is a class: give a module or an instance of it")
    try:
        return _inspected(plugin)
    except Exception as exc:  # the object fails when its attributes are listed
        return Inspection(why=f"{said(exc)}, when its hooks were looked for")


def _inspected(plugin: object) -> Inspection:
    faults: list[str] = []
    hooks: list[str] = []
    unknown: list[str] = []
    unmarked: list[str] = []
    for name, function in _attributes(plugin):
        function = getattr(function, "__func__", function)  # of a bound or static method
        if not (inspect.isroutine(function) if name in HOOKS else isinstance(function, FunctionType)):
            continue
        marked = hasattr(function, "kessel_impl")
        if name in HOOKS and marked:
            hooks.append(name)
            faults.extend(_signature_faults(name, function))
            faults.extend(_wrapper_faults(name, vars(function)["kessel_impl"]))
        elif marked:
            unknown.append(f"there is no hook {name!r}{did_you_mean(name, HOOKS)}")
        elif name in HOOKS and getattr(function, "__module__", None) == getattr(plugin, "__name__", None):
            unmarked.append(f"{name} is not marked with @hookimpl, so it is not called")
    warnings = [*unknown, *unmarked]
    if not hooks and not faults:
        if unknown:
            # A misspelt hook next to a correct one is a warning; on its own it leaves nothing to use.
            faults = unknown
        else:
            warnings.append("it implements no hook")
    return Inspection(hooks=tuple(sorted(hooks)), why="; ".join(faults), warnings=tuple(warnings))


def _attributes(plugin: object) -> Iterator[tuple[str, object]]:
    """Yield names and values of what an object has, by name; runs no property, as pluggy 1.6 would."""
    if type(plugin) is ModuleType:  # the usual plugin, and much quicker
        yield from sorted(vars(plugin).items())
        return
    for name in dir(plugin):
        yield name, inspect.getattr_static(plugin, name, None)


def _signature_faults(name: str, function: Any) -> Iterator[str]:
    bare = inspect.unwrap(function)
    if inspect.iscoroutinefunction(bare) or inspect.isasyncgenfunction(bare):
        yield f"{name} is async; hooks are called synchronously, so make it a plain `def`"
    parameters = inspect.signature(bare).parameters.values()
    unnamed = [str(p) for p in parameters if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if unnamed:
        # pluggy never passes these, and does not complain.
        yield f"{name}: the arguments {', '.join(unnamed)} would never be given; name those that are wanted"
    defaults = [p.name for p in parameters if p.default is not p.empty]
    if defaults:
        # pluggy 1.6 passes the default, 1.7 the value (pluggy#442), so the author cannot rely on either.
        yield f"{name}: the arguments {', '.join(defaults)} must not have defaults"


def _wrapper_faults(name: str, options: Mapping[str, Any]) -> Iterator[str]:
    if options.get("hookwrapper"):
        # If one raises, the others cannot clean up (pluggy#463).
        yield f"{name} is an old-style wrapper; use wrapper=True"
    elif options.get("wrapper") and name not in WRAPPABLE:
        yield f"{name} must not be a wrapper; only {' and '.join(sorted(WRAPPABLE))} have an inside"
    elif name in WRAPPED and not options.get("wrapper"):
        yield f"{name} goes around a call, so it must be a wrapper: @hookimpl(wrapper=True), with a yield"
