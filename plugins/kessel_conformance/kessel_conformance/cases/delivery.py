"""What every adapter does: it carries jobs, each to one holder, and loses none."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import threading
from collections import Counter
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import ATTEMPTS
from kessel_core.contract import Find

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
    message = bench.put(queue=other)
    consumer = bench.consumer(bench.queue, other)
    reservation = bench.taken(consumer)
    bench.equal(reservation.queue, other, "the reservation's queue")
    if bench.has(Find):  # it knows the job's own id
        bench.equal(reservation.id, message.id, "the reservation's id")
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
        for reservation in bench.each(consumer):
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
    "delivery.counts_with_many_queues",
    "S10",
    "S21",
    needs=(ATTEMPTS,),
    waits=True,
    why="Who serves several queues takes their jobs by a way of its own, on which the counts are lost.",
)
def counts_with_many_queues(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer(bench.queue_named("other"), bench.queue)
    for attempt, snoozes, end in (
        (1, 0, bench.roll_back),
        (2, 0, bench.snooze),
        (2, 1, bench.snooze),
        (2, 2, bench.roll_back),
        (3, 2, bench.settle),
    ):
        held = bench.gets(consumer, message, "the job")
        bench.equal(bench.attempt(consumer, held), attempt, "attempt()")
        bench.check(1 <= held.attempt <= attempt, f"reservation.attempt is {held.attempt}, not {attempt}")
        bench.check(0 <= held.snoozes <= snoozes, f"reservation.snoozes is {held.snoozes}, not {snoozes}")
        end(consumer, held)
