"""Mutants of the reference adapter whose faults show late, together, or to others only; as `mutants.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import attrs
from breaking import mutant, slot_mutant
from reference import Held, Record, Reference, Slot

from kessel_core import AdapterError, IdHeld
from kessel_core.contract import Bury, Commit, JobState, Message, Reservation, Settlement

#: Jobs, and burials; a log that is longer is written anew.
_MANY = 500

# --- a long history ---


def _forgets(adapter: Reference, **values: Any) -> None:
    """Lose values of all jobs that are left, where there have been many."""
    if adapter.disk.counter > _MANY:
        for record in adapter.disk.records:
            for name, value in values.items():
                setattr(record, name, value)


mutant("reopen_forgets_pauses", "forgets pauses on close", reopened=lambda s: s.disk.paused.clear())
mutant(
    "many_forget_attempts",
    "forgets attempts when it has had many jobs, and closes",
    reopened=lambda s: _forgets(s, attempts=0),
)
mutant(
    "many_forget_burials",
    "forgets why jobs were buried when it has had many, and closes",
    reopened=lambda s: _forgets(s, reason="", text=""),
)
mutant(
    "many_forget_pauses",
    "forgets pauses when it has had many jobs",
    is_paused=lambda s, queue: s.disk.counter < _MANY and Reference.is_paused(s, queue),
)

# --- leases ---


def _numbered(adapter: Reference, queues: Sequence[str]) -> Held | None:
    held = Reference.take(adapter, queues)
    if held is not None and held.record is not None:
        taken = adapter.__dict__["taken"] = adapter.__dict__.get("taken", 0) + 1
        held.token = held.record.token = taken
    return held


def _counts_from_answer(slot: Slot, held: Reservation, settlement: Settlement) -> Reservation | None:
    following = Slot.settle_and_reserve(slot, held, settlement)
    if following is not None:
        following.deadline = slot.adapter.local_deadline()
    return following


mutant("fenced_by_number", "counts the deliveries of each adapter from one", take=_numbered)
slot_mutant(
    "deadline_from_answer_of_both",
    "counts a lease that comes with a settle from the answer",
    settle_and_reserve=_counts_from_answer,
)
slot_mutant(
    "sleeps_through_leases_beside_delays",
    "sleeps through the end of a lease where another job is delayed",
    until_change=lambda self: _until_delay(self),
)


def _until_delay(slot: Slot) -> float:
    adapter = slot.adapter
    due = [r.ready_at - adapter.now() for queue in slot.queues for r in adapter.of(queue, JobState.READY)]
    coming = [span for span in due if span > 0]
    return min(coming) + 1e-6 if coming else Slot.until_change(slot)


# --- what a settlement brings along ---


def _follows_twice(adapter: Reference, settlement: Commit | Bury) -> None:
    known = {record.message.id for record in adapter.disk.records}
    adapter.__dict__["known"] = known
    try:
        Reference.followed(adapter, settlement)
    finally:
        del adapter.__dict__["known"]


def _is_known(adapter: Reference, message: Message) -> bool:
    known = adapter.__dict__.get("known")
    return Reference.is_known(adapter, message) if known is None else message.id in known


def _unless_busy(adapter: Reference, what: str) -> None:
    if not adapter.__dict__.get("busy"):
        Reference.announce(adapter, what)


def _busily(slot: Slot, held: Reservation, settlement: Settlement) -> Reservation | None:
    slot.adapter.__dict__["busy"] = True
    try:
        return Slot.settle_and_reserve(slot, held, settlement)
    finally:
        slot.adapter.__dict__["busy"] = False


class _Busy(Slot):
    settle_and_reserve = _busily


def _untold(adapter: Reference, settlement: Commit | Bury, told: int = 0) -> None:
    """Write the entries, and tell those who wait only of so many."""
    Reference.kept_entries(adapter, attrs.evolve(settlement, puts=settlement.puts[:told]))
    settlement = attrs.evolve(settlement, puts=settlement.puts[told:])
    entries = adapter.disk.entries
    assert entries is not None
    waiting, entries._waiting = entries._waiting, {}
    try:
        Reference.kept_entries(adapter, settlement)
    finally:
        entries._waiting = waiting


def _kept_for(adapter: Reference, settlement: Commit | Bury, ttl: timedelta | None) -> None:
    for put in settlement.puts:
        adapter.store.put(put.space, put.key, put.value, ttl=ttl if put.ttl is not None else None)


def _kept_for_whole_seconds(adapter: Reference, settlement: Commit | Bury) -> None:
    for put in settlement.puts:
        ttl = None if put.ttl is None else put.ttl // timedelta(seconds=1) * timedelta(seconds=1)
        adapter.store.put(put.space, put.key, put.value, ttl=ttl)


mutant(
    "follow_twice",
    "stores an id twice that a settlement brings along twice",
    followed=_follows_twice,
    is_known=_is_known,
)
mutant(
    "asleep_after_both",
    "wakes nobody for what a settle that reserves brings along or gives back",
    make_consumer=lambda s, queues: (s.refuse_if_closed(), _Busy(s, queues))[1],
    announce=_unless_busy,
)
mutant("asleep_after_entry", "wakes nobody for an entry of a settlement", kept_entries=_untold)
mutant(
    "asleep_after_second_entry",
    "wakes those alone who wait for the first entry of a settlement",
    kept_entries=lambda s, settlement: _untold(s, settlement, told=1),
)
mutant(
    "asleep_after_entry_of_burial",
    "wakes those who wait for an entry of a commit, and not those who wait for one of a burial",
    kept_entries=lambda s, settlement: (
        _untold(s, settlement) if isinstance(settlement, Bury) else Reference.kept_entries(s, settlement)
    ),
)
mutant(
    "entries_stay",
    "keeps entries of settlements for ever",
    kept_entries=lambda s, settlement: _kept_for(s, settlement, None),
)
mutant(
    "entries_end_soon",
    "keeps entries of settlements for a minute at most",
    kept_entries=lambda s, settlement: _kept_for(s, settlement, timedelta(minutes=1)),
)
mutant(
    "entries_end_on_seconds",
    "cuts the time of entries of settlements to whole seconds",
    kept_entries=_kept_for_whole_seconds,
)

# --- what is shown, and what is forgotten ---


def _says_ready(adapter: Reference, messages: Sequence[Message]) -> list[AdapterError | None]:
    outcomes = Reference.enqueue_many(adapter, messages)
    return [IdHeld(one.job_id, "ready") if isinstance(one, IdHeld) else one for one in outcomes]


def _since_look(adapter: Reference, record: Record, now: float) -> timedelta:
    looks = adapter.disk.__dict__.setdefault("looks", {})
    return timedelta(seconds=now - looks.setdefault(record.number, now))


def _purged(adapter: Reference, queue: str) -> int:
    adapter.disk.paused.pop(queue, None)
    return Reference.purge(adapter, queue)


def _removed(adapter: Reference, record: Record) -> None:
    Reference.removes(adapter, record)
    queue = record.message.queue
    if all(other.message.queue != queue for other in adapter.disk.records):
        adapter.disk.paused.pop(queue, None)


def _forgotten(adapter: Reference, record: Record) -> None:
    Reference.removes(adapter, record)
    if not adapter.of(record.message.queue, JobState.READY):
        adapter.disk.__dict__.setdefault("unlisted", set()).add(record.message.queue)


def _listed(adapter: Reference, message: Message) -> None:
    Reference.enqueue(adapter, message)
    adapter.disk.__dict__.setdefault("unlisted", set()).discard(message.queue)


mutant("batch_says_ready", "says in a batch of every held id that its job is ready", enqueue_many=_says_ready)
mutant("oldest_since_look", "counts the age of a job from the first look at it", ready_for=_since_look)
mutant(
    "oldest_by_number",
    "tells the age of the ready job that was enqueued first",
    oldest_ready=lambda s, waiting: _oldest(s, waiting, min),
)
mutant(
    "oldest_of_all",
    "tells the age of the ready job that has waited longest",
    oldest_ready=lambda s, waiting: _oldest(s, waiting, max),
)
mutant("at_once_by_the_clock", "makes a job without a delay due now", at_once=lambda s: s.now())
mutant("pause_ends_at_purge", "forgets a pause with a purge", purge=_purged)
mutant("pause_ends_when_empty", "forgets a pause with the last job of its queue", removes=_removed)
mutant(
    "names_forgotten_early",
    "lists no queue any more when the last job that waits is done",
    removes=_forgotten,
    enqueue=_listed,
    queues=lambda s: [q for q in Reference.queues(s) if q not in s.disk.__dict__.get("unlisted", ())],
)


def _oldest(adapter: Reference, waiting: list[Record], which: Any) -> timedelta | None:
    now = adapter.now()
    ready = [record for record in waiting if record.ready_at <= now]
    if which is max:
        return max((adapter.ready_for(record, now) for record in ready), default=None)
    first = min(ready, key=lambda record: record.number, default=None)
    return None if first is None else adapter.ready_for(first, now)
