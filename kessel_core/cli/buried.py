"""`kessel buried`: list, show, kick and delete the jobs that were set aside."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, pass_app, queue_option
from kessel_core.cli.output import body_value, emit, preview, table, when
from kessel_core.cli.queues import confirm, job_fields
from kessel_core.contract.adapter import need
from kessel_core.contract.facets import Buried, Delete
from kessel_core.errors import DecodeError, KesselError, UnknownJob
from kessel_core.model.states import JobState

if TYPE_CHECKING:
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.operations import StoredJob

__all__ = ["buried"]

# Adapters list at most what they are asked for; this is more than a person looks at.
ALL = 1_000_000


@attrs.frozen
class Choice:
    """Which buried jobs are meant: those of some ids, or every one of a type and a reason."""

    ids: frozenset[str] = frozenset()
    type: str | None = None
    reason: str | None = None

    def takes(self, job: StoredJob) -> bool:
        """Whether the job is meant."""
        if self.ids and job.id not in self.ids:
            return False
        if self.reason is not None and job.reason != self.reason:
            return False
        return self.type is None or _type(job) == self.type

    def __str__(self) -> str:
        said = (("type", self.type), ("reason", self.reason))
        return " and ".join(f"{name} {value!r}" for name, value in said if value is not None)


def _kinds(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--reason", metavar="REASON", help="Only of this reason, as no-handler.")(command)
    return click.option("--type", "kind", metavar="TYPE", help="Only of this type of job.")(command)


@click.group()
@configured
def buried() -> None:
    """List, show, kick or delete buried jobs.

    A buried job failed for good, and waits for somebody to mend what is wrong: kick makes it
    ready again, with all its attempts; delete removes it.
    """


@buried.command("list")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many per queue.")
@_kinds
@as_json
@queue_option
@configured
@pass_app
def list_(app: App, limit: int, kind: str | None, reason: str | None, as_json: bool) -> None:
    """List the buried jobs with their reasons, oldest burial first."""
    choice = Choice(type=kind, reason=reason)
    # A choice is made here, so that what it leaves out does not count.
    most = ALL if str(choice) else limit
    with app.adapter() as adapter:
        jobs = [
            job
            for queue in app.config.queues
            for job in islice(filter(choice.takes, need(adapter, Buried).buried(queue, most)), limit)
        ]
    if as_json:
        emit([job_fields(job) for job in jobs])
    elif not jobs:
        of = f" of {choice}" if str(choice) else ""
        click.echo(f"no buried job{of} in {', '.join(app.config.queues)}")
    else:
        table(
            ["id", "queue", "type", "reason", "#attempt", "buried", "message"],
            [
                (
                    j.id,
                    j.queue,
                    preview(_type(j), 60),
                    j.reason,
                    j.attempt,
                    j.buried_at,
                    preview(j.message, 80),
                )
                for j in jobs
            ],
        )


@buried.command()
@click.argument("job_id", metavar="ID")
@as_json
@queue_option
@configured
@pass_app
def show(app: App, job_id: str, as_json: bool) -> None:
    """Show one buried job whole: why it is here, and what it holds."""
    with app.adapter() as adapter:
        job = _found(adapter, app.config.queues, job_id)
    if as_json:
        emit(job_fields(job))
        return
    import json

    for name, value in (
        ("id", job.id),
        ("queue", job.queue),
        ("reason", job.reason),
        ("message", job.message),
        ("attempt", job.attempt),
        ("snoozes", job.snoozes or None),
        ("priority", job.priority),
        ("enqueued", when(job.enqueued_at) if job.enqueued_at else None),
        ("buried", when(job.buried_at) if job.buried_at else None),
    ):
        if value is not None:
            click.echo(f"{name + ':':<10}{preview(value, 20_000)}")
    content = body_value(job.body)
    body = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=True)
    click.echo("body:")
    for line in body.splitlines() or [""]:
        click.echo(f"  {preview(line, 100_000)}")


@buried.command()
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All buried jobs of the queues.")
@_kinds
@as_json
@queue_option
@configured
@pass_app
def kick(
    app: App, job_ids: tuple[str, ...], every: bool, kind: str | None, reason: str | None, as_json: bool
) -> None:
    """Make buried jobs ready again, with all their attempts.

    Which ones: by their ids, by type and reason, or all.
    """
    choice = _chosen(job_ids, every, kind, reason)
    with app.adapter() as adapter:
        _apply(adapter, app.config.queues, choice, need(adapter, Buried).kick, "kicked", as_json)


@buried.command()
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All buried jobs of the queues.")
@_kinds
@click.option("-y", "--yes", is_flag=True, help="Do not ask, where no ids are given.")
@as_json
@queue_option
@configured
@pass_app
def delete(
    app: App,
    job_ids: tuple[str, ...],
    every: bool,
    kind: str | None,
    reason: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove buried jobs for good.

    Which ones: by their ids, by type and reason, or all.
    """
    choice = _chosen(job_ids, every, kind, reason)
    with app.adapter() as adapter:
        if not choice.ids:
            of = f" of {choice}" if str(choice) else ""
            confirm(yes, lambda: f"Remove all buried jobs{of} in {', '.join(app.config.queues)} for good?")
        _apply(adapter, app.config.queues, choice, need(adapter, Delete).delete, "deleted", as_json)


def _chosen(job_ids: tuple[str, ...], every: bool, kind: str | None, reason: str | None) -> Choice:
    choice = Choice(ids=frozenset(job_ids), type=kind, reason=reason)
    if (bool(job_ids), every, bool(str(choice))).count(True) != 1:
        raise click.UsageError("give the ids of jobs, or --type and --reason, or --all")
    return choice


def _apply(
    adapter: QueueAdapter,
    queues: tuple[str, ...],
    choice: Choice,
    operation: Callable[[str, str], None],
    done: str,
    as_json: bool,
) -> None:
    """Do it to each job; those that are gone are named, after the others were done."""
    changed: list[str] = []
    missing: list[str] = []
    for queue in queues:
        # Only buried jobs: `delete` of an adapter would also take a waiting one.
        for job in filter(choice.takes, need(adapter, Buried).buried(queue, ALL)):
            try:
                operation(queue, job.id)
            except UnknownJob:  # somebody else was faster
                missing.append(job.id)
            else:
                changed.append(job.id)
    missing.extend(sorted(choice.ids.difference(changed, missing)))
    if as_json:
        emit({done: changed, "missing": missing})
    else:
        click.echo(f"{done} {len(changed):,} buried job{'' if len(changed) == 1 else 's'}")
    if missing:
        for job_id in missing:
            click.echo(f"error: {_missing(job_id, queues)}", err=True)
        raise SystemExit(1)


def _found(adapter: QueueAdapter, queues: tuple[str, ...], job_id: str) -> StoredJob:
    for queue in queues:
        for job in need(adapter, Buried).buried(queue, ALL):
            if job.id == job_id:
                return job
    raise KesselError(_missing(job_id, queues))


def _missing(job_id: str, queues: tuple[str, ...]) -> str:
    return f"no buried job {job_id!r} in {', '.join(queues)}"


def _type(job: StoredJob) -> str:
    assert job.state is JobState.BURIED
    try:
        return job.job().type
    except DecodeError:
        return "(undecodable)"
