"""When exactly a lease ends, for whom, and what everybody sees then (S7)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.clocks import LateClock, late_clock
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import DELAYS, LEASE, VIRTUAL_CLOCK
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Browse,
    Buried,
    Delete,
    JobState,
    LeaseLost,
    Reservation,
    Rollback,
    Snooze,
)

NEEDS = (LEASE,)
#: For a machine may be too busy to look in time.
_TRIES_TO_LOOK: Final = 3


@case(
    "lease.extended_in_full",
    "S7",
    needs=NEEDS,
    waits=True,
    why="An extension by half a lease, or from the old end, runs out while the worker relies on it.",
)
def extended_in_full(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the job")
    bench.let_pass(bench.lease * 0.6)
    before = bench.clock.monotonic()
    bench.extend(first, held)
    after = bench.clock.monotonic()
    lease = bench.lease.total_seconds()
    deadline = held.deadline or 0.0
    wanted = f"a lease from now, {before + lease:.3f} to {after + lease:.3f}"
    bench.check(
        before + lease - 1e-6 <= deadline <= after + lease + 1e-6,
        f"extended until {deadline:.3f}, not {wanted}",
    )
    bench.let_pass(bench.lease * 0.85)
    if bench.clock.monotonic() < deadline:  # else the machine was too busy
        early = bench.reserve(second)
        still = bench.clock.monotonic() < deadline
        bench.check(early is None or not still, "the extended lease still holds, but the job was delivered")
        if early is None and still:
            bench.settle(first, held, Rollback())
            bench.let_pass(bench.slack)
            bench.gets(second, message, "the job after its rollback")


@case(
    "lease.extended_together",
    "S7",
    needs=NEEDS,
    waits=True,
    why="A worker renews the leases of all its slots in one call: what that misses is run twice.",
)
def extended_together(bench: Bench) -> None:
    queues = (bench.queue, bench.queue, bench.queue_named("other"), bench.queue_named("last"))
    slots = [bench.consumer(queue) for queue in queues]
    for queue in queues:
        bench.put(queue=queue)
    held = [(slot, bench.taken(slot)) for slot in slots]
    ended = held[1]
    bench.settle(*ended)
    bench.let_pass(bench.lease * 0.6)
    end = min(reservation.deadline or 0.0 for _, reservation in held)
    before = bench.clock.monotonic()
    if before >= end:
        return  # the machine was too busy
    outcomes = bench.call(
        "extend four leases together, of which the second has ended", lambda: bench.adapter.extend_many(held)
    )
    after = bench.clock.monotonic()
    shown = [None if one is None else type(one) for one in outcomes]
    if after >= end and LeaseLost in (shown[0], *shown[2:]):
        return  # it was too busy during the call
    bench.equal(
        shown, [None, LeaseLost, None, None], "outcomes of four leases, of which the second has ended"
    )
    lease = bench.lease.total_seconds()
    held.remove(ended)
    deadlines = [reservation.deadline or 0.0 for _, reservation in held]
    bench.check(
        before + lease - 1e-6 <= min(deadlines) and max(deadlines) <= after + lease + 1e-6,
        f"extended until {deadlines}, not a lease from now, {before + lease:.3f} to {after + lease:.3f}",
    )
    bench.let_pass(bench.lease * 0.85)
    early = bench.reserve(bench.consumer(*queues[1:]))
    still = bench.clock.monotonic() < min(deadlines)  # else the machine was too busy
    bench.check(early is None or not still, "the extended leases still hold, but a job was delivered")
    if early is None and still:
        for slot, reservation in held:
            bench.settle(slot, reservation)


@case(
    "lease.each_by_its_own",
    "S7",
    needs=NEEDS,
    waits=True,
    why="The first lease that ends takes others along, or the next holder gets what is left of it.",
)
def each_by_its_own(bench: Bench) -> None:
    one, two = bench.put(), bench.put(queue=bench.queue_named("other"))
    first, second = bench.consumer(), bench.consumer(two.queue)
    bench.gets(first, one, "the first job")
    bench.let_pass(bench.lease * 0.6)
    start = bench.now()
    held = bench.gets(second, two, "the second job")
    bench.until(start + bench.lease * 0.4 + bench.slack + MICRO)
    third = bench.consumer(bench.queue, two.queue)
    after = bench.gets(third, one, "the job whose lease has ended")
    watch = bench.consumer(bench.queue, two.queue)
    if bench.now() < start + bench.lease:  # else the machine was too busy
        came = bench.reserve(watch)
        bench.check(came is None or bench.now() >= start + bench.lease, "the second job's lease still holds")
    bench.until(start + bench.lease * 0.92)
    if bench.now() < start + bench.lease * 0.97:
        bench.settle(second, held)
    # Well beyond the end of the first lease, and of half of another one.
    bench.nothing(watch, "the first job has a new holder with a full lease, the second one was committed")
    bench.settle(third, after)


@case(
    "lease.ended_is_ready",
    "S7",
    "S9",
    needs=NEEDS,
    waits=True,
    why="Only a reserve looks for leases that have ended: nobody else sees the jobs of a dead worker.",
)
def ended_is_ready(bench: Bench) -> None:
    sent = [bench.put(priority=priority) for priority in (5, 4, 3, 2)]
    slots = [bench.consumer() for _ in sent]
    for held in [(slot, bench.taken(slot)) for slot in slots]:
        bench.settle(*held, Snooze())
    bench.let_pass(bench.slack)
    for slot in slots:
        bench.taken(slot)
    other = bench.queue_named("other")
    bench.put(queue=other)
    bench.taken(bench.consumer(other))
    bench.let_pass(bench.lease + bench.slack + MICRO)
    if bench.capabilities.counts:
        found = bench.stats()
        bench.equal(
            (found.ready, found.reserved, found.total), (4, 0, 4), "ready, reserved, total after the leases"
        )
    if bench.has(Browse):
        bench.equal(bench.peek(JobState.RESERVED, 10), [], "reserved jobs after the leases")
        listed = bench.peek(JobState.READY, 10)
        snoozes = {job.snoozes for job in listed}
        bench.check(snoozes <= {None, 1}, f"{snoozes} snoozes are shown, expected 1 of each", "S21")
        shown = bench.labels([job.body for job in listed])
        wanted = bench.labels([message.body for message in sent])
        bench.equal(sorted(shown), sorted(wanted), "ready jobs after the leases")
        if bench.capabilities.priorities is not None:
            bench.equal(shown, wanted[::-1], "their order")
    left = 4
    if bench.has(Buried):
        bench.not_kicked(sent[0].id, "which is ready")
    if bench.capabilities.dedupe:
        bench.is_held(sent[1], JobState.READY)
    if bench.has(Delete):
        bench.delete(sent[0].id)
        left = 3
    bench.equal(bench.purge(), left, "jobs purged")
    bench.nothing(bench.consumer(), "the queue was purged")
    bench.taken(bench.consumer(bench.queue, other))


@case(
    "lease.deadline_from_before",
    "S7",
    needs=NEEDS,
    waits=True,
    why="A holder that counts its lease from the answer believes in it longer than the backend does.",
)
def deadline_from_before(bench: Bench) -> None:
    def reserves(late: Bench, clock: LateClock) -> list[Reservation]:
        queues = [late.queue_named(name) for name in ("reserved", "extended")]
        consumers = [late.consumer(queue) for queue in queues]
        for queue in queues:
            late.put(queue=queue)
        with clock.late():
            held = [late.taken(consumer) for consumer in consumers]
            late.extend(consumers[1], held[1])
        return held

    _believes_no_longer(bench, reserves)


@case(
    "lease.deadline_from_before_both",
    "S7",
    needs=NEEDS,
    waits=True,
    why="A busy worker, who gets its job with a settle, counts the lease from the answer.",
)
def deadline_from_before_both(bench: Bench) -> None:
    def settles_and_reserves(late: Bench, clock: LateClock) -> list[Reservation]:
        late.send_many([late.message(), late.message()])
        consumer = late.consumer()
        first = late.taken(consumer)
        with clock.late():
            following = late.settle_and_reserve(consumer, first, COMMIT)
        return [] if following is None else [following]

    _believes_no_longer(bench, settles_and_reserves)


def _believes_no_longer(bench: Bench, holds: Callable[[Bench, LateClock], list[Reservation]]) -> None:
    """Get jobs while each reading of the clock takes long: they come to nobody else before they may."""
    step = min(bench.lease / 30, timedelta(milliseconds=200))
    for _ in range(_TRIES_TO_LOOK):
        clock = late_clock(step, virtual=bench.harness.virtual)
        with bench.on_clock(clock) as late:
            looks = [_holds_to_its_deadline(late, one, step) for one in holds(late, clock)]
            if all(looks):
                return


def _holds_to_its_deadline(late: Bench, held: Reservation, step: timedelta) -> bool:
    """Check that a job does not come to another while its holder still believes in the lease.

    Returns:
        Whether somebody looked just before the deadline; on a busy machine all of them may have been late.
    """
    clock, deadline, other = late.clock, held.deadline or 0.0, late.consumer(held.queue)
    left, lease = deadline - clock.monotonic(), late.lease.total_seconds()
    late.check(left <= lease + 1e-6, f"a lease of {lease:g} s ends {left:.3f} s after the job came")
    late.let_pass(timedelta(seconds=left) - step / 2)
    is_in_time = clock.monotonic() < deadline
    came = late.reserve(other)
    while came is None and clock.monotonic() < deadline and not late.harness.virtual:
        time.sleep(0.001)
        came = other.reserve(NO_PAUSE)
    left = deadline - clock.monotonic()
    what = f"the job came, although its holder in {held.queue} believes in its lease for {left:.3f} s"
    late.check(came is None or left <= 0, what)
    return is_in_time


@case(
    "lease.counts_from_delivery",
    "S7",
    needs=(*NEEDS, DELAYS, VIRTUAL_CLOCK),
    why="A reserve that has waited for a while hands out what is left of a lease, or one that has ended.",
)
def counts_from_delivery(bench: Bench) -> None:
    message = bench.put(delay=bench.lease * 2.5)
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the delayed job", bench.lease * 4)
    bench.let_pass(bench.lease * 0.6)
    bench.nothing(second, "the job is held")
    bench.settle(first, held)
    bench.nothing(second, "the job was committed")


@case(
    "lease.extended_while_settled",
    "S7",
    "S9",
    needs=NEEDS,
    why="A heartbeat that meets a settle makes it fail, or brings back to life what was just committed.",
)
def extended_while_settled(bench: Bench) -> None:
    rounds = 150
    bench.send_many([bench.message() for _ in range(rounds)])
    consumer = bench.consumer()
    held = [bench.taken(consumer)]
    over: list[None] = []

    def beats() -> None:
        while not over:
            bench.may_extend(consumer, held[-1])

    def works() -> None:
        try:
            for number in range(rounds):
                if number % 2:
                    bench.settle(consumer, held[-1])
                    if number < rounds - 1:
                        held.append(bench.taken(consumer))
                else:
                    following = bench.settle_and_reserve(consumer, held[-1], COMMIT)
                    bench.check(
                        following is not None or number == rounds - 1, "a ready job was not delivered"
                    )
                    if following is not None:
                        held.append(following)
        finally:
            over.append(None)

    bench.side_by_side([works, beats], 60)
    bench.equal(len({one.body for one in held}), rounds, "jobs delivered")
    bench.nothing(consumer, "all jobs were committed")
    if bench.capabilities.counts:
        bench.equal(bench.stats().total, 0, "jobs left")
    if bench.harness.virtual:
        bench.let_pass(bench.lease + bench.slack)
        bench.nothing(consumer, "all jobs were committed, and their leases are over")
