"""Every way on which a job comes back keeps its priority, its place and its count (S6, S8, S10, S21)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, TypeAlias

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import ATTEMPTS, LEASE, PRIORITIES, TIE_BREAK
from kessel_core.contract import (
    Browse,
    Buried,
    Bury,
    Consumer,
    JobState,
    LeaseReturn,
    Message,
    Reservation,
    Rollback,
    Snooze,
    TieBreak,
)

#: Of the ways with a pause.
PAUSE: Final = timedelta(milliseconds=300)
#: Brings back a job that a consumer holds; needs nothing but time afterwards.
_Way: TypeAlias = Callable[[Bench, Consumer, Reservation], object]


def _kick(bench: Bench, consumer: Consumer, held: Reservation) -> None:
    bench.settle(consumer, held, Bury("error", "it failed"))
    (job,) = bench.buried(queue=held.queue)
    bench.kick(job.id, held.queue)


#: The name of each way, and whether its delivery counts as an attempt.
WAYS: Final[Mapping[str, tuple[_Way, bool]]] = {
    "a rollback": (lambda b, c, h: b.settle(c, h, Rollback()), True),
    "a rollback with a pause": (lambda b, c, h: b.settle(c, h, Rollback(PAUSE)), True),
    "a rollback that reserves": (lambda b, c, h: b.settle_and_reserve(c, h, Rollback(PAUSE)), True),
    "a snooze": (lambda b, c, h: b.settle(c, h, Snooze()), False),
    "a snooze with a pause": (lambda b, c, h: b.settle(c, h, Snooze(PAUSE)), False),
    "a snooze that reserves": (lambda b, c, h: b.settle_and_reserve(c, h, Snooze(PAUSE)), False),
    "giving it back": (lambda b, c, h: b.give_back(h), False),
    "closing its consumer": (lambda b, c, h: b.call(f"{b.worker(c)} is closed", c.close), True),
    "the end of its lease": (lambda b, c, h: None, True),
    "a kick": (_kick, True),
}


def ways_of(bench: Bench) -> list[str]:
    """Return the ways that there are, and for whose end the suite can wait."""
    declared = bench.capabilities
    without: set[str] = set()
    if declared.delay_granularity is None:
        without |= {what for what in WAYS if "pause" in what or "reserves" in what}
    if not bench.has(Buried):
        without.add("a kick")
    if not LEASE.is_met(bench.harness):  # as where a real lease is too long to wait for its end
        without.add("the end of its lease")
        if declared.lease_return is not LeaseReturn.AT_ONCE:
            without.add("closing its consumer")
    return [what for what in WAYS if what not in without]


def _queue(bench: Bench, what: str) -> str:
    return bench.queue_named(what.replace(" ", "_"))


def _held(
    bench: Bench, ways: list[str], priority: int = 65536
) -> dict[str, tuple[Message, Consumer, Reservation]]:
    """Let each way have a job that is held, in a queue of its own."""
    found = {}
    for what in ways:
        message = bench.put(queue=_queue(bench, what), priority=priority)
        consumer = bench.consumer(message.queue)
        found[what] = message, consumer, bench.gets(consumer, message, "the job")
    return found


def _return_all(bench: Bench, held: Mapping[str, tuple[Message, Consumer, Reservation]]) -> None:
    for what, (_, consumer, reservation) in held.items():
        WAYS[what][0](bench, consumer, reservation)
    bench.let_pass(bench.lease + MICRO if "the end of its lease" in held else PAUSE)
    bench.let_pass(bench.slack)


@case(
    "priority.kept_on_every_way",
    "S6",
    "S8",
    "S21",
    needs=(PRIORITIES,),
    waits=True,
    why="A job comes back by many ways, each of which writes it anew; one of them writes the usual priority.",
)
def kept_on_every_way(bench: Bench) -> None:
    held = _held(bench, ways_of(bench), 70_000)
    _return_all(bench, held)
    for what, (message, _, _) in held.items():
        if bench.has(Browse):
            (shown,) = bench.peek(JobState.READY, 5, message.queue)
            bench.check(
                shown.priority in (None, 70_000), f"its priority is shown as {shown.priority} after {what}"
            )
        lazy = bench.put(queue=message.queue, priority=70_001)
        urgent = bench.put(queue=message.queue, priority=69_999)
        came = bench.labels(bench.drain(bench.consumer(message.queue)))
        wanted = bench.labels([urgent.body, message.body, lazy.body])
        bench.equal(came, wanted, f"order after {what}")


@case(
    "order.tie_after_every_way",
    "S6",
    "S8",
    "S21",
    needs=(TIE_BREAK,),
    waits=True,
    why="What tie_break declares holds for rollbacks, and is forgotten for what comes back by itself.",
)
def tie_after_every_way(bench: Bench) -> None:
    held = _held(bench, [what for what in ways_of(bench) if "reserves" not in what])
    others = {
        what: [bench.put(queue=message.queue) for _ in range(2)] for what, (message, _, _) in held.items()
    }
    _return_all(bench, held)
    for what, (message, _, _) in held.items():
        is_first = bench.capabilities.tie_break is TieBreak.ENQUEUED
        wanted = [message, *others[what]] if is_first else [*others[what], message]
        came = bench.labels(bench.drain(bench.consumer(message.queue)))
        bench.equal(came, bench.labels([m.body for m in wanted]), f"order of equals after {what}")


@case(
    "delivery.attempts_on_every_way",
    "S10",
    "S21",
    needs=(ATTEMPTS,),
    waits=True,
    why="A job comes back by many ways, and one forgets the attempt or a snooze, or counts a snooze as one.",
)
def attempts_on_every_way(bench: Bench) -> None:
    jobs = _held(bench, ways_of(bench))
    for _, consumer, held in jobs.values():  # each has been snoozed before, which no way forgets
        bench.settle(consumer, held, Snooze())
    bench.let_pass(bench.slack)
    jobs = {
        what: (message, consumer, bench.gets(consumer, message, "the job after a snooze"))
        for what, (message, consumer, _) in jobs.items()
    }
    for wanted in (2, 3) if bench.harness.virtual else (2,):
        _return_all(bench, jobs)
        again = {}
        for what, (message, _, _) in jobs.items():
            consumer = bench.consumer(message.queue)
            held = bench.gets(consumer, message, f"the job after {what}")
            attempts = 1 if what == "a kick" or not WAYS[what][1] else wanted
            bench.equal(
                bench.attempt(consumer, held), attempts, f"attempt() after {what}, {wanted - 1} times"
            )
            bench.check(held.attempt <= attempts, f"reservation.attempt is {held.attempt} after {what}")
            most = 1 if WAYS[what][1] else wanted
            bench.check(0 <= held.snoozes <= most, f"reservation.snoozes is {held.snoozes} after {what}")
            if bench.has(Browse) and what != "a kick":  # which may begin anew
                (shown,) = bench.peek(JobState.RESERVED, 5, message.queue)
                bench.check(shown.snoozes in (None, most), f"{shown.snoozes} snoozes are shown after {what}")
            again[what] = message, consumer, held
        jobs = again
