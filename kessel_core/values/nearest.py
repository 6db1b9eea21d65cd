"""Finds the nearest known name for an unknown one, for messages."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest", "nearest_or_all"]


def nearest(name: str, known: Iterable[str], similarity: float = 0.6) -> str | None:
    """Return the most similar known name, if its similarity (0 to 1) is at least this; else None."""
    import difflib  # only after a mistake

    return next(iter(difflib.get_close_matches(name, list(known), 1, similarity)), None)


def did_you_mean(name: str, known: Iterable[str], similarity: float = 0.6) -> str:
    """Return `; did you mean 'x'?`, or an empty text."""
    near = nearest(name, known, similarity)
    return f"; did you mean {near!r}?" if near is not None else ""


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or else a list of all known names."""
    names = sorted(known)
    return did_you_mean(name, names) or f"; known: {', '.join(names) or 'none'}"
