"""Mutants of the reference adapter that disturb others when they close, or name another; as `mutants.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from breaking import mutant, slot_mutant
from mutants_kinds import takes_slowly
from reference import Held, Record, Reference, Slot

from kessel_core import AdapterError, IdHeld, LeaseLost, UnknownJob
from kessel_core.contract import (
    Commit,
    Consumer,
    JobState,
    Message,
    Reservation,
    Settlement,
    StoredJob,
)


# --- an adapter that closes ---
def _closes(adapter: Reference) -> None:
    adapter.disk.__dict__["was_closed"] = True


def _was_closed(adapter: Reference) -> bool:
    return adapter.disk.__dict__.get("was_closed", False)


def _takes(adapter: Reference, queues: Sequence[str]) -> Held | None:
    return takes_slowly(adapter, queues) if _was_closed(adapter) else Reference.take(adapter, queues)


def _announces(adapter: Reference, what: str) -> None:
    if not _was_closed(adapter):
        Reference.announce(adapter, what)


mutant("races_after_a_close", "takes the lock of all away when it closes", reopened=_closes, take=_takes)
mutant(
    "deaf_after_a_close",
    "takes away by what all others are woken when it closes",
    reopened=_closes,
    announce=_announces,
)


# --- what an error names ---
def _swapping(call: Callable[[Reference, str, str], None]) -> Callable[[Reference, str, str], None]:
    def swapped(adapter: Reference, queue: str, job_id: str) -> None:
        try:
            call(adapter, queue, job_id)
        except UnknownJob as exc:
            raise UnknownJob(exc.queue, exc.job_id) from exc

    return swapped


def _names_another(adapter: Reference, reservation: Reservation) -> Record:
    try:
        return Reference.record_of(adapter, reservation)
    except LeaseLost as exc:
        raise LeaseLost("another", exc.why) from exc


mutant("unknown_delete_swapped", "names the queue for the job", delete=_swapping(Reference.delete))
mutant("unknown_kick_swapped", "names the queue for the job", kick=_swapping(Reference.kick))
mutant("lost_names_another", "names another job where a lease is lost", record_of=_names_another)


# --- what goes on ---
def _drops_last(adapter: Reference, reservation: Reservation, settlement: Settlement) -> None:
    Reference.settle(adapter, reservation, settlement)
    if isinstance(settlement, Commit):
        adapter.disk.__dict__.setdefault("dropped", set()).add(reservation.id)


def _knows(adapter: Reference, message: Message) -> bool:
    return message.id not in adapter.disk.__dict__.get("dropped", ()) and Reference.is_known(adapter, message)


def _lease_end_forgets(name: str) -> Callable[[Reference], None]:
    """Look for leases that have ended, and set this count of their jobs to nothing."""

    def tick(adapter: Reference) -> None:
        held = [record for record in adapter.disk.records if record.state is JobState.RESERVED]
        Reference.tick(adapter)
        for record in held:
            if record.state is not JobState.RESERVED:
                setattr(record, name, 0)

    return tick


mutant(
    "id_ends_after_its_follow_up",
    "removes a job that was committed after its follow-up of the same id, and the id with it",
    settle=_drops_last,
    is_known=_knows,
)
mutant(
    "lease_end_forgets_snoozes", "forgets the snoozes where a lease ends", tick=_lease_end_forgets("snoozes")
)
mutant(
    "lease_end_forgets_kicks",
    "forgets the kicks of a job whose lease ends",
    tick=_lease_end_forgets("kicks"),
)


# --- what is taken for the same ---
def _extends_first_queue(
    adapter: Reference, held: Sequence[tuple[Consumer, Reservation]]
) -> list[AdapterError | None]:
    outcomes: list[AdapterError | None] = []
    for consumer, one in held:
        if one.queue == held[0][1].queue:
            outcomes += Reference.extend_many(adapter, [(consumer, one)])
        else:
            one.deadline = adapter.deadline_extended(one)
            outcomes.append(None)
    return outcomes


def _purges_name(adapter: Reference, queue: str) -> int:
    adapter.disk.__dict__.setdefault("purged", set()).add(queue)
    return Reference.purge(adapter, queue)


def _lists(adapter: Reference) -> list[str]:
    purged = adapter.disk.__dict__.get("purged", ())
    return [name for name in Reference.queues(adapter) if name not in purged]


def _deletes_as_shown(adapter: Reference, job: StoredJob) -> None:
    states = (JobState.READY, JobState.DELAYED, JobState.BURIED)
    now = {one.id: state for state in states for one in adapter.peek(job.queue, state, 10**6)}
    if job.id is None or now.get(job.id) is not job.state:
        raise UnknownJob(str(job.id), job.queue)
    Reference.delete(adapter, job.queue, job.id)


def _delayed_if_given(adapter: Reference, messages: Sequence[Message]) -> list[AdapterError | None]:
    delayed = {message.id for message in messages if message.delay is not None}
    outcomes: list[Any] = Reference.enqueue_many(adapter, messages)
    return [
        IdHeld(one.job_id, JobState.DELAYED) if isinstance(one, IdHeld) and one.job_id in delayed else one
        for one in outcomes
    ]


mutant(
    "extends_first_queue",
    "extends of several leases those of one queue, and tells it of all",
    extend_many=_extends_first_queue,
)
mutant(
    "purge_forgets_name",
    "forgets the name of a queue that is purged, though a job of it is held",
    purge=_purges_name,
    queues=_lists,
)
mutant(
    "deletes_as_shown",
    "deletes what was shown in the state in which it was shown",
    delete_shown=_deletes_as_shown,
)
mutant(
    "delayed_if_a_delay_is_given",
    "says delayed of a job of the same batch whose delay is over",
    enqueue_many=_delayed_if_given,
)


# --- those who wait in one line ---
def _waits_in_line(slot: Slot, timeout: timedelta) -> Held | None:
    """Only the first who waits for a queue has a timer; who leaves wakes the next one, of whatever queue."""
    adapter = slot.adapter
    line: list[Slot] = adapter.disk.__dict__.setdefault("in_line", [])
    end = adapter.clock.monotonic() + timeout.total_seconds()
    with adapter.lock:
        line.append(slot)
        try:
            while True:
                slot.held = adapter.take(slot.queues)
                left = end - adapter.clock.monotonic()
                if slot.held is not None or left <= 0 or slot.cancelled:
                    return slot.held
                before = {queue for one in line[: line.index(slot)] for queue in one.queues}
                times = before.isdisjoint(slot.queues)
                adapter.clock.wait(adapter.disk.changed, min(left, slot.until_change()) if times else left)
        finally:
            line.remove(slot)
            adapter.disk.changed.notify(1)


slot_mutant(
    "passes_on_to_next",
    "wakes the next in line when a consumer has got a job, whatever that one waits for",
    reserve=_waits_in_line,
)
