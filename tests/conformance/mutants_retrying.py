"""Mutants of the reference adapter between two tries, beside an extended lease, and while others look."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import attrs
from breaking import declares, mutant, without
from reference import LEASE, Held, Record, Reference

from kessel_core import CapabilityMissing, LeaseLost
from kessel_core.contract import (
    AdapterContext,
    Buried,
    Bury,
    Durability,
    JobState,
    Message,
    QueueStats,
    Reservation,
    Settlement,
    StoredJob,
)

# --- between two tries ---


def _is_retry(adapter: Reference, record: Record) -> bool:
    """Whether a job waits for the end of a pause that came with its rollback or snooze."""
    return record.token > 0 and record.state is JobState.READY and not adapter.is_ready(record)


def _purge_spares(adapter: Reference, queue: str) -> int:
    with adapter.lock:
        found = adapter.of(queue, JobState.BURIED, JobState.READY)
        gone = [record for record in found if not _is_retry(adapter, record)]
        for record in gone:
            adapter.disk.records.remove(record)
        return len(gone)


def _purge_keeps_ids(adapter: Reference, queue: str) -> int:
    with adapter.lock:
        kept = adapter.disk.__dict__.setdefault("kept", set())
        kept |= {r.message.id for r in adapter.of(queue, JobState.READY) if _is_retry(adapter, r)}
        return Reference.purge(adapter, queue)


def _id_kept(adapter: Reference, message: Message) -> bool:
    kept = adapter.disk.__dict__.get("kept", set())
    return message.id in kept or Reference.is_known(adapter, message)


mutant("purge_spares_retries", "purges no job that waits for its next try", purge=_purge_spares)
mutant(
    "purged_retry_keeps_id",
    "holds the id of a job for ever that was purged between two tries",
    purge=_purge_keeps_ids,
    is_known=_id_kept,
)
mutant(
    "retry_frees_id",
    "frees the id of a job while it waits for its next try",
    is_known=lambda s, m: any(r.message.id == m.id and not _is_retry(s, r) for r in s.disk.records),
)
mutant(
    "queues_without_retries",
    "does not list queues whose jobs all wait for their next try",
    queues=lambda s: sorted({r.message.queue for r in s.disk.records if not _is_retry(s, r)}),
)


def _lost_by_burial(adapter: Reference, reservation: Reservation, settlement: Settlement, field: str) -> None:
    Reference.settle(adapter, reservation, settlement)
    assert isinstance(reservation, Held)
    record = reservation.record
    if isinstance(settlement, Bury) and record is not None and getattr(record, field) > (field == "attempts"):
        adapter.disk.records.remove(record)


def _no_burials(*_: object) -> Any:
    raise CapabilityMissing("buried", "reference")


def _peek(adapter: Reference, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
    if state is JobState.BURIED:
        return Reference.buried(adapter, queue, limit)
    return Reference.peek(adapter, queue, state, limit)


for _field, _what in (("attempts", "rollback"), ("snoozes", "snooze")):
    mutant(
        f"burial_after_{_what}_loses",
        f"loses a job that is buried after a {_what}, and has no listing of buried jobs",
        facet=without(Buried),
        buried=_no_burials,
        kick=_no_burials,
        peek=_peek,
        settle=lambda s, r, x, field=_field: _lost_by_burial(s, r, x, field),
    )


def _snoozed(adapter: Reference, record: Record) -> int:
    record.kicks = 0
    return Reference.attempts_snoozed(adapter, record)


def _priority_after(adapter: Reference, record: Record, what: str) -> int:
    if what == "rollback":
        record.kicks = 0
    return Reference.priority_after(adapter, record, what)


#: Without it the cases of durability look at kicks as well.
_LOST_AT_END = declares(durability=Durability.NONE)
mutant(
    "snooze_forgets_kicks",
    "forgets at a snooze that a job was kicked",
    capabilities=_LOST_AT_END,
    attempts_snoozed=_snoozed,
)
mutant(
    "rollback_forgets_kicks",
    "forgets at a rollback that a job was kicked",
    capabilities=_LOST_AT_END,
    priority_after=_priority_after,
)


def _next_change(adapter: Reference, queues: Sequence[str]) -> datetime | None:
    found = Reference.next_change(adapter, queues)
    if found == datetime.max.replace(tzinfo=UTC):
        raise OverflowError("date value out of range")
    return found


mutant(
    "next_change_overflows",
    "fails to tell a change that comes after the year 9999",
    capabilities=declares(longest_delay=None),
    is_too_far=lambda s, m: False,
    next_change=_next_change,
)

# --- leases ---


def _taken(adapter: Reference, queues: Sequence[str]) -> Held | None:
    held = Reference.take(adapter, queues)
    if held is not None and held.record is not None:
        places = adapter.disk.__dict__.setdefault("places", {})
        places[held.record.number] = held.record.ready_at
    return held


def _tick(adapter: Reference) -> None:
    """Look through the leases from the one that was to end first on, up to one that still holds."""
    places = adapter.disk.__dict__.get("places", {})
    held = [record for record in adapter.disk.records if record.state is JobState.RESERVED]
    for record in sorted(held, key=lambda record: places.get(record.number, 0.0)):
        if not adapter.is_over(record):
            return
        record.state, record.token = JobState.READY, record.token + 1


def _lease_extended(adapter: Reference, record: Record) -> float:
    return record.ready_at if record.ready_at - adapter.now() > LEASE / 2 else adapter.lease_ends()


def _deadline_extended(adapter: Reference, held: Reservation) -> float | None:
    left = (held.deadline or 0.0) - adapter.clock.monotonic()
    return held.deadline if left > LEASE / 2 else adapter.local_deadline()


mutant(
    "extended_hides_others",
    "looks for no ended lease behind one that was extended",
    take=_taken,
    tick=_tick,
)
mutant(
    "extends_late_only",
    "extends no lease of which more than half is left",
    lease_extended=_lease_extended,
    deadline_extended=_deadline_extended,
)
mutant(
    "extends_late_only_in_secret",
    "says that it has extended a lease of which more than half is left, and has not",
    lease_extended=_lease_extended,
)


def _brings(adapter: Reference, settlement: Settlement, what: str) -> None:
    if isinstance(settlement, Bury):
        getattr(Reference, what)(adapter, settlement)


def _holds(adapter: Reference, reservation: Reservation, settlement: Settlement, what: str) -> Record:
    try:
        return Reference.holds(adapter, reservation, settlement)
    except LeaseLost:
        _brings(adapter, settlement, what)
        raise


mutant(
    "late_burial_follows",
    "stores the follow-ups of a burial that it refuses, because the lease has ended",
    holds=lambda s, r, x: _holds(s, r, x, "followed"),
)
mutant(
    "late_burial_puts",
    "stores the entries of a burial that it refuses, because the lease has ended",
    holds=lambda s, r, x: _holds(s, r, x, "kept_entries"),
)


def _has_ended(adapter: Reference, record: Record) -> bool:
    return record.state is JobState.RESERVED and adapter.is_over(record)


def _is_due(adapter: Reference, record: Record) -> bool:
    is_new = record.state is JobState.READY and record.token == 0 and record.message.delay is not None
    return is_new and adapter.is_ready(record)


def _deletes(adapter: Reference, queue: str, job_id: str, is_left: Any) -> None:
    """Delete, and count it on if nobody has looked since it became ready."""
    with adapter.lock:
        left = [r for r in adapter.disk.records if r.message.id == job_id and is_left(adapter, r)]
        Reference.delete(adapter, queue, job_id)
        if left:
            adapter.disk.__dict__.setdefault("ghosts", Counter())[queue] += 1


def _stats(adapter: Reference, queue: str, field: str) -> QueueStats:
    found = Reference.stats(adapter, queue)
    ghosts = adapter.disk.__dict__.get("ghosts", Counter())[queue]
    return attrs.evolve(found, **{field: getattr(found, field) + ghosts})


mutant(
    "delete_counts_lost",
    "counts a job as reserved for ever that was deleted after its lease",
    delete=lambda s, queue, job_id: _deletes(s, queue, job_id, _has_ended),
    stats=lambda s, queue: _stats(s, queue, "reserved"),
)
mutant(
    "delete_counts_due",
    "counts a job as delayed for ever that was deleted after its delay",
    delete=lambda s, queue, job_id: _deletes(s, queue, job_id, _is_due),
    stats=lambda s, queue: _stats(s, queue, "delayed"),
)

# --- while others work ---


class _Shelf:
    """Jobs by their number; whoever goes through them must keep others from changing them."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}

    def append(self, record: Record) -> None:
        self.records[record.number] = record

    def remove(self, record: Record) -> None:
        del self.records[record.number]

    def __iter__(self) -> Iterator[Record]:
        yield from self.records.values()


def _opened(adapter: Any, namespace: str, context: AdapterContext) -> None:
    Reference.__init__(adapter, namespace, context)
    if not isinstance(adapter.disk.records, _Shelf):
        adapter.disk.records = _Shelf()


def _unlocked(adapter: Any) -> Any:
    free = copy.copy(adapter)
    free.lock = contextlib.nullcontext()
    return free


mutant(
    "stats_unlocked",
    "counts jobs while others change them",
    __init__=_opened,
    stats=lambda s, queue: Reference.stats(_unlocked(s), queue),
)
mutant(
    "queues_unlocked",
    "lists queues while others change them",
    __init__=_opened,
    queues=lambda s: Reference.queues(_unlocked(s)),
)
mutant(
    "peek_unlocked",
    "shows jobs while others change them",
    __init__=_opened,
    peek=lambda s, queue, state, limit=1: Reference.peek(_unlocked(s), queue, state, limit),
)
