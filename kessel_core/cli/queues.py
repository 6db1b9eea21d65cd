"""`kessel stats`, `peek` and `purge`: operations on whole queues."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, pass_app, say
from kessel_core.cli.choosing import span
from kessel_core.cli.jobs import job_fields, known_queues, limit_option, ref_of, say_rest
from kessel_core.cli.output import Wrong, ago, emit, jobs_text, preview, table
from kessel_core.contract.adapter import need
from kessel_core.contract.facets import Browse
from kessel_core.contract.operations import ready_for
from kessel_core.features.finding import ALL, decoded
from kessel_core.features.waiting import is_until_resumed
from kessel_core.model.names import queue_name_problem
from kessel_core.model.settlement import NO_PAUSE
from kessel_core.model.states import JobState
from kessel_core.values.moments import span_text

if TYPE_CHECKING:
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.operations import QueueStats, StoredJob

__all__ = [
    "confirm",
    "job_rows",
    "pause_text",
    "peek",
    "purge",
    "queue_argument",
    "queue_arguments",
    "stats",
]

_COUNT: Final = click.IntRange(0, 2**53)


F = TypeVar("F", bound=Callable[..., Any])


def _checked(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Refuse an invalid queue name before anything is opened."""
    for name in (value,) if isinstance(value, str) else value or ():
        if (problem := queue_name_problem(name)) is not None:
            raise click.BadParameter(problem, ctx, parameter)
    return value


def queue_argument(**settings: Any) -> Callable[[F], F]:
    """Create an argument for the name of a queue."""
    return click.argument("queue", callback=_checked, **settings)


queue_arguments: Final = click.argument("queues", callback=_checked, nargs=-1, metavar="[QUEUE]...")


# --- stats ---------------------------------------------------------------------------------


@click.command()
@queue_arguments
@click.option("--max-ready", type=click.IntRange(0, ALL), metavar="N", help="Exit with 1 if more are ready.")
@click.option(
    "--max-buried", type=click.IntRange(0, ALL), metavar="N", help="Exit with 1 if more are buried."
)
@click.option("--max-age", type=span, metavar="TIME", help="Exit with 1 if a job is ready for longer.")
@as_json
@configured
@pass_app
def stats(
    app: App,
    queues: tuple[str, ...],
    max_ready: int | None,
    max_buried: int | None,
    max_age: timedelta | None,
    as_json: bool,
) -> None:
    """Count the jobs of each queue by state.

    Without QUEUE: those that are configured, and all others that the adapter knows. With a limit
    it is an alarm: it says which queue is beyond it, and exits with 1.
    """
    alarms: list[str] = []
    with app.adapter(only_looks=True) as adapter:
        counts = [adapter.stats(name) for name in queues or known_queues(app, adapter)]
        exact = adapter.capabilities.counts
        for count in counts:
            alarms += _beyond(count, max_ready, max_buried)
            if max_age is not None and count.ready:
                alarms += _too_old(count.queue, need(adapter, Browse), max_age)
    if as_json:
        emit(
            [
                attrs.asdict(count)
                | {
                    "total": count.total,
                    "paused": _seconds(count.paused),
                    "oldest_ready": _seconds(count.oldest_ready),
                }
                for count in counts
            ]
        )
    else:
        click.echo(app.place)
        table(
            ["queue", "#ready", "#delayed", "#reserved", "#buried", "#total", "paused"],
            [
                (
                    c.queue,
                    c.ready,
                    c.delayed,
                    c.reserved,
                    Wrong(f"{c.buried:,}") if c.buried else 0,
                    c.total,
                    "" if c.paused is None else pause_text(c.paused),
                )
                for c in counts
            ],
        )
        if not exact:
            click.echo("These numbers are approximate: the adapter does not declare exact counts.", err=True)
    for alarm in alarms:
        say(f"error: {alarm}", err=True)
    if alarms:
        raise SystemExit(1)


def _beyond(count: QueueStats, max_ready: int | None, max_buried: int | None) -> Iterator[str]:
    for state, most in (("ready", max_ready), ("buried", max_buried)):
        if most is not None and (there := getattr(count, state)) > most:
            yield f"queue {count.queue}: {jobs_text(there, f'{state} job')}, at most {most:,} are allowed"


def _too_old(queue: str, browse: Browse, most: timedelta) -> Iterator[str]:
    # Not `oldest_ready`: that is of the next one, and a less urgent one may wait behind it for ever.
    now = datetime.now(UTC)
    ages = (ready_for(job, now) for job in browse.each(queue, JobState.READY))
    if (age := max((one for one in ages if one is not None), default=NO_PAUSE)) > most:
        allowed = f"at most {span_text(most)} is allowed"
        yield f"queue {queue}: the oldest ready job waits for {span_text(age)}, {allowed}"


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def pause_text(span: timedelta) -> str:
    """Write how long a queue is still paused."""
    return "until resumed" if is_until_resumed(span) else f"for {span_text(span)}"


# --- peek ----------------------------------------------------------------------------------


@click.command()
@queue_argument(required=False)
@click.option(
    "--state", type=click.Choice([state.value for state in JobState]), default="ready", show_default=True
)
@limit_option(10, "How many jobs at most.")
@as_json
@configured
@pass_app
def peek(app: App, queue: str | None, state: str, limit: int, as_json: bool) -> None:
    """Show jobs without reserving them.

    The next one first. Without QUEUE: the first of the configured ones.
    """
    name = queue or app.config.queues[0]
    with app.adapter(only_looks=True) as adapter:
        jobs = need(adapter, Browse).peek(name, JobState(state), limit)
        total = getattr(adapter.stats(name), state)
    if as_json:
        emit([job_fields(job) for job in jobs])
    elif not jobs:
        say(f"no {state} job in queue {name}")
    else:
        table(["id", "type", "ref", "#priority", "#attempt", "#snoozes", "due", "payload"], job_rows(jobs))
    say_rest(len(jobs), total if len(jobs) == limit else len(jobs), as_json)


def job_rows(jobs: Sequence[StoredJob]) -> list[tuple[object, ...]]:
    """Return a row for each job: id, type, ref, priority, attempt, snoozes, due, payload."""
    rows: list[tuple[object, ...]] = []
    for job in jobs:
        type_, payload = _decoded(job)
        ref = preview(ref_of(job), 40)
        rows.append((job.id, type_, ref, job.priority, job.attempt, job.snoozes, ago(job.due), payload))
    return rows


def _decoded(job: StoredJob) -> tuple[str, str]:
    import json

    request = decoded(job)
    if request is None:
        return "(undecodable)", preview(job.body, 80)
    return preview(request.type, 60), preview(json.dumps(request.payload, ensure_ascii=False), 80)


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
    with app.adapter(only_looks=True) as adapter:
        confirm(yes, lambda: f"Remove {jobs_text(_removable(adapter, queue))} of queue {queue} for good?")
        removed = adapter.purge(queue)
    if as_json:
        emit({"queue": queue, "removed": removed})
    else:
        say(f"removed {jobs_text(removed)} of queue {queue}")


def _removable(adapter: QueueAdapter, queue: str) -> int:
    count = adapter.stats(queue)
    return count.total - count.reserved


def confirm(yes: bool, question: Callable[[], str]) -> None:
    """Ask for confirmation unless `--yes` was given; without a terminal `--yes` is required."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this removes jobs for good; say --yes to do it without being asked")
    if not click.confirm(question(), err=True):
        click.echo("nothing was done", err=True)
        raise click.exceptions.Exit(1)
