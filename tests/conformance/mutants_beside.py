"""Mutants of the reference adapter that disturb others when they close, or name another; as `mutants.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from breaking import mutant
from mutants_kinds import takes_slowly
from reference import Held, Record, Reference

from kessel_core import LeaseLost, UnknownJob
from kessel_core.contract import Commit, JobState, Message, Reservation, Settlement


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


def _forgets_snoozes(adapter: Reference) -> None:
    held = [record for record in adapter.disk.records if record.state is JobState.RESERVED]
    Reference.tick(adapter)
    for record in held:
        if record.state is not JobState.RESERVED:
            record.snoozes = 0


mutant(
    "id_ends_after_its_follow_up",
    "removes a job that was committed after its follow-up of the same id, and the id with it",
    settle=_drops_last,
    is_known=_knows,
)
mutant("lease_end_forgets_snoozes", "forgets the snoozes where a lease ends", tick=_forgets_snoozes)
