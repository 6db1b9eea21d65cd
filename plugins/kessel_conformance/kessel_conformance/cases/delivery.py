"""What every adapter does: it carries jobs, each to one holder, and loses none."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import threading
import time
from collections import Counter
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import (
    ATTEMPTS,
    BLOCKING_RESERVE,
    DEDUPE,
    MAX_BODY_BYTES,
    PRIORITIES,
    SHARED_REACH,
)
from kessel_core import EnqueueRejected
from kessel_core.contract import NO_PAUSE

#: How long a reserve waits, and how soon it must come back when it is woken.
_LONG = timedelta(seconds=4)
_SOON = 3.0
AWKWARD = (
    b"",
    b"\0",
    b"\r\n",
    b"  blanks  ",
    b"\xff\xfe\x80",
    b"x\r\n.\r\n",
    b'{"type":"a"}',
    "päylöad".encode(),
)


@case(
    "delivery.body_untouched",
    "S16",
    "S13",
    why="Bodies were cut at blanks, line ends and NUL, or refused when not UTF-8.",
)
def body_untouched(bench: Bench) -> None:
    limit = bench.capabilities.max_body_bytes or 100_000
    bodies = [
        body for body in (*AWKWARD, bytes(range(256)) * 16, b"y" * min(limit, 60_000)) if len(body) <= limit
    ]
    consumer = bench.consumer()
    for body in bodies:
        bench.put(body)
        reservation = bench.taken(consumer)
        bench.equal(reservation.body, body, "the body")
        bench.settle(consumer, reservation)


@case(
    "delivery.names_queue", "S9", why="A worker of several queues logs and counts by the reservation's queue."
)
def names_queue(bench: Bench) -> None:
    other = bench.queue_named("other")
    bench.put(queue=other)
    consumer = bench.consumer(bench.queue, other)
    reservation = bench.taken(consumer)
    bench.equal(reservation.queue, other, "the reservation's queue")
    bench.settle(consumer, reservation)


@case(
    "delivery.own_queues",
    "S9",
    why="A worker must get the jobs of its own queues, all of them, and no others.",
)
def own_queues(bench: Bench) -> None:
    a, b, c = (bench.queue_named(name) for name in "abc")
    messages = {queue: bench.put(queue=queue) for queue in (a, b, c)}
    both = bench.consumer(a, b)
    got = bench.drain(both)
    bench.equal(
        sorted(bench.labels(got)),
        sorted(bench.labels([messages[a].body, messages[b].body])),
        "jobs of two queues",
    )
    bench.gets(bench.consumer(c), messages[c], "the third queue's job")


@case("delivery.one_holder", "S7", why="Two workers on one job do its work twice.")
def one_holder(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, message, "the only job")
    bench.nothing(second, "the job is held by another consumer")
    bench.nothing(second, "the job is still held by another consumer")
    bench.settle(first, held)


@case(
    "delivery.threads_share",
    "S7",
    "S9",
    why="Locks that are missing show only when several threads enqueue or reserve at once.",
)
def threads_share(bench: Bench) -> None:
    sent: list[bytes] = []
    seen: list[bytes] = []
    lock = threading.Lock()

    def send() -> None:
        for _ in range(15):
            message = bench.put()
            with lock:
                sent.append(message.body)

    def work() -> None:
        consumer = bench.consumer()
        while (reservation := bench.reserve(consumer)) is not None:
            with lock:
                seen.append(reservation.body)
            bench.settle(consumer, reservation)

    bench.side_by_side([send] * 4)
    bench.side_by_side([work] * 4)
    # A slot may have looked just while others held the last jobs; nothing may be left behind.
    seen += bench.drain(bench.consumer())
    known, came = Counter(bench.labels(sent)), Counter(bench.labels(seen))
    bench.equal(sorted(known - came), [], "jobs that were lost between four threads and four others", "S9")
    bench.equal(sorted(came - known), [], "jobs that came more than once")


@case("delivery.empty_at_once", "S9", why="A reserve without patience must not hold up the slot.")
def empty_at_once(bench: Bench) -> None:
    before = bench.now()
    bench.nothing(bench.consumer(), "nothing was enqueued")
    bench.check(bench.now() - before < timedelta(seconds=5), "a reserve with timeout zero waited")


@case("delivery.timeout_ends", "S9", why="A slot that waits for ever cannot be stopped.", waits=True)
def timeout_ends(bench: Bench) -> None:
    before = bench.now()
    wait = timedelta(milliseconds=300)
    bench.check(bench.reserve(bench.consumer(), wait) is None, "a job came from an empty queue")
    late = bench.now() - before - wait
    bench.check(
        late < bench.slack + timedelta(seconds=2),
        f"reserve came back {late.total_seconds():.1f} s after its timeout",
    )


@case(
    "delivery.attempts_count",
    "S10",
    needs=(ATTEMPTS,),
    waits=True,
    why="A count that is off gives a job too many tries, or too few.",
)
def attempts_count(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    for number in (1, 2, 3):
        reservation = bench.gets(consumer, message, "the job after its rollback")
        exact = bench.attempt(consumer, reservation)
        bench.equal(exact, number, "attempt()")
        bench.check(
            1 <= reservation.attempt <= number,
            f"reservation.attempt is {reservation.attempt} at delivery {number}",
        )
        bench.roll_back(consumer, reservation)


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
    bench.send(message, " again")
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")
    bench.send(message, " while it is held")
    bench.settle(consumer, held)
    bench.nothing(consumer, "the same id was enqueued three times and is settled")


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


@case("consumer.cancel_frees", "S9", why="Without it a stopping worker waits out its longest reserve.")
def cancel_frees(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")
    bench.call("worker A is cancelled", consumer.cancel)
    bench.call("worker A is cancelled again", consumer.cancel)
    bench.settle(consumer, held)
    bench.put()
    before = bench.now()
    bench.check(bench.reserve(consumer, timedelta(hours=1)) is None, "a cancelled consumer reserved a job")
    bench.check(bench.now() - before < timedelta(seconds=5), "reserve waited after cancel")
    bench.taken(bench.consumer())


@case(
    "consumer.cancel_wakes",
    "S9",
    why="A worker that is told to stop waits in a reserve nearly all of its time.",
)
def cancel_wakes(bench: Bench) -> None:
    with bench.in_real_time() as real:
        consumer = real.consumer()
        got: list[object] = []

        def stop() -> None:
            time.sleep(0.05)  # most likely it waits by now; if not, the cancel has to hold all the same
            real.call("worker A is cancelled", consumer.cancel)

        real.side_by_side([lambda: got.append(real.reserve(consumer, _LONG)), stop], _SOON)
        real.equal(got, [None], "what the waiting reserve brought")


@case(
    "reserve.wakes_for_job",
    "S9",
    needs=(BLOCKING_RESERVE,),
    why="A worker that looks only now and then starts urgent jobs late.",
)
def wakes_for_job(bench: Bench) -> None:
    with bench.in_real_time() as real:
        consumer = real.consumer()
        got: list[object] = []

        def send() -> None:
            time.sleep(0.05)  # most likely it waits by now
            real.put()

        real.side_by_side([lambda: got.append(real.reserve(consumer, _LONG)), send], _SOON)
        real.check(got != [None], "the waiting reserve did not see the job")


@case(
    "reach.is_shared",
    "S9",
    "S7",
    needs=(SHARED_REACH,),
    why="Producers and workers are processes of their own, each with an adapter of its own.",
)
def reach_is_shared(bench: Bench) -> None:
    other = bench.harness.open(bench.clock, bench.namespace)
    try:
        message = bench.message()
        bench.call("another adapter enqueues job-1", lambda: other.enqueue(message))
        consumer, elsewhere = bench.consumer(), other.consumer([bench.queue])
        held = bench.gets(consumer, message, "the other adapter's job")
        there = bench.call("the other adapter reserves", lambda: elsewhere.reserve(NO_PAUSE), "nothing")
        bench.check(there is None, "the other adapter was given a job that is held", "S7")
        bench.settle(consumer, held)
        there = bench.call("the other adapter reserves", lambda: elsewhere.reserve(NO_PAUSE), "nothing")
        bench.check(there is None, "the other adapter was given a job that is done", "S8")
        back = bench.put()
        there = bench.call("the other adapter reserves", lambda: elsewhere.reserve(NO_PAUSE), "nothing")
        bench.check(there is not None and there.body == back.body, "the other adapter does not see the job")
        elsewhere.close()
    finally:
        other.close()


@case(
    "consumer.close_returns_job",
    "S9",
    why="A job that a closing consumer holds must not be lost.",
    waits=True,
)
def close_returns_job(bench: Bench) -> None:
    message = bench.put()
    first = bench.consumer()
    bench.gets(first, message, "the job")
    bench.call("worker A is closed", first.close)
    bench.call("worker A is closed again", first.close)
    at_once = bench.capabilities.lease_return != "lease-end"
    if not at_once and bench.capabilities.lease is not None:
        bench.let_pass(bench.lease)
    bench.let_pass(bench.slack)
    bench.gets(bench.consumer(), message, "the job that a closed consumer held")


@case("adapter.close_twice", "S9", why="Shutdown paths cross; the second close must be quiet.")
def close_twice(bench: Bench) -> None:
    other = bench.harness.open(bench.clock, bench.harness.namespace())
    bench.call("close adapter", other.close)
    bench.call("close adapter again", other.close)
