"""Mutants of the reference adapter that are right about one thing, and wrong about two; as `mutants.py`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from breaking import mutant
from reference import Held, Record, Reference

from kessel_core.contract import Bury, Commit, JobState, Reservation, Settlement, StoredJob


# --- a follow-up under the id of the job that brings it along ---
def _ends_last(adapter: Reference, reservation: Reservation, settlement: Settlement) -> None:
    Reference.settle(adapter, reservation, settlement)
    if isinstance(settlement, Commit):
        found = adapter.disk.__dict__.setdefault("ended", set())
        found.update(one.id for one in settlement.follow if one.id == reservation.id)


def _found(adapter: Any, job_id: str) -> StoredJob | None:
    return None if job_id in adapter.disk.__dict__.get("ended", ()) else Reference.find(adapter, job_id)


mutant(
    "own_id_not_found",
    "finds no job that follows under the id of the one that brought it along",
    settle=_ends_last,
    find=_found,
)


# --- several of a kind ---
def _follows_quietly(adapter: Reference, settlement: Commit | Bury) -> None:
    adapter.disk.__dict__["quiet"] = len(settlement.follow) > 1
    Reference.followed(adapter, settlement)
    adapter.disk.__dict__["quiet"] = False


def _unless_quiet(adapter: Reference, what: str) -> None:
    if not adapter.disk.__dict__.get("quiet"):
        Reference.announce(adapter, what)


mutant(
    "asleep_after_several_follows",
    "wakes nobody for follow-ups of which there are several",
    followed=_follows_quietly,
    announce=_unless_quiet,
)


# --- what time does ---
def _one_kind(adapter: Reference, queue: str, *states: JobState) -> list[Record]:
    """Look at one queue alone, and see the ends of its delays, or else those of its leases."""
    found = [r for r in adapter.disk.records if r.message.queue == queue]
    due = [r for r in found if r.state is JobState.READY and 0 < r.ready_at <= adapter.now()]
    for record in due:
        record.ready_at = adapter.at_once()
    for record in found if not due else ():
        if record.state is JobState.RESERVED and adapter.is_over(record):
            record.state, record.token = JobState.READY, record.token + 1
    return [r for r in found if r.state in states]


def _rests(adapter: Reference, queues: Sequence[str]) -> Held | None:
    found = Reference.take(adapter, queues)
    if found is None:
        time.sleep(0.02)
    return found


mutant("one_kind_at_a_look", "sees no lease that has ended where a delay has, too", of=_one_kind)
mutant("sleeps_really", "rests for 20 ms of real time where it finds no job", take=_rests)


def _cut(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(microsecond=moment.microsecond // 1000 * 1000)


mutant(
    "ready_before_it_was_stored",
    "counts the age of a job from a delay that was over before it was stored",
    ready_for=lambda s, r, now: timedelta(seconds=max(now - (r.ready_at or r.enqueued_at), 0.0)),
)
mutant(
    "change_cut",
    "tells of the next change in whole milliseconds, and so before it comes",
    next_change=lambda s, queues: _cut(Reference.next_change(s, queues)),
)


# --- names ---
def _renamed(adapter: Reference, queues: Sequence[str]) -> Held | None:
    found = Reference.take(adapter, queues)
    if found is not None:
        found.id = f"{found.queue}/{found.id}"
    return found


mutant("reservation_renamed", "gives its own name to a job, though it knows its id", take=_renamed)
