"""The nearest name to one that is not known, for errors."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest", "nearest_or_all"]


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known name that is most like this one, if it is at least so alike (0 to 1)."""
    import difflib  # only where something is wrong already

    return next(iter(difflib.get_close_matches(name, list(known), 1, likeness)), None)


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return `; did you mean 'x'?`, or nothing."""
    near = nearest(name, known, likeness)
    return f"; did you mean {near!r}?" if near is not None else ""


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or else all that are known; for short lists."""
    names = sorted(known)
    return did_you_mean(name, names) or f"; known: {', '.join(names) or 'none'}"
