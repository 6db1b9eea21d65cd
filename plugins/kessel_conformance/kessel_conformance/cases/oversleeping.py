"""Who waits for a job wakes when one becomes ready by time alone (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.meanwhile import SOON
from kessel_conformance.requirements import BLOCKING_RESERVE, DELAYS, LEASE, SHARED_REACH
from kessel_core.contract import Consumer, Message, Pause, Reservation, Rollback, Snooze

#: How long a reserve waits in real time.
_LONG: Final = timedelta(seconds=4)
_HOUR: Final = timedelta(hours=1)
#: Real time in which what listens for an adapter has begun to, and has looked for the first time.
_LISTENS: Final = timedelta(milliseconds=300)
#: So many tries may be late on a real clock, for a machine may be busy.
_LATE: Final = 3
#: The pieces, and seconds in which the server answers who waits.
_PIECE: Final = timedelta(seconds=1.5)
_SERVES: Final = 0.1


def _listens(bench: Bench) -> None:
    """Let what listens begin, by a wait for another queue: its first look hides what a consumer forgets."""
    if not bench.harness.virtual:
        bench.reserve(bench.consumer(bench.queue_named("quiet")), _LISTENS)


def _in_time(bench: Bench, consumer: Consumer, message: Message, due: datetime, why: str) -> None:
    """Let a consumer wait far beyond `due`: it must have the job then, and settles it."""
    wait = 2 * (due - bench.now()) + _HOUR if bench.harness.virtual else _LONG
    came: list[tuple[Reservation | None, datetime]] = []

    def waits() -> None:
        came.append((bench.reserve(consumer, wait), bench.now()))

    if bench.harness.virtual:
        waits()  # moves the time
    else:
        bench.until(due - timedelta(seconds=1) - bench.grain)
        if due - bench.now() > 2 * _LISTENS + bench.grain:  # so that the other wait is over long before
            _listens(bench)
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
    last = bench.queue_named("last")
    if DELAYS.is_met(bench.harness):
        for queue in (bench.queue, last):
            bench.put(queue=queue, delay=_HOUR)
    _in_time(bench, bench.consumer(bench.queue, other, last), message, due, "the end of its lease")


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
    others = [bench.queue_named(name) for name in ("other", "last")]
    if DELAYS.is_met(bench.harness):
        for queue in others:
            bench.put(queue=queue, delay=_HOUR)
    consumer = bench.consumer(others[0], bench.queue, others[1])
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
    bench.put(delay=_HOUR)
    with bench.sharing() as other:
        waiter = other.consumer()
        if bench.harness.virtual:
            message, holder = bench.put(), bench.consumer()
            bench.extend(holder, bench.gets(holder, message, "the job"))
            due = bench.now() + bench.lease
            _in_time(other, waiter, message, due, "the end of a lease that was extended")
        else:
            _comes_after_extension(bench, other, waiter)


def _passes(bench: Bench, moment: datetime) -> None:
    """Let time pass in pieces: a server that stands still meanwhile would seem gone to who waits."""
    while bench.now() < moment:
        bench.let_pass(min(_PIECE, moment - bench.now()))
        time.sleep(_SERVES)


def _comes_after_extension(bench: Bench, other: Bench, waiter: Consumer) -> None:
    """Extend a lease while another waits in real time: that one must have the job in the end."""
    message, holder = bench.put(), bench.consumer()
    held = bench.gets(holder, message, "the job")
    came: list[tuple[Reservation | None, datetime]] = []
    ends: list[datetime] = []

    def extends() -> None:
        _passes(bench, bench.now() + bench.lease * 0.6)
        bench.extend(holder, held)
        ends.append(bench.now() + bench.lease)
        _passes(bench, ends[0] - _PIECE / 2)  # a server that stands still does so over the end of the lease
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


#: Leaves a job in a queue that is not ready for long.
_Far: TypeAlias = Callable[[Bench, str], object]
#: Leaves a job in a queue that is ready after `SOON`; returns it.
_Near: TypeAlias = Callable[[Bench, str], Message]


@case(
    "reserve.wakes_for_each_of_its_queues",
    "S9",
    "S4",
    needs=(BLOCKING_RESERVE, DELAYS),
    waits=True,
    why="A consumer of several queues asks one of them when to look again, and is late for the others.",
)
def for_each_of_its_queues(bench: Bench) -> None:
    with bench.views() as views:
        other = views[-1]  # what it has done before somebody waits nobody has told a consumer
        _listens(bench)
        for number, (far, near) in enumerate(_pairs(bench)):
            late = [_seen_late(bench, other, far, near, f"{number}")]
            while late[-1] > bench.slack:
                what = f"{_told(near)} in one queue, {_told(far)} in the others"
                seconds = min(late).total_seconds()
                bench.check(len(late) < _LATE, f"reserve saw its job {seconds:.3f} s late or more: {what}")
                late.append(_seen_late(bench, other, far, near, f"{number}.{len(late)}"))


def _seen_late(bench: Bench, other: Bench, far: _Far, near: _Near, name: str) -> timedelta:
    """Return how late a consumer of three queues sees the job of the second."""
    first, second, third = (bench.queue_named(f"{place}{name}") for place in ("first", "second", "third"))
    far(other, first)
    far(other, third)
    message = near(other, second)
    due = bench.now() + SOON
    consumer = bench.consumer(first, second, third)
    held = bench.reserve(consumer, 2 * _HOUR if bench.harness.virtual else _LONG)
    now = bench.now()
    if held is None or held.body != message.body:
        return _HOUR
    bench.settle(consumer, held)
    return now - due


def _told(way: _Far | _Near) -> str:
    return way.__name__.strip("_").replace("_", " ")


def _pairs(bench: Bench) -> Iterator[tuple[_Far, _Near]]:
    yield _delayed_by_an_hour, _delayed
    yield _delayed_by_an_hour, _retried
    yield _delayed_by_an_hour, _snoozed
    if LEASE.is_met(bench.harness):
        yield _held, _delayed
    if bench.has(Pause):
        yield _paused_for_an_hour, _delayed
        yield _delayed_by_an_hour, _paused


def _delayed_by_an_hour(bench: Bench, queue: str) -> object:
    return bench.put(queue=queue, delay=_HOUR)


def _held(bench: Bench, queue: str) -> object:
    return bench.gets(bench.consumer(queue), bench.put(queue=queue), "the job")


def _paused_for_an_hour(bench: Bench, queue: str) -> object:
    bench.pause(queue, _HOUR)
    return bench.put(queue=queue)


def _delayed(bench: Bench, queue: str) -> Message:
    return bench.put(queue=queue, delay=SOON)


def _retried(bench: Bench, queue: str) -> Message:
    return _comes_back(bench, queue, Rollback(SOON))


def _snoozed(bench: Bench, queue: str) -> Message:
    return _comes_back(bench, queue, Snooze(SOON))


def _comes_back(bench: Bench, queue: str, settlement: Rollback | Snooze) -> Message:
    message, holder = bench.put(queue=queue), bench.consumer(queue)
    bench.settle(holder, bench.gets(holder, message, "the job"), settlement)
    return message


def _paused(bench: Bench, queue: str) -> Message:
    message = bench.put(queue=queue)
    bench.pause(queue, SOON)
    return message
