"""Mutants of the reference adapter that look under its lock, let go of it, and then act; as `mutants.py`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import attrs
from breaking import mutant
from reference import Held, Record, Reference, Slot

from kessel_core import IdHeld, UnknownJob
from kessel_core.contract import Consumer, JobState, Message, QueueStats, Reservation


def two_steps(name: str, what: str, **methods: Callable[..., Any]) -> None:
    """Enter one; its code is an adapter's own."""
    mutant(name, what, **methods, __module__=__name__)


def _makes(kind: type[Slot]) -> Callable[..., Consumer]:
    def made(adapter: Reference, queues: tuple[str, ...]) -> Consumer:
        adapter.refuse_if_closed()
        return kind(adapter, queues)

    return made


# --- two calls meet ---
def _takes(adapter: Reference, queues: Sequence[str]) -> Held | None:
    with adapter.lock:
        adapter.tick()
        waiting = [r for queue in queues for r in adapter.of(queue, JobState.READY)]
        ready = [r for r in waiting if adapter.is_ready(r) and not adapter.is_held_back(r)]
    first = min(ready, key=adapter.order, default=None)
    if first is None:
        return None
    with adapter.lock:
        if first not in adapter.disk.records:
            return None
        first.state, first.ready_at = JobState.READY, adapter.at_once()
        others = [r for r in adapter.disk.records if r is not first]
        adapter.disk.records[:] = [first]
        held = Reference.take(adapter, queues)
        adapter.disk.records[:] = [*others, first]
    return held


def _sends(adapter: Reference, message: Message) -> None:
    with adapter.lock:
        is_known = adapter.is_known(message)
    with adapter.lock:
        if is_known:
            Reference.enqueue(adapter, message)
            raise IdHeld(message.id, "ready")
        kept = [r for r in adapter.disk.records if r.message.id == message.id]
        adapter.disk.records[:] = [r for r in adapter.disk.records if r not in kept]
        Reference.enqueue(adapter, message)
        adapter.disk.records += kept


def _found(adapter: Reference, queue: str, job_id: str, *states: JobState) -> Record:
    with adapter.lock:
        for record in adapter.of(queue, *states):
            if record.message.id == job_id:
                return record
    raise UnknownJob(job_id, queue)


def _deletes(adapter: Reference, queue: str, job_id: str) -> None:
    record = _found(adapter, queue, job_id, JobState.BURIED, JobState.READY)
    with adapter.lock:
        if record in adapter.disk.records:
            adapter.disk.records.remove(record)


def _kicks(adapter: Reference, queue: str, job_id: str) -> None:
    record = _found(adapter, queue, job_id, JobState.BURIED)
    with adapter.lock:
        if record.state is JobState.BURIED:
            Reference.kick(adapter, queue, job_id)


def _renews(adapter: Reference, reservation: Reservation) -> None:
    with adapter.lock:
        record = adapter.record_of(reservation)
    with adapter.lock:
        if record not in adapter.disk.records:
            adapter.disk.records.append(record)
        record.state = JobState.RESERVED
        Reference.renew(adapter, reservation)


class _Unlocked(Slot):
    """Leaves it to the adapter to lock."""

    def reserve(self, timeout: timedelta) -> Reservation | None:
        if timeout:
            return Slot.reserve(self, timeout)
        self.held = None if self.cancelled else self.adapter.take(self.queues)
        return self.held


two_steps(
    "takes_in_two_steps",
    "looks for the first job, and then takes it",
    take=_takes,
    make_consumer=_makes(_Unlocked),
)


def _takes_with_its_own_lock(adapter: Reference, queues: Sequence[str]) -> Held | None:
    with adapter.__dict__.setdefault("own", threading.Lock()):
        return _takes(adapter, queues)


two_steps(
    "locks_by_adapter",
    "has a lock of its own, so another adapter may take what it has found",
    take=_takes_with_its_own_lock,
    make_consumer=_makes(_Unlocked),
)


def _takes_and_counts(adapter: Reference, queues: Sequence[str]) -> Held | None:
    before = adapter.disk.__dict__.setdefault("taken", 0)
    with adapter.lock:
        held = Reference.take(adapter, queues)
        if adapter.disk.__dict__["taken"] != before:
            adapter.disk.__dict__["lost"] = adapter.disk.__dict__.get("lost", 0) + 1
        adapter.disk.__dict__["taken"] = before + 1
    return held


def _counted(adapter: Reference, queue: str) -> QueueStats:
    found = Reference.stats(adapter, queue)
    return attrs.evolve(found, reserved=found.reserved + adapter.disk.__dict__.get("lost", 0))


two_steps(
    "counts_in_two_steps",
    "looks how many it has counted, and then counts one more",
    take=_takes_and_counts,
    stats=_counted,
    make_consumer=_makes(_Unlocked),
)
two_steps("stores_in_two_steps", "looks whether an id is there, and then stores it", enqueue=_sends)
two_steps("deletes_in_two_steps", "looks for a job that waits, and then deletes it", delete=_deletes)
two_steps("kicks_in_two_steps", "looks for a burial, and then kicks it", kick=_kicks)
two_steps("renews_in_two_steps", "looks whether a job is held, and then writes it anew", renew=_renews)


# --- a reserve that is about to wait ---
class _Unready(Slot):
    """Looks, and then listens."""

    def reserve(self, timeout: timedelta) -> Reservation | None:
        adapter = self.adapter
        end = adapter.clock.monotonic() + timeout.total_seconds()
        while not self.cancelled:
            self.held = adapter.take(self.queues)
            left = end - adapter.clock.monotonic()
            if self.held is not None or left <= 0:
                return self.held
            longest = min(left, self.until_change())
            with adapter.lock:
                if not self.cancelled:
                    adapter.clock.wait(adapter.disk.changed, longest)
        return None


class _Unheard(Slot):
    """Looks whether it was cancelled, and then listens."""

    def reserve(self, timeout: timedelta) -> Reservation | None:
        adapter = self.adapter
        end = adapter.clock.monotonic() + timeout.total_seconds()
        while not self.cancelled:
            with adapter.lock:
                self.held = adapter.take(self.queues)
                left = end - adapter.clock.monotonic()
                if self.held is not None or left <= 0:
                    return self.held
                adapter.clock.wait(adapter.disk.changed, min(left, self.until_change()))
        return None


two_steps("sleeps_after_a_look", "looks for a job, and then begins to listen", make_consumer=_makes(_Unready))
two_steps(
    "sleeps_after_a_cancel",
    "looks whether it was cancelled, and then begins to listen",
    make_consumer=_makes(_Unheard),
)
