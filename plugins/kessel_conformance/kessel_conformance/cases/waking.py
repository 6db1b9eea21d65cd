"""Whatever makes a job ready wakes a consumer that waits for it; it does not sleep on (S9).

What another call does happens in real time; what time does, on the adapter's own clock.
"""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.meanwhile import FALLS_ASLEEP, SOON, acts, soon
from kessel_conformance.requirements import BLOCKING_RESERVE, DELAYS, RETURNS_AT_ONCE, SHARED_REACH, Need
from kessel_conformance.woken import LONG, Prepared, awaited, comes, soon_enough, wakes
from kessel_core.contract import (
    NO_PAUSE,
    Buried,
    Bury,
    Consumer,
    Message,
    Pause,
    Reservation,
    Rollback,
    Snooze,
)

_HOUR: Final = timedelta(hours=1)


def _woken_by(
    name: str, *clauses: str, needs: tuple[Need, ...] = (), why: str, ways: Sequence[bool] = ()
) -> Callable[..., object]:
    """Enter a case of a consumer that is woken by what another call does.

    Args:
        name: Of the case, behind `reserve.wakes_for_`.
        clauses: As for `case`.
        needs: The same, beyond a reserve that waits.
        why: As for `case`.
        ways: What the function is given first, once for each; each way has tries of its own.
    """

    def enter(prepare: Callable[..., Prepared]) -> Callable[..., Prepared]:
        def run(bench: Bench) -> None:
            if ways:
                bench.side_by_side([partial(wakes, bench, partial(prepare, way)) for way in ways], 60)
            else:
                wakes(bench, prepare)

        needs_all = (BLOCKING_RESERVE, *needs)
        case(f"reserve.wakes_for_{name}", *clauses, needs=needs_all, real_time=True, why=why)(run)
        return prepare

    return enter


def _held(bench: Bench, *queues: str) -> tuple[Message, Consumer, Reservation]:
    message = bench.put()
    holder = bench.consumer(*queues)
    return message, holder, bench.gets(holder, message, "the job")


@_woken_by("job", "S9", why="A worker that looks only now and then starts urgent jobs late.")
def by_job(bench: Bench) -> Prepared:
    message = bench.message()
    return bench.consumer(), message, lambda: bench.send(message)


@_woken_by("rollback", "S9", "S8", why="Only a new job is announced, not one that comes back.")
def by_rollback(bench: Bench) -> Prepared:
    message, holder, held = _held(bench)
    return bench.consumer(), message, lambda: bench.settle(holder, held, Rollback())


@_woken_by("snooze", "S9", "S21", why="As for a rollback.")
def by_snooze(bench: Bench) -> Prepared:
    message, holder, held = _held(bench)
    return bench.consumer(), message, lambda: bench.settle(holder, held, Snooze())


@_woken_by("give_back", "S9", "S21", why="A worker that stops gives its job to one that has nothing to do.")
def by_give_back(bench: Bench) -> Prepared:
    message, _, held = _held(bench)
    return bench.consumer(), message, lambda: bench.give_back(held)


@_woken_by(
    "close",
    "S9",
    needs=(RETURNS_AT_ONCE,),
    why="A worker ends, and its job is not seen before the next one is enqueued.",
)
def by_close(bench: Bench) -> Prepared:
    message, holder, _ = _held(bench)
    return bench.consumer(), message, lambda: bench.call("close of the consumer that holds it", holder.close)


@_woken_by(
    "kick",
    "S9",
    "S8",
    needs=(Buried,),
    why="An operator kicks a job while the workers have nothing to do.",
    ways=(False, True),
)
def by_kick(as_shown: bool, bench: Bench) -> Prepared:
    message, holder, held = _held(bench)
    bench.settle(holder, held, Bury("error", "it failed"))
    shown = bench.buried()[0]
    if as_shown:
        return bench.consumer(), message, lambda: bench.kick_shown(shown)
    return bench.consumer(), message, lambda: bench.kick(shown.id)


@_woken_by(
    "resume",
    "S9",
    needs=(Pause,),
    why="A queue is resumed, and its workers sleep until the end of the pause.",
)
def by_resume(bench: Bench) -> Prepared:
    bench.pause(bench.queue, _HOUR)
    return bench.consumer(), bench.put(), lambda: bench.pause(bench.queue, NO_PAUSE)


@_woken_by(
    "batch", "S9", "S14", why="A batch has a path of its own, which announces nothing, or one queue only."
)
def by_batch(bench: Bench) -> Prepared:
    other = bench.queue_named("other")
    batch = [bench.message(), bench.message(), bench.message(queue=other)]
    return bench.consumer(other), batch[-1], lambda: bench.send_many(batch)


@_woken_by("second_queue", "S9", why="A consumer of several queues listens for its first one only.")
def by_second_queue(bench: Bench) -> Prepared:
    message = bench.message(queue=bench.queue_named("b"))
    consumer = bench.consumer(*(bench.queue_named(name) for name in "abc"))
    return consumer, message, lambda: bench.send(message)


@_woken_by(
    "sooner_delay",
    "S9",
    "S4",
    needs=(DELAYS,),
    why="A consumer sleeps until the first delay that it knew when it fell asleep.",
    ways=(False, True),
)
def by_sooner_delay(in_batch: bool, bench: Bench) -> Prepared:
    bench.put(delay=_HOUR)
    message, late = bench.message(), bench.message(delay=_HOUR)

    def act() -> None:
        if in_batch:
            bench.adapter.enqueue_many([late, soon(bench, message)])
        else:
            bench.adapter.enqueue(soon(bench, message))

    what = "enqueue 2, delay an hour and 150 ms" if in_batch else "enqueue, delay 150 ms"
    return bench.consumer(), message, acts(bench, what, act, SOON)


@_woken_by(
    "retry",
    "S9",
    "S8",
    needs=(DELAYS,),
    why="A pause begins while consumers sleep, and ends before they wake.",
)
def by_retry(bench: Bench) -> Prepared:
    message, holder, held = _held(bench)
    returns = acts(bench, "roll back, pause 150 ms", lambda: holder.settle(held, Rollback(SOON)), SOON)
    return bench.consumer(), message, returns


@case(
    "reserve.wakes_from_afar",
    "S9",
    needs=(BLOCKING_RESERVE, SHARED_REACH),
    real_time=True,
    why="Jobs come from other processes, whose adapters cannot call this one's, and others come and go.",
)
def from_afar(bench: Bench) -> None:
    with bench.in_real_time() as real:
        other = real.harness.open(real.clock, real.namespace)
        try:
            message, consumer = real.message(), real.consumer()
            got: list[Reservation | None] = []

            def sends() -> None:
                time.sleep(FALLS_ASLEEP)
                with real.sharing() as passing:  # one that closes takes away what it waits with, and no more
                    passing.reserve(passing.consumer(real.queue_named("other")), timedelta(milliseconds=50))
                other.enqueue(message)

            real.side_by_side(
                [
                    lambda: got.append(real.reserve(consumer, LONG)),
                    sends,
                ],
                FALLS_ASLEEP + LONG.total_seconds() / 2,
            )
            real.check(got[0] is not None, "the waiting reserve did not see another adapter's job")
        finally:
            other.close()


@case(
    "reserve.wakes_each_for_its_own",
    "S9",
    needs=(BLOCKING_RESERVE,),
    real_time=True,
    why="Several jobs wake one consumer, or a consumer of another queue, and the others sleep on.",
)
def each_for_its_own(bench: Bench) -> None:
    with bench.in_real_time() as real:
        # Those that are to be woken first are the ones that have waited for the shortest time.
        consumers = [real.consumer(real.queue_named(name), real.queue) for name in "aabbc"]
        messages = [real.message(queue=real.queue_named(name)) for name in "cbbaa"]
        came: list[Reservation | None] = []
        start, ends = real.now(), []

        def sends() -> None:
            time.sleep(0.05)
            for message in messages[:3]:
                real.send(message)
                time.sleep(0.02)  # so that one who was woken for nothing waits again
            real.send_many(messages[3:])

        def waits(number: int) -> None:
            time.sleep(0.008 * number)
            came.append(real.reserve(consumers[number], LONG))
            ends.append(real.now())

        waiting = [partial(waits, number) for number in range(len(consumers))]
        real.side_by_side([*waiting, sends], 2 * LONG.total_seconds())
        seen = [real.label(held.body) for held in came if held is not None]
        real.equal(
            sorted(seen), sorted(real.labels([m.body for m in messages])), "jobs that waiting consumers got"
        )
        late = max(ends) - start
        real.check(
            late < LONG / 2, f"a consumer was not woken, and saw its job after {late.total_seconds():.1f} s"
        )


@case(
    "reserve.wakes_each_in_time",
    "S9",
    "S4",
    needs=(BLOCKING_RESERVE, DELAYS),
    real_time=True,
    why="One timer serves all who wait; it knows what is due first, and what is due after that is seen late.",
)
def each_in_time(bench: Bench) -> None:
    with bench.in_real_time() as real:

        def tried() -> float:
            waiting = [_due_after(real, milliseconds) for milliseconds in (500, 100, 300)]
            late: list[float] = []

            def waits(waiter: Consumer, message: Message, due: float) -> None:
                late.append(comes(real, waiter, message) - due)

            real.side_by_side([partial(waits, *one) for one in waiting])
            return max(late)

        soon_enough(real, tried)


def _due_after(real: Bench, milliseconds: int) -> tuple[Consumer, Message, float]:
    """Return a consumer of a queue of its own, the job that is delayed there, and when that is due."""
    consumer = real.consumer(real.queue_named(str(milliseconds)))
    due = time.monotonic() + milliseconds / 1000
    message = real.put(queue=real.queue_named(str(milliseconds)), delay=timedelta(milliseconds=milliseconds))
    return consumer, message, due


@case(
    "reserve.wakes_past_another_queue",
    "S9",
    "S4",
    needs=(BLOCKING_RESERVE, DELAYS),
    real_time=True,
    why="Who has got a job wakes the next in line, who waits for another queue, and a second job lies there.",
)
def past_another_queue(bench: Bench) -> None:
    with bench.in_real_time() as real:
        soon_enough(real, lambda: _past_another(real))


def _past_another(real: Bench) -> float:
    """Let two jobs become due at once; return how late the later one is seen, in seconds."""
    delay, other = 2 * SOON.total_seconds(), real.queue_named("other")
    due = time.monotonic() + delay
    for _ in range(2):
        real.put(delay=timedelta(seconds=delay))
    # In the order in which they begin to wait.
    waiters = (real.consumer(real.queue, other), real.consumer(other), real.consumer(real.queue))
    came: list[float] = []

    def waits(number: int) -> None:
        time.sleep(0.03 * number)
        held, at = awaited(real, waiters[number], LONG)
        if held.queue == real.queue:
            came.append(at)
        real.settle(waiters[number], held)

    def ends() -> None:
        while len(came) < 2 and time.monotonic() < due + LONG.total_seconds():
            time.sleep(0.005)
        real.put(queue=other)

    real.side_by_side([*(partial(waits, number) for number in range(3)), ends], 20)
    return max(0.0, max(came) - due)


@case(
    "reserve.waits_for_job",
    "S9",
    real_time=True,
    why="A consumer that polls looks a last time long before its wait is over, or does not wait at all.",
)
def waits_for_job(bench: Bench) -> None:
    with bench.in_real_time() as real:
        consumer = real.consumer()
        got: list[Reservation | None] = []

        def sends() -> None:
            time.sleep(0.1)
            real.put()

        real.side_by_side([lambda: got.append(real.reserve(consumer, timedelta(seconds=1.5))), sends])
        real.check(got[0] is not None, "a job that became ready during the wait was not delivered")
