"""Printing: tables for people, JSON for programs; rich is imported here, and late."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "emit", "preview", "table", "when"]

# Wide enough that nothing is cut when a program or a file reads the output.
_PIPE_WIDTH = 240


def console(*, stderr: bool = False) -> Console:
    """Return a console that takes texts literally: what a job carries is no markup."""
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
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; columns whose name starts with `#` hold numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, show_edge=False)
    for column in columns:
        is_number = column.startswith("#")
        shown.add_column(column.removeprefix("#"), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        shown.add_row(*[preview(cell) for cell in row])
    console().print(shown)


def preview(value: object, limit: int = 2000) -> str:
    """Return a cell: short, and without anything that moves the cursor."""
    from kessel_core.cli.logs import one_line

    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, datetime):
        return when(value)
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    text = one_line(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def when(moment: datetime) -> str:
    """Write a moment in local time, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def iso(moment: datetime | None) -> str | None:
    """Write a moment for programs."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def body_value(body: bytes) -> Any:
    """Return a stored body for JSON output: the object in it, or its text if it is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "backslashreplace")
