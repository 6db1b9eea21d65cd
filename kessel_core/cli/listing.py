"""`kessel list`: all jobs in a state, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from heapq import nsmallest
from shlex import quote
from typing import TYPE_CHECKING

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, queue_option, say, say_as_is
from kessel_core.cli.choosing import is_since, since_option
from kessel_core.cli.jobs import first_line, job_fields, known_queues, limit_option, ref_of, type_of
from kessel_core.cli.output import Wrong, ago, emit, preview, table
from kessel_core.features.finding import stored_jobs
from kessel_core.model.states import JobState

if TYPE_CHECKING:
    from kessel_core.contract.operations import StoredJob

__all__ = ["list_"]


@click.command("list")
@click.argument("state", type=click.Choice([state.value for state in JobState]))
@click.option("--type", "job_type", metavar="TYPE", help="Only of this type.")
@click.option("--reason", metavar="REASON", help="Only buried for this reason, as no-handler.")
@since_option
@limit_option(100, "How many on a page.")
@click.option("--after", metavar="ID", default="", help="Go on behind the last id of a page.")
@as_json
@queue_option
@configured
@pass_app
def list_(
    app: App,
    state: str,
    job_type: str | None,
    reason: str | None,
    since: timedelta | None,
    limit: int,
    after: str,
    as_json: bool,
) -> None:
    """List the jobs in a state, by kind and age, page by page.

    In every queue, unless told where, in the order of their ids: for ids that kessel made, as they were
    requested. A page takes no more memory if there are more jobs, and none is listed twice, whatever is
    kicked or deleted between two pages.
    """
    count = 0

    def fitting(jobs: Iterator[StoredJob]) -> Iterator[StoredJob]:
        nonlocal count
        for job in jobs:
            if (
                job.id > after
                and (job_type is None or type_of(job) == job_type)
                and (reason is None or job.reason == reason)
                and (since is None or is_since(job, since))
            ):
                count += 1
                yield job

    with app.adapter(only_looks=True) as adapter:
        queues = known_queues(app, adapter)
        jobs = fitting(stored_jobs(adapter, queues, (JobState(state),)))
        # A few more, so that an id that several queues hold is not parted.
        found = nsmallest(limit + len(queues), jobs, key=lambda job: (job.id, job.queue))
    shown = [job for job in found if job.id <= found[min(limit, len(found)) - 1].id]
    if as_json:
        emit([job_fields(job) for job in shown])
    elif not shown:
        say(f"no such {state} job in {', '.join(queues)}")
    else:
        _print(shown, JobState(state))
    if count > len(shown):
        say_as_is(f"{len(shown):,} of {count:,}; the next page: --after {quote(shown[-1].id)}", err=as_json)


def _print(jobs: list[StoredJob], state: JobState) -> None:
    is_buried = state is JobState.BURIED
    last = ["reason", "buried", "message"] if is_buried else ["#priority", "due"]
    table(
        ["id", "queue", "type", "ref", "#attempt", "stored", *last],
        [
            (
                job.id,
                job.queue,
                preview(type_of(job), 60),
                preview(ref_of(job), 40),
                job.attempt,
                ago(job.enqueued_at),
                *(
                    (Wrong(job.reason or ""), ago(job.buried_at), first_line(job.message))
                    if is_buried
                    else (job.priority, ago(job.due))
                ),
            )
            for job in jobs
        ],
    )
