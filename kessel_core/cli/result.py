"""`kessel result`: how one job ended, and waiting for it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, say
from kessel_core.cli.choosing import span
from kessel_core.cli.output import emit, preview
from kessel_core.errors import ResultPending, ResultUnknown
from kessel_core.model.settlement import NO_PAUSE
from kessel_core.wire.entries import progress_fields
from kessel_core.wire.results import outcome_fields

if TYPE_CHECKING:
    from kessel_core.client.manager import JobManager
    from kessel_core.model.outcome import Outcome
    from kessel_core.model.progress import Progress

__all__ = ["outcome_of", "pending_fields", "result"]


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--wait", "wait", type=span, metavar="SPAN", help="Wait so long for it: 30s, 5m.")
@as_json
@configured
@pass_app
def result(app: App, job_id: str, wait: timedelta | None, as_json: bool) -> None:
    """Show how a job ended, or wait for it.

    Results are kept in the store if results.keep is set, or the job's handler says so. Exits with 1 if
    there is none, or the job failed; of a job that has not ended it shows the state, and its progress.
    """
    app.check_store()
    with (
        app.adapter(only_looks=True) as adapter,
        app.manager(only_requests=True, adapter=adapter) as manager,
        app.located(),
    ):
        outcome = outcome_of(manager, job_id, wait, as_json=as_json)
    if as_json:
        emit(outcome_fields(outcome))
    else:
        for name, value in outcome_fields(outcome).items():
            if value not in (None, ""):
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                click.echo(f"{preview(name)}: {preview(text, 100_000)}")
    if not outcome.ok:
        raise click.exceptions.Exit(1)


def pending_fields(
    job_id: str, state: str | None = None, progress: Progress | None = None
) -> dict[str, object]:
    """Return what is known of a job that has no result yet, for JSON output."""
    known = None if progress is None else progress_fields(progress)
    return {"id": job_id, "status": "pending", "state": state, "progress": known}


def outcome_of(manager: JobManager, job_id: str, wait: timedelta | None, *, as_json: bool = False) -> Outcome:
    """Return how a job ended; says why there is no outcome, and exits with 1."""
    try:
        return manager.result(job_id, NO_PAUSE if wait is None else wait)
    except (ResultPending, ResultUnknown) as exc:
        if as_json and isinstance(exc, ResultPending):
            emit(pending_fields(job_id, exc.state, exc.progress))
        elif as_json:
            emit({"id": job_id, "status": "unknown"})
        say(preview(str(exc), 500), err=True)
        raise click.exceptions.Exit(1) from exc
