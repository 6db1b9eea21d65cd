"""Finds plugins and loads each one alone (D4): sorted, filtered before import, isolated.

Own loader over `importlib.metadata`, because pluggy's stops at the first plugin that fails, and
takes clashes in silence. Nothing here knows what a hook is for.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import attrs
import pluggy

from kessel_core.hooks import specs
from kessel_core.hooks.specs import GROUP
from kessel_core.values.nearest import did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["Found", "HOOKS", "Load", "PluginStatus", "discover", "load", "register"]


_GROUP_FAMILY: Final = re.compile(r"kessel\.v(\d+)")


#: Names of all hooks.
HOOKS: Final = frozenset(name for name in vars(specs) if name.startswith("kessel_"))


#: Those that are called through pluggy, so that a wrapper can go around.
WRAPPABLE: Final = frozenset({"kessel_execute_job", "kessel_retry_pause"})


class Load(StrEnum):
    """What became of a plugin."""

    ACTIVE = "active"
    DISABLED = "disabled"
    #: Written for another major version of the plugin API.
    INCOMPATIBLE = "incompatible"
    #: Another distribution claims the same name.
    CONFLICT = "conflict"
    FAILED = "failed"


@attrs.define(kw_only=True)
class PluginStatus:
    """One plugin in the report of `kessel plugins`."""

    name: str
    #: What it comes from, or `the application` itself.
    distribution: str = "the application"
    version: str = ""
    module: str = ""
    status: Load = Load.ACTIVE
    #: Why it is not active; empty if it is.
    why: str = ""
    #: Names of the hooks that it implements.
    hooks: tuple[str, ...] = ()
    #: What is odd about it although it is active.
    warnings: list[str] = attrs.field(factory=list)
    #: What was raised at its import, for the traceback.
    error: BaseException | None = attrs.field(default=None, repr=False)

    def warn(self, text: str) -> bool:
        """Note what is odd; return False if it was known already."""
        if text in self.warnings:
            return False
        self.warnings.append(text)
        return True

    @property
    def is_broken(self) -> bool:
        """Whether it is not usable, and nobody asked for that."""
        return self.status not in (Load.ACTIVE, Load.DISABLED)

    @property
    def owner(self) -> str:
        """Plugin and distribution, for errors."""
        return f"{self.name} ({f'{self.distribution} {self.version}'.rstrip()})"


@attrs.frozen
class Found:
    """An entry point with its distribution, before any import."""

    entry: EntryPoint
    distribution: str
    version: str

    def status(self, load: Load, why: str = "") -> PluginStatus:
        """Make its line of the report."""
        return PluginStatus(
            name=self.entry.name,
            distribution=self.distribution,
            version=self.version,
            module=self.entry.value,
            status=load,
            why=why,
        )


def discover(distributions: Iterable[Distribution] | None = None) -> list[tuple[Found, PluginStatus | None]]:
    """Return all plugins of any API version, sorted; those that cannot be loaded with their status.

    A distribution that is on the path twice counts once: the first, which is the one that Python imports.
    """
    from importlib.metadata import distributions as installed  # costs more than the rest of the core

    seen: set[str] = set()
    found: list[tuple[int, Found]] = []
    for dist in installed() if distributions is None else distributions:
        try:
            entries = [(int(m[1]), e) for e in dist.entry_points if (m := _GROUP_FAMILY.fullmatch(e.group))]
            if not entries:
                continue  # before its metadata is parsed, which costs more than the rest of the scan
            name = str(dist.metadata["Name"] or "?")
            version = dist.version
        except Exception:  # noqa: S112  # damaged metadata of some other package is not our matter
            continue
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in seen:
            continue
        seen.add(key)
        found.extend((major, Found(entry, name, version or "")) for major, entry in entries)
    found.sort(key=lambda item: (item[1].entry.name, item[1].distribution, item[0]))
    return list(_judged(found))


def _judged(found: list[tuple[int, Found]]) -> Iterator[tuple[Found, PluginStatus | None]]:
    ours = int(GROUP.rpartition("v")[2])
    claims: dict[str, list[Found]] = {}
    for major, plugin in found:
        if major == ours:
            claims.setdefault(plugin.entry.name, []).append(plugin)
    usable = {plugin.distribution for major, plugin in found if major == ours}
    for major, plugin in found:
        if major != ours:
            if plugin.distribution not in usable:  # else it serves several versions
                yield (
                    plugin,
                    plugin.status(Load.INCOMPATIBLE, f"written for plugin API v{major}, this is v{ours}"),
                )
            continue
        others = [other.distribution for other in claims[plugin.entry.name] if other is not plugin]
        if others:
            claimants = ", ".join(sorted([plugin.distribution, *others]))
            why = f"the name {plugin.entry.name!r} is claimed by {claimants}"
            yield plugin, plugin.status(Load.CONFLICT, f"{why}; uninstall one of them")
        else:
            yield plugin, None


def load(plugin: Found, manager: pluggy.PluginManager) -> PluginStatus:
    """Import one plugin and register it; what goes wrong becomes its status."""
    try:
        module = plugin.entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # SystemExit at import, too: one plugin must not end the program
        status = plugin.status(Load.FAILED, f"{type(exc).__name__} at import: {_text(exc)}")
        status.error = exc
        return status
    status = plugin.status(Load.ACTIVE)
    register(module, status, manager)
    return status


def register(plugin: object, status: PluginStatus, manager: pluggy.PluginManager) -> None:
    """Check the hooks of a plugin and register it; writes into `status`."""
    found = hook_faults(plugin)
    status.warnings.extend(found.warnings)
    status.hooks, why = found.hooks, found.why
    if not why:
        try:
            manager.register(plugin, name=status.name)
        except Exception as exc:
            why = f"{type(exc).__name__}: {_text(exc)}"
            # pluggy 1.6 leaves a refused plugin half registered (pluggy#733). The name may also
            # be that of another plugin, which stays.
            if manager.get_plugin(status.name) is plugin:
                manager.unregister(name=status.name)
    if why:
        status.status, status.why, status.hooks = Load.FAILED, why, ()


@attrs.frozen
class HookFaults:
    """What was found when the hooks of an object were looked at."""

    #: Names of the hooks that it implements.
    hooks: tuple[str, ...] = ()
    #: Why it cannot be used; empty if it can.
    why: str = ""
    #: What is odd about it.
    warnings: tuple[str, ...] = ()


def hook_faults(plugin: object) -> HookFaults:
    """Look at the hooks of an object (D6): which it has, and what is wrong with them."""
    if inspect.isclass(plugin):
        return HookFaults(why=f"{plugin.__name__} is a class: give a module or an instance of it")
    try:
        return _looked_at(plugin)
    except Exception as exc:  # an object that does not even let itself be looked at
        return HookFaults(why=f"{type(exc).__name__} when its hooks were looked for: {_text(exc)}")


def _looked_at(plugin: object) -> HookFaults:
    faults: list[str] = []
    hooks: list[str] = []
    unknown: list[str] = []
    unmarked: list[str] = []
    for name in dir(plugin):
        # Static, because pluggy 1.6 runs properties when it looks for hooks.
        function = inspect.getattr_static(plugin, name, None)
        function = getattr(function, "__func__", function)
        if not inspect.isroutine(function):
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
            # pluggy ignores unknown names in silence; a plugin is used for what is right about it.
            faults = unknown
        else:
            warnings.append("it implements no hook")
    return HookFaults(hooks=tuple(sorted(hooks)), why="; ".join(faults), warnings=tuple(warnings))


def _signature_faults(name: str, function: Any) -> Iterator[str]:
    bare = inspect.unwrap(function)
    if inspect.iscoroutinefunction(bare) or inspect.isasyncgenfunction(bare):
        yield f"{name} is async; hooks are called synchronously, so make it a plain `def`"
    parameters = inspect.signature(bare).parameters.values()
    unnamed = [str(p) for p in parameters if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if unnamed:
        # pluggy never fills these, and says nothing.
        yield f"{name}: the arguments {', '.join(unnamed)} would never be given; name those that are wanted"
    defaults = [p.name for p in parameters if p.default is not p.empty]
    if defaults:
        # pluggy 1.6 passes the default, 1.7 the value (pluggy#442): never what was meant.
        yield f"{name}: the arguments {', '.join(defaults)} must not have defaults"


def _wrapper_faults(name: str, marks: Mapping[str, Any]) -> Iterator[str]:
    if marks.get("hookwrapper"):
        # One that raises keeps the others from cleaning up (pluggy#463).
        yield f"{name} is an old-style wrapper; use wrapper=True"
    elif marks.get("wrapper") and name not in WRAPPABLE:
        yield f"{name} must not be a wrapper; only {' and '.join(sorted(WRAPPABLE))} have an inside"


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:
        return "(its text cannot be read)"
