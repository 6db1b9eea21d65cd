"""The report of `kessel demo`: counts by type, what was buried and why, and what to type next."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from kessel_core.cli.jobs import first_line
from kessel_core.cli.output import emit, table
from kessel_core.model.json import JsonValue
from kessel_core.values.secrets import redacted

if TYPE_CHECKING:
    from kessel_core.cli.demo.plugin import Watch

__all__ = ["report"]


def report(watch: Watch, adapter: str, queue: str, as_json: bool) -> None:
    """Print how the jobs ended; for people also what to type next."""
    job_types = sorted(
        {*watch.done, *watch.retried, *watch.expired, *(job_type for _, job_type, _, _ in watch.buried)}
    )
    buried = Counter(job_type for _, job_type, _, _ in watch.buried)
    if as_json:
        emit(
            {
                "types": {
                    job_type: {
                        "done": watch.done[job_type],
                        "retries": watch.retried[job_type],
                        "expired": watch.expired[job_type],
                        "buried": buried[job_type],
                    }
                    for job_type in job_types
                },
                "buried": [
                    {"id": id_, "type": job_type, "reason": reason, "message": message}
                    for id_, job_type, reason, message in watch.buried
                ],
                "reports": watch.reports,
            }
        )
        return
    rows: list[tuple[object, ...]] = [
        (job_type, watch.done[job_type], watch.retried[job_type], watch.expired[job_type], buried[job_type])
        for job_type in job_types
    ]
    totals = (watch.done.total(), watch.retried.total(), watch.expired.total(), buried.total())
    table(["type", "#done", "#retries", "#expired", "#buried"], [*rows, ("all", *totals)], title="Jobs")
    if watch.buried:
        click.echo()
        table(
            ["type", "reason", "message"],
            [(job_type, reason, first_line(message, 100)) for _, job_type, reason, message in watch.buried],
            title="Buried, until somebody kicks or deletes them",
        )
    for value in watch.reports:
        if isinstance(value, dict) and value.get("metric") == "temp_max":
            click.echo()
            _derived(value)
    if "memory" not in adapter.partition("://")[0]:
        _next_commands(adapter, queue)


def _derived(report: JsonValue) -> None:
    """Print a report of `report.derive`: a table if it has rows of equal fields, else as it is."""
    import json

    rows = report.get("rows") if isinstance(report, dict) else None
    if not (isinstance(report, dict) and isinstance(rows, list) and rows and isinstance(rows[0], dict)):
        click.echo("Derived report")
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    columns = list(rows[0])
    numbers = {name for name, value in rows[0].items() if isinstance(value, (int, float))}
    table(
        [f"#{name}" if name in numbers else name for name in columns],
        [[row.get(name) for name in columns] for row in rows if isinstance(row, dict)],
        title=f"Derived report: {report.get('metric')} from {report.get('observations'):,} observations",
    )


def _next_commands(adapter: str, queue: str) -> None:
    click.echo()
    click.echo("Next:")
    program = _typed()
    # As it can be typed, but never with a secret: what is printed ends in logs and on screens of others.
    address = quote(redacted(adapter))
    proposed = (
        (f"{program} buried list -a {address} -q {queue}", "why they are buried"),
        (f"{program} stats -a {address}", "what the queues hold"),
        (f"{program} request addition '{{\"operands\": [1, 2]}}'", "your first job, in kessel.db"),
        (f"{program} worker", "work on it; Ctrl-C stops"),
        (f"{program} --help", "everything else"),
    )
    width = max(len(command) for command, _ in proposed)
    for command, why in proposed:
        click.echo(f"  {command:<{width}}  {why}")


def _typed() -> str:
    """Return what to type for this command: `make demo` runs one that is not on the PATH."""
    import shutil

    started = sys.argv[0]
    if Path(started).name != "kessel" or shutil.which("kessel") is not None:
        return "kessel"
    return started
