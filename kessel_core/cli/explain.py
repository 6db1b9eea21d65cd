"""`kessel explain`: why a job does not run (S39)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, queue_option, say, say_as_is
from kessel_core.cli.jobs import job_fields, limit_option
from kessel_core.cli.next_command import next_command
from kessel_core.cli.output import emit, iso, preview
from kessel_core.features.facts import CauseName
from kessel_core.features.looking import LOOKED_AT
from kessel_core.values.moments import span_text

if TYPE_CHECKING:
    from kessel_core.features.facts import Cause, Explanation

__all__ = ["explain"]

#: Causes after which there is no job to look at.
_MISSING = frozenset({CauseName.UNKNOWN})


@click.command()
@click.argument("job_id", metavar="ID")
@limit_option(LOOKED_AT, "How many jobs of a queue and state are looked at, where it takes a search.")
@as_json
@queue_option
@configured
@pass_app
def explain(app: App, job_id: str, limit: int, as_json: bool) -> None:
    """Say why a job does not run, and what would change it.

    ID is the job's id, or its start of 8 characters at least, if no other job's begins so. The first cause
    decides; what could not be seen is said. Changes nothing. Exits with 1 if there is no such job.
    """
    from kessel_core.clock import SystemClock
    from kessel_core.features.looking import explain as look

    queues = app.config.queues if app.given("queues") else None
    with app.adapter(only_looks=True) as adapter, app.store_beside(adapter) as (store, no_store):
        found = look(
            adapter, store, job_id, clock=SystemClock(), queues=queues, limit=limit, no_store=no_store
        )
    if as_json:
        emit(_fields(app, found))
    else:
        _print(app, found)
    if not found.causes or found.causes[0].name in _MISSING:
        raise SystemExit(1)


def _print(app: App, found: Explanation) -> None:
    say_as_is(_headline(found))
    for number, cause in enumerate(found.causes):
        say(f"{'✗' if not number else '  also:'} {cause.text}")
        if cause.change and not number:
            say(f"  what changes it: {cause.change}")
        if cause.command and not number:
            say_as_is(f"  {_command(app, cause)}")
    for note in found.notes:
        say(f"  note: {note}")
    for unseen in found.unseen:
        say(f"  not seen: {unseen.what}: {unseen.why}")


def _headline(found: Explanation) -> str:
    job, request = found.facts.job, found.facts.request
    if job is None:
        kind = "" if found.facts.outcome is None else f"{preview(found.facts.outcome.type, 60)} "
        return f"{kind}{preview(found.id, 200)}: {found.state or 'not found'}"
    kind = preview(request.type, 60) if request is not None else "(undecodable)"
    text = f"{kind} {preview(job.id, 200)} in {job.queue}: {job.state}"
    if job.enqueued_at is not None:
        text += f", stored {span_text(found.facts.now - job.enqueued_at)} ago"
    if job.attempt is not None:
        text += f", {job.attempt} attempt{'' if job.attempt == 1 else 's'} so far"
    return text


def _command(app: App, cause: Cause) -> str:
    words = list(cause.command)
    # What stands behind it is an id that looks like an option.
    at = words.index("--") if "--" in words else len(words)
    return next_command(app, words[:at], words[at + 1 :])


def _fields(app: App, found: Explanation) -> dict[str, object]:
    return {
        "id": found.id,
        "state": found.state,
        "causes": [
            {
                "name": str(cause.name),
                "text": cause.text,
                "change": cause.change,
                "command": _command(app, cause) if cause.command else None,
                "at": iso(cause.at),
            }
            for cause in found.causes
        ],
        "notes": list(found.notes),
        "unseen": [{"what": one.what, "why": one.why} for one in found.unseen],
        "at": iso(found.facts.now),
        "job": None if found.facts.job is None else job_fields(found.facts.job),
    }
