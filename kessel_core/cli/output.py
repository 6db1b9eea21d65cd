"""Printing: the one table for people, strict JSON for programs; rich is imported here, and late.

What a job carries is printed without anything that moves the cursor, and JSON is JSON for every reader.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from kessel_core.values.moments import span_text, when
from kessel_core.values.printing import printable
from kessel_core.values.strict_json import read_json

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Wrong",
    "ago",
    "body_value",
    "console",
    "emit",
    "iso",
    "jobs_text",
    "preview",
    "table",
]

#: Wide enough that nothing is cut when a program or a file reads the output.
_PIPE_WIDTH: Final = 240
#: A table is printed as cards below this width, and wherever its columns would become narrower than this.
_LEAST_WIDTH, _LEAST_COLUMN = 80, 10
#: What is nested more deeply in JSON is not shown.
_DEEPEST: Final = 100
#: Columns that are copied into the next command, and so are never broken over lines.
_WHOLE: Final = frozenset({"id"})


class Wrong(str):
    """A text of a table that says what is wrong: red where there are colours."""

    __slots__ = ()


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text literally, because data of jobs are not markup."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        markup=False,
        highlight=False,
        emoji=False,
        width=None if stream.isatty() else _PIPE_WIDTH,
    )


def emit(value: object) -> None:
    """Print a value as strict JSON; values without a JSON form are printed as text."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=True, default=str, allow_nan=False)
    except (ValueError, RecursionError):
        text = json.dumps(_sayable(value), indent=2, ensure_ascii=True, default=str, allow_nan=False)
    click.echo(text)


def _sayable(value: object, depth: int = 0) -> object:
    if depth > _DEEPEST:
        return "(nested too deeply)"
    match value:
        case dict():
            return {key: _sayable(inner, depth + 1) for key, inner in value.items()}
        case list() | tuple():
            return [_sayable(inner, depth + 1) for inner in value]
        case float() if value - value != 0.0:
            return str(value)
    return value


# --- tables ----------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table, or below 80 columns a card for each row.

    Columns whose name starts with `#` hold numbers; a column `id` is never folded.
    """
    names = [column.removeprefix("#") for column in columns]
    cells = [[(preview(cell), isinstance(cell, Wrong)) for cell in row] for row in rows]
    target = console()
    if target.width < max(_LEAST_WIDTH, _needed(names, cells)):
        _cards(target, names, cells, title)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, show_edge=False)
    for column, name in zip(columns, names, strict=True):
        shown.add_column(
            name,
            justify="right" if column.startswith("#") else "left",
            no_wrap=name in _WHOLE,
            overflow="fold",
        )
    for row in cells:
        shown.add_row(*[Text(text, style="red" if is_wrong else "") for text, is_wrong in row])
    target.print(shown)


def _needed(names: Sequence[str], cells: Sequence[Sequence[tuple[str, bool]]]) -> int:
    """Return the least width at which the table can still be read."""
    needed = 0
    for index, name in enumerate(names):
        natural = max([len(name), *(len(row[index][0]) for row in cells)])
        needed += 2 + (natural if name in _WHOLE else min(natural, _LEAST_COLUMN))
    return needed


def _cards(
    target: Console,
    names: Sequence[str],
    cells: Sequence[Sequence[tuple[str, bool]]],
    title: str | None,
) -> None:
    from rich.text import Text

    if title is not None:
        target.print(Text(title))
    width = max(map(len, names), default=0) + 2
    for number, row in enumerate(cells):
        if number:
            target.print()
        for name, (text, is_wrong) in zip(names, row, strict=True):
            if text:
                line = Text(f"{name:<{width}}") + Text(text, style="red" if is_wrong else "")
                # The terminal breaks what is too long, so that it can be copied whole.
                target.print(line, soft_wrap=True)


# --- cells -----------------------------------------------------------------------------------


def preview(value: object, limit: int = 2000) -> str:
    """Return a cell of a table: short, and without control characters."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, datetime):
        return when(value)
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return printable(text, limit)


def jobs_text(count: int, what: str = "job") -> str:
    """Format a number of jobs, such as `1 job` or `5,000 buried jobs`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def ago(moment: datetime | None) -> str:
    """Format the distance of a moment from now, such as `3 h ago` or `in 5 min`."""
    if moment is None:
        return ""
    span = datetime.now(UTC) - moment
    text = span_text(abs(span))
    return f"{text} ago" if span >= timedelta(0) else f"in {text}"


def iso(moment: datetime | None) -> str | None:
    """Format a moment as ISO 8601, for programs."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def body_value(body: bytes) -> Any:
    """Return a stored body for JSON output: the value in it, or its text if it is not strict JSON."""
    text = body.decode("utf-8", "backslashreplace")
    try:
        value = read_json(text)
        json.dumps([[[[value]]]], indent=2)  # what is nested too deeply to be written again is text as well
    except (ValueError, RecursionError):
        return text
    return value
