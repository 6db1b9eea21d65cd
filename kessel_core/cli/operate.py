"""`kessel find`, `show`, `delete`, `pause` and `resume`: single jobs and whole queues, in any adapter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, queue_option, say
from kessel_core.cli.choosing import is_since, since_option, span
from kessel_core.cli.jobs import (
    Done,
    First,
    by_id,
    by_ids,
    job_fields,
    known_queues,
    limit_option,
    print_job,
    ref_of,
    say_rest,
    type_of,
)
from kessel_core.cli.noting import Note, noting
from kessel_core.cli.output import ago, emit, jobs_text, preview, table
from kessel_core.cli.queues import pause_text, queue_argument
from kessel_core.contract.adapter import need
from kessel_core.contract.facets import Delete, Pause
from kessel_core.errors import KesselError, UnknownJob
from kessel_core.features.finding import LEAST_START, stored_jobs
from kessel_core.features.waiting import FOR_EVER
from kessel_core.model.history import EventKind
from kessel_core.model.json import is_utf8
from kessel_core.model.settlement import NO_PAUSE
from kessel_core.model.states import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.operations import QueueStats, StoredJob

__all__ = ["delete", "find", "pause", "resume", "show"]

_STATES = tuple(state.value for state in JobState)
#: The rest of a pause that may be over before it is looked at again.
_SOON_OVER = timedelta(seconds=10)


# --- single jobs -----------------------------------------------------------------------------


@click.command()
@click.argument("start", metavar="[ID]", required=False)
@click.option("--ref", metavar="TEXT", help="Of this ref.")
@click.option("--type", "job_type", metavar="TYPE", help="Of this type.")
@click.option("--state", type=click.Choice(_STATES), help="Only in this state.")
@since_option
@limit_option(100, "How many.")
@as_json
@queue_option
@configured
@pass_app
def find(
    app: App,
    start: str | None,
    ref: str | None,
    job_type: str | None,
    state: str | None,
    since: timedelta | None,
    limit: int,
    as_json: bool,
) -> None:
    """Find jobs by ref, type, age or the start of an id.

    In every queue and state, unless told where. Exits with 1 if there is none.
    """
    if start is None and ref is None and job_type is None and since is None:
        raise click.UsageError("give --ref, --type, --since or the start of an id")
    states = tuple(JobState) if state is None else (JobState(state),)
    with app.adapter(only_looks=True) as adapter:
        queues = known_queues(app, adapter)
        fitting = (
            job
            for job in stored_jobs(adapter, queues, states)
            if (start is None or job.id.startswith(start))
            and (job_type is None or type_of(job) == job_type)
            and (ref is None or ref_of(job) == ref)
            and (since is None or is_since(job, since))
        )
        found = First(fitting, limit)
    if as_json:
        emit([job_fields(job) for job in found.kept])
    elif found.total:
        table(
            ["id", "queue", "state", "type", "ref", "enqueued", "due"],
            [
                (
                    job.id,
                    job.queue,
                    job.state.value,
                    preview(type_of(job), 60),
                    preview(ref_of(job), 40),
                    ago(job.enqueued_at),
                    ago(job.due),
                )
                for job in found.kept
            ],
        )
    say_rest(len(found.kept), found.total, as_json)
    if not found.total:
        say(f"no such job in {', '.join(queues)}", err=True)
        raise SystemExit(1)


@click.command()
@click.argument("job_id", metavar="ID")
@as_json
@queue_option
@configured
@pass_app
def show(app: App, job_id: str, as_json: bool) -> None:
    """Show one job whole, in whatever state it is.

    ID is the job's id, or its start if no other job's begins so.
    """
    with app.adapter(only_looks=True) as adapter:
        job = _found(app, adapter, job_id)
    print_job(job, as_json)


@click.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@as_json
@queue_option
@configured
@pass_app
def delete(app: App, job_ids: tuple[str, ...], as_json: bool) -> None:
    """Remove single jobs that no worker holds, as to cancel them.

    Ready, delayed or buried ones, for good. ID is a job's id, or its start if no other job's begins so.
    """
    done = Done()
    with done.until_it_fails(), app.adapter(only_looks=True) as adapter:
        _delete(app, adapter, job_ids, done)
    if as_json:
        emit({"deleted": done.ids, "problems": done.problems()})
    else:
        click.echo(f"deleted {jobs_text(done.count)}")
    done.end()


def _delete(app: App, adapter: QueueAdapter, job_ids: Sequence[str], done: Done) -> None:
    facet = need(adapter, Delete)
    queues = known_queues(app, adapter)
    unknown: list[str] = []
    with noting(app, adapter) as note:
        for job_id in dict.fromkeys(job_ids):  # one that is given twice is one job
            if _deleted(facet, queues, job_id, note):
                done.add(job_id)
            else:
                unknown.append(job_id)
    # All jobs are looked at once, and only for what is no whole id.
    others = by_ids(stored_jobs(adapter, queues), unknown) if unknown else {}
    with noting(app, adapter) as note:
        for job_id, job in others.items():
            if job is None:
                done.wrong[job_id] = _no_job(job_id, queues)
            elif isinstance(job, KesselError):
                done.wrong[job_id] = str(job)
            elif job.id in done.ids:  # two starts of one id
                continue
            elif _deleted(facet, (job.queue,), job.id, note):
                done.add(job.id)
            else:
                done.wrong[job_id] = f"job {job.id} is held by a worker"


def _deleted(facet: Delete, queues: Sequence[str], job_id: str, note: Note) -> bool:
    at = datetime.now(UTC)
    if not is_utf8(job_id):  # what a shell passes on may be any bytes
        return False
    for queue in queues:
        try:
            facet.delete(queue, job_id)
        except UnknownJob:
            continue
        note(job_id, EventKind.DELETED, at)
        return True
    return False


def _found(app: App, adapter: QueueAdapter, job_id: str) -> StoredJob:
    queues = known_queues(app, adapter)
    job = by_id(stored_jobs(adapter, queues), job_id)
    if job is None:
        raise KesselError(_no_job(job_id, queues))
    return job


def _no_job(job_id: str, queues: Sequence[str]) -> str:
    text = f"no job {job_id!r} in {', '.join(queues)}"
    if len(job_id) < LEAST_START:
        text += f"; the start of an id has at least {LEAST_START} characters"
    return text


# --- queues ----------------------------------------------------------------------------------


@click.command()
@queue_argument()
@click.argument("for_", metavar="[FOR]", type=span, required=False)
@as_json
@configured
@pass_app
def pause(app: App, queue: str, for_: timedelta | None, as_json: bool) -> None:
    """Deliver nothing from a queue for a while.

    FOR is a time as 90s, 10m or 2h; without it the queue waits for `kessel resume`. Running jobs go
    on, and jobs can still be requested.
    """
    wanted = FOR_EVER if for_ is None else for_
    if wanted <= NO_PAUSE:
        raise click.UsageError("FOR must be more than zero; `kessel resume` ends a pause")
    with app.adapter(only_looks=True) as adapter:
        need(adapter, Pause).pause(queue, min(wanted, FOR_EVER))
        count = adapter.stats(queue)
    if not count.total:
        _check_kept(app, count)
    if as_json:
        emit({"queue": queue, "paused": min(wanted, FOR_EVER).total_seconds(), "ready": count.ready})
    else:
        say(f"paused queue {queue} {pause_text(wanted)}, with {jobs_text(count.ready, 'ready job')}")


def _check_kept(app: App, count: QueueStats) -> None:
    """Look again whether a queue is paused: a server may forget one without jobs when nobody uses it.

    Raises:
        KesselError: It is not.
    """
    if count.paused is None or count.paused < _SOON_OVER:
        return
    with app.adapter(only_looks=True) as adapter:
        if adapter.stats(count.queue).paused is not None:
            return
    raise KesselError(
        f"queue {count.queue} is not paused: it holds no job, and {app.chosen.spec.name!r} forgets it, with "
        "its pause, when nobody uses it; pause it again when a worker serves it or a job is there"
    )


@click.command()
@queue_argument()
@as_json
@configured
@pass_app
def resume(app: App, queue: str, as_json: bool) -> None:
    """Deliver from a paused queue again."""
    with app.adapter(only_looks=True) as adapter:
        facet = need(adapter, Pause)
        was_paused = adapter.stats(queue).paused is not None
        facet.pause(queue, NO_PAUSE)
    if as_json:
        emit({"queue": queue, "was_paused": was_paused})
    else:
        say(f"resumed queue {queue}" if was_paused else f"queue {queue} was not paused")
