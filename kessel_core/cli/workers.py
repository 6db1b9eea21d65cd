"""`kessel workers`: who works on the queues, as the workers themselves say (S27)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, say
from kessel_core.cli.output import Wrong, ago, emit, table
from kessel_core.contract.promises import Reach
from kessel_core.contract.store import no_store
from kessel_core.features.workers import listed_workers
from kessel_core.values.moments import span_text
from kessel_core.wire.entries import worker_fields

if TYPE_CHECKING:
    from kessel_core.contract.store import Store
    from kessel_core.model.worker import WorkerEntry

__all__ = ["workers"]

#: How many names a cell shows.
_FEW: Final = 5


@click.command()
@click.option("--jobs", is_flag=True, help="Show the running jobs instead, one a line.")
@as_json
@configured
@pass_app
def workers(app: App, jobs: bool, as_json: bool) -> None:
    """List the workers that run, and the jobs that they run.

    A worker writes an entry into the store every ten seconds. One that was killed is `silent` after
    fifteen, and gone after thirty.
    """
    with app.store() as store:
        if store is None:
            raise no_store(app.chosen.spec.name, "workers are listed in a store")
        entries = listed_workers(store)
        is_shared = _is_shared(store)
    now = datetime.now(UTC)
    if as_json:
        emit([worker_fields(one) | _ages(one, now) for one in entries])
        return
    if not entries:
        say(f"no worker has an entry in {app.store_place}")
        if not is_shared:
            say("nobody else can see the entries of this store: name one that others can reach", err=True)
    elif jobs:
        rows = list(_job_rows(entries))
        if rows:
            table(["id", "type", "queue", "since", "host", "#pid"], rows)
        else:
            say("no job was running when the workers wrote their entries")
    else:
        click.echo(app.store_place)
        table(
            ["host", "#pid", "version", "state", "queues", "types", "#slots", "#busy", "started", "seen"],
            [_row(one, now) for one in entries],
        )


def _is_shared(store: Store) -> bool:
    return store.capabilities.reach is not Reach.PROCESS


def _ages(entry: WorkerEntry, now: datetime) -> dict[str, object]:
    return {"silent": entry.is_silent(now), "age_seconds": round((now - entry.seen_at).total_seconds(), 3)}


def _row(entry: WorkerEntry, now: datetime) -> tuple[object, ...]:
    seen = ago(entry.seen_at)
    return (
        entry.host,
        str(entry.pid),  # a name, not a number with separators
        entry.version,
        Wrong(f"silent for {span_text(now - entry.seen_at)}") if entry.is_silent(now) else str(entry.state),
        _some(entry.queues),
        _some(entry.types),
        entry.slots,
        entry.busy,
        ago(entry.started_at),
        Wrong(seen) if entry.is_silent(now) else seen,
    )


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {more} more" if more > 0 else "")


def _job_rows(entries: list[WorkerEntry]) -> Iterator[tuple[object, ...]]:
    for entry in entries:
        for job in entry.jobs:
            yield job.id, job.type or "(undecodable)", job.queue, ago(job.since), entry.host, str(entry.pid)
