"""Names of queues and of spaces in a store: one rule each, for every adapter and store."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["queue_name_problem", "space_name_problem"]


# The names that beanstalkd accepts (protocol text, "tube names"), so that a name that works on one
# adapter works on every other. Names that begin with `kessel.` are reserved for what an adapter stores
# beside the jobs, such as the reasons of burials.
_RESERVED: Final = "kessel."


_QUEUE_NAME: Final = re.compile(r"(?!kessel\.)[A-Za-z0-9+/;.$_()][A-Za-z0-9\-+/;.$_()]{0,199}")


def queue_name_problem(name: object) -> str | None:
    """Return what is wrong with a queue name, or None if it is usable on every adapter."""
    if not isinstance(name, str):
        return f"expected text, got {type(name).__name__}"
    if _QUEUE_NAME.fullmatch(name) is not None:
        return None
    if "://" in name:  # it may hold a password, so the message does not repeat it
        return "is an address, not the name of a queue"
    if name.startswith(_RESERVED):
        return f"{name[:60]!r} must not start with {_RESERVED!r}, which is kept for adapters"
    return f"{name[:60]!r} must be 1 to 200 of A-Z a-z 0-9 - + / ; . $ _ ( ) and not start with '-'"


_SPACE_NAME: Final = re.compile(r"[a-z][a-z0-9\-._]{0,59}")


def space_name_problem(name: object) -> str | None:
    """Return what is wrong with the name of a space, or None if every store takes it."""
    if isinstance(name, str) and _SPACE_NAME.fullmatch(name) is not None:
        return None
    shown = repr(name[:70]) if isinstance(name, str) else type(name).__name__
    return f"must be 1 to 60 of a-z 0-9 - . _ and begin with a letter, got {shown}"
