"""What `kessel doctor` says of the store: where it is, what it keeps, and that it is away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from kessel_core.cli.app import App
from kessel_core.contract.doctor import Finding, Level
from kessel_core.contract.promises import Durability, Reach
from kessel_core.errors import ConfigError, KesselError, ProtocolError
from kessel_core.values.durations import duration_text

if TYPE_CHECKING:
    from kessel_core.client.manager import JobManager
    from kessel_core.contract.store import Store

__all__ = ["advice_on", "store_finding", "store_trouble"]

SUBJECT: Final = "store"


def advice_on(error: KesselError) -> str:
    """Return what to do; who raised it may have added advice as a note to the error."""
    if notes := getattr(error, "__notes__", ()):
        return "; ".join(notes)
    if isinstance(error, ProtocolError):
        return "check address and user: something else, or another version, is there, or it refuses the user"
    return "check the address, and that the backend runs"


def store_trouble(app: App) -> Finding | None:
    """Return why a store with an address of its own cannot be used now; None: it can, or there is none.

    It makes nothing, and leaves a wrong configuration to those who list everything that is wrong with it.
    """
    try:
        chosen = app.chosen_store
        if chosen is None:
            return None
        if (why := chosen.spec.absent(chosen.options)) is not None:
            return Finding(
                Level.WARNING, SUBJECT, why, "right before the first worker or request, which makes it"
            )
        with app.store() as store:
            assert store is not None
            store.get("workers", "doctor")
    except ConfigError:
        return None
    except KesselError as exc:
        detail, place = str(exc), app.store_place
        detail = detail if place in detail else f"{place}: {detail}"
        advice = (
            f"{advice_on(exc)}; until then no worker starts, and jobs that have to keep something run again"
        )
        return Finding(Level.ERROR, SUBJECT, detail, advice)
    return None


def store_finding(app: App, manager: JobManager) -> Finding:
    """Say where the store is and what it keeps, or what is not kept without one."""
    try:
        store = manager.store
    except ConfigError:
        detail = "none: no results, no progress, no list of workers"
        return Finding(Level.OK, SUBJECT, detail, "set store to a URL, if you want them")
    kept = ", ".join(_kept(app, manager))
    detail = f"{app.store_place}, {_promises(store)}; keeps {kept}"
    if store.capabilities.reach is Reach.PROCESS and manager.adapter.capabilities.reach is not Reach.PROCESS:
        advice = "name one that others can reach, such as sqlite:///kessel-store.db"
        return Finding(Level.WARNING, SUBJECT, f"{detail}; other processes see none of it", advice)
    return Finding(Level.OK, SUBJECT, detail)


def _promises(store: Store) -> str:
    can = store.capabilities
    reach = {Reach.PROCESS: "for one process", Reach.HOST: "for one machine"}.get(
        can.reach, "for all machines"
    )
    survives = {Durability.NONE: "nothing", Durability.PROCESS_CRASH: "crashes"}
    return f"{reach}, survives {survives.get(can.durability, 'a loss of power')}"


def _kept(app: App, manager: JobManager) -> Iterator[str]:
    keep = app.config.results.keep
    if keep is not None:
        yield f"results for {duration_text(keep)}"
    elif own := [one.type for one in manager.registry if one.keep is not None]:
        yield f"results of {', '.join(sorted(own))}"
    else:
        yield "no results (results.keep is not set)"
    yield "progress"
    if (written := app.config.history.keep) is not None:
        yield f"histories for {duration_text(written)}"
    count = len(manager.workers())
    yield f"entries of workers ({count} now)" if app.config.worker.listed else "no entries of workers"
