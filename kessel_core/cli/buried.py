"""`kessel buried`: what was set aside and why, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, queue_option, say
from kessel_core.cli.choosing import Choice, choice_options
from kessel_core.cli.jobs import (
    Done,
    First,
    by_id,
    first_line,
    job_fields,
    known_queues,
    limit_option,
    print_job,
    ref_of,
    say_rest,
    type_of,
)
from kessel_core.cli.mending import kick_mended
from kessel_core.cli.noting import noted, noting
from kessel_core.cli.output import Wrong, ago, emit, jobs_text, preview, table
from kessel_core.cli.queues import confirm
from kessel_core.contract.adapter import need
from kessel_core.contract.facets import Buried, Delete
from kessel_core.errors import KesselError, UnknownJob
from kessel_core.features.finding import buried_jobs
from kessel_core.model.history import EventKind

if TYPE_CHECKING:
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.operations import StoredJob

__all__ = ["buried"]


_dry_run = click.option("--dry-run", is_flag=True, help="Only say which ones it would be.")


@click.group(invoke_without_command=True)
@as_json
@queue_option
@configured
@click.pass_context
def buried(ctx: click.Context, as_json: bool) -> None:
    """Show why jobs were buried; list, show, kick or delete them.

    A buried job failed for good, and waits for somebody to mend what is wrong: kick makes it
    ready again, with all its attempts; delete removes it. Without a command: how many there are of
    each kind, and what to type next.
    """
    if ctx.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError("write --json behind the command", ctx)
        return
    from kessel_core.cli.causes import print_causes

    app = ctx.ensure_object(App)
    with app.adapter(only_looks=True) as adapter:
        queues = known_queues(app, adapter)
        print_causes(app, queues, buried_jobs(adapter, queues), as_json)


@buried.command("list")
@limit_option(100, "How many.")
@choice_options
@as_json
@queue_option
@configured
@pass_app
def list_(app: App, /, limit: int, as_json: bool, **kinds: Any) -> None:
    """List buried jobs with their reasons, oldest burial first."""
    choice = Choice(**kinds)
    with app.adapter(only_looks=True) as adapter:
        fitting = choice.of(buried_jobs(adapter, app.config.queues))
        found = First(fitting, limit, from_the_end=choice.newest)
    if as_json:
        emit([job_fields(job) for job in found.kept])
    elif not found.total:
        say(f"no buried job{_of(choice)} in {', '.join(app.config.queues)}")
    else:
        table(
            ["id", "queue", "type", "ref", "reason", "#attempt", "buried", "message"],
            [
                (
                    job.id,
                    job.queue,
                    preview(type_of(job), 60),
                    preview(ref_of(job), 40),
                    Wrong(job.reason or ""),
                    job.attempt,
                    ago(job.buried_at),
                    first_line(job.message),
                )
                for job in found.kept
            ],
        )
    say_rest(len(found.kept), found.total, as_json)


@buried.command()
@click.argument("job_id", metavar="ID")
@as_json
@queue_option
@configured
@pass_app
def show(app: App, job_id: str, as_json: bool) -> None:
    """Show one buried job whole: why it is here, and what it holds."""
    with app.adapter(only_looks=True) as adapter:
        queues = known_queues(app, adapter)
        job = by_id(buried_jobs(adapter, queues), job_id)
    if job is None:
        raise KesselError(_missing(job_id, queues))
    print_job(job, as_json)


@buried.command()
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All buried jobs of the queues.")
@click.option("--payload", metavar="JSON", help="The mended payload of one job (- reads standard input).")
@limit_option(None, "How many at most.")
@choice_options
@_dry_run
@as_json
@queue_option
@configured
@pass_app
def kick(
    app: App,
    /,
    job_ids: tuple[str, ...],
    every: bool,
    payload: str | None,
    limit: int | None,
    dry_run: bool,
    as_json: bool,
    **kinds: Any,
) -> None:
    """Make buried jobs ready again, with all their attempts.

    Which ones: by their ids or how these start; by type, reason, message, age and number; or all.
    With --payload one job is stored anew, under a new id, and the buried one is removed.
    """
    choice = _chosen(job_ids, every, limit, kinds)
    if payload is not None:
        if len(job_ids) != 1:
            raise click.UsageError("--payload mends one job: give its id")
        if dry_run:
            raise click.UsageError("--dry-run does not go with --payload")
        kick_mended(app, job_ids[0], payload, as_json)
        return
    with app.adapter(only_looks=True) as adapter:
        facet = need(adapter, Buried)
        if dry_run:
            _apply(app, adapter, choice, _nothing, "would kick", as_json)
            return
        with noting(app, adapter) as note:
            operation = noted(facet.kick_shown, EventKind.KICKED, note)
            _apply(app, adapter, choice, operation, "kicked", as_json)


@buried.command()
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All buried jobs of the queues.")
@limit_option(None, "How many at most.")
@choice_options
@_dry_run
@click.option("-y", "--yes", is_flag=True, help="Do not ask, where no ids are given.")
@as_json
@queue_option
@configured
@pass_app
def delete(
    app: App,
    /,
    job_ids: tuple[str, ...],
    every: bool,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **kinds: Any,
) -> None:
    """Remove buried jobs for good.

    Which ones: by their ids or how these start; by type, reason, message, age and number; or all.
    """
    choice = _chosen(job_ids, every, limit, kinds)
    with app.adapter(only_looks=True) as adapter:
        facet = need(adapter, Delete)
        if dry_run:
            _apply(app, adapter, choice, _nothing, "would delete", as_json)
            return

        def question() -> str:
            jobs = sum(1 for _ in choice.of(buried_jobs(adapter, app.config.queues)))
            count = jobs_text(jobs, "buried job")
            return f"Remove {count}{_of(choice)} in {', '.join(app.config.queues)} for good?"

        if not job_ids:
            confirm(yes, question)
        with noting(app, adapter) as note:
            operation = noted(facet.delete_shown, EventKind.DELETED, note)
            _apply(app, adapter, choice, operation, "deleted", as_json)


def _nothing(job: StoredJob) -> None:
    """What a dry run does to a job."""


def _chosen(job_ids: tuple[str, ...], every: bool, limit: int | None, kinds: dict[str, Any]) -> Choice:
    choice = Choice(ids=job_ids, limit=limit, **kinds)
    by_kind = bool(str(choice)) or limit is not None
    if (bool(job_ids), every, by_kind).count(True) != 1:
        raise click.UsageError("give the ids of jobs, or --type, --reason and so on, or --all")
    return choice


def _apply(
    app: App,
    adapter: QueueAdapter,
    choice: Choice,
    operation: Callable[[StoredJob], None],
    word: str,
    as_json: bool,
) -> None:
    """Apply the operation to each job as it is met; those that are gone are listed at the end.

    Raises:
        KesselError: The adapter failed; what was done until then is told before.
    """
    # Who names a job does not need to know where it is; who names a kind means the queues of the options.
    queues = known_queues(app, adapter) if choice.ids else app.config.queues
    # Only buried jobs: `delete` of an adapter would also take a waiting one.
    found: Iterable[StoredJob] = buried_jobs(adapter, queues)
    done = Done(keeps_ids=as_json)
    if choice.ids:
        found, others = choice.named(found)
        done.wrong = {text: str(error or _missing(text, queues)) for text, error in others.items()}
    else:
        found = choice.of(found)
    with done.until_it_fails():
        for job in found:
            try:
                operation(job)
            except UnknownJob:  # somebody else was faster
                done.wrong[job.id] = _missing(job.id, queues)
            else:
                done.add(job.id)
    if as_json:
        emit({word.replace(" ", "_"): done.ids, "missing": list(done.wrong)})
    else:
        say(f"{word} {jobs_text(done.count, 'buried job')}{_of(choice)}")
    done.end()


def _of(choice: Choice) -> str:
    return f" {choice}" if str(choice) else ""


def _missing(job_id: str, queues: tuple[str, ...]) -> str:
    return f"no buried job {job_id!r} in {', '.join(queues)}"
