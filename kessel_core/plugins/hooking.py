"""What pluggy is asked for: a manager of the hooks of kessel, quick to fill."""

from __future__ import annotations

from types import ModuleType

import pluggy
from pluggy import HookimplOpts

from kessel_core.hooks.specs import HOOKS

__all__ = ["hook_manager"]


class _HookManager(pluggy.PluginManager):
    """Looks at what may be a hook, and not at everything that a module imports, in a tenth of the time."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        """Return how an attribute is marked; None: it is no hook. `inspected` reports misspelt ones."""
        return super().parse_hookimpl_opts(plugin, name) if name in HOOKS else None


def hook_manager(specifications: ModuleType | type) -> pluggy.PluginManager:
    """Return a manager without plugins.

    Args:
        specifications: A module or a class with the hooks that it calls.
    """
    manager = _HookManager("kessel")
    manager.add_hookspecs(specifications)
    return manager
