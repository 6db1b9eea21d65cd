"""Giving back without counting: snooze, and give_back by another thread (S21)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import ATTEMPTS, DELAYS, LEASE, PRIORITIES, TIE_BREAK
from kessel_core import LeaseLost
from kessel_core.contract import COMMIT, Browse, JobState, Reservation, Rollback, Snooze, TieBreak


@case(
    "snooze.returns",
    "S21",
    "S9",
    waits=True,
    why="A job that was put off for a moment, and is lost, looks like a job that was done.",
)
def snooze_returns(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    bench.snooze(consumer, bench.gets(consumer, message, "the job"))
    again = bench.gets(bench.consumer(), message, "the job after its snooze")
    bench.equal(again.queue, bench.queue, "its queue")


@case(
    "snooze.pauses",
    "S21",
    "S4",
    needs=(DELAYS,),
    waits=True,
    why="A pause that is cut short asks again for what is not there yet.",
)
def snooze_pauses(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")
    due = bench.now() + timedelta(milliseconds=1400)
    bench.settle(consumer, held, Snooze(timedelta(milliseconds=1400)))
    bench.comes_no_earlier(consumer, message, due, "snoozed for 1.4 s")


@case(
    "snooze.does_not_count",
    "S21",
    "S10",
    needs=(ATTEMPTS,),
    waits=True,
    why="A job that waits for a shop to open must not use up its tries.",
)
def does_not_count(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    bench.roll_back(consumer, bench.gets(consumer, message, "the job"))
    for _ in range(3):
        held = bench.gets(consumer, message, "the job after its rollback and its snoozes")
        bench.equal(bench.attempt(consumer, held), 2, "attempt()")
        bench.check(1 <= held.attempt <= 2, f"reservation.attempt is {held.attempt}, expected at most 2")
        bench.snooze(consumer, held)
    bench.roll_back(consumer, bench.gets(consumer, message, "the job after its snoozes"))
    held = bench.gets(consumer, message, "the job after another rollback")
    bench.equal(bench.attempt(consumer, held), 3, "attempt() after one delivery more that counts")


@case(
    "snooze.counted_apart",
    "S21",
    needs=(ATTEMPTS,),
    waits=True,
    why="Somebody has to see that a job is put off again and again, and never gets done.",
)
def counted_apart(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    for number in range(3):
        held = bench.gets(consumer, message, "the job after its snoozes")
        bench.check(
            0 <= held.snoozes <= number,
            f"reservation.snoozes is {held.snoozes} after {number} snoozes",
        )
        if bench.has(Browse):
            (shown,) = bench.peek(JobState.RESERVED)
            bench.check(shown.snoozes in (None, number), f"{shown.snoozes} snoozes are shown, not {number}")
        bench.snooze(consumer, held)


@case(
    "snooze.keeps_priority",
    "S21",
    "S6",
    needs=(PRIORITIES,),
    waits=True,
    why="Client libraries reset the priority on release when none is given.",
)
def snooze_keeps_priority(bench: Bench) -> None:
    urgent = bench.put(priority=5)
    consumer = bench.consumer()
    held = bench.gets(consumer, urgent, "the urgent job")
    bench.put(priority=100)
    bench.put(priority=1)
    bench.snooze(consumer, held)
    bench.equal(bench.labels(bench.drain(consumer)), ["job-3", "job-1", "job-2"], "order after a snooze")


@case(
    "order.tie_after_snooze",
    "S6",
    "S21",
    needs=(TIE_BREAK,),
    waits=True,
    why="A job that was put off has the place of one that was rolled back.",
)
def tie_after_snooze(bench: Bench) -> None:
    for _ in range(3):
        bench.put()
    consumer = bench.consumer()
    bench.snooze(consumer, bench.taken(consumer))
    old_place = bench.capabilities.tie_break is TieBreak.ENQUEUED
    expected = ["job-1", "job-2", "job-3"] if old_place else ["job-2", "job-3", "job-1"]
    bench.equal(
        bench.labels(bench.drain(consumer)), expected, f"order with tie_break {bench.capabilities.tie_break}"
    )


@case(
    "snooze.and_reserve",
    "S21",
    needs=(ATTEMPTS,),
    waits=True,
    why="A busy worker settles and reserves in one call, which is code of its own, and may count wrongly.",
)
def snooze_and_reserve(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    held: Reservation | None = bench.gets(consumer, message, "the job")
    for _ in range(2):
        assert held is not None
        held = bench.settle_and_reserve(consumer, held, Snooze())
        if held is None and not bench.harness.virtual:
            bench.let_pass(bench.slack)  # a coarse backend may round nothing up to its granularity
            held = bench.reserve(consumer)
        bench.check(held is not None and held.body == message.body, "the snoozed job did not come")
    assert held is not None
    bench.equal(bench.attempt(consumer, held), 1, "attempt() after two snoozes")
    bench.settle(consumer, held)


@case(
    "snooze.late_refused",
    "S7",
    "S21",
    needs=(LEASE,),
    waits=True,
    why="A snooze after the lease takes the job from its next holder, and a try out of the count.",
)
def late_refused(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the job")
    bench.let_pass(bench.lease + bench.slack + MICRO)
    bench.not_settled(first, held, Snooze(), "after its lease")
    bench.not_given_back(held, "after its lease")
    again = bench.gets(second, message, "the job, which nobody settled")
    bench.not_settled(first, held, Snooze(), "which another holds")
    bench.not_given_back(held, "which another holds")
    bench.settle(second, again)
    bench.nothing(second, "the job was committed")


@case(
    "give_back.returns",
    "S21",
    "S7",
    waits=True,
    why="A worker that is stopped while a handler still runs gives the job to others at once.",
)
def give_back_returns(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the job")
    # By another thread, as a worker does it at the end of its grace period.
    bench.side_by_side([lambda: bench.give_back(held)])
    bench.let_pass(bench.slack)
    again = bench.gets(second, message, "the job that was given back")
    if bench.capabilities.attempts is not None:
        bench.equal(bench.attempt(second, again), 1, "attempt() of a job that was given back")
    bench.settle(second, again)
    bench.nothing(second, "the job was committed")


@case(
    "give_back.ends_the_hold",
    "S7",
    "S21",
    waits=True,
    why="The handler goes on for a while, and what its thread then settles is another's delivery.",
)
def ends_the_hold(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the job")
    bench.side_by_side([lambda: bench.give_back(held)])
    bench.not_settled(first, held, COMMIT, "which was given back and waits")
    bench.let_pass(bench.slack)
    again = bench.gets(second, message, "the job that was given back")
    for settlement in (COMMIT, Rollback(), Snooze()):
        bench.not_settled(first, held, settlement, "which was given back")
    bench.not_extended(first, held, "which was given back")
    bench.not_given_back(held, "which was given back")
    bench.settle(second, again)
    other = bench.put()
    bench.settle(first, bench.gets(first, other, "another job, for the slot whose job was given back"))


@case(
    "give_back.once",
    "S7",
    "S21",
    why="What was settled holds nothing: the one who asks must hear it, or stops believing in errors.",
)
def give_back_once(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")
    bench.settle(consumer, held)
    error = bench.refused(LeaseLost, "give back a settled job", lambda: bench.adapter.give_back(held))
    bench.check(bool(error.why), "the refusal does not say why")
    bench.nothing(consumer, "the job was committed")
