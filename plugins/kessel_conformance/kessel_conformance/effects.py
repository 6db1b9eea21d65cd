"""What a process does that others can see: before it a process may be killed, be refused, or stand still."""

from __future__ import annotations

from types import FrameType
from typing import Final

from kessel_core.contract import QueueAdapter

__all__ = ["EFFECTS", "MOVES", "SYNCS", "WRITES", "homes", "is_of"]

#: Functions in C by which a process changes files, by name.
WRITES: Final = frozenset(["write", "writelines", "pwrite", "writev", "truncate", "ftruncate"])
SYNCS: Final = frozenset(["flush", "fsync", "fdatasync"])
#: They change at once what others find in a folder; between two of them it may be neither.
MOVES: Final = frozenset(["rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir"])
#: Functions in C by which something becomes visible outside of the process: files, sockets, databases.
EFFECTS: Final = frozenset(
    {
        *("open", *WRITES, *SYNCS, *MOVES, "close", "lockf", "flock"),
        *("send", "sendall", "sendmsg", "execute", "executemany", "executescript", "commit"),
    }
)
#: Where classes are that an adapter derives from.
_OF_OTHERS: Final = frozenset({"kessel_core", "builtins", "abc", "typing"})


def _home(module: str) -> str:
    return module.partition(".")[0]


def homes(adapter: QueueAdapter) -> frozenset[str]:
    """Return the packages of an adapter's own code.

    By their names, because it may be one module as well as many.
    """
    return frozenset(_home(kind.__module__) for kind in type(adapter).__mro__) - _OF_OTHERS


def is_of(frame: FrameType, packages: frozenset[str]) -> bool:
    """Whether what runs is code of one of these packages."""
    return _home(frame.f_globals.get("__name__", "")) in packages
