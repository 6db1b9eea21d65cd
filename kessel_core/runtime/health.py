"""The health of a worker, from what its slots and the last look at the queue tell (D9, S38)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from kessel_core.clock import Clock
from kessel_core.model.readonly import EMPTY, read_only
from kessel_core.model.worker import Health
from kessel_core.runtime.held import Trouble
from kessel_core.runtime.idleness import Idleness, Seen
from kessel_core.runtime.slot import Slot

__all__ = ["counts_of", "health_of"]


def counts_of(slots: Sequence[Slot]) -> dict[str, int]:
    """Return the number of attempts so far by how they ended."""
    total: Counter[str] = Counter()
    for slot in slots:
        total.update(dict(slot.counts))  # copied at once, because its slot counts on
    return {str(what): n for what, n in sorted(total.items())}


def health_of(
    slots: Sequence[Slot],
    *,
    count: int,
    idleness: Idleness,
    clock: Clock,
    is_alive: bool,
    is_stopping: bool,
    is_draining: bool,
    has_lost_descriptors: bool,
    looks: bool,
) -> Health:
    """Return the health of a worker.

    Args:
        slots: Its slots; none before its start.
        count: How many there are to be.
        idleness: What is known of the queue.
        clock: The application's clock.
        is_alive: Whether it was started, and a slot has not ended.
        is_stopping: Whether it was told to stop.
        is_draining: Whether its slots may end by themselves.
        has_lost_descriptors: Whether a job has closed what was not its own.
        looks: Whether the queue may be asked; else what is known is told, at once.
    """
    is_working = not is_stopping and not is_draining
    leases = [lease for slot in slots if (lease := slot.lease) is not None]
    ended = [slot for slot in slots if slot.thread.ident is not None and not slot.thread.is_alive()]
    dead = len(ended) if is_working else 0
    disconnected = sum(not slot.connected for slot in slots)
    counts = counts_of(slots)
    taken = max((slot.taken_at for slot in slots if slot.taken_at is not None), default=None)
    idle_since = min((since for slot in slots if (since := slot.idle_since) is not None), default=None)
    seen = Seen()
    if is_working and is_alive:
        idle = count - len(leases) - disconnected - dead
        progress = (taken, sum(counts.values()))
        seen = idleness.look(idle, idle_since, progress) if looks else idleness.seen
    slots_reason = f"{dead} slots have ended, {disconnected} cannot reach the queue"
    reason = slots_reason if dead or disconnected else seen.idle or seen.away

    dying, unready = [], []
    if dead:
        dying.append(f"{dead} of {count} slots have ended by themselves")
    if has_lost_descriptors:
        dying.append("a job has closed what was not its own")
    if seen.deaf:
        dying.append(seen.deaf)
    if is_stopping:
        unready.append("the worker stops")
    elif not is_alive and not dead:
        unready.append("the worker has not begun")
    if seen.away:
        unready.append(seen.away)
    elif slots and disconnected == count:
        unready.append("no slot can reach the queue")
    now, seconds = clock.now(), clock.monotonic()
    return Health(
        ok=not reason,
        reason=reason,
        live=not dying,
        ready=not unready and is_alive,
        reasons=(*dying, *unready),
        running=is_alive and not is_stopping,
        slots=count,
        busy=len(leases),
        disconnected=disconnected,
        dead=dead,
        longest=max((seconds - lease.since for lease in leases), default=0.0),
        last_reserved=_moment(taken, now, seconds),
        idle_since=_moment(idle_since, now, seconds),
        leases_lost=_troubles(slots, Trouble.LEASE_LOST),
        settles_failed=_troubles(slots, Trouble.NOT_TOLD),
        counts=read_only(counts),
    )


def _troubles(slots: Sequence[Slot], which: Trouble) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for slot in slots:
        for (queue, trouble), number in dict(slot.troubles).items():
            if trouble is which:
                found[queue] += number
    return read_only(found) if found else EMPTY


def _moment(at: float | None, now: datetime, seconds: float) -> datetime | None:
    return None if at is None else now - timedelta(seconds=seconds - at)
