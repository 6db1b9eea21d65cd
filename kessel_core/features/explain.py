"""Why a job does not run: facts in, causes out (S39). No clock, no adapter, no store.

The causes are looked for in the order of `CauseName`; the first that holds decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from kessel_core.features import waiting
from kessel_core.features.advice import advice, typed_id
from kessel_core.features.facts import Cause, CauseName, Explanation, Facts, Unseen
from kessel_core.features.wording import FEW, ago, at, first_line, named
from kessel_core.model.history import EventKind
from kessel_core.model.result import Status
from kessel_core.model.states import JobState
from kessel_core.model.worker import ENTRY_EVERY
from kessel_core.values.moments import span_text, when

__all__ = ["explained"]


def explained(facts: Facts) -> Explanation:
    """Say what follows from the facts; raises nothing."""
    causes = tuple(_causes(facts))
    return Explanation(
        id=facts.id,
        state=_state(facts, causes),
        causes=causes,
        notes=tuple(_notes(facts, causes)),
        unseen=(*facts.unseen, *_unwritten(facts)),
        facts=facts,
    )


def _state(facts: Facts, causes: tuple[Cause, ...]) -> str | None:
    if facts.job is not None:
        return str(facts.job.state)
    return "ended" if causes and causes[0].name is CauseName.ENDED else None


def _unwritten(facts: Facts) -> Iterator[Unseen]:
    """Yield what only a history tells, where there is none."""
    job = facts.job
    if job is not None and job.state is JobState.DELAYED and job.attempt and facts.history is None:
        yield Unseen(what=f"what attempt {job.attempt} failed on", why="no history is kept: set history.keep")


def _causes(facts: Facts) -> list[Cause]:
    settled = _found(facts, (_unknown, _ended, _buried, _running, _reserved))
    if settled or facts.job is None:
        return settled
    found = _found(facts, waiting.HELD_UP)
    if facts.job.state is JobState.DELAYED:
        return found  # who works at the queue now is no matter yet
    found += _found(facts, waiting.CROWDED)
    return found or [_free(facts)]


def _free(facts: Facts) -> Cause:
    then = "; the workers were not seen" if facts.workers is None else ": a worker should take it at once"
    return Cause(
        name=CauseName.FREE,
        text=f"nothing that was seen keeps it{then}",
        change="look again; if it is still here, look at the log of a worker",
    )


def _found(facts: Facts, checks: tuple[Callable[[Facts], Cause | None], ...]) -> list[Cause]:
    return [cause for check in checks if (cause := check(facts)) is not None]


# --- where it is ----------------------------------------------------------------------------------


def _unknown(facts: Facts) -> Cause | None:
    if facts.job is not None or not facts.is_searched or _ended(facts) is not None:
        return None
    if facts.matches:
        some = ", ".join(facts.matches[:FEW]) + (", ..." if len(facts.matches) > FEW else "")
        return Cause(
            name=CauseName.UNKNOWN,
            text=f"the ids of {len(facts.matches):,} jobs begin so: {some}",
            change="give more of the id",
        )
    return Cause(
        name=CauseName.UNKNOWN,
        text="no such job: it was never stored here, has ended and its result was not kept, or is in "
        "another adapter",
        change="look at the id and at the adapter; results.keep keeps how jobs ended",
    )


def _ended(facts: Facts) -> Cause | None:
    outcome = facts.outcome
    if facts.job is not None:
        return None
    if outcome is None:
        return _ended_as_written(facts)
    how = "succeeded" if outcome.ok else f"failed ({outcome.reason}): {first_line(outcome.message)}"
    at = "" if outcome.finished_at is None else f" {ago(outcome.finished_at, facts.now)}"
    event = facts.last_event
    if event is not None and event.kind is EventKind.FINISHED and event.worker:
        at += f" by {event.worker}"
    return Cause(
        name=CauseName.ENDED,
        text=f"it has ended{at}, at attempt {outcome.attempt}: it {how}",
        command=("result", *typed_id(facts.id)),
    )


def _ended_as_written(facts: Facts) -> Cause | None:
    """Return how it ended by its history, which is a log: it may lack the end."""
    event = facts.last_event
    if event is None:
        return None
    by = f" by {event.worker}" if event.worker else ""
    if event.kind is EventKind.DELETED:
        text = f"it was deleted {ago(event.at, facts.now)}{by}"
    elif event.kind is EventKind.FINISHED:
        how = "succeeded" if event.status == Status.SUCCESS else f"failed ({event.reason})"
        text = f"it has ended {ago(event.at, facts.now)}{by}, at attempt {event.attempt}: it {how}"
    else:
        return None
    return Cause(name=CauseName.ENDED, text=text, command=("history", *typed_id(facts.id)))


def _buried(facts: Facts) -> Cause | None:
    job = facts.job
    if job is None or job.state is not JobState.BURIED:
        return None
    since = "" if job.buried_at is None else f" {ago(job.buried_at, facts.now)}"
    why = f" ({job.reason})" if job.reason else ", by other software or without a record of the reason"
    change, command = advice(job.reason, facts.id)
    text = f"it was buried{since}{why}" + (f": {first_line(job.message)}" if job.message else "")
    return Cause(name=CauseName.BURIED, text=text, change=change, command=command)


def _running(facts: Facts) -> Cause | None:
    job = facts.job
    if job is None or job.state is not JobState.RESERVED:
        return None
    for worker in facts.workers or ():
        for busy in worker.jobs:
            if busy.id == job.id and busy.queue == job.queue:
                return Cause(
                    name=CauseName.RUNNING,
                    text=f"{named(worker)} runs it since {when(busy.since)} "
                    f"({span_text(facts.now - busy.since)})" + _how_far(facts, facts.now - busy.since),
                    change=f"when it ends; if its worker dies, {_lease(facts)}",
                    at=job.due,
                )
    return None


def _how_far(facts: Facts, span: timedelta) -> str:
    text = ""
    if (progress := facts.progress) is not None:
        text += f", it reported {first_line(str(progress))}"
    if facts.timeout is not None and span > facts.timeout:
        text += f", which is longer than its timeout of {span_text(facts.timeout)}"
    return text


def _reserved(facts: Facts) -> Cause | None:
    job = facts.job
    if job is None or job.state is not JobState.RESERVED or _running(facts) is not None:
        return None
    known = "no worker says that it runs it" if facts.workers is not None else "by whom was not seen"
    young = int(ENTRY_EVERY.total_seconds())
    return Cause(
        name=CauseName.RESERVED,
        text=f"it is held, and {known}: taken in the last {young} s, by a worker that is not listed, or by "
        "one that died",
        change=f"if its worker is dead, {_lease(facts)}",
        at=job.due,
    )


def _lease(facts: Facts) -> str:
    due = facts.job.due if facts.job is not None else None
    return "it is delivered again" + ("" if due is None else f" at {at(due, facts.now)}")


# --- notes ----------------------------------------------------------------------------------------


def _notes(facts: Facts, causes: tuple[Cause, ...]) -> Iterator[str]:
    request, job = facts.request, facts.job
    event = facts.last_event
    if job is None and event is not None and CauseName.ENDED not in {cause.name for cause in causes}:
        yield f"the last that was written down of it: {event.kind}, {ago(event.at, facts.now)}"
    if facts.moved:
        yield f"it moved while it was looked at: {facts.moved}"
    for other in facts.others:
        yield f"another job with this id is in the queue {other.queue!r}, {other.state}"
    names = {cause.name for cause in causes}
    is_waiting = job is not None and job.state in (JobState.READY, JobState.DELAYED)
    if is_waiting and request is not None and request.expires_at and CauseName.EXPIRED not in names:
        yield f"expires at {at(request.expires_at, facts.now)}"
    if is_waiting and job is not None and request is None:
        yield "its body is no request: a worker that takes it buries it as undecodable"
    for worker in facts.workers or ():
        if waiting.is_skewed(worker, facts.now):
            off = span_text(abs(facts.now - worker.seen_at))
            yield f"the clock of {worker.host} is about {off} off from the one here"
