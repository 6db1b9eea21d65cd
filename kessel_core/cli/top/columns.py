"""Rows of a table in a given width: the columns that fit, each cut where that may be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
from rich.cells import cell_len, set_cell_size

__all__ = ["Cell", "Column", "cut", "fitted"]

_GAP: Final = 2


@attrs.frozen
class Cell:
    """A text of a table, without control characters, and how it is drawn."""

    text: str
    style: str = ""


@attrs.frozen
class Column:
    """A column and what becomes of it where the screen is narrow."""

    title: str
    #: The column with the highest rank is left out first; the one of rank 0 never.
    rank: int
    #: What it may be cut to, in cells; None: it is shown whole or not at all.
    least: int | None = None
    is_right: bool = False
    #: It is left out where it has nothing to say.
    is_optional: bool = False


def cut(text: str, width: int) -> str:
    """Return a text that is exactly so many cells wide; a cut one ends with an ellipsis."""
    if cell_len(text) <= width:
        return text + " " * (width - cell_len(text))
    return set_cell_size(text, width - 1) + "…" if width > 0 else ""


def fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int
) -> list[list[tuple[str, str]]]:
    """Return lines of text and style: the titles, then the rows.

    Args:
        columns: The columns.
        rows: A cell for each column.
        width: In cells; no line is wider.
    """
    wanted = [
        max(cell_len(column.title), *(cell_len(row[at].text) for row in rows), 0)
        for at, column in enumerate(columns)
    ]
    least = [
        want if column.least is None else min(want, max(column.least, cell_len(column.title)))
        for column, want in zip(columns, wanted, strict=True)
    ]
    kept = [
        at for at, column in enumerate(columns) if not column.is_optional or any(row[at].text for row in rows)
    ]
    while len(kept) > 1 and sum(least[at] for at in kept) + _GAP * (len(kept) - 1) > width:
        kept.remove(max(kept, key=lambda at: columns[at].rank))
    left = width - sum(least[at] for at in kept) - _GAP * (len(kept) - 1)
    widths = dict.fromkeys(kept, 0)
    for at in sorted(kept, key=lambda at: columns[at].rank):
        more = max(0, min(left, wanted[at] - least[at]))
        widths[at] = min(least[at] + more, width)
        left -= more
    titles = [Cell(column.title) for column in columns]
    return [
        [_placed(row[at], widths[at], columns[at], at == kept[-1]) for at in kept] for row in (titles, *rows)
    ]


def _placed(cell: Cell, width: int, column: Column, is_last: bool) -> tuple[str, str]:
    text = cut(cell.text, width)
    if column.is_right:
        bare = text.rstrip(" ")
        text = " " * (width - cell_len(bare)) + bare
    return text + ("" if is_last else " " * _GAP), cell.style
