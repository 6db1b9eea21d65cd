"""Reads the CSV tables that ship with this package."""

from __future__ import annotations

import csv
from importlib.resources import files

__all__ = ["shipped"]


def shipped(name: str) -> list[dict[str, str]]:
    """Return the rows of a table in this package.

    Raises:
        FileNotFoundError: The package has no file with that name.
    """
    text = files("kessel_handlers_example").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
