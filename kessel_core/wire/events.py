"""Events of jobs as JSON, as they are in the store: those of one job that were written together.

Whoever reads may be older or newer than who wrote: keys that are not known are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from kessel_core.errors import DecodeError, Problem
from kessel_core.model.history import Dropped, Event, EventKind
from kessel_core.model.json import JsonValue
from kessel_core.wire.requests import dump, iso

__all__ = ["decode_dropped", "decode_events", "encode_dropped", "encode_events", "event_fields"]


def event_fields(event: Event) -> dict[str, JsonValue]:
    """Return an event as a JSON object, without what it does not have."""
    fields: dict[str, JsonValue] = {
        "kind": str(event.kind),
        "at": iso(event.at),
        "worker": event.worker,
        "attempt": event.attempt,
        "settled_as": event.settled_as,
        "pause_seconds": None if event.pause is None else event.pause.total_seconds(),
        "was_run": event.was_run or None,
        "status": event.status,
        "reason": event.reason,
        "message": event.message or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def encode_events(events: Sequence[Event]) -> bytes:
    """Encode events of one job; a lone surrogate in a message becomes an escape of JSON."""
    return dump([event_fields(event) for event in events]).encode("utf-8", "backslashreplace")


def decode_events(body: bytes) -> list[Event]:
    """Decode what `encode_events` wrote; events of kinds that this version does not know are left out.

    Raises:
        DecodeError: The bytes are something else.
    """
    try:
        return [_event(fields) for fields in json.loads(body) if fields["kind"] in set(EventKind)]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as exc:
        raise _no(body, "events of a job", exc) from exc


def _event(fields: Mapping[str, Any]) -> Event:
    pause = fields.get("pause_seconds")
    return Event(
        kind=EventKind(fields["kind"]),
        at=_moment(fields["at"]),
        worker=fields.get("worker", ""),
        attempt=fields.get("attempt"),
        settled_as=fields.get("settled_as"),
        pause=None if pause is None else timedelta(seconds=pause),
        was_run=fields.get("was_run", False),
        status=fields.get("status"),
        reason=fields.get("reason"),
        message=fields.get("message", ""),
    )


def encode_dropped(dropped: Dropped) -> bytes:
    """Encode what is known of events that were dropped."""
    fields: dict[str, JsonValue] = {
        "worker": dropped.worker,
        "since": iso(dropped.since),
        "until": iso(dropped.until),
        "count": dropped.count,
    }
    return dump(fields).encode()


def decode_dropped(body: bytes) -> Dropped:
    """Decode what `encode_dropped` wrote.

    Raises:
        DecodeError: The bytes are something else.
    """
    try:
        fields = json.loads(body)
        return Dropped(
            worker=fields["worker"],
            since=_moment(fields["since"]),
            until=_moment(fields["until"]),
            count=fields["count"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        raise _no(body, "a number of dropped events", exc) from exc


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def _no(body: bytes, what: str, exc: Exception) -> DecodeError:
    return DecodeError(body, [Problem(("$",), f"{type(exc).__name__}: {exc}")], f"it is not {what}")
