"""What is written down of a job: its events, and the gaps between them (S39)."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import attrs

__all__ = ["Dropped", "Event", "EventKind", "JobHistory"]


class EventKind(StrEnum):
    """What happened to a job."""

    #: It was stored.
    REQUESTED = "requested"
    #: A worker began an attempt.
    STARTED = "started"
    #: An attempt was settled; `settled_as` says how.
    SETTLED = "settled"
    #: An attempt was given back without counting (S21).
    SNOOZED = "snoozed"
    #: It has ended.
    FINISHED = "finished"
    #: Somebody made it ready again after its burial.
    KICKED = "kicked"
    #: Somebody removed it.
    DELETED = "deleted"


@attrs.frozen(kw_only=True)
class Event:
    """One thing that happened to a job. Thread-safe."""

    #: What.
    kind: EventKind
    #: When, by the clock of the process that wrote it; aware.
    at: datetime
    #: The process that wrote it: `host:pid`.
    worker: str = ""
    #: The number of the attempt, from 1; None: it belongs to none.
    attempt: int | None = None
    #: Of `settled`: `commit`, `rollback` or `bury`.
    settled_as: str | None = None
    #: Of `settled` and `snoozed`: the pause before the next delivery; None: there is none.
    pause: timedelta | None = None
    #: Of `settled`, `snoozed` and `finished`: whether its handler was started.
    was_run: bool = False
    #: Of `finished`: `success` or `failed`.
    status: str | None = None
    #: Why it did not succeed, as a code.
    reason: str | None = None
    #: What went wrong, in words; the beginning of it.
    message: str = ""


@attrs.frozen(kw_only=True)
class Dropped:
    """Events that a process could not write, of whatever jobs. Thread-safe."""

    #: The process: `host:pid`.
    worker: str
    #: When the first of them happened; aware.
    since: datetime
    #: When the last of them happened; aware.
    until: datetime
    #: How many.
    count: int


@attrs.frozen(kw_only=True)
class JobHistory:
    """The events of a job, as far as they were written. A log, not the truth. Thread-safe."""

    #: The job's id.
    id: str
    #: Its events in order: by their times, those of one process as they happened there, and the request
    #: first, although clocks differ.
    events: tuple[Event, ...]
    #: What is missing, a sentence each; empty: nothing that shows.
    gaps: tuple[str, ...] = ()
