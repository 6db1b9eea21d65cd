"""The events of jobs in the store, read in their order, with what is missing (S39)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final, NamedTuple

from kessel_core.contract.store import LARGEST_PAGE, Store
from kessel_core.errors import DecodeError, StoreRejected
from kessel_core.features.gaps import gaps
from kessel_core.model.history import Dropped, Event, EventKind, JobHistory
from kessel_core.values.logs import get_logger
from kessel_core.wire.events import decode_dropped, decode_events

__all__ = ["DROPPED", "SPACE", "history_of", "ids_begun"]

log = get_logger("kessel.history")

#: Where events are, under the id of their job and a number that grows.
SPACE: Final = "events"
#: Where it stands which events are nowhere.
DROPPED: Final = "events-dropped"
#: A request that comes so soon after other events is the first of them, by a clock that is ahead.
_CLOCKS_APART: Final = timedelta(minutes=1)


class _Written(NamedTuple):
    """An entry: events of one job that a process wrote together."""

    writer: str
    number: int
    events: list[Event]


def history_of(store: Store, job_id: str) -> JobHistory:
    """Return the events of a job in order; those that cannot be read are a gap.

    Raises:
        AdapterError: The store cannot be asked.
    """
    written: list[_Written] = []
    unread = 0
    for key, value in _entries(store, SPACE, f"{job_id}/"):
        its_id, _, place = key.rpartition("/")
        if its_id != job_id:
            continue
        try:
            written.append(_Written(*_origin(place), decode_events(value)))
        except DecodeError as exc:
            log.warning("job %s: %s", job_id, exc, extra={"job_id": job_id})
            unread += 1
    events = _in_order(written)
    found = tuple(gaps(events, _dropped(store) if events else []))
    if unread:
        found = (*found, f"{unread} entries of its history cannot be read")
    return JobHistory(id=job_id, events=tuple(events), gaps=found)


def _origin(place: str) -> tuple[str, int]:
    """Return who wrote an entry, and its number there, of what `Recorder` puts behind the id of the job."""
    parts = place.split("-")
    return (parts[1], int(parts[2], 16)) if len(parts) == 3 else (place, 0)


def _in_order(written: Iterable[_Written]) -> list[Event]:
    """Return events by their times; but those of a process as they happened there, and the request first.

    Clocks of two machines differ, by milliseconds at least, and one may be set back: a job that was begun
    before it was requested, or ended before it began, would look like one with gaps.
    """
    reached: dict[str, datetime] = {}
    moments: list[tuple[datetime, Event]] = []
    for one in sorted(written, key=attrgetter("writer", "number")):
        for event in one.events:
            reached[one.writer] = max(event.at, reached.get(one.writer, event.at))
            moments.append((reached[one.writer], event))
    moments.sort(key=lambda moment: moment[0])
    events = [event for _, event in moments]
    request = next((event for event in events if event.kind is EventKind.REQUESTED), None)
    if request is not None and request.at - events[0].at < _CLOCKS_APART:
        events.remove(request)
        events.insert(0, request)
    return events


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
    with suppress(StoreRejected):  # no entry has a key that begins so, and no job such an id
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
