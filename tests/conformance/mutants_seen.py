"""Mutants of the reference adapter that go by what they saw first, or show less than there is."""

from __future__ import annotations

import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import attrs
from breaking import mutant, slot_mutant
from reference import LEASE, Held, Record, Reference, Slot

from kessel_core.contract import (
    JobState,
    Message,
    QueueStats,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
    StoredJob,
)

# --- moments ---


def _taken(adapter: Reference, queues: Any) -> Held | None:
    held = Reference.take(adapter, queues)
    if held is not None and held.record is not None:
        adapter.disk.__dict__.setdefault("taken", {})[id(held.record)] = held.record.ready_at - LEASE
    return held


def _pauses_from_reserve(adapter: Reference, reservation: Reservation, settlement: Settlement) -> None:
    Reference.settle(adapter, reservation, settlement)
    assert isinstance(reservation, Held) and reservation.record is not None
    if isinstance(settlement, Rollback | Snooze) and settlement.pause:
        taken = adapter.disk.__dict__["taken"][id(reservation.record)]
        reservation.record.ready_at = taken + settlement.pause.total_seconds()


def _pauses_from_lease(adapter: Reference, reservation: Reservation, settlement: Settlement) -> None:
    assert isinstance(reservation, Held) and reservation.record is not None
    begun = reservation.record.ready_at - LEASE
    Reference.settle(adapter, reservation, settlement)
    if isinstance(settlement, Rollback | Snooze) and settlement.pause:
        reservation.record.ready_at = begun + settlement.pause.total_seconds()


mutant(
    "pause_from_reserve",
    "counts a pause from the moment when the job was taken",
    take=_taken,
    settle=_pauses_from_reserve,
)
mutant(
    "pause_from_lease",
    "counts a pause from the begin of the lease, which an extension moves",
    settle=_pauses_from_lease,
)


def _is_over(adapter: Reference, record: Record) -> bool:
    """Look at a lease at the end that was noted when it began, and never again if it was extended."""
    ends = adapter.disk.__dict__.setdefault("ends", {})
    end = ends.setdefault((id(record), record.token), record.ready_at)
    if end is None or adapter.now() < end:
        return False
    if record.ready_at != end:
        ends[id(record), record.token] = None
        return False
    return True


mutant("extended_end_not_noted", "looks at a lease only at the end that it had at first", is_over=_is_over)


def _is_ready(adapter: Reference, record: Record) -> bool:
    """Note what is due, and forget what no longer is when it is looked at."""
    noted = adapter.disk.__dict__.setdefault("noted", {})
    key = (id(record), record.ready_at)
    if record.ready_at <= adapter.now():
        return bool(noted.setdefault(key, True))
    if key in noted:
        noted[key] = False
    return False


def _counted(adapter: Reference, queue: str) -> QueueStats:
    for record in adapter.disk.records:
        adapter.is_ready(record)
    return Reference.stats(adapter, queue)


mutant(
    "set_back_is_dropped",
    "drops what was due and no longer is, because the clock was set back",
    is_ready=_is_ready,
    stats=_counted,
)


# --- queues, and what is in them ---


def _noted(adapter: Any) -> set[str]:
    """The queues that there were when this adapter first looked, and those that it has made itself."""
    seen: set[str] = adapter.__dict__.setdefault("seen", {r.message.queue for r in adapter.disk.records})
    return seen


def _enqueued(adapter: Any, message: Message) -> None:
    _noted(adapter)
    Reference.enqueue(adapter, message)
    _noted(adapter).add(message.queue)
    adapter.__dict__.setdefault("own", set()).add(message.queue)


def _is_known(adapter: Any, message: Message) -> bool:
    seen = _noted(adapter)
    return any(r.message.id == message.id and r.message.queue in seen for r in adapter.disk.records)


def _found(adapter: Any, job_id: str) -> StoredJob | None:
    found = Reference.find(adapter, job_id)
    return found if found is not None and found.queue in _noted(adapter) else None


mutant(
    "new_queues_not_listed",
    "lists the queues of its first look, and its own",
    enqueue=_enqueued,
    queues=lambda s: sorted(_noted(s) & set(Reference.queues(s))),
)
mutant(
    "new_queues_not_found", "finds jobs in the queues of its first look only", enqueue=_enqueued, find=_found
)
mutant(
    "new_queues_not_compared",
    "compares ids with the jobs in the queues of its first look only",
    enqueue=_enqueued,
    is_known=_is_known,
)


def _escaped(queue: str) -> str:
    return quote(queue, safe="")


mutant(
    "names_stay_escaped",
    "lists the queues that others have made by the names of their files",
    enqueue=_enqueued,
    queues=lambda s: sorted(
        q if q in s.__dict__.get("own", ()) else _escaped(q) for q in Reference.queues(s)
    ),
)
mutant(
    "names_escaped_are_cut",
    "cuts a name that is too long once it is escaped",
    same_queue=lambda s, known, asked: _escaped(known)[:255] == _escaped(asked)[:255],
)


def _shows(adapter: Reference, record: Record, state: JobState, cut: Any) -> StoredJob:
    shown = Reference.stored(adapter, record, state)
    return attrs.evolve(shown, body=cut(shown.body))


mutant(
    "bodies_shown_in_part",
    "shows the first 4096 bytes of a body",
    stored=lambda s, r, state: _shows(s, r, state, lambda body: body[:4096]),
)
mutant(
    "buried_bodies_shown_in_part",
    "shows the first 60,000 bytes of the body of a buried job",
    stored=lambda s, r, state: _shows(
        s, r, state, lambda body: body[:60_000] if state is JobState.BURIED else body
    ),
)
mutant(
    "delayed_bodies_shown_in_part",
    "shows a large body of a delayed job up to its first zero",
    stored=lambda s, r, state: _shows(
        s,
        r,
        state,
        lambda body: body.partition(b"\0")[0] if state is JobState.DELAYED and len(body) > 999 else body,
    ),
)


# --- waiting ---


def _looks(every: float) -> Any:
    def reserve(slot: Slot, timeout: timedelta) -> Reservation | None:
        end = slot.adapter.clock.monotonic() + timeout.total_seconds()
        while (found := Slot.reserve(slot, timedelta(0))) is None and not slot.cancelled:
            left = end - slot.adapter.clock.monotonic()
            if left <= 0:
                return None
            condition = threading.Condition()
            with condition:
                slot.adapter.clock.wait(condition, min(left, every))
        return found

    return reserve


slot_mutant("polls_often", "looks for jobs ten times in a second", reserve=_looks(0.1))
