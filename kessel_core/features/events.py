"""The events of jobs in the store, read in their order, with what is missing (S39)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kessel_core.contract.store import LARGEST_PAGE, Store
from kessel_core.errors import DecodeError
from kessel_core.features.gaps import gaps
from kessel_core.model.history import Dropped, Event, JobHistory
from kessel_core.values.logs import get_logger
from kessel_core.wire.events import decode_dropped, decode_events

__all__ = ["DROPPED", "SPACE", "history_of", "ids_begun"]

log = get_logger("kessel.history")

#: Where events are, under the id of their job and a number that grows.
SPACE: Final = "events"
#: Where it stands which events are nowhere.
DROPPED: Final = "events-dropped"


def history_of(store: Store, job_id: str) -> JobHistory:
    """Return the events of a job, in the order of their times; those that cannot be read are a gap.

    Raises:
        AdapterError: The store cannot be asked.
    """
    events: list[Event] = []
    unread = 0
    for key, value in _entries(store, SPACE, f"{job_id}/"):
        if key.rpartition("/")[0] != job_id:
            continue
        try:
            events += decode_events(value)
        except DecodeError as exc:
            log.warning("job %s: %s", job_id, exc, extra={"job_id": job_id})
            unread += 1
    events.sort(key=lambda event: event.at)  # stable: what one process wrote is in its order
    found = tuple(gaps(events, _dropped(store) if events else []))
    if unread:
        found = (*found, f"{unread} entries of its history cannot be read")
    return JobHistory(id=job_id, events=tuple(events), gaps=found)


def ids_begun(store: Store, start: str, limit: int) -> list[str]:
    """Return ids of jobs with a history that begin so, up to `limit`.

    Raises:
        AdapterError: The store cannot be asked.
    """
    found: dict[str, None] = {}
    for key, _ in _entries(store, SPACE, start):
        found[key.rpartition("/")[0]] = None
        if len(found) == limit:
            break
    return list(found)


def _entries(store: Store, space: str, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    after = ""
    while page := store.scan(space, prefix=prefix, after=after, limit=LARGEST_PAGE):
        yield from ((entry.key, entry.value) for entry in page)
        after = page[-1].key


def _dropped(store: Store) -> list[Dropped]:
    found: list[Dropped] = []
    for _, value in _entries(store, DROPPED):
        try:
            found.append(decode_dropped(value))
        except DecodeError as exc:
            log.warning("%s", exc)
    return found
