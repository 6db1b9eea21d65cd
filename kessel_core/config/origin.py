"""The origin of a configured value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from kessel_core.config.options import Config
from kessel_core.errors import InvalidConfig, Problem, path_text

__all__ = ["PLUGINS_SECTIONS", "Argument", "LoadedConfig", "Origin"]

#: The option that holds the tables of plugins, which a file writes without its name.
PLUGINS_SECTIONS: Final = "sections"


@attrs.frozen
class Origin:
    """The origin of a value."""

    #: `default`, `file`, `environment` or `argument`.
    layer: str
    #: The file, the variable, or the argument; empty for a default.
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.layer

    def of(self, problem: Problem, parts: int) -> Problem:
        """Return a problem with this origin.

        Args:
            problem: Its path begins with the option.
            parts: How many parts the option has; a variable or an argument replaces all of them.
        """
        if not self.name:
            return problem
        # In a file, the sections of plugins stand beside those of kessel itself.
        kept = self.layer == "file" and problem.where[0] != PLUGINS_SECTIONS
        return problem.given_by(self.name, 0 if kept else parts)


@attrs.frozen
class Argument:
    """The value of an option from the command line."""

    #: As it was typed, or already converted.
    value: object
    #: The name of the argument, such as `--slots`.
    name: str


@attrs.frozen(kw_only=True)
class LoadedConfig:
    """A configuration, with the origin of each value."""

    #: The checked configuration.
    config: Config
    #: Path of an option, such as `worker.slots` -> its origin.
    origins: Mapping[str, Origin]
    #: The file that was read; None: there was none.
    file: Path | None

    def located(self, error: InvalidConfig) -> InvalidConfig:
        """Return the error with the origin of each problem whose path begins with an option."""
        return InvalidConfig([self._located(problem) for problem in error.problems])

    def _located(self, problem: Problem) -> Problem:
        for parts in range(len(problem.where), 0, -1):
            origin = self.origins.get(path_text(problem.where[:parts]))
            if origin is not None:
                return origin.of(problem, parts)
        return problem
