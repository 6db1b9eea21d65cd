"""`kessel history`: what happened to one job (S39)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, say
from kessel_core.cli.jobs import first_line
from kessel_core.cli.output import Wrong, emit, table
from kessel_core.contract.store import no_store
from kessel_core.features.events import history_of, ids_begun
from kessel_core.features.finding import LEAST_START
from kessel_core.model.history import EventKind
from kessel_core.values.moments import span_text, when
from kessel_core.wire.events import event_fields

if TYPE_CHECKING:
    from kessel_core.contract.store import Store
    from kessel_core.model.history import Event, JobHistory

__all__ = ["history"]

#: Ids that begin alike and are named.
_SHOWN: Final = 5


@click.command()
@click.argument("job_id", metavar="ID")
@as_json
@configured
@pass_app
def history(app: App, job_id: str, as_json: bool) -> None:
    """Show what happened to a job, in order, and what is missing.

    ID is the job's id, or its start of 8 characters at least. Events are written while history.keep is set,
    half a second after they happened. Exits with 1 if there are none.
    """
    with app.store() as store:
        if store is None:
            raise no_store(app.chosen.spec.name, "histories are kept in a store")
        found = _found(store, job_id)
    if as_json:
        emit(
            {"id": found.id, "events": [event_fields(one) for one in found.events], "gaps": list(found.gaps)}
        )
    elif found.events:
        click.echo(found.id)
        table(
            ["at", "event", "#attempt", "by", "what"],
            [(when(one.at), str(one.kind), one.attempt, one.worker, _what(one)) for one in found.events],
        )
        for gap in found.gaps:
            say(f"gap: {gap}")
    if not found.events:
        hint = "" if app.config.history.keep is not None else "; none are written while history.keep is unset"
        say(f"no events of a job {job_id!r} in {app.store_place}{hint}", err=True)
        raise SystemExit(1)


def _found(store: Store, text: str) -> JobHistory:
    from kessel_core.errors import KesselError

    found = history_of(store, text)
    if found.events or len(text) < LEAST_START:
        return found
    ids = ids_begun(store, text, _SHOWN + 1)
    if len(ids) > 1:
        some = ", ".join(ids[:_SHOWN]) + (", ..." if len(ids) > _SHOWN else "")
        raise KesselError(f"the ids of several jobs start with {text!r}: {some}")
    return history_of(store, ids[0]) if ids else found


def _what(event: Event) -> str:
    """Return what is worth knowing of an event, in a few words; red if something went wrong."""
    said: list[str] = []
    match event.kind:
        case EventKind.SETTLED:
            words = {"commit": "removed", "rollback": "to be tried again", "bury": "buried"}
            said.append(words.get(event.settled_as or "", ""))
        case EventKind.FINISHED:
            said.append(event.status or "")
    if event.pause is not None:
        said.append(f"in {span_text(event.pause)}")
    text = " ".join(filter(None, said))
    why = ": ".join(filter(None, (event.reason, first_line(event.message))))
    if not why:
        return text
    return Wrong(f"{text}: {why}" if text else why)
