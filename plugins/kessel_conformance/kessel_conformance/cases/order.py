"""Which of the ready jobs goes first (S3, S6)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DELAYS, PRIORITIES, TIE_BREAK
from kessel_core.contract import (
    COMMIT,
    Buried,
    Bury,
    Consumer,
    Reservation,
    Rollback,
    Snooze,
    TieBreak,
)


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
    queues = [bench.queue_named(name) for name in ("c", "a", "b")]
    # As text, 9 comes last; in 16 or 31 bits, the largest come first.
    for queues_now in (queues, queues[::-1]):
        for numbers in ((100, 9, 20), (2**31 + 9, 65536, 9), (2**32 - 1, 2**31, 2**16)):
            low, high = bench.capabilities.priorities or (0, 0)
            sent = {
                number: bench.put(priority=number, queue=queue)
                for number, queue in zip(numbers, queues_now, strict=True)
                if low <= number <= high
            }
            came = bench.labels(bench.drain(bench.consumer(*queues)))
            wanted = bench.labels([sent[number].body for number in sorted(sent)])
            bench.equal(came, wanted, f"order of {', '.join(map(str, sent))} over three queues")


@case("order.first_come", "S6", needs=(TIE_BREAK,), why="Jobs that depend on each other are sent in order.")
def first_come(bench: Bench) -> None:
    sent = [bench.put().body for _ in range(20)]
    bench.equal(bench.labels(bench.drain(bench.consumer())), bench.labels(sent), "equal jobs")
    # Places are not given again: not those of jobs that are done, nor the number of those that are left.
    sent = [bench.put().body for _ in range(4)]
    consumer = bench.consumer()
    for _ in range(2):
        bench.settle(consumer, bench.taken(consumer))
    sent += [bench.put().body for _ in range(2)]
    came = bench.labels(bench.drain(consumer))
    bench.equal(came, bench.labels(sent[2:]), "equal jobs, of which two were done before others came")


@case(
    "order.across_queues",
    "S6",
    needs=(TIE_BREAK,),
    why="Equals of several queues come in the order of the queues, or one queue is emptied first.",
)
def order_across_queues(bench: Bench) -> None:
    a, b, c = (bench.queue_named(name) for name in "abc")
    sent = [bench.put(queue=queue).body for queue in (b, a, c, c, a, b, b, c, a)]
    bench.equal(
        bench.labels(bench.drain(bench.consumer(c, a, b))), bench.labels(sent), "equals of three queues"
    )
    batch = [bench.message(queue=queue) for queue in (c, b, a, a, b, c)]
    bench.send_many(batch, " for three queues")
    consumer = bench.consumer(a, b, c)
    came = bench.settle_all(consumer, COMMIT)
    bench.equal(
        bench.labels(came), bench.labels([m.body for m in batch]), "equals of a batch for three queues"
    )


@case(
    "settle.and_reserve_next",
    "S6",
    "S8",
    needs=(PRIORITIES,),
    waits=True,
    why="What is taken with a settle is of the same queue, or paused, or too early: not the next job of all.",
)
def and_reserve_next(bench: Bench) -> None:
    other, third = bench.queue_named("other"), bench.queue_named("third")
    consumer = bench.consumer(bench.queue, other)
    declared = bench.capabilities
    for settlement in (COMMIT, Rollback(), Snooze(), Bury("error", "it failed")):
        first = bench.put(priority=2)
        held = bench.gets(consumer, first, "the first job")
        lazy, urgent = bench.put(priority=3), bench.put(priority=1, queue=other)
        bench.put(priority=0, queue=third)  # not of this consumer
        if declared.delay_granularity is not None:
            bench.put(priority=0, queue=other, delay=timedelta(hours=1))
        following = bench.settle_and_reserve(consumer, held, settlement)
        bench.check(following is not None, "the next job did not come")
        assert following is not None
        bench.equal(bench.label(following.body), bench.label(urgent.body), "the next job of two queues")
        bench.equal(following.queue, other, "its queue")
        _is_whole(bench, consumer, following)
        bench.settle(consumer, following)
        bench.let_pass(bench.slack)
        rest = bench.labels(bench.drain(consumer))
        bench.check(bench.label(lazy.body) in rest, "the less urgent job was lost")
        back = bench.label(first.body) in rest
        bench.equal(back, isinstance(settlement, Rollback | Snooze), "whether the settled job came again")
    bench.equal(len(bench.drain(bench.consumer(third))), 4, "jobs of a queue of others")


def _is_whole(bench: Bench, consumer: Consumer, held: Reservation) -> None:
    """Check that a reservation that came with a settle has all that one of a reserve has."""
    declared, now = bench.capabilities, bench.clock.monotonic()
    if declared.lease is not None:
        bench.check(held.lease is not None and held.lease <= declared.lease, f"its lease is {held.lease}")
        latest = now + declared.lease.total_seconds() + 1e-6
        bench.check(
            held.deadline is not None and now < held.deadline <= latest, "its deadline is not one lease off"
        )
    bench.equal(held.snoozes, 0, "its snoozes")
    if declared.attempts is not None:
        bench.equal(bench.attempt(consumer, held), 1, "its attempt()")
    bench.nothing(bench.consumer(held.queue), "the job that came with a settle is held")
    bench.extend(consumer, held)


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
