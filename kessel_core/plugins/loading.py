"""Loads the plugins of a process: the core's own, the application's, and the installed ones (D4).

Each in isolation, so that a broken plugin does not affect the others. There is no global set of plugins:
`build_plugins` returns a new one each time, and importing this module loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import attrs
import pluggy

from kessel_core.errors import Problem
from kessel_core.features import BUILTIN
from kessel_core.hooks import specs
from kessel_core.plugins.discovery import discover, import_plugin
from kessel_core.plugins.hooking import hook_manager
from kessel_core.plugins.inspection import inspected
from kessel_core.plugins.registry import Plugins
from kessel_core.plugins.status import PluginState, PluginStatus
from kessel_core.values.logs import get_logger
from kessel_core.values.nearest import did_you_mean
from kessel_core.values.raised import said

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["build_plugins"]

log = get_logger("kessel.plugins")


def build_plugins(
    *,
    disabled: Sequence[str] = (),
    required: Sequence[str] = (),
    extra: Mapping[str, object] | None = None,
    distributions: Iterable[Distribution] | None = None,
) -> Plugins:
    """Find and load the plugins.

    Args:
        disabled: Names of plugins that are not even imported; an unknown name is only a warning.
        required: Names of plugins that must be active.
        extra: Additional plugins by name: modules or objects with hooks, for tests and applications.
        distributions: Where to look; None: all installed distributions.

    Raises:
        PluginError: A required plugin is not active; every other failure is in the report.
    """
    manager = hook_manager(specs)
    report: list[PluginStatus] = []
    for name, module in BUILTIN.items():
        status = PluginStatus(name=name, distribution="kessel-core", module=module)
        report.append(_registered(manager, import_module(module), status))
    for name, plugin in (extra or {}).items():
        report.append(_registered(manager, plugin, PluginStatus(name=name, module=repr(plugin)[:80])))
    for found, unusable in discover(distributions):
        name = found.entry.name
        if name in disabled:
            report.append(found.status(PluginState.DISABLED, "disabled by the configuration"))
        elif unusable is not None:
            report.append(unusable)
        elif manager.has_plugin(name):
            owner = next(status.distribution for status in report if status.name == name)
            why = f"the name {name!r} is taken by {owner} itself"
            report.append(found.status(PluginState.CONFLICT, why))
        else:
            plugin, status = import_plugin(found)
            report.append(_registered(manager, plugin, status))
    warnings = tuple(_without_effect(disabled, report))
    for problem in warnings:
        log.warning("%s", problem)
    plugins = Plugins(manager, report, warnings)
    for name in required:
        plugins.require(name)
    return plugins


def _registered(manager: pluggy.PluginManager, plugin: object, status: PluginStatus) -> PluginStatus:
    """Inspect the hooks of a plugin and register it if it is usable; return its status."""
    if status.state is not PluginState.ACTIVE:
        return status
    found = inspected(plugin)
    why = found.why
    if not why:
        try:
            why = _without_place(manager, plugin, status)
            if not why:
                manager.register(plugin, name=status.name)
        except Exception as exc:
            why = said(exc)
            # pluggy 1.6 leaves a refused plugin half registered (pluggy#733). The name may also
            # belong to another plugin, which stays.
            if manager.get_plugin(status.name) is plugin:
                manager.unregister(name=status.name)
    if why:
        return attrs.evolve(status, state=PluginState.FAILED, why=why, warnings=found.warnings)
    return attrs.evolve(status, hooks=found.hooks, warnings=found.warnings)


def _without_place(manager: pluggy.PluginManager, plugin: object, status: PluginStatus) -> str:
    """Return why a plugin cannot have its name; empty if it can. pluggy's own errors would list all."""
    if not status.name:
        return "its entry point has no name"
    if manager.has_plugin(status.name):
        return f"the name {status.name!r} is taken"
    other = manager.get_name(plugin)
    if other is None:
        return ""
    return f"{status.module} is the plugin {other!r} already; one entry point is enough"


def _without_effect(disabled: Sequence[str], report: Sequence[PluginStatus]) -> Iterable[Problem]:
    """Yield a problem for each disabled name that disables nothing."""
    known = [status.name for status in report if status.name not in BUILTIN]
    for name in dict.fromkeys(disabled):
        if name in BUILTIN:
            text = f"{name!r} is built in and stays: leave it out of `middleware` instead"
            yield Problem(("plugins", "disabled"), text)
        elif name not in known:
            yield Problem(("plugins", "disabled"), f"no plugin is called {name!r}{did_you_mean(name, known)}")
