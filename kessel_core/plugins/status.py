"""The status of each plugin that was found: values for the report, without loader or hooks."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import attrs

from kessel_core.errors import PluginError

__all__ = ["APPLICATION", "PluginState", "PluginStatus", "missing", "unusable", "with_unusable"]

#: Stands for the distribution where the application itself provides the plugin.
APPLICATION = "the application"


class PluginState(StrEnum):
    """Whether a plugin is in use, and if not, why."""

    #: Loaded and in use.
    ACTIVE = "active"
    #: Disabled by the configuration.
    DISABLED = "disabled"
    #: Written for another major version of the plugin API.
    INCOMPATIBLE = "incompatible"
    #: Another distribution claims the same name.
    CONFLICT = "conflict"
    #: Its import or its registration failed.
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class PluginStatus:
    """One plugin in the report of `kessel plugins`."""

    #: Name of its entry point.
    name: str
    #: The distribution that it comes from, or `the application`.
    distribution: str = APPLICATION
    #: Version of the distribution; empty if unknown.
    version: str = ""
    #: Its module, as in the entry point.
    module: str = ""
    #: Whether it is in use.
    state: PluginState = PluginState.ACTIVE
    #: Why it is not active; empty if it is.
    why: str = ""
    #: Names of the hooks that it implements.
    hooks: tuple[str, ...] = ()
    #: What is wrong with it, although it is active.
    warnings: tuple[str, ...] = ()
    #: The exception at its import, for the traceback.
    error: BaseException | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def is_broken(self) -> bool:
        """Whether it is not usable although it was not disabled."""
        return self.state not in (PluginState.ACTIVE, PluginState.DISABLED)

    @property
    def owner(self) -> str:
        """Name and distribution, for messages."""
        return f"{self.name} ({f'{self.distribution} {self.version}'.rstrip()})"


def with_unusable(text: str, report: Iterable[PluginStatus]) -> str:
    """Append the plugins that are not usable, because the missing one may be among them."""
    broken = [f"{status.owner}: {status.why}" for status in report if status.is_broken]
    return f"{text} (not usable now: {'; '.join(broken)})" if broken else text


def missing(distribution: str, report: Iterable[PluginStatus]) -> str:
    """Return what to do about what only this distribution of kessel offers: `; run: pip install ...`."""
    owned = [status for status in report if status.distribution == distribution]
    if not owned:
        return f"; run: pip install {distribution}"
    disabled = [status for status in owned if status.state is PluginState.DISABLED]
    # What is broken is told by `with_unusable`.
    return "".join(f"; {unusable(status)}" for status in disabled)


def unusable(status: PluginStatus) -> PluginError:
    """Return the error for a plugin that is needed but not active, with its cause."""
    error = PluginError(status.name, f"{status.state}: {status.why}", status.distribution)
    error.__cause__ = status.error
    return error
