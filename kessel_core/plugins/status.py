"""What became of each plugin that was found: values for the report. Knows no loader and no hook."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import attrs

from kessel_core.errors import PluginError

__all__ = ["APPLICATION", "PluginState", "PluginStatus", "blamed", "unusable"]

#: Where a plugin comes from that the application itself gives.
APPLICATION = "the application"


class PluginState(StrEnum):
    """What became of a plugin."""

    ACTIVE = "active"
    DISABLED = "disabled"
    #: Written for another major version of the plugin API.
    INCOMPATIBLE = "incompatible"
    #: Another distribution claims the same name.
    CONFLICT = "conflict"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class PluginStatus:
    """One plugin in the report of `kessel plugins`."""

    name: str
    #: What it comes from, or `the application` itself.
    distribution: str = APPLICATION
    version: str = ""
    module: str = ""
    state: PluginState = PluginState.ACTIVE
    #: Why it is not active; empty if it is.
    why: str = ""
    #: Names of the hooks that it implements.
    hooks: tuple[str, ...] = ()
    #: What is odd about it although it is active.
    warnings: tuple[str, ...] = ()
    #: What was raised at its import, for the traceback.
    error: BaseException | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def is_broken(self) -> bool:
        """Whether it is not usable, and nobody asked for that."""
        return self.state not in (PluginState.ACTIVE, PluginState.DISABLED)

    @property
    def owner(self) -> str:
        """Plugin and distribution, for errors."""
        return f"{self.name} ({f'{self.distribution} {self.version}'.rstrip()})"


def blamed(text: str, report: Iterable[PluginStatus]) -> str:
    """Add which plugins are not usable: the one that is looked for may be among them."""
    broken = [f"{status.owner}: {status.why}" for status in report if status.is_broken]
    return f"{text} (not usable now: {'; '.join(broken)})" if broken else text


def unusable(status: PluginStatus) -> PluginError:
    """Return the error that a plugin which is wanted is not active, with its cause."""
    error = PluginError(status.name, f"{status.state}: {status.why}", status.distribution)
    error.__cause__ = status.error
    return error
