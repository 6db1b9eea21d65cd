"""What is loaded when it is first used.

Every module that defines a handler or a plugin imports `kessel_core`, and so does every producer: what they
do not need should cost them nothing (D5).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from typing import Any, Final

__all__ = ["importing", "late"]

#: Longest wait of a fork for an import, in seconds.
_PATIENCE: Final = 1.0
_lock = threading.RLock()


def late(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` of a package, which loads names from where they live, and its `__dir__`.

    Both are thread-safe.

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

    def names() -> list[str]:
        return sorted({*vars(import_module(package)), *homes})

    return load, names


def importing() -> AbstractContextManager[object]:
    """Hold off forks while a thread imports something; enter it around an import of a job or of a watcher.

    A child that another thread forks in the middle of an import would have half of that module for ever: the
    thread that was to load the rest is not there. Thread-safe; a fork inside of it goes on.
    """
    return _lock


def _before_fork() -> None:
    _lock.acquire(timeout=_PATIENCE)


def _after_fork_in_parent() -> None:
    with suppress(RuntimeError):  # it was not acquired in time
        _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
