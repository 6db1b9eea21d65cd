"""What is known of a job at one moment, and what follows from it: the nouns of an explanation (S39)."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from kessel_core.contract.operations import QueueStats, StoredJob
from kessel_core.model.history import Event, JobHistory
from kessel_core.model.job import Job
from kessel_core.model.outcome import Outcome
from kessel_core.model.progress import Progress
from kessel_core.model.worker import WorkerEntry

__all__ = ["Cause", "CauseName", "Explanation", "Facts", "Unseen"]


class CauseName(StrEnum):
    """Why a job does not run, in the order in which it is looked for; the first that holds decides."""

    #: Nobody knows the id.
    UNKNOWN = "unknown"
    #: It has ended.
    ENDED = "ended"
    #: It was set aside.
    BURIED = "buried"
    #: A worker runs it.
    RUNNING = "running"
    #: It is held, and no worker says that it runs it.
    RESERVED = "reserved"
    #: It waits for the end of its delay, of a pause before a retry, or of a snooze.
    DELAYED = "delayed"
    #: It has expired, and nobody has noticed yet.
    EXPIRED = "expired"
    #: Its queue is paused.
    PAUSED = "paused"
    #: No worker serves its queue.
    UNSERVED = "unserved"
    #: No worker that serves the queue has a handler for its type.
    NO_HANDLER = "no-handler"
    #: The workers that serve the queue cannot reach it.
    DISCONNECTED = "disconnected"
    #: All slots of the workers that serve the queue are busy.
    BUSY = "busy"
    #: Other jobs are before it.
    BEHIND = "behind"
    #: Slots idle although it has been ready for long (S38).
    DEAF = "deaf"
    #: Nothing keeps it: a worker should take it at once.
    FREE = "free"


@attrs.frozen(kw_only=True)
class Cause:
    """One reason why a job does not run. Thread-safe."""

    #: Which one.
    name: CauseName
    #: What holds, in words.
    text: str
    #: What would change it, in words; "" if it needs nothing.
    change: str = ""
    #: Words of a command that helps, behind `kessel`; empty: there is none.
    command: tuple[str, ...] = ()
    #: When time alone changes it; aware; None: never, or nobody knows.
    at: datetime | None = None


@attrs.frozen(kw_only=True)
class Unseen:
    """Something that could not be looked at. Thread-safe."""

    #: What.
    what: str
    #: Why not.
    why: str


@attrs.frozen(kw_only=True)
class Facts:
    """What was seen of a job, its queue and the workers; None: it was not seen, or there is none."""

    #: The whole id of the job, if one was found; else what was asked for.
    id: str
    #: When it was looked at; aware.
    now: datetime
    #: Whether it could be looked for in the queues.
    is_searched: bool = True
    #: The job, as it was first read.
    job: StoredJob | None = None
    #: What is in its body.
    request: Job | None = None
    #: Jobs with the same id, in other queues.
    others: tuple[StoredJob, ...] = ()
    #: Ids that begin as what was asked for, if there are several.
    matches: tuple[str, ...] = ()
    #: Counts and pause of its queue.
    stats: QueueStats | None = None
    #: How many ready jobs are delivered before it.
    ahead: int | None = None
    #: Whether there are more of them, that were not looked at.
    is_ahead_more: bool = False
    #: The workers that have an entry.
    workers: tuple[WorkerEntry, ...] | None = None
    #: How it ended.
    outcome: Outcome | None = None
    #: What was written down of it; None: nothing.
    history: JobHistory | None = None
    #: What it reported last.
    progress: Progress | None = None
    #: How long its handler may run.
    timeout: timedelta | None = None
    #: What could not be seen.
    unseen: tuple[Unseen, ...] = ()
    #: What was different when the job was looked at again; "": it had not moved.
    moved: str = ""

    @property
    def last_event(self) -> Event | None:
        """What was written down last."""
        return self.history.events[-1] if self.history is not None and self.history.events else None


@attrs.frozen(kw_only=True)
class Explanation:
    """Why a job does not run, as far as could be seen (S39). True of the moment it was made. Thread-safe."""

    #: The job's id.
    id: str
    #: `ready`, `delayed`, `reserved` or `buried`; `ended`; None: nobody knows the job.
    state: str | None
    #: What holds, the deciding one first; empty if the job could not be looked for.
    causes: tuple[Cause, ...]
    #: What else is worth knowing, a sentence each.
    notes: tuple[str, ...] = ()
    #: What could not be seen, and why.
    unseen: tuple[Unseen, ...] = ()
    #: What it follows from.
    facts: Facts
