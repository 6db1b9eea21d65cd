"""Functions in C by which a process changes files, by name: before one it may be killed, or be refused."""

from __future__ import annotations

from typing import Final

__all__ = ["MOVES", "SYNCS", "WRITES"]

WRITES: Final = frozenset(["write", "writelines", "pwrite", "writev", "truncate", "ftruncate"])
SYNCS: Final = frozenset(["flush", "fsync", "fdatasync"])
#: They change at once what others find in a folder; between two of them it may be neither.
MOVES: Final = frozenset(["rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir"])
