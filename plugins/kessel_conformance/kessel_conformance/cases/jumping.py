"""A wall clock that somebody sets: delays follow it, what is held or ready does not (S7, S8).

Leases are only those of adapters of one process, whose own clock counts them (contract, rule 5). Where
several processes share the jobs it is the machine's clock or the server's, which may be a wall clock.
"""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, TypeAlias

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.places import ONE_PROCESS
from kessel_conformance.requirements import DELAYS, LEASE, PRIORITIES, VIRTUAL_CLOCK, Need, requirement
from kessel_core.contract import (
    COMMIT,
    Browse,
    Buried,
    Bury,
    Consumer,
    JobState,
    Message,
    Reservation,
    Rollback,
    Snooze,
    VirtualTime,
)
from kessel_core.testing import VirtualClock

_JUMPS: Final = {"forward by two hours": timedelta(hours=2), "back by an hour": timedelta(hours=-1)}
#: Makes a job ready again that a consumer holds.
_Return: TypeAlias = Callable[[Bench, Consumer, Reservation], object]


def _jump(bench: Bench, how: str) -> None:
    assert isinstance(bench.clock, VirtualClock)
    bench.clock.jump_wall(_JUMPS[how])
    bench.history.add(f"the wall clock is set {how}")


def _once_delayed(bench: Bench) -> Message:
    """Enqueue a job whose delay, if there are any, is over, and must not begin again."""
    message = bench.put(delay=bench.grain or None)
    bench.let_pass(bench.grain + bench.slack)
    return message


@case(
    "clocks.lease_over_a_jump",
    "S7",
    needs=(LEASE, ONE_PROCESS, VIRTUAL_CLOCK),
    alone=True,
    why="The wall clock is set while jobs run: all run twice, or those of a dead worker stay held for hours.",
)
def lease_over_a_jump(bench: Bench) -> None:
    for how in _JUMPS:
        for extended in (False, True):
            _lease_over_a_jump(bench, how, extended=extended)


def _lease_over_a_jump(bench: Bench, how: str, *, extended: bool) -> None:
    message = _once_delayed(bench)
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the job")
    bench.let_pass(bench.lease * 0.5)
    _jump(bench, how)
    bench.nothing(second, "the lease still holds, whatever the wall clock says")
    if extended:
        bench.extend(first, held)
        bench.let_pass(bench.lease * 0.5)
    bench.let_pass(bench.lease * 0.4)
    bench.nothing(second, "the lease still holds, whatever the wall clock says")
    bench.let_pass(bench.lease * 0.1 + bench.slack + MICRO)
    again = bench.gets(second, message, f"the job whose lease has ended, with the wall clock set {how}")
    bench.not_settled(first, held, COMMIT, "whose lease has ended")
    bench.settle(second, again)


def _kicks(bench: Bench, consumer: Consumer, held: Reservation) -> None:
    bench.settle(consumer, held, Bury("error"))
    (buried,) = bench.buried()
    bench.kick(buried.id)


_RETURNS: Final[Mapping[str, _Return]] = {
    "a rollback": lambda bench, consumer, held: bench.settle(consumer, held, Rollback()),
    "a snooze": lambda bench, consumer, held: bench.settle(consumer, held, Snooze()),
    "giving it back": lambda bench, consumer, held: bench.give_back(held),
}


@case(
    "clocks.return_over_a_jump",
    "S8",
    "S21",
    needs=(VirtualTime, VIRTUAL_CLOCK),
    alone=True,
    why="A job that comes back at once is due now, and now is an hour away when the clock is set back.",
)
def return_over_a_jump(bench: Bench) -> None:
    returns = {**_RETURNS, "a kick": _kicks} if bench.has(Buried) else _RETURNS
    for what, comes_back in returns.items():
        message = _once_delayed(bench)
        consumer = bench.consumer()
        comes_back(bench, consumer, bench.gets(consumer, message, "the job"))
        _jump(bench, "back by an hour")
        if bench.capabilities.counts:
            found = bench.stats()
            bench.equal((found.ready, found.delayed), (1, 0), f"ready and delayed jobs after {what}")
        other = bench.consumer()
        bench.settle(other, bench.gets(other, message, f"the job that was made ready by {what}"))


_DELAY: Final = timedelta(seconds=60)
_BACK: Final = timedelta(seconds=30)


def _reserves(bench: Bench, queue: str) -> None:
    """Take something more urgent from the queue, so that the adapter looks at what else is ready."""
    urgent = bench.put(queue=queue, priority=0)
    consumer = bench.consumer(queue)
    bench.settle(consumer, bench.gets(consumer, urgent, "an urgent job"))


#: What an adapter may note down that a job is ready by, and nobody takes it.
_LOOKS: Final[Mapping[str, tuple[Need | None, Callable[[Bench, str], object]]]] = {
    "nothing": (None, lambda bench, queue: None),
    "stats": (None, lambda bench, queue: bench.stats(queue)),
    "reserve": (PRIORITIES, _reserves),
    "peek": (Browse, lambda bench, queue: bench.peek(JobState.READY, 5, queue)),
    "change": (VirtualTime, lambda bench, queue: bench.facet(VirtualTime).next_change([queue])),
}


def _put_off(bench: Bench, queue: str, settlement: Rollback | Snooze) -> Message:
    message, consumer = bench.put(queue=queue), bench.consumer(queue)
    bench.settle(consumer, bench.gets(consumer, message, "the job"), settlement)
    return message


#: Ways in which a job waits for a minute.
_WAITS: Final[Mapping[str, Callable[[Bench, str], Message]]] = {
    "delayed": lambda bench, queue: bench.put(queue=queue, delay=_DELAY),
    "rolled": lambda bench, queue: _put_off(bench, queue, Rollback(_DELAY)),
    "snoozed": lambda bench, queue: _put_off(bench, queue, Snooze(_DELAY)),
}


def _leased(bench: Bench, queue: str) -> Message:
    message = bench.put(queue=queue)
    bench.gets(bench.consumer(queue), message, "the job")
    return message


@case(
    "clocks.due_over_a_jump",
    "S4",
    "S9",
    "S7",
    needs=(DELAYS, VirtualTime, VIRTUAL_CLOCK),
    alone=True,
    why="A job is due and nobody takes it; the clock is set back, and it is no longer noted anywhere.",
)
def due_over_a_jump(bench: Bench) -> None:
    assert isinstance(bench.clock, VirtualClock)
    waits = {**_WAITS, "leased": _leased} if bench.capabilities.lease is not None else _WAITS
    looks = {
        name: look
        for name, (of, look) in _LOOKS.items()
        if of is None or requirement(of).is_met(bench.harness)
    }
    sent = {
        (way, look): make(bench, bench.queue_named(f"{way}.{look}"))
        for way, make in waits.items()
        for look in looks
    }
    span = max(_DELAY, bench.capabilities.lease or _DELAY)
    bench.let_pass(span + bench.slack + MICRO)
    for (_, name), message in sent.items():
        looks[name](bench, message.queue)
    bench.clock.jump_wall(-_BACK)
    bench.history.add(f"the wall clock is set back by {_BACK.total_seconds():g} s")
    came = {}
    for (way, name), message in sent.items():
        # Whether a delay that is over begins again is open: it goes by the wall clock (S4).
        held = bench.reserve(bench.consumer(message.queue))
        came[way, name] = held is not None
        bench.stats(message.queue)
    bench.let_pass(_BACK + bench.slack + MICRO)
    for (way, name), message in sent.items():
        if not came[way, name]:
            what = f"the job, {way}, which was due before the clock was set back, and seen by {name}"
            bench.gets(bench.consumer(message.queue), message, what)
