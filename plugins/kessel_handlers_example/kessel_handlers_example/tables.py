"""Reads the CSV tables that ship with this package."""

from __future__ import annotations

import csv
from importlib.resources import files

__all__ = ["shipped"]


def shipped(name: str) -> list[dict[str, str]]:
    """Return the rows of a table of this package, by its file name.

    Raises:
        FileNotFoundError: No table of that name ships with this package.
    """
    text = files("kessel_handlers_example").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
