"""What keeps a job that waits: one check for each cause, facts in, a cause or None out (S39)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from kessel_core.features.facts import Cause, CauseName, Facts
from kessel_core.features.wording import ago, at, counted, few, first_line, named
from kessel_core.model.history import EventKind
from kessel_core.model.states import JobState
from kessel_core.model.worker import ENTRY_EVERY, ENTRY_LIVES, WorkerEntry, WorkerState
from kessel_core.values.moments import span_text, when

__all__ = ["CROWDED", "FOR_EVER", "HELD_UP", "is_skewed", "is_until_resumed"]

#: The pause of a queue that waits until somebody resumes it: ten years.
FOR_EVER: Final = timedelta(days=3650)

#: A slot that idles for so long beside a ready job is deaf, and not merely on its way to it.
DEAF_AFTER: Final = 3 * ENTRY_EVERY
#: Clocks of two machines that are watched differ by less than this.
_SKEW: Final = timedelta(seconds=2)


def _delayed(facts: Facts) -> Cause | None:
    job, request = facts.job, facts.request
    if job is None or job.state is not JobState.DELAYED:
        return None
    attempt, snoozes = job.attempt or 0, job.snoozes or 0
    event = facts.last_event
    # What was written last may be older than what happened last.
    if event is not None and event.kind is EventKind.SETTLED and event.attempt == attempt:
        failed = ": ".join(filter(None, (event.reason, first_line(event.message))))
        why = f"it waits for the end of the pause after attempt {event.attempt}, which failed: {failed}"
    elif event is not None and event.kind is EventKind.SNOOZED:
        asked = f": {first_line(event.message)}" if event.message else ""
        why = f"it was snoozed ({snoozes} so far){asked}"
    elif not attempt and not snoozes and request is not None and request.not_before is not None:
        why = "it waits for the end of its delay"
    elif attempt and not snoozes:
        why = f"it waits for the end of the pause after attempt {attempt}, which failed"
    elif snoozes and not attempt:
        why = f"it was snoozed ({snoozes} so far)"
    else:
        why = f"it waits for the end of a delay, a pause after attempt {attempt}, or snooze {snoozes}"
    return Cause(
        name=CauseName.DELAYED,
        text=why,
        change="when it is over" if job.due is None else f"at {at(job.due, facts.now)}",
        at=job.due,
    )


def _expired(facts: Facts) -> Cause | None:
    request = facts.request
    if request is None or request.expires_at is None or request.expires_at > facts.now:
        return None
    return Cause(
        name=CauseName.EXPIRED,
        text=f"it expired {ago(request.expires_at, facts.now)}, and nobody has noticed yet",
        change="a worker that takes it ends it as expired, without running it",
        at=request.expires_at,
    )


def _paused(facts: Facts) -> Cause | None:
    if facts.stats is None or facts.stats.paused is None:
        return None
    until = None if is_until_resumed(facts.stats.paused) else facts.now + facts.stats.paused
    queue = facts.stats.queue
    return Cause(
        name=CauseName.PAUSED,
        text=f"the queue {queue!r} is paused until {'resumed' if until is None else at(until, facts.now)}",
        change="resume it",
        command=("resume", queue),
        at=until,
    )


def is_until_resumed(pause: timedelta) -> bool:
    """Whether a pause, by what is left of it, is one without an end: nobody pauses for years."""
    return pause > FOR_EVER / 2


def _unserved(facts: Facts) -> Cause | None:
    if facts.workers is None or facts.job is None or _serving(facts):
        return None
    queue = facts.job.queue
    text = f"no worker serves the queue {queue!r}"
    idle = [worker for worker in facts.workers if queue in worker.queues]
    if idle:
        text += f": {few(f'{named(one)} {_why_not(one, facts.now)}' for one in idle)}"
    elif facts.workers:
        queues = sorted({name for worker in facts.workers for name in worker.queues})
        text += f" ({counted(len(facts.workers), 'worker')}: {few(queues)})"
    return Cause(
        name=CauseName.UNSERVED,
        text=text,
        change="start one; one with worker.listed = false is not seen here",
        command=("worker", "--queue", queue),
    )


def _no_handler(facts: Facts) -> Cause | None:
    serving = _serving(facts)
    kind = facts.request.type if facts.request is not None else None
    if not serving or kind is None or any(kind in worker.types for worker in serving):
        return None
    known = sorted({name for worker in serving for name in worker.types})
    return Cause(
        name=CauseName.NO_HANDLER,
        text=f"no worker of the queue has a handler for {kind!r}; known types: {few(known) or 'none'}",
        change='start one that has; taken now, it is buried, or snoozed if jobs.unknown_type = "retry"',
    )


def _disconnected(facts: Facts) -> Cause | None:
    serving = _serving(facts)
    if not serving or any(worker.disconnected < worker.slots for worker in serving):
        return None
    return Cause(
        name=CauseName.DISCONNECTED,
        text=f"{few(map(named, serving))} cannot reach the queue",
        change="they try again all the time: look at the server and the network",
        command=("doctor",),
    )


def _busy(facts: Facts) -> Cause | None:
    serving = [worker for worker in _serving(facts) if worker.disconnected < worker.slots]
    if not serving or _free(facts):
        return None
    slots, busy = sum(one.slots for one in serving), sum(one.busy for one in serving)
    longest = min((job for one in serving for job in one.jobs), key=lambda job: job.since, default=None)
    text = f"all slots of {counted(len(serving), 'worker')} are busy ({busy} of {slots})"
    if longest is not None:
        text += f", the longest since {when(longest.since)}: {longest.type} {longest.id}"
    return Cause(name=CauseName.BUSY, text=text, change="when one of them ends; more slots or workers help")


def _behind(facts: Facts) -> Cause | None:
    if not facts.ahead:
        return None
    more = "at least " if facts.is_ahead_more else ""
    priority = facts.job.priority if facts.job is not None else None
    text = f"{more}{counted(facts.ahead, 'job')} {'is' if facts.ahead == 1 else 'are'} ahead of it"
    if priority is not None:
        text += f"; its priority is {priority}"
    return Cause(name=CauseName.BEHIND, text=text, change="when they were taken; more workers help")


def _deaf(facts: Facts) -> Cause | None:
    since = _ready_since(facts)
    idle = [worker for worker in _serving(facts) if worker.slots - worker.busy - worker.disconnected > 0]
    if since is None or facts.ahead is None or facts.stats is None or facts.stats.paused is not None:
        return None
    long = [one for one in idle if facts.now - max(since, one.started_at) > DEAF_AFTER]
    if not long:
        return None
    return Cause(
        name=CauseName.DEAF,
        text=f"slots of {few(map(named, long))} idle although it waits for {span_text(facts.now - since)}",
        change="unless it was kicked or its queue resumed just now: look at the log of the worker, and "
        "restart it",
    )


def _ready_since(facts: Facts) -> datetime | None:
    """Return since when it is ready; None: nobody knows, as after a retry without a history."""
    job, request, event = facts.job, facts.request, facts.last_event
    if event is not None and event.kind is EventKind.KICKED:
        return event.at
    if event is not None and event.kind in (EventKind.SETTLED, EventKind.SNOOZED):
        return event.at + (event.pause or timedelta(0))
    if job is None or job.attempt or job.snoozes:
        return None
    moments = [job.enqueued_at or (request.requested_at if request is not None else None)]
    if request is not None:
        moments.append(request.not_before)
    return max((moment for moment in moments if moment is not None), default=None)


# --- workers --------------------------------------------------------------------------------------


def _serving(facts: Facts) -> list[WorkerEntry]:
    """Return the workers that serve the queue of the job, as far as they can be believed."""
    if facts.workers is None or facts.job is None:
        return []
    queue = facts.job.queue
    return [one for one in facts.workers if queue in one.queues and not _why_not(one, facts.now)]


def _why_not(worker: WorkerEntry, now: datetime) -> str:
    """Return why a worker takes no job, although it has an entry; "" if it does."""
    if worker.state is WorkerState.STOPPING:
        return "is stopping"
    if worker.is_silent(now) and not is_skewed(worker, now):
        return f"is silent for {span_text(now - worker.seen_at)}, and may be dead"
    return ""


def is_skewed(worker: WorkerEntry, now: datetime) -> bool:
    """Whether its clock differs from ours: the store, by its own clock, keeps no older entry."""
    age = now - worker.seen_at
    return age < -_SKEW or age > ENTRY_LIVES + _SKEW


def _free(facts: Facts) -> int:
    return sum(max(0, one.slots - one.busy - one.disconnected) for one in _serving(facts))


#: Checks of what holds up a job that waits, ready or not, in their order.
HELD_UP: Final = (_delayed, _expired, _paused, _unserved, _no_handler, _disconnected)
#: Checks of who is before a job that is ready, or does not see it.
CROWDED: Final = (_busy, _behind, _deaf)
