"""Delays: never early, late by at most the granularity (S4)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import BLOCKING_RESERVE, DELAYS, PRIORITIES
from kessel_core import EnqueueRejected

NEEDS = (DELAYS,)


@case(
    "delay.never_early",
    "S4",
    needs=NEEDS,
    waits=True,
    why="Fractions of a second get cut off, which is early.",
)
def never_early(bench: Bench) -> None:
    consumer = bench.consumer()
    for milliseconds in (400, 1600):
        span = timedelta(milliseconds=milliseconds)
        due = bench.now() + span
        # The message counts from a moment later than `due`, so a real clock needs no tolerance.
        message = bench.put(delay=span)
        reservation = bench.comes_no_earlier(consumer, message, due, f"delayed by {milliseconds} ms")
        bench.settle(consumer, reservation)


@case(
    "delay.each_by_its_own",
    "S4",
    needs=NEEDS,
    waits=True,
    why="What wakes up for the first job that is due takes along those that are due soon after.",
)
def each_by_its_own(bench: Bench) -> None:
    step = max(bench.grain, timedelta(milliseconds=300))
    due = {}
    for number in (1, 2, 3):
        # Counted from before it is enqueued, so a real clock needs no tolerance. The later, the more urgent.
        moment = bench.now() + step * number
        due[bench.put(delay=step * number, priority=30 - number).body] = moment
    consumer = bench.consumer()
    for moment in list(due.values()):
        bench.until(moment + bench.slack)
        for reservation in bench.each(consumer):
            early = (due.pop(reservation.body, moment) - bench.now()).total_seconds()
            bench.check(early <= 0, f"{bench.label(reservation.body)} came {early:.3f} s early")
            bench.settle(consumer, reservation)
    bench.equal(bench.labels(list(due)), [], "jobs that did not come")


@case(
    "delay.past_is_now",
    "S4",
    needs=NEEDS,
    why="A delay that lies in the past is no reason to wait or to fail.",
)
def past_is_now(bench: Bench) -> None:
    message = bench.put(delay=timedelta(seconds=-90))
    bench.let_pass(bench.slack - bench.grain)
    bench.gets(bench.consumer(), message, "a job whose delay is past")


@case(
    "delay.urgent_waits",
    "S4",
    "S6",
    needs=(*NEEDS, PRIORITIES),
    waits=True,
    why="An urgent job that still waits must not hold up others, nor start early.",
)
def urgent_waits(bench: Bench) -> None:
    due = bench.now() + timedelta(seconds=1)
    urgent = bench.put(priority=0, delay=timedelta(seconds=1))
    plain = bench.put(priority=100)
    late = bench.put(priority=200)
    consumer = bench.consumer()
    bench.settle(consumer, bench.gets(consumer, plain, "the ready job"))
    bench.until(due + bench.slack)
    bench.gets(consumer, urgent, "the urgent job, now due")
    bench.gets(bench.consumer(), late, "the last job")


@case(
    "delay.long_ones_kept",
    "S4",
    needs=NEEDS,
    looks_at=("longest_delay",),
    why="A long delay that overflows becomes a short one.",
)
def long_ones_kept(bench: Bench) -> None:
    longest = bench.capabilities.longest_delay
    spans = [timedelta(days=30), timedelta(days=400), *([longest - timedelta(minutes=1)] if longest else [])]
    for span in spans:
        if longest is None or span < longest:
            bench.put(delay=span)
    if longest is not None:
        try:
            over = bench.message(delay=longest + timedelta(days=1))
        except OverflowError:
            over = None  # such a time cannot even be written
        if over is not None:
            error = bench.refused(
                EnqueueRejected, "enqueue beyond longest_delay", lambda: bench.adapter.enqueue(over)
            )
            bench.equal(error.reason, "out-of-range", "reason of the refusal")
    if bench.harness.virtual:
        bench.let_pass(timedelta(days=29))
    bench.nothing(bench.consumer(), "all jobs are delayed by a month or more")


@case(
    "delay.expired_still_comes",
    "S5",
    "S9",
    waits=True,
    why="The core reports an expired job to its callback; one that the adapter drops is never reported.",
)
def expired_still_comes(bench: Bench) -> None:
    message = bench.put(expiration=timedelta(milliseconds=100))
    bench.let_pass(timedelta(milliseconds=200))
    bench.gets(bench.consumer(), message, "an expired job, which the core has to settle")


@case(
    "reserve.wakes_for_delay",
    "S4",
    needs=(*NEEDS, BLOCKING_RESERVE),
    waits=True,
    why="A waiting worker sleeps through a job that becomes due.",
)
def wakes_for_delay(bench: Bench) -> None:
    due = bench.now() + timedelta(seconds=1)
    message = bench.put(delay=timedelta(seconds=1))
    reservation = bench.reserve(bench.consumer(), timedelta(seconds=8))
    now = bench.now()
    bench.check(
        reservation is not None and reservation.body == message.body, "reserve slept through the due time"
    )
    bench.check(now >= due, "the job came early")
    late = (now - due - bench.slack).total_seconds()
    bench.check(late <= 1, f"the waiting reserve came back {late:.1f} s too late")
