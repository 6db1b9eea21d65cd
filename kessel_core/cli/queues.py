"""`kessel stats`, `peek` and `purge`: what an operator sees and does of whole queues."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, pass_app
from kessel_core.cli.output import body_value, emit, iso, preview, table
from kessel_core.contract.adapter import need
from kessel_core.contract.facets import Browse
from kessel_core.errors import DecodeError
from kessel_core.model.names import queue_name_problem
from kessel_core.model.states import JobState

if TYPE_CHECKING:
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.operations import StoredJob

__all__ = ["job_fields", "job_rows", "peek", "purge", "queue_argument", "stats"]


F = TypeVar("F", bound=Callable[..., Any])


def _checked(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Refuse a queue's name that no adapter takes, before anything is opened."""
    for name in (value,) if isinstance(value, str) else value or ():
        if (problem := queue_name_problem(name)) is not None:
            raise click.BadParameter(problem, ctx, parameter)
    return value


def queue_argument(**settings: Any) -> Callable[[F], F]:
    """Make an argument that takes the name of a queue."""
    return click.argument("queue", callback=_checked, **settings)


# --- stats ---------------------------------------------------------------------------------


@click.command()
@click.argument("queues", callback=_checked, nargs=-1, metavar="[QUEUE]...")
@as_json
@configured
@pass_app
def stats(app: App, queues: tuple[str, ...], as_json: bool) -> None:
    """Count the jobs of each queue by state.

    Without QUEUE: those that are configured, and all others that the adapter knows.
    """
    with app.adapter() as adapter:
        names = queues or tuple(dict.fromkeys([*app.config.queues, *adapter.queues()]))
        counts = [adapter.stats(name) for name in names]
        exact = adapter.capabilities.counts
    if as_json:
        emit(
            [
                attrs.asdict(count) | {"total": count.total, "paused": _seconds(count.paused)}
                for count in counts
            ]
        )
        return
    columns = ["queue", "#ready", "#delayed", "#reserved", "#buried", "#total", "paused"]
    table(
        columns,
        [
            (c.queue, c.ready, c.delayed, c.reserved, c.buried, c.total, f"{c.paused}" if c.paused else "")
            for c in counts
        ],
    )
    if not exact:
        click.echo("These numbers are approximate: the adapter does not declare exact counts.", err=True)


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


# --- peek ----------------------------------------------------------------------------------


@click.command()
@queue_argument(required=False)
@click.option(
    "--state", type=click.Choice([state.value for state in JobState]), default="ready", show_default=True
)
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="How many jobs at most.")
@as_json
@configured
@pass_app
def peek(app: App, queue: str | None, state: str, limit: int, as_json: bool) -> None:
    """Show jobs without reserving them.

    The next one first. Without QUEUE: the first of the configured ones.
    """
    name = queue or app.config.queues[0]
    with app.adapter() as adapter:
        jobs = need(adapter, Browse).peek(name, JobState(state), limit)
    if as_json:
        emit([job_fields(job) for job in jobs])
    elif not jobs:
        click.echo(f"no {state} job in queue {name}")
    else:
        table(["id", "type", "#priority", "#attempt", "#snoozes", "due", "payload"], job_rows(jobs))


def job_rows(jobs: Sequence[StoredJob]) -> list[tuple[object, ...]]:
    """Return a row for each job: id, type, priority, attempt, snoozes, due, payload."""
    rows: list[tuple[object, ...]] = []
    for job in jobs:
        type_, payload = _decoded(job)
        rows.append((job.id, type_, job.priority, job.attempt, job.snoozes, job.due, payload))
    return rows


def _decoded(job: StoredJob) -> tuple[str, str]:
    import json

    try:
        request = job.job()
    except DecodeError:
        return "(undecodable)", preview(job.body, 80)
    return preview(request.type, 60), preview(json.dumps(request.payload, ensure_ascii=False), 80)


def job_fields(job: StoredJob) -> dict[str, object]:
    """Return a stored job as JSON output shows it."""
    fields = attrs.asdict(job, value_serializer=lambda _, __, value: value)
    for name in ("enqueued_at", "due", "buried_at"):
        fields[name] = iso(getattr(job, name))
    fields["state"] = job.state.value
    fields["body"] = body_value(job.body)
    return fields


# --- purge ---------------------------------------------------------------------------------


@click.command()
@queue_argument()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@as_json
@configured
@pass_app
def purge(app: App, queue: str, yes: bool, as_json: bool) -> None:
    """Remove all jobs of a queue that no worker holds.

    Ready, delayed and buried ones are removed for good; this cannot be undone.
    """
    with app.adapter() as adapter:
        confirm(yes, lambda: f"Remove {_removable(adapter, queue):,} jobs of queue {queue} for good?")
        removed = adapter.purge(queue)
    if as_json:
        emit({"queue": queue, "removed": removed})
    else:
        click.echo(f"removed {removed:,} jobs of queue {queue}")


def _removable(adapter: QueueAdapter, queue: str) -> int:
    count = adapter.stats(queue)
    return count.total - count.reserved


def confirm(yes: bool, question: Callable[[], str]) -> None:
    """Ask, unless told not to; a program that cannot be asked must say `--yes`."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this removes jobs for good; say --yes to do it without being asked")
    click.confirm(question(), abort=True)
