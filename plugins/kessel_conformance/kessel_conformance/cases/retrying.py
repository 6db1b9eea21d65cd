"""Jobs between two tries: they are as much there as any other (S8, S9, S14, S22)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Final, TypeAlias

import attrs

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import DEDUPE, DELAYS, KICKS, LEASE
from kessel_core.contract import (
    Buried,
    Bury,
    Consumer,
    JobState,
    Message,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
)

_HOUR: Final = timedelta(hours=1)
#: Makes a held job come back.
_Way: TypeAlias = Callable[[Bench, Consumer, Reservation], object]


def _settles(settlement: Settlement) -> _Way:
    return lambda bench, consumer, held: bench.settle(consumer, held, settlement)


def _settles_and_reserves(settlement: Settlement) -> _Way:
    return lambda bench, consumer, held: bench.settle_and_reserve(consumer, held, settlement)


_PAUSES: Final[Mapping[str, _Way]] = {
    "a rollback": _settles(Rollback(_HOUR)),
    "a snooze": _settles(Snooze(_HOUR)),
    "a rollback that reserves": _settles_and_reserves(Rollback(_HOUR)),
    "a snooze that reserves": _settles_and_reserves(Snooze(_HOUR)),
}


def _paused(bench: Bench) -> Iterator[tuple[str, Message]]:
    """Let a job wait for its next try in each way, alone in a queue of its own; yield the way and the job."""
    for what, pauses in _PAUSES.items():
        message = bench.put(queue=bench.queue_named(what.replace(" ", "_")))
        consumer = bench.consumer(message.queue)
        pauses(bench, consumer, bench.gets(consumer, message, "the job"))
        yield what, message


def _is_counted(bench: Bench, queue: str, what: str, *, delayed: int = 0, buried: int = 0) -> None:
    if bench.capabilities.counts:
        found = bench.stats(queue)
        seen = (found.ready, found.delayed, found.reserved, found.buried)
        bench.equal(seen, (0, delayed, 0, buried), f"ready, delayed, reserved, buried jobs {what}")


def _is_listed(bench: Bench, queue: str, what: str) -> None:
    listed = bench.call("queues", bench.adapter.queues)
    bench.check(queue in listed, f"a queue whose only job {what} is not listed")


@case(
    "retry.listed_and_purged",
    "S9",
    "S8",
    needs=(DELAYS,),
    why="A job that waits for its next try is kept in another place, which listings and purges forget.",
)
def listed_and_purged(bench: Bench) -> None:
    queues = []
    for what, message in _paused(bench):
        queues.append(message.queue)
        _is_listed(bench, message.queue, f"waits after {what}")
        _is_counted(bench, message.queue, f"after {what} with a pause", delayed=1)
        bench.equal(bench.purge(message.queue), 1, f"jobs purged after {what} with a pause")
        _is_counted(bench, message.queue, "after the purge")
    if bench.harness.virtual:
        bench.let_pass(_HOUR + bench.slack)
    bench.nothing(bench.consumer(*queues), "all jobs were purged")


@case(
    "retry.holds_its_id",
    "S14",
    needs=(DEDUPE, DELAYS),
    why="The id of a job is free between two tries, so that it is stored twice; or a purge leaves it held.",
)
def holds_its_id(bench: Bench) -> None:
    other = bench.queue_named("other")
    for what, message in _paused(bench):
        bench.is_held(message, JobState.DELAYED)
        bench.is_held(attrs.evolve(message, queue=other), JobState.DELAYED)
        bench.equal(bench.purge(message.queue), 1, f"jobs purged after {what} with a pause")
        new = bench.put(b"another body", queue=message.queue, job_id=message.id)
        consumer = bench.consumer(message.queue)
        bench.settle(consumer, bench.gets(consumer, new, "a job of the same id after the purge"))
    bench.nothing(bench.consumer(other), "its job was refused")


@case(
    "retry.buried_is_kept",
    "S8",
    "S9",
    waits=True,
    why="A burial after a retry goes another way than one at the first try, and the job is lost on it.",
)
def buried_is_kept(bench: Bench) -> None:
    burial = Bury("retries-exhausted", "it failed")
    ways: dict[str, tuple[Settlement, ...]] = {
        "a rollback": (Rollback(),),
        "two rollbacks": (Rollback(), Rollback()),
        "a snooze": (Snooze(),),
        "a snooze and a rollback": (Snooze(), Rollback()),
    }
    jobs = []
    for what, settlements in ways.items():
        for number, buries in enumerate((_settles(burial), _settles_and_reserves(burial))):
            message = bench.put(queue=bench.queue_named(f"{what.replace(' ', '_')}{number}"))
            jobs.append((what, settlements, buries, message, bench.consumer(message.queue)))
    for step in range(2):
        for what, settlements, _, message, consumer in jobs:
            for settlement in settlements[step : step + 1]:
                bench.settle(consumer, bench.gets(consumer, message, f"the job, for {what}"), settlement)
        bench.let_pass(bench.slack)
    for what, _, buries, message, consumer in jobs:
        buries(bench, consumer, bench.gets(consumer, message, f"the job after {what}"))
        _is_listed(bench, message.queue, f"was buried after {what}")
        _is_counted(bench, message.queue, f"after {what} and a burial", buried=1)
        if bench.has(Buried):
            shown = [job.body for job in bench.buried(queue=message.queue)]
            bench.equal(shown, [message.body], f"buried jobs after {what}")
        bench.nothing(consumer, "the job is buried")
        bench.equal(bench.purge(message.queue), 1, f"jobs purged after {what} and a burial")


@case(
    "following.kicks_kept",
    "S22",
    "S21",
    needs=(KICKS, Buried),
    waits=True,
    why="A kicked job that is put off forgets its kick, and who is told of it takes that for a repetition.",
)
def kicks_kept(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    ways: dict[str, _Way] = {
        "a rollback": _settles(Rollback()),
        "a snooze": _settles(Snooze()),
        "giving it back": lambda b, c, h: b.give_back(h),
    }
    if LEASE.is_met(bench.harness):
        ways["the end of its lease"] = lambda b, c, h: b.let_pass(b.lease + MICRO)
    if bench.capabilities.delay_granularity is not None:
        ways["a pause"] = _settles(Rollback(bench.grain))
    held = _kicked(bench, consumer, bench.gets(consumer, message, "the job"))
    for what, comes_back in ways.items():
        comes_back(bench, consumer, held)
        bench.let_pass(bench.grain + bench.slack)
        consumer = bench.consumer()  # the one whose lease has ended may believe that it holds the job
        held = bench.gets(consumer, message, f"the job after {what}")
        bench.equal(_kicks(bench, consumer, held), 1, f"the number of kicks after {what}")
    held = _kicked(bench, consumer, held)
    bench.equal(_kicks(bench, consumer, held), 2, "the number of kicks after another one")
    bench.settle(consumer, held)


def _kicked(bench: Bench, consumer: Consumer, held: Reservation) -> Reservation:
    """Bury a job, kick it, and reserve it again."""
    bench.settle(consumer, held, Bury("error", "it failed"))
    (stored,) = bench.buried(queue=held.queue)
    bench.kick(stored.id, held.queue)
    return bench.taken(consumer)


def _kicks(bench: Bench, consumer: Consumer, held: Reservation) -> int:
    return bench.call(f"kicks of {bench.label(held.body)}", lambda: consumer.kicks(held), "a number")
