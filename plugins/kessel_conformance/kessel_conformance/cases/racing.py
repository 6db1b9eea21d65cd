"""What happens at the same moment: each job goes one way only, none is lost between two calls (S7, S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DEDUPE
from kessel_core import IdHeld, UnknownJob
from kessel_core.contract import COMMIT, NO_PAUSE, Buried, Bury, Consumer, Delete, Message, Reservation


@case(
    "enqueue.large_body_whole",
    "S16",
    "S9",
    why="A consumer looks while a large body is being written, and gets what is there so far.",
)
def large_body_whole(bench: Bench) -> None:
    size = min(bench.capabilities.max_body_bytes or 400_000, 400_000)
    messages = [bench.message(bytes([65 + number]) * (size - 1) + b"!") for number in range(24)]
    wanted = {message.body for message in messages}
    consumer = bench.consumer()
    came: list[bytes] = []

    def looks() -> None:
        end = time.monotonic() + 30
        while len(came) < len(messages) and time.monotonic() < end:
            held = consumer.reserve(NO_PAUSE)
            if held is not None:
                came.append(held.body)
                consumer.settle(held, COMMIT)

    def sends() -> None:
        for message in messages:
            bench.adapter.enqueue(message)

    bench.side_by_side([looks, sends], 40)
    bench.history.add(f"{len(messages)} bodies of {size} bytes were enqueued, while a consumer looked")
    odd = [len(body) for body in came if body not in wanted]
    bench.equal(odd, [], "lengths of bodies that came in part")
    bench.equal(len(set(came)), len(messages), "bodies that came", "S9")


@case(
    "ids.race_for_one",
    "S14",
    needs=(DEDUPE,),
    why="Two producers look whether an id is there, and both store it.",
)
def race_for_one(bench: Bench) -> None:
    ids = [bench.message().id for _ in range(16)]
    stored: list[str] = []

    def sends(number: int) -> None:
        message = Message(ids[number], bench.queue, ids[number].encode(), 65536)
        try:
            bench.adapter.enqueue(message)
        except IdHeld:
            return
        stored.append(message.id)

    bench.in_step(len(ids), sends, sends, sends)
    bench.history.add(f"3 threads enqueued the same {len(ids)} ids; {len(stored)} were stored")
    bench.equal(sorted(stored), sorted(ids), "ids that were told as stored")
    bench.equal(len(bench.drain(bench.consumer())), len(ids), "jobs stored")


def _tried(call: Callable[[], object]) -> bool:
    try:
        call()
    except UnknownJob:
        return False
    return True


@case(
    "delete.race_with_reserve",
    "S9",
    "S7",
    needs=(Delete,),
    why="An operator deletes a job in the very moment in which a worker takes it: one of them must hear no.",
)
def race_with_reserve(bench: Bench) -> None:
    messages = [bench.message() for _ in range(40)]
    bench.send(messages[0])
    delete, consumer = bench.facet(Delete).delete, bench.consumer()
    deleted: list[bytes] = []
    came: list[bytes] = []

    def deletes(number: int) -> None:
        if _tried(partial(delete, bench.queue, messages[number].id)):
            deleted.append(messages[number].body)

    def works(number: int) -> None:
        held = consumer.reserve(NO_PAUSE)
        if held is not None:
            came.append(held.body)
            consumer.settle(held, COMMIT)
        # One job for each round: a worker that once took the next one would be ahead in all rounds to come,
        # and never meet the operator again.
        for following in messages[number + 1 : number + 2]:
            bench.adapter.enqueue(following)

    bench.in_step(len(messages), deletes, works)
    came += bench.drain(consumer)
    bench.history.add(f"of {len(messages)} jobs {len(deleted)} were deleted, {len(came)} delivered")
    counted = Counter(bench.labels([*deleted, *came]))
    wrong = {label: times for label, times in counted.items() if times != 1}
    bench.equal(wrong, {}, "jobs that were deleted and delivered, or delivered twice")
    bench.equal(len(counted), len(messages), "jobs that were deleted or delivered", "S9")


@case(
    "buried.race_to_kick",
    "S8",
    "S9",
    needs=(Buried,),
    why="Two operators kick the same jobs, which then run twice, or are lost between the two.",
)
def race_to_kick(bench: Bench) -> None:
    bench.send_many([bench.message() for _ in range(30)])
    consumer = bench.consumer()
    bench.settle_all(consumer, Bury("error", "it failed"))
    ids = [job.id for job in bench.buried()]
    kicked: list[str] = []

    def kicks(number: int) -> None:
        if _tried(partial(bench.facet(Buried).kick, bench.queue, ids[number])):
            kicked.append(ids[number])

    bench.in_step(len(ids), kicks, kicks, kicks)
    bench.history.add(f"3 threads kicked the same {len(ids)} jobs, with success {len(kicked)} times")
    bench.equal(sorted(kicked), sorted(ids), "jobs that were kicked")
    came = Counter(bench.labels(bench.drain(consumer)))
    bench.equal((len(came), came.total()), (len(ids), len(ids)), "jobs that came, and how often in all")


@case(
    "purge.race_with_others",
    "S9",
    "S7",
    why="A purge meets producers and workers: what it tells as removed must not run, and the rest must.",
)
def race_with_others(bench: Bench) -> None:
    messages = [bench.message() for _ in range(90)]
    came: list[bytes] = []
    removed: list[int] = []
    consumer = bench.consumer()
    done: list[None] = []

    def sends() -> None:
        try:
            for message in messages:
                bench.adapter.enqueue(message)
        finally:
            done.append(None)

    def works() -> None:
        while not done:
            held = consumer.reserve(NO_PAUSE)
            if held is not None:
                came.append(held.body)
                consumer.settle(held, COMMIT)

    def purges() -> None:
        while not done:
            removed.append(bench.adapter.purge(bench.queue))

    bench.side_by_side([sends, works, purges])
    came += bench.drain(consumer)
    bench.history.add(f"of {len(messages)} jobs {sum(removed)} were purged, {len(came)} delivered")
    bench.equal(len(set(came)), len(came), "jobs that were delivered, each once", "S7")
    bench.equal(sum(removed) + len(came), len(messages), "jobs that were purged or delivered")


@case(
    "consumer.race_to_cancel",
    "S9",
    real_time=True,
    why="A job that arrives in the moment of a cancel is taken by a worker that will never settle it.",
)
def race_to_cancel(bench: Bench) -> None:
    with bench.in_real_time() as real:
        for number in range(24):
            message, consumer = real.message(), real.consumer()
            came: list[Reservation | None] = []

            def waits(consumer: Consumer = consumer, came: list[Reservation | None] = came) -> None:
                came.append(consumer.reserve(timedelta(seconds=2)))

            def sends(message: Message = message, number: int = number) -> None:
                time.sleep(0.002 + 0.0001 * number)
                real.adapter.enqueue(message)

            def cancels(consumer: Consumer = consumer) -> None:
                time.sleep(0.003)
                consumer.cancel()

            real.side_by_side([waits, sends, cancels])
            held = came[0]
            if held is None:
                real.nothing(consumer, "it was cancelled")
                consumer = real.consumer()
                held = real.taken(consumer, timedelta(seconds=1))
            real.equal(real.label(held.body), real.label(message.body), "the job that came")
            real.settle(consumer, held)
            consumer.close()
