"""`kessel buried kick ID --payload`: a buried job goes back to work with a mended payload."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs
import click

from kessel_core.cli.app import say_as_is
from kessel_core.cli.jobs import by_id, known_queues
from kessel_core.cli.noting import Note, noted, noting
from kessel_core.cli.output import emit
from kessel_core.cli.streams import given_json
from kessel_core.contract.adapter import need
from kessel_core.contract.facets import Delete
from kessel_core.errors import AdapterError, KesselError, UnknownJob
from kessel_core.features.finding import buried_jobs
from kessel_core.model.history import EventKind

if TYPE_CHECKING:
    from kessel_core.cli.app import App
    from kessel_core.contract.operations import StoredJob
    from kessel_core.model.job import Job
    from kessel_core.model.json import JsonValue

__all__ = ["kick_mended"]


def kick_mended(app: App, job_id: str, payload: str, as_json: bool) -> None:
    """Store the job with another payload under a new id, then delete the buried one.

    A new id, because an adapter that knows ids would take the mended job for the one that it holds
    already, and store nothing. In this order, because an interruption then loses nothing.

    Raises:
        KesselError: There is no such buried job, or none any more, or its body is no request; or the buried
            job could not be removed. It says what is stored.
        InvalidRequest: The mended job is not valid; nothing was changed.
    """
    value = _read(payload)
    with app.adapter(only_looks=True) as adapter:
        removal = need(adapter, Delete, "the buried job would stay beside the mended one")
        queues = known_queues(app, adapter)
        job = by_id(buried_jobs(adapter, queues), job_id)
        if job is None:
            raise KesselError(f"no buried job {job_id!r} in {', '.join(queues)}")
        asked = attrs.evolve(job.job().as_request(), id="", payload=value, delay=None, queue=job.queue)
        # The same adapter: what it has shown is for itself to remove.
        with app.manager(only_requests=True, adapter=adapter) as manager:
            stored = manager.request(asked)
        with noting(app, adapter) as note:
            _replace(removal, job, stored, note)
    if as_json:
        emit({"kicked": [stored.id], "missing": [], "instead_of": job.id})
    else:
        say_as_is(f"kicked 1 buried job, mended: {stored.id} instead of {job.id}")


def _replace(removal: Delete, job: StoredJob, stored: Job, note: Note) -> None:
    """Remove the buried job; if it is not buried any more, somebody else decided, and the mended one goes."""
    try:
        noted(removal.delete_shown, EventKind.DELETED, note)(job)
    except UnknownJob as exc:
        why = f"job {job.id!r} is no longer buried in {job.queue}: somebody else was faster"
        at = datetime.now(UTC)
        try:
            removal.delete(stored.queue, stored.id)
        except AdapterError as error:
            there = f"the mended job {stored.id!r} is stored, and could not be removed again: {error}"
            raise KesselError(f"{why}; {there}") from error
        note(stored.id, EventKind.DELETED, at)
        raise KesselError(f"{why}; the mended job was removed again") from exc
    except AdapterError as exc:
        there = f"the mended job {stored.id!r} is stored, and {job.id!r} may still be buried"
        raise KesselError(f"{exc}; {there}") from exc


def _read(payload: str) -> JsonValue:
    try:
        value: JsonValue = given_json(payload)
    except ValueError as exc:
        raise click.BadParameter(f"is not JSON: {exc}", param_hint="--payload") from exc
    except RecursionError as exc:
        raise click.BadParameter("is nested too deeply", param_hint="--payload") from exc
    return value
