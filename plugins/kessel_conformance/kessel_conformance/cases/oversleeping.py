"""Who waits for a job wakes when one becomes ready by time alone (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import datetime, timedelta
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import BLOCKING_RESERVE, DELAYS, LEASE, SHARED_REACH
from kessel_core.contract import Consumer, Message, Pause, Reservation, Rollback, Snooze

#: How long a reserve waits in real time.
_LONG: Final = timedelta(seconds=4)
_HOUR: Final = timedelta(hours=1)


def _in_time(bench: Bench, consumer: Consumer, message: Message, due: datetime, why: str) -> None:
    """Let a consumer wait far beyond `due`: it must have the job then, and settles it."""
    wait = 2 * (due - bench.now()) + _HOUR if bench.harness.virtual else _LONG
    came: list[tuple[Reservation | None, datetime]] = []

    def waits() -> None:
        came.append((bench.reserve(consumer, wait), bench.now()))

    if bench.harness.virtual:
        waits()  # moves the time
    else:
        bench.until(due - timedelta(seconds=1))
        bench.side_by_side([waits, lambda: bench.until(due + bench.slack)], 60)
    reservation, now = came[0]
    if reservation is None or reservation.body != message.body:
        bench.broken(f"reserve slept through {why}")
    bench.check(now >= due - bench.slack, f"the job came before {why}")
    late = (now - due - bench.slack).total_seconds()
    bench.check(late <= 0.5, f"the waiting reserve came back {late:.1f} s too late, after {why}")
    bench.settle(consumer, reservation)


@case(
    "reserve.wakes_for_lease_end",
    "S9",
    "S7",
    needs=(BLOCKING_RESERVE, LEASE),
    waits=True,
    why="The job of a dead worker is ready, while those that live wait for a new one.",
)
def for_lease_end(bench: Bench) -> None:
    other = bench.queue_named("other")
    message = bench.put(queue=other)
    bench.gets(bench.consumer(other), message, "the job")
    due = bench.now() + bench.lease
    _in_time(bench, bench.consumer(bench.queue, other), message, due, "the end of its lease")


@case(
    "reserve.wakes_for_pause_end",
    "S9",
    needs=(BLOCKING_RESERVE, Pause),
    waits=True,
    why="A queue goes on, and its workers sleep until the next job is enqueued.",
)
def for_pause_end(bench: Bench) -> None:
    message = bench.put()
    due = bench.now() + timedelta(milliseconds=700)
    bench.pause(bench.queue, timedelta(milliseconds=700))
    consumer = bench.consumer(bench.queue_named("other"), bench.queue)
    _in_time(bench, consumer, message, due, "the end of the pause")


@case(
    "reserve.wakes_for_each_due",
    "S9",
    "S4",
    needs=(BLOCKING_RESERVE, DELAYS),
    waits=True,
    why="A consumer wakes for the delay of its first queue, or for that of a job which was settled long ago.",
)
def for_each_due(bench: Bench) -> None:
    other = bench.queue_named("other")
    holder, consumer = bench.consumer(), bench.consumer(bench.queue, other)
    retried, snoozed = bench.put(), bench.put()
    due: dict[Message, datetime] = {}
    bench.put(delay=_HOUR)
    for message, settlement, milliseconds in ((retried, Rollback, 300), (snoozed, Snooze, 900)):
        held = bench.gets(holder, message, "the job")
        due[message] = bench.now() + timedelta(milliseconds=milliseconds)
        bench.settle(holder, held, settlement(timedelta(milliseconds=milliseconds)))
    late = bench.put(queue=other, delay=timedelta(milliseconds=1500))
    due[late] = late.delay or bench.now()
    for message, moment in due.items():
        why = f"the delay or pause of {bench.label(message.body)}"
        _in_time(bench, consumer, message, moment, why)


@case(
    "reserve.wakes_for_extended_lease_end",
    "S9",
    "S7",
    needs=(BLOCKING_RESERVE, LEASE, DELAYS, SHARED_REACH),
    waits=True,
    why="What time does next is asked of delays, and of leases only where nothing is delayed.",
)
def for_extended_lease_end(bench: Bench) -> None:
    message, holder = bench.put(), bench.consumer()
    held = bench.gets(holder, message, "the job")
    bench.put(delay=_HOUR)
    with bench.sharing() as other:
        waiter = other.consumer()
        if bench.harness.virtual:
            bench.extend(holder, held)
            due = bench.now() + bench.lease
            _in_time(other, waiter, message, due, "the end of a lease that was extended")
            return
        came: list[tuple[Reservation | None, datetime]] = []
        ends: list[datetime] = []

        def extends() -> None:
            bench.let_pass(bench.lease * 0.6)
            bench.extend(holder, held)
            ends.append(bench.now() + bench.lease)
            bench.until(ends[0] + bench.slack)

        def waits() -> None:
            came.append((other.reserve(waiter, bench.lease * 3), other.now()))

        bench.side_by_side([waits, extends], bench.lease.total_seconds() * 4 + 20)
        reservation, now = came[0]
        if reservation is None or reservation.body != message.body:
            bench.broken("reserve slept through the end of a lease that was extended")
        late = (now - ends[0] - bench.slack).total_seconds()
        bench.check(late <= 0.5, f"the waiting reserve came back {late:.1f} s after the end of the lease")
        other.settle(waiter, reservation)
