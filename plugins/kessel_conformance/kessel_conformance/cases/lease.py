"""Leases: one holder for the length of a lease, and nobody settles for another (S7)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import FENCING, LEASE, PRIORITIES, SHARED_REACH
from kessel_core.contract import COMMIT, Bury, LeaseLost, Rollback

NEEDS = (LEASE,)


@case(
    "lease.holds_and_ends",
    "S7",
    needs=NEEDS,
    waits=True,
    why="A lease that never ends loses the jobs of dead workers; one that is short runs jobs twice.",
)
def holds_and_ends(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    start = bench.now()
    held = bench.gets(first, message, "the job")
    bench.check(held.deadline is not None, "a reservation with a lease has a deadline")
    assert held.deadline is not None
    latest = bench.clock.monotonic() + bench.lease.total_seconds()
    bench.check(held.deadline <= latest + 1e-6, "the deadline lies beyond the declared lease")
    for part in (0.3, 0.6, 0.85, 0.93):
        bench.until(start + bench.lease * part)
        early = bench.reserve(second)
        if early is not None:
            too_busy = not bench.harness.virtual and bench.now() >= start + bench.lease
            bench.check(too_busy, "the lease still holds, but the job was delivered")
            return  # the machine was so busy that the lease is over
    bench.let_pass(bench.lease - (bench.now() - start) + bench.slack + MICRO)
    again = bench.gets(second, message, "the job whose lease has ended")
    if bench.capabilities.attempts is not None:
        bench.equal(
            bench.attempt(second, again),
            2,
            "attempt() after a lease that ended",
            "S10",
        )


@case(
    "lease.late_settle_refused",
    "S7",
    needs=NEEDS,
    waits=True,
    why="A commit after the lease removes the job under its next holder.",
)
def late_settle_refused(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the job")
    bench.let_pass(bench.lease + bench.slack + MICRO)
    for settlement in (COMMIT, Rollback(), Bury("error")):
        bench.not_settled(first, held, settlement, "after its lease")
    bench.not_extended(first, held, "after its lease")
    again = bench.gets(second, message, "the job, which nobody settled")
    bench.not_settled(first, held, COMMIT, "which another holds")
    bench.settle(second, again)
    bench.nothing(second, "the job was committed")


@case(
    "lease.fenced",
    "S7",
    needs=(*NEEDS, FENCING),
    waits=True,
    why="A process that was stopped for a while trusts its own, wrong idea of time.",
)
def fenced(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the job")
    bench.let_pass(bench.lease + bench.slack + MICRO)
    again = bench.gets(second, message, "the job whose lease has ended")
    # As if the local check had been passed just before the process was stopped.
    held.deadline = bench.clock.monotonic() + 3600
    bench.not_settled(first, held, COMMIT, "which another holds, and its own clock shows no end of the lease")
    bench.roll_back(second, again)
    bench.gets(second, message, "the job, which nobody committed")


@case(
    "lease.fenced_extend",
    "S7",
    needs=(*NEEDS, FENCING),
    waits=True,
    why="The heartbeat of a process that lost its job keeps it from everybody after the next holder died.",
)
def fenced_extend(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the job")
    bench.let_pass(bench.lease + bench.slack + MICRO)
    again = bench.gets(second, message, "the job whose lease has ended")
    end = bench.now() + bench.lease + bench.slack + MICRO
    bench.let_pass(bench.lease * 0.6)
    held.deadline = bench.clock.monotonic() + 3600  # as in `lease.fenced`
    bench.not_extended(first, held, "which another holds")
    held.deadline = bench.clock.monotonic() + 3600
    together = bench.call(
        "extend it together with others", lambda: bench.adapter.extend_many([(first, held)])
    )
    bench.equal([type(one) for one in together], [LeaseLost], "outcome of extending what another holds")
    bench.until(end)
    # The second holder has not been heard of since it took the job.
    bench.gets(bench.consumer(), message, "the job whose second lease has ended")
    bench.not_settled(second, again, COMMIT, "which a third one holds")


@case(
    "lease.fenced_between_adapters",
    "S7",
    needs=(*NEEDS, FENCING, SHARED_REACH),
    waits=True,
    why="Each process counts its deliveries from one, so two of them hold a job under the same number.",
)
def fenced_between_adapters(bench: Bench) -> None:
    message = bench.put()
    first = bench.consumer()
    held = bench.gets(first, message, "the job")
    with bench.sharing() as other:
        bench.let_pass(bench.lease + bench.slack + MICRO)
        second = other.consumer()
        again = other.gets(second, message, "the job whose lease has ended")
        held.deadline = bench.clock.monotonic() + 3600  # as in `lease.fenced`
        bench.not_settled(first, held, COMMIT, "which another process holds")
        other.settle(second, again, Rollback())
    bench.let_pass(bench.slack)
    bench.gets(bench.consumer(), message, "the job, which nobody committed")


@case("lease.extended", "S7", needs=NEEDS, waits=True, why="Handlers run longer than a lease.")
def extended(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the job")
    before = held.deadline
    for _ in range(3):
        bench.let_pass(bench.lease * 0.45)
        # By another thread, as a worker's heartbeat does it.
        bench.side_by_side([lambda: bench.extend(first, held)])
        bench.nothing(second, "the lease was extended")
    bench.check(
        before is not None and held.deadline is not None and held.deadline > before,
        "extend did not move the deadline",
    )
    bench.settle(first, held)
    bench.nothing(second, "the job was committed")


@case(
    "lease.extended_from_now",
    "S7",
    needs=NEEDS,
    waits=True,
    why="Leases that add up keep the job of a dead worker for hours.",
)
def extended_from_now(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the job")
    bench.equal(held.lease, bench.lease, "the lease of the reservation")
    for _ in range(3):
        bench.extend(first, held)
    latest = bench.clock.monotonic() + bench.lease.total_seconds()
    bench.check(held.deadline is not None and held.deadline <= latest + 1e-6, "the extensions add up")
    bench.let_pass(bench.lease + bench.slack + MICRO)
    bench.gets(second, message, "the job whose lease was extended three times at once, and has ended")


@case(
    "lease.keeps_priority",
    "S8",
    "S7",
    needs=(*NEEDS, PRIORITIES),
    waits=True,
    why="A job that comes back by its lease has its priority, too.",
)
def keeps_priority(bench: Bench) -> None:
    urgent = bench.put(priority=2)
    bench.gets(bench.consumer(), urgent, "the urgent job")
    bench.put(priority=50)
    bench.let_pass(bench.lease + bench.slack + timedelta(milliseconds=1))
    bench.equal(
        bench.labels(bench.drain(bench.consumer())), ["job-1", "job-2"], "order after a lease that ended"
    )
