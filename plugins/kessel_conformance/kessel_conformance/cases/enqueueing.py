"""What a producer may rely on: one job or many, stored once, in order, or refused (S14)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import (
    DEDUPE,
    DELAYS,
    MAX_BODY_BYTES,
    PRIORITIES,
)
from kessel_core import EnqueueRejected, IdHeld
from kessel_core.contract import Bury, JobState


@case(
    "enqueue.many_like_one",
    "S6",
    "S4",
    needs=(PRIORITIES,),
    waits=True,
    why="The second way into the queue is written with less care: it forgets priorities and delays.",
)
def many_like_one(bench: Bench) -> None:
    messages = [bench.message(priority=30), bench.message(priority=10)]
    due = bench.now() + timedelta(seconds=1)
    if bench.capabilities.delay_granularity is not None:
        messages.append(bench.message(priority=5, delay=timedelta(seconds=1)))
    bench.call(
        "enqueue_many: job-1, priority 30, job-2, priority 10, and job-3, priority 5, delay 1 s",
        lambda: bench.adapter.enqueue_many(messages),
    )
    consumer = bench.consumer()
    first = bench.gets(consumer, messages[1], "the most urgent ready job")
    bench.settle(consumer, first)
    bench.settle(consumer, bench.gets(consumer, messages[0], "the next one"))
    for delayed in messages[2:]:
        bench.comes_no_earlier(consumer, delayed, due, "delayed by 1 s in a batch")


@case(
    "enqueue.many_in_order",
    "S14",
    "S6",
    why="A batch that is stored in another order, or in part, breaks its producer.",
)
def many_in_order(bench: Bench) -> None:
    messages = [bench.message() for _ in range(12)]
    outcomes = bench.call("enqueue_many of 12", lambda: bench.adapter.enqueue_many(messages))
    bench.equal(outcomes, [None] * 12, "outcomes")
    bodies = bench.drain(bench.consumer())
    expected = [message.body for message in messages]
    if bench.capabilities.tie_break is None:
        bodies, expected = sorted(bodies), sorted(expected)
    bench.equal(bench.labels(bodies), bench.labels(expected), "the jobs of the batch")


@case(
    "enqueue.equal_bodies",
    "S9",
    why="Two requests may well be equal but for their ids; both have to be done.",
)
def equal_bodies(bench: Bench) -> None:
    bench.put(b"same")
    bench.put(b"same")
    bench.equal(len(bench.drain(bench.consumer())), 2, "jobs delivered of two with equal bodies")


@case(
    "enqueue.dedupe_holds",
    "S14",
    needs=(DEDUPE,),
    why="A producer that repeats an unknown enqueue relies on it.",
)
def dedupe_holds(bench: Bench) -> None:
    message = bench.put()
    bench.is_held(message, JobState.READY)
    outcomes = bench.call("enqueue_many of it", lambda: bench.adapter.enqueue_many([message]))
    bench.check(isinstance(outcomes[0], IdHeld), "an id that is held must be IdHeld in a batch, too")
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")
    bench.is_held(message, JobState.RESERVED)
    bench.settle(consumer, held)
    bench.nothing(consumer, "the same id was enqueued four times and is settled")
    bench.send(message, " after its end")
    bench.settle(
        consumer, bench.gets(consumer, message, "the job of an id that is free again"), Bury("a", "b")
    )
    bench.is_held(message, JobState.BURIED)


@case(
    "enqueue.size_limit",
    "S2",
    "S14",
    needs=(MAX_BODY_BYTES,),
    why="A limit that lies turns into errors far from the producer.",
)
def size_limit(bench: Bench) -> None:
    limit = bench.capabilities.max_body_bytes
    assert limit is not None
    consumer = bench.consumer()
    largest = bench.put(b"z" * limit)
    bench.settle(consumer, bench.gets(consumer, largest, "a body of exactly the limit"))
    over = bench.message(b"z" * (limit + 1))
    error = bench.refused(EnqueueRejected, "enqueue one byte too many", lambda: bench.adapter.enqueue(over))
    bench.equal((error.reason, error.job_id), ("too-large", over.id), "reason and id of the refusal")
    around = [bench.message(), over, bench.message()]
    outcomes = bench.call("enqueue_many with one too large", lambda: bench.adapter.enqueue_many(around))
    bench.equal(
        [outcome is None for outcome in outcomes], [True, False, True], "which of the batch was stored"
    )
    bench.check(isinstance(outcomes[1], EnqueueRejected), "the refused one must be EnqueueRejected")
    bench.equal(len(bench.drain(consumer)), 2, "jobs stored around a refused one")


@case("enqueue.none_at_all", "S14", why="A producer that had nothing to say stumbles over an empty batch.")
def none_at_all(bench: Bench) -> None:
    outcomes = bench.call("enqueue_many of nothing", lambda: bench.adapter.enqueue_many([]))
    bench.equal(list(outcomes), [], "outcomes")
    bench.nothing(bench.consumer(), "nothing was enqueued")


@case(
    "enqueue.many_of_each_kind",
    "S14",
    "S4",
    "S6",
    waits=True,
    why="A batch is for one queue in the head of who wrote it: the others get its queue, priority or delay.",
)
def many_of_each_kind(bench: Bench) -> None:
    declared = bench.capabilities
    bodies: list[bytes | None] = [None, b"", b"\xff\r\n\0", b" b ", None, None]
    queues = [bench.queue_named(name) for name in "abcabc"]
    delays = [None, timedelta(seconds=1), None] * 2 if declared.delay_granularity is not None else [None] * 6
    messages = [
        bench.message(body, queue=queue, priority=priority, delay=delay)
        for body, queue, priority, delay in zip(bodies, queues, (9, 30, 30, 5, 3, 4), delays, strict=True)
    ]
    due = bench.now() + timedelta(seconds=1)
    bench.send_many(messages, " for three queues")
    late = [message for message in messages if message.delay is not None]
    over: list[bytes] = []  # delayed ones that were due by the time of their queue: a slow machine
    for queue in sorted(set(queues)):
        own = [message for message in messages if message.queue == queue and message not in late]
        own = sorted(own, key=lambda message: message.priority) if declared.priorities is not None else own
        came = bench.drain(bench.consumer(queue))
        if bench.now() < due or not late:
            bench.equal(sorted(came), sorted(message.body for message in own), f"bodies in {queue}, now")
            if declared.priorities is not None:
                bench.equal(came, [message.body for message in own], f"their order in {queue}")
        else:
            over += [body for body in came if body not in {message.body for message in own}]
    bench.until(due + bench.slack)
    consumer = bench.consumer(*sorted(set(queues)))
    came = bench.drain(consumer)
    bench.equal(sorted(came + over), sorted(message.body for message in late), "bodies that were delayed")


@case(
    "enqueue.refused_among_others",
    "S14",
    "S4",
    needs=(DELAYS,),
    why="One job that cannot be stored stops its batch, is told as stored, or shifts what is told of others.",
)
def refused_among_others(bench: Bench) -> None:
    longest = bench.capabilities.longest_delay
    if longest is None or longest > timedelta(days=300_000):
        return
    far = [bench.message(delay=longest + timedelta(days=1)) for _ in range(3)]
    good = [bench.message() for _ in range(3)]
    batch = [far[0], good[0], good[1], far[1], good[2], far[2]]
    outcomes = bench.call(
        "enqueue_many with delays that are too long", lambda: bench.adapter.enqueue_many(batch)
    )
    told = [outcome.job_id if isinstance(outcome, EnqueueRejected) else outcome for outcome in outcomes]
    bench.equal(told, [m.id if m in far else None for m in batch], "ids of the refused, each in its place")
    came = bench.drain(bench.consumer())
    bench.equal(sorted(bench.labels(came)), sorted(bench.labels([m.body for m in good])), "jobs stored")
