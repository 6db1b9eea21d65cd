"""Mutants of the reference adapter that go by what they saw first, or show less than there is; as `mutants.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from breaking import mutant
from reference import LEASE, Held, Record, Reference

from kessel_core.contract import QueueStats, Reservation, Rollback, Settlement, Snooze

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
