"""Which of the ready jobs goes first (S3, S6)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DELAYS, PRIORITIES, TIE_BREAK
from kessel_core.contract import Buried, Bury, TieBreak


@case(
    "priority.lowest_first",
    "S6",
    "S3",
    needs=(PRIORITIES,),
    why="Priorities get reversed, compared as text, or cut to a small range.",
)
def lowest_first(bench: Bench) -> None:
    declared = bench.capabilities.priorities
    assert declared is not None
    low, high = declared
    numbers = [n for n in (65536, 9, high, 10, low, 100, 2, high - 1, low + 1, 65535) if low <= n <= high]
    numbers = list(dict.fromkeys(numbers))
    sent = {number: bench.put(priority=number) for number in numbers}
    bodies = bench.drain(bench.consumer())
    got = [next(n for n, m in sent.items() if m.body == body) for body in bodies]
    bench.equal(got, sorted(numbers), "priorities in the order of delivery")


@case(
    "priority.across_queues",
    "S6",
    needs=(PRIORITIES,),
    why="A worker of two queues takes the most urgent job of both.",
)
def across_queues(bench: Bench) -> None:
    other = bench.queue_named("other")
    bench.put(priority=20)
    bench.put(priority=10, queue=other)
    bench.put(priority=30, queue=other)
    got = bench.labels(bench.drain(bench.consumer(bench.queue, other)))
    bench.equal(got, ["job-2", "job-1", "job-3"], "order over two queues")


@case("order.first_come", "S6", needs=(TIE_BREAK,), why="Jobs that depend on each other are sent in order.")
def first_come(bench: Bench) -> None:
    sent = [bench.put().body for _ in range(20)]
    bench.equal(bench.labels(bench.drain(bench.consumer())), bench.labels(sent), "equal jobs")


@case(
    "order.tie_after_rollback",
    "S6",
    "S8",
    needs=(TIE_BREAK,),
    waits=True,
    why="Who relies on the declared place of a retried job must get it.",
)
def tie_after_rollback(bench: Bench) -> None:
    for _ in range(3):
        bench.put()
    consumer = bench.consumer()
    bench.roll_back(consumer, bench.taken(consumer))
    old_place = bench.capabilities.tie_break is TieBreak.ENQUEUED
    expected = ["job-1", "job-2", "job-3"] if old_place else ["job-2", "job-3", "job-1"]
    bench.equal(
        bench.labels(bench.drain(consumer)), expected, f"order with tie_break {bench.capabilities.tie_break}"
    )


@case("order.tie_after_kick", "S6", "S8", needs=(TIE_BREAK, Buried), why="As for a rollback.")
def tie_after_kick(bench: Bench) -> None:
    for _ in range(3):
        bench.put()
    consumer = bench.consumer()
    bench.settle(consumer, bench.taken(consumer), Bury("error"))
    (stored,) = bench.buried()
    bench.kick(stored.id)
    old_place = bench.capabilities.tie_break is TieBreak.ENQUEUED
    expected = ["job-1", "job-2", "job-3"] if old_place else ["job-2", "job-3", "job-1"]
    bench.equal(
        bench.labels(bench.drain(consumer)), expected, f"order with tie_break {bench.capabilities.tie_break}"
    )


@case(
    "order.tie_after_delay",
    "S6",
    "S4",
    needs=(TIE_BREAK, DELAYS),
    waits=True,
    why="As for a rollback.",
)
def tie_after_delay(bench: Bench) -> None:
    bench.put(delay=timedelta(seconds=1))
    bench.put()
    bench.let_pass(timedelta(seconds=1) + bench.slack)
    old_place = bench.capabilities.tie_break is TieBreak.ENQUEUED
    expected = ["job-1", "job-2"] if old_place else ["job-2", "job-1"]
    bench.equal(
        bench.labels(bench.drain(bench.consumer())),
        expected,
        f"order with tie_break {bench.capabilities.tie_break}",
    )
