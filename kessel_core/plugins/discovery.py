"""Finds plugins and imports each one alone (D4): sorted, filtered before import, isolated.

Own loader over `importlib.metadata`, because pluggy's stops at the first plugin that fails, and
takes clashes in silence. Nothing here knows what a hook is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import attrs

from kessel_core.hooks.specs import GROUP
from kessel_core.plugins.inspection import text_of
from kessel_core.plugins.status import PluginState, PluginStatus

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["Found", "discover", "imported", "normal_name"]

_GROUP_FAMILY: Final = re.compile(r"kessel\.v(\d+)")


@attrs.frozen
class Found:
    """An entry point with its distribution, before any import."""

    entry: EntryPoint
    distribution: str
    version: str

    def status(self, state: PluginState, why: str = "", error: BaseException | None = None) -> PluginStatus:
        """Make its line of the report."""
        return PluginStatus(
            name=self.entry.name,
            distribution=self.distribution,
            version=self.version,
            module=self.entry.value,
            state=state,
            why=why,
            error=error,
        )


def normal_name(distribution: str) -> str:
    """Return the one spelling of a distribution's name, as indexes use it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


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
        key = normal_name(name)
        if key in seen:
            continue
        seen.add(key)
        found.extend((major, Found(entry, name, version or "")) for major, entry in entries)
    found.sort(key=lambda item: (item[1].entry.name, item[1].distribution, item[0]))
    return list(_sorted_out(found))


def _sorted_out(found: list[tuple[int, Found]]) -> Iterator[tuple[Found, PluginStatus | None]]:
    ours = int(GROUP.rpartition("v")[2])
    claims: dict[str, list[Found]] = {}
    for major, plugin in found:
        if major == ours:
            claims.setdefault(plugin.entry.name, []).append(plugin)
    usable = {plugin.distribution for major, plugin in found if major == ours}
    for major, plugin in found:
        if major != ours:
            if plugin.distribution not in usable:  # else it serves several versions
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


def imported(plugin: Found) -> tuple[object, PluginStatus]:
    """Import one plugin; what goes wrong becomes its status.

    Raises:
        KeyboardInterrupt: The user's own.
    """
    try:
        module: object = plugin.entry.load()
    except (Exception, SystemExit) as exc:  # one plugin must not end the program
        why = f"{type(exc).__name__} at import: {text_of(exc)}"
        return None, plugin.status(PluginState.FAILED, why, exc)
    return module, plugin.status(PluginState.ACTIVE)
