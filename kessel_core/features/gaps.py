"""What is missing in the history of a job: events in, sentences out (S39)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kessel_core.model.history import Dropped, Event, EventKind
from kessel_core.values.moments import when

__all__ = ["gaps"]

_ENDS = frozenset({EventKind.SETTLED, EventKind.SNOOZED})


def gaps(events: Sequence[Event], dropped: Sequence[Dropped]) -> Iterator[str]:
    """Yield what is missing.

    Args:
        events: Of one job, in their order.
        dropped: Events of whatever jobs that were never written.
    """
    if not events:
        return
    if events[0].kind is not EventKind.REQUESTED:
        yield f"nothing is known from before {when(events[0].at)}"
    yield from _attempts(events)
    for one in dropped:
        if one.until >= events[0].at and (one.since <= events[-1].at or not _has_ended(events)):
            yield (
                f"{one.worker} could not write {one.count:,} events of jobs between {when(one.since)} and "
                f"{when(one.until)}; some may be of this one"
            )


def _has_ended(events: Sequence[Event]) -> bool:
    return events[-1].kind in (EventKind.FINISHED, EventKind.DELETED)


def _attempts(events: Sequence[Event]) -> Iterator[str]:
    """Yield what is missing between the attempts."""
    running: Event | None = None
    counted = 0
    for event in events:
        if running is not None and event.kind is not EventKind.FINISHED and event.kind not in _ENDS:
            yield (
                f"the attempt that began at {when(running.at)} has no end: its worker died or lost the job, "
                "or could not write it"
            )
            running = None
        if event.kind is EventKind.STARTED:
            running = event
        elif event.kind in _ENDS:
            if event.was_run and running is None:
                yield f"the start of the attempt that ended at {when(event.at)} is missing"
            running = None
        if event.kind is EventKind.KICKED:
            counted = 0
        elif event.kind is EventKind.SETTLED and event.attempt is not None:
            if event.attempt > counted + 1:
                first = counted + 1
                missing = f"{first}" if event.attempt - 1 == first else f"{first} to {event.attempt - 1}"
                yield f"attempt {missing} is missing before {when(event.at)}"
            counted = event.attempt
