"""Names of a package that are loaded when they are first used.

Every module that defines a handler or a plugin imports `kessel_core`, and so does every producer: what they
do not need should cost them nothing (D5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["late"]


def late(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package, which loads names from where they live. Thread-safe.

    Type checkers must be told the same by imports under `TYPE_CHECKING`, and must not see the `__getattr__`,
    because with one they take any name for a good one.

    Args:
        package: Name of the package.
        homes: Name -> the module in the `kessel_core` that it comes from, as `client.manager`.
    """

    def load(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"kessel_core.{home}"), name)
        setattr(import_module(package), name, value)
        return value

    return load
