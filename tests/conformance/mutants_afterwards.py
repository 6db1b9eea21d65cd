"""Mutants of the reference adapter that forget what ends by itself; as `mutants.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from breaking import mutant
from reference import Record, Reference, Slot

from kessel_core.contract import JobState, Message, Reservation, Settlement


def _enqueued(adapter: Any, message: Message) -> None:
    Reference.enqueue(adapter, message)
    adapter.__dict__.setdefault("names", set()).add(message.queue)


def _taken(adapter: Any, queues: Sequence[str]) -> Any:
    Reference.tick(adapter)
    return Reference.take(adapter, queues)


def _next_change(adapter: Any, queues: Sequence[str]) -> datetime | None:
    if any(adapter.is_ready(record) for queue in queues for record in adapter.of(queue, JobState.READY)):
        return adapter.clock.now()  # type: ignore[no-any-return]
    return Reference.next_change(adapter, queues)


mutant(
    "queues_for_ever",
    "lists every queue that there ever was",
    enqueue=_enqueued,
    queues=lambda s: sorted(s.__dict__.get("names", set())),
)
for _what, _state in (("reserved", JobState.RESERVED), ("buried", JobState.BURIED)):
    mutant(
        f"queues_without_{_what}",
        f"does not list queues whose jobs are all {_what}",
        queues=lambda s, state=_state: sorted(
            {r.message.queue for r in s.disk.records if r.state is not state}
        ),
    )
mutant(
    "queues_without_delayed",
    "does not list queues whose jobs are all delayed",
    queues=lambda s: sorted({r.message.queue for r in s.disk.records if r.ready_at <= s.now()}),
)
mutant("leases_end_in_take", "looks for ended leases only in a reserve", tick=lambda s: None, take=_taken)
mutant("next_change_of_ready", "takes a ready job for a change to come", next_change=_next_change)


class _Busy(Slot):
    """Notes that it takes a job with a settle."""

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        self.adapter.__dict__["is_busy"] = True
        try:
            return super().settle_and_reserve(reservation, settlement)
        finally:
            self.adapter.__dict__["is_busy"] = False


def _is_busy(adapter: Any) -> bool:
    return bool(adapter.__dict__.get("is_busy"))


def _order(adapter: Any, record: Record) -> tuple[object, ...]:
    was_delayed = record.message.delay is not None
    return (_is_busy(adapter) and was_delayed, *Reference.order(adapter, record))


mutant(
    "busy_takes_due_last",
    "takes with a settle what was never delayed first",
    make_consumer=lambda s, queues: (s.refuse_if_closed(), _Busy(s, queues))[1],
    order=_order,
)
mutant(
    "busy_leaves_lost_jobs",
    "looks for ended leases only where nothing is settled",
    make_consumer=lambda s, queues: (s.refuse_if_closed(), _Busy(s, queues))[1],
    tick=lambda s: None if _is_busy(s) else Reference.tick(s),
)
mutant(
    "busy_ignores_pauses",
    "takes with a settle what is paused",
    make_consumer=lambda s, queues: (s.refuse_if_closed(), _Busy(s, queues))[1],
    is_held_back=lambda s, r: not _is_busy(s) and Reference.is_held_back(s, r),
)
