"""Mutants of the reference adapter that mistake one time or one delivery for another; as `mutants.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from breaking import declares, mutant
from reference import Held, Record, Reference

from kessel_core import AdapterError, IdHeld, LeaseLost
from kessel_core.contract import JobState, Message, Reach, Reservation, Settlement

# --- a wall clock that is set ---
mutant(
    "leases_by_the_wall_clock",
    "counts leases by the wall clock, though no other process has the jobs",
    capabilities=declares(reach=Reach.PROCESS),
)


def _due_now(adapter: Reference, pause: timedelta) -> float:
    return adapter.now() + pause.total_seconds()


mutant("rollback_due_now", "makes a job that is rolled back without a pause due now", pause_ends=_due_now)
mutant("snooze_due_now", "makes a job that is snoozed without a pause due now", snooze_ends=_due_now)


# --- a job that comes again under its id ---
def _by_id(adapter: Reference, reservation: Reservation) -> Record:
    """Tell deliveries of one id by a number that begins anew with each job."""
    assert isinstance(reservation, Held)
    adapter.tick()
    for record in adapter.disk.records:
        mine = (reservation.id, reservation.token, JobState.RESERVED)
        if (record.message.id, record.token, record.state) == mine and not adapter.is_late(reservation):
            return record
    raise LeaseLost(reservation.id, "it ended")


def _refuse_settled(adapter: Reference, reservation: Reservation) -> None:
    """Know at least what this very adapter has settled."""
    if any(one is reservation for one in adapter.__dict__.setdefault("settled", [])):
        raise LeaseLost(reservation.id, "it was settled")


def _settled_once(adapter: Reference, reservation: Reservation, settlement: Settlement) -> None:
    _refuse_settled(adapter, reservation)
    Reference.settle(adapter, reservation, settlement)
    adapter.__dict__["settled"].append(reservation)


def _renewed_once(adapter: Reference, reservation: Reservation) -> None:
    _refuse_settled(adapter, reservation)
    Reference.renew(adapter, reservation)


mutant("deliveries_from_one", "counts the deliveries of each job from one", record_of=_by_id)
mutant(
    "deliveries_from_one_elsewhere",
    "counts the deliveries of each job from one, but refuses what it has settled itself",
    record_of=_by_id,
    settle=_settled_once,
    renew=_renewed_once,
)


# --- several queues, and several jobs ---
def _taken_first_of_first(adapter: Reference, queues: Sequence[str]) -> Held | None:
    """Take a job without seeing what time has made ready behind the first queue that has one."""
    with adapter.lock:
        hidden: list[tuple[Record, JobState | None]] = []
        has_one = False
        for queue in queues:
            ready = [record for record in adapter.of(queue, JobState.READY) if adapter.is_ready(record)]
            if has_one:
                hidden += [(record, record.state) for record in ready if record.ready_at > 0]
            has_one = has_one or bool(ready)
        for record, _ in hidden:
            record.state = JobState.BURIED
        try:
            return Reference.take(adapter, queues)
        finally:
            for record, state in hidden:
                record.state = state


def _held_by_ready(adapter: Reference, messages: Sequence[Message]) -> list[AdapterError | None]:
    outcomes = Reference.enqueue_many(adapter, messages)
    stored = {message.id for message, outcome in zip(messages, outcomes, strict=True) if outcome is None}
    return [
        IdHeld(outcome.job_id, "ready")
        if isinstance(outcome, IdHeld) and outcome.job_id in stored
        else outcome
        for outcome in outcomes
    ]


mutant(
    "due_unseen_behind",
    "does not see what time has made ready in queues behind one that has a ready job",
    take=_taken_first_of_first,
)
mutant(
    "batch_held_by_ready",
    "says that an id which is twice in a batch is held by a ready job",
    enqueue_many=_held_by_ready,
)
mutant(
    "queue_pause_overflows",
    "fails at a pause of a queue beyond the year 9999",
    capabilities=declares(longest_delay=None),
    queue_pause_ends=lambda s, q, p: (s.clock.now() + p).timestamp() if p else s.now(),
)
