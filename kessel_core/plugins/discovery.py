"""Finds plugins and imports each one alone (D4): sorted, filtered before import, isolated.

A loader of our own over `importlib.metadata`, because pluggy's stops at the first plugin that fails and
accepts name clashes silently. Nothing here knows what a hook is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import attrs

from kessel_core.hooks.specs import GROUP
from kessel_core.plugins.status import PluginState, PluginStatus
from kessel_core.values.raised import raised

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["FoundPlugin", "discover", "import_plugin", "normalized_name"]

_GROUP_FAMILY: Final = re.compile(r"kessel\.v(\d+)")


@attrs.frozen
class FoundPlugin:
    """The entry point of a plugin, with its distribution, before any import."""

    #: The entry point; its name is the plugin's.
    entry: EntryPoint
    #: Name of the distribution.
    distribution: str
    #: Version of the distribution; empty if unknown.
    version: str

    def status(self, state: PluginState, why: str = "", error: BaseException | None = None) -> PluginStatus:
        """Create its entry in the report."""
        return PluginStatus(
            name=self.entry.name,
            distribution=self.distribution,
            version=self.version,
            module=self.entry.value,
            state=state,
            why=why,
            error=error,
        )


def normalized_name(distribution: str) -> str:
    """Return the name of a distribution as package indexes spell it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def discover(
    distributions: Iterable[Distribution] | None = None,
) -> list[tuple[FoundPlugin, PluginStatus | None]]:
    """Return all plugins of any API version, sorted; those that cannot be loaded come with their status.

    Of a distribution that is on the path twice the first counts, because Python imports that one.
    """
    from importlib.metadata import distributions as installed  # slower to import than the rest of the core

    seen: set[str] = set()
    found: list[tuple[int, FoundPlugin]] = []
    for dist in installed() if distributions is None else distributions:
        try:
            entries = [(int(m[1]), e) for e in dist.entry_points if (m := _GROUP_FAMILY.fullmatch(e.group))]
            if not entries:
                continue  # before parsing its metadata, which takes longer than the rest of the scan
            metadata = dist.metadata  # parsed anew whenever it is asked for, also for the version
            name, version = str(metadata["Name"] or "?"), metadata["Version"]
        except Exception:  # noqa: S112  # another package with damaged metadata is none of our business
            continue
        key = normalized_name(name)
        if key in seen:
            continue
        seen.add(key)
        found.extend((major, FoundPlugin(entry, name, version or "")) for major, entry in entries)
    found.sort(key=lambda item: (item[1].entry.name, item[1].distribution, item[0]))
    return list(_with_conflicts(found))


def _with_conflicts(
    found: list[tuple[int, FoundPlugin]],
) -> Iterator[tuple[FoundPlugin, PluginStatus | None]]:
    ours = int(GROUP.rpartition("v")[2])
    claims: dict[str, list[FoundPlugin]] = {}
    for major, plugin in found:
        if major == ours:
            claims.setdefault(plugin.entry.name, []).append(plugin)
    usable = {plugin.distribution for major, plugin in found if major == ours}
    for major, plugin in found:
        if major != ours:
            if plugin.distribution not in usable:  # else it supports several API versions
                why = f"written for plugin API v{major}, this is v{ours}"
                yield plugin, plugin.status(PluginState.INCOMPATIBLE, why)
            continue
        others = [other.distribution for other in claims[plugin.entry.name] if other is not plugin]
        if others:
            claimants = ", ".join(sorted([plugin.distribution, *others]))
            why = f"the name {plugin.entry.name!r} is claimed by {claimants}"
            yield plugin, plugin.status(PluginState.CONFLICT, f"{why}; uninstall one of them")
        else:
            yield plugin, None


def import_plugin(plugin: FoundPlugin) -> tuple[object, PluginStatus]:
    """Import one plugin; a failure becomes its status.

    Raises:
        KeyboardInterrupt: The user pressed Ctrl-C.
    """
    try:
        module: object = plugin.entry.load()
    except (Exception, SystemExit) as exc:  # one plugin must not end the program
        why = f"at import: {raised(exc)}"
        return None, plugin.status(PluginState.FAILED, why, exc)
    return module, plugin.status(PluginState.ACTIVE)
