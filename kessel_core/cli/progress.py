"""The one progress bar of the command: on standard error, and only on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from kessel_core.cli.output import console

__all__ = ["progress"]


@contextmanager
def progress(
    what: str, total: int, *, quiet: bool = False, otherwise: str = ""
) -> Iterator[Callable[[int, str], None]]:
    """Show a progress bar; yields a function that takes the progress, and a text for the end of the line.

    Args:
        what: One word, as `requesting`.
        total: How much there is.
        quiet: Show nothing.
        otherwise: The line that is printed instead if standard error is not a terminal; empty: none.
    """
    target = console(stderr=True)
    if quiet or not target.is_terminal:
        if otherwise and not quiet:
            click.echo(otherwise, err=True)
        yield lambda done, text: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=target) as bar:
        task = bar.add_task(what, total=total, text="")
        yield lambda done, text: bar.update(task, completed=done, text=text)
        bar.update(task, completed=total)
