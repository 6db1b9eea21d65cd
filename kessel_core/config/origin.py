"""Where a configured value comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from kessel_core.config.options import Config
from kessel_core.errors import InvalidConfig

__all__ = ["Argument", "LoadedConfig", "Origin"]


@attrs.frozen
class Origin:
    """Where a value comes from."""

    #: `default`, `file`, `environment` or `argument`.
    layer: str
    #: The file, the variable, or the argument; empty for a default.
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.layer

    def at(self, path: str) -> str:
        """Name one option of this origin, for a problem."""
        return f"{self.name}: {path}" if self.layer == "file" else str(self)


@attrs.frozen
class Argument:
    """A value that the command line gives to an option."""

    #: As it was typed, or already converted by the command line.
    value: object
    #: What was typed, as `--slots`.
    name: str


@attrs.frozen(kw_only=True)
class LoadedConfig:
    """A configuration, and where each of its values comes from."""

    #: The checked configuration.
    config: Config
    #: Path of an option, such as `worker.slots` -> its origin.
    origins: Mapping[str, Origin]
    #: The file that was read; None: there was none.
    file: Path | None

    def located(self, error: InvalidConfig) -> InvalidConfig:
        """Return the error with the origin before each problem that begins with an option's path."""
        return InvalidConfig([attrs.evolve(p, where=self._place(p.path)) for p in error.problems])

    def _place(self, path: str) -> str:
        head, colon, rest = path.partition(": ")
        option = head
        while option and option not in self.origins:
            option = option.rpartition(".")[0]
        origin = self.origins.get(option)
        if origin is None or not origin.name:
            return path
        below = head.removeprefix(option).removeprefix(".")
        at = (
            f"{origin.name}: {head}"
            if origin.layer == "file"
            else ": ".join(filter(None, (str(origin), below)))
        )
        return f"{at}{colon}{rest}"
