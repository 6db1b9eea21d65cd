"""What a reserve took that nobody heard of is asked for in time, and whoever waits for it is told (S7)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from typing import Final, cast

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.faults import ANSWER_WITHIN
from kessel_conformance.history import shown
from kessel_conformance.job_calls import WAIT
from kessel_conformance.near import Near, near_adapter
from kessel_conformance.proxy import Cut
from kessel_conformance.requirements import BLOCKING_RESERVE, CONNECTION, LEASE, LOST_RESERVES
from kessel_conformance.woken import best_of, how_late
from kessel_core import AdapterUnavailable
from kessel_core.contract import COMMIT, NO_PAUSE, Consumer, Message, QueueAdapter, Reservation, Rollback

NEEDS: Final = (CONNECTION, LEASE, LOST_RESERVES)
#: Seconds until a call has surely been sent, or a reserve waits.
_UNDER_WAY: Final = 0.3


# --- who waits asks ----------------------------------------------------------------------------------------


@case(
    "lost.reserve_asked_for_by_who_waits",
    "S7",
    "S9",
    needs=NEEDS,
    waits=True,
    why="A worker whose reserve was lost asks for it only when it calls again, and now it waits for a job.",
)
def asked_for_by_who_waits(bench: Bench) -> None:
    with ExitStack() as stack:
        benches = [stack.enter_context(bench.beside()) for _ in range(2)]
        ways = (_reserves, _settles_and_reserves)
        calls = [partial(_waits, one, way) for one, way in zip(benches, ways, strict=True)]
        bench.side_by_side(calls, 6 * ANSWER_WITHIN)


def _waits(bench: Bench, loses: Callable[[Near[Bench, QueueAdapter], Consumer, str], None]) -> None:
    def tried(number: int) -> float:
        queue = bench.queue_named(f"lost{number}")
        with near_adapter(bench) as near:
            taker = near.opened.consumer([queue])
            loses(near, taker, queue)
            _reserved(near, taker)  # asks for it, but the server has not been asked to take anything yet
            message = bench.send(bench.message(queue=queue))
            near.proxy.pass_held()  # now it takes the job, for nobody
            start = time.monotonic()
            while (held := _reserved(near, taker, bench.lease * 1.5)) is not None:
                late = time.monotonic() - start
                taker.settle(held, COMMIT)
                if held.body == message.body:
                    break
            taker.close()
        return late if held is not None else bench.lease.total_seconds()

    what = "a consumer that waits saw what its lost reserve had taken"
    best_of(bench, tried, min(WAIT, bench.lease * 0.75).total_seconds(), what)


def _reserves(near: Near[Bench, QueueAdapter], taker: Consumer, queue: str) -> None:
    """Lose a reserve that the server has not seen yet."""
    _reserved(near, taker)  # so that there is a connection
    near.proxy.hold_requests()
    near.asked(near.bench.history, "reserve, which arrives too late", lambda: taker.reserve(NO_PAUSE))
    near.proxy.end_faults()


def _settles_and_reserves(near: Near[Bench, QueueAdapter], taker: Consumer, queue: str) -> None:
    """Lose a settle and reserve that the server has not seen yet."""
    near.bench.send(near.bench.message(queue=queue))
    held = _reserved(near, taker, WAIT)
    if held is None:
        near.bench.broken("a ready job was not delivered")
    near.proxy.hold_requests()
    what = "settle and reserve, which arrives too late"
    near.asked(near.bench.history, what, lambda: taker.settle_and_reserve(held, COMMIT))
    near.proxy.end_faults()


def _reserved(
    near: Near[Bench, QueueAdapter], taker: Consumer, wait: timedelta = NO_PAUSE
) -> Reservation | None:
    """Reserve behind the proxy, while nothing is broken; what was broken before is met once at most."""
    what = f"reserve, waiting up to {shown(wait)}" if wait else "reserve"
    for is_last in (False, True):
        answer = near.asked(near.bench.history, what, lambda: taker.reserve(wait))
        if answer.error is not None and (is_last or not isinstance(answer.error, AdapterUnavailable)):
            near.bench.broken(f"{what} must work, nothing is broken any more: {answer.error!r}")
        if answer.error is None:
            break
    return cast("Reservation | None", answer.value)


# --- who waits is told -------------------------------------------------------------------------------------


@case(
    "lost.reserve_wakes_others",
    "S9",
    "S7",
    needs=(*NEEDS, BLOCKING_RESERVE),
    waits=True,
    why="What was taken for nobody is given back, and those who wait for a job are not told.",
)
def wakes_others(bench: Bench) -> None:
    what = "a consumer that waits saw what another adapter had given back"
    best_of(bench, partial(_told_by_another, bench), bench.slack.total_seconds(), what)


def _told_by_another(bench: Bench, number: int) -> float:
    """Lose a reserve, and let its adapter give back what it took; return how late another one sees that."""
    name, none = (bench.queue_named(f"{name}{number}") for name in ("lost", "none"))
    with near_adapter(bench) as near:
        taker, asker = (near.opened.consumer([queue]) for queue in (name, none))
        for consumer in (taker, asker):  # so that there are connections
            _reserved(near, consumer)
        message = bench.put(queue=name)
        near.proxy.cut_at(Cut(up=False, after=0))
        near.asked(bench.history, "reserve, while its answer is dropped", lambda: taker.reserve(NO_PAUSE))
        near.proxy.end_faults()

        def asks() -> None:
            near.asked(bench.history, "reserve from another queue", lambda: asker.reserve(NO_PAUSE))

        late = how_late(bench, [(bench.consumer(name), message)], asks, bench.lease * 0.8)
        for consumer in (taker, asker):
            consumer.close()
    return late


@case(
    "lost.reserve_wakes_those_beside",
    "S9",
    "S7",
    needs=(*NEEDS, BLOCKING_RESERVE),
    waits=True,
    why="Other processes are told of what was taken for nobody, and the slots of the same worker sleep on.",
)
def wakes_those_beside(bench: Bench) -> None:
    def tried(number: int) -> float:
        queues = [bench.queue_named(f"{name}{number}") for name in ("lost", "lost", "none")]
        with near_adapter(bench) as near:
            taker, waiter, asker = consumers = [near.opened.consumer([queue]) for queue in queues]
            for consumer in consumers:  # so that there are connections
                _reserved(near, consumer)
            late = _told(near, taker, waiter, asker, bench.send(bench.message(queue=queues[0])))
            for consumer in consumers:
                consumer.close()
        return late

    what = "a consumer that waits saw what another one of its adapter had given back"
    best_of(bench, tried, bench.slack.total_seconds(), what)


def _told(
    near: Near[Bench, QueueAdapter], taker: Consumer, waiter: Consumer, asker: Consumer, message: Message
) -> float:
    """Lose a reserve when another consumer waits already; return how late that one sees what was taken."""
    bench = near.bench
    asked: list[float] = []
    came: list[float] = []
    is_lost = threading.Event()
    near.proxy.cut_at(Cut(up=False, after=0, unseen=True))

    def takes() -> None:
        with suppress(AdapterUnavailable):
            held = taker.reserve(NO_PAUSE)
            if held is not None:  # it has asked again by itself
                taker.settle(held, Rollback())
        is_lost.set()

    def waits() -> None:
        time.sleep(_UNDER_WAY)  # the job is taken now, and nobody has told the adapter
        held = bench.call("reserve and wait", lambda: waiter.reserve(bench.lease * 1.5), "nothing")
        came.append(time.monotonic())
        if held is None:
            bench.broken("a reserve that waits did not see a job that was given back")
        bench.equal(bench.label(held.body), bench.label(message.body), "the job that came back")
        waiter.settle(held, COMMIT)

    def asks() -> None:
        time.sleep(2 * _UNDER_WAY)
        bench.history.add("the connection of a reserve is cut before its answer")
        near.proxy.show_cuts()
        is_lost.wait(ANSWER_WITHIN)
        bench.call("reserve from another queue", lambda: asker.reserve(NO_PAUSE), "nothing")
        asked.append(time.monotonic())

    bench.side_by_side([takes, waits, asks], 2 * ANSWER_WITHIN)
    near.proxy.end_faults()
    return came[0] - asked[0]
