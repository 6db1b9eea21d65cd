"""What another process makes ready wakes a consumer that waits for it, however it came about (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias

from kessel_conformance.bench import Bench
from kessel_conformance.cases.waking import Prepared, wakes
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import BLOCKING_RESERVE, DELAYS, SHARED_REACH
from kessel_core.contract import (
    NO_PAUSE,
    Buried,
    Bury,
    Commit,
    Consumer,
    Pause,
    QueueAdapter,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
    need,
)

_HOUR: Final = timedelta(hours=1)

#: Makes a job ready by another adapter.
_Way: TypeAlias = Callable[[Bench, QueueAdapter], Prepared]


@case(
    "reserve.wakes_from_afar_each_way",
    "S9",
    needs=(BLOCKING_RESERVE, SHARED_REACH),
    real_time=True,
    why="Other processes are told of what is enqueued, and not of what comes back, is kicked or follows.",
)
def each_way(bench: Bench) -> None:
    for way in _ways(bench):
        with ExitStack() as stack:

            def prepare(real: Bench, way: _Way = way, stack: ExitStack = stack) -> Prepared:
                other = real.harness.open(real.clock, real.namespace)
                stack.callback(other.close)
                return way(real, other)

            wakes(bench, prepare)


def _ways(bench: Bench) -> Iterator[_Way]:
    yield _batch
    if DELAYS.missing(bench.harness) is None:
        yield _delayed_batch
    yield partial(_comes_back, Rollback())
    yield partial(_comes_back, Snooze())
    if bench.has(Buried):
        yield _kick
    if bench.has(Pause):
        yield _resume
    if bench.capabilities.follow:
        yield partial(_follows, "commit", lambda holder, held, done: holder.settle(held, done))
        yield partial(
            _follows,
            "commit and reserve",
            lambda holder, held, done: holder.settle_and_reserve(held, done),
        )


def _batch(real: Bench, other: QueueAdapter) -> Prepared:
    batch = [real.message(queue=real.queue_named(name)) for name in ("one", "two")]
    return (
        real.consumer(batch[1].queue),
        batch[1],
        lambda: real.call("enqueue 2 by another adapter", lambda: other.enqueue_many(batch)),
    )


def _delayed_batch(real: Bench, other: QueueAdapter) -> Prepared:
    soon = real.message(delay=timedelta(milliseconds=150))
    late = real.message(queue=real.queue, delay=_HOUR)

    def sends() -> None:
        real.call(
            "enqueue 2 by another adapter, delayed by 150 ms and by an hour",
            lambda: other.enqueue_many([soon, late]),
        )
        time.sleep(max(0.0, ((soon.delay or real.now()) - real.now()).total_seconds()))

    return real.consumer(), soon, sends


def _holder(real: Bench, other: QueueAdapter) -> tuple[Consumer, Reservation]:
    """Let the other adapter hold the job of the bench's queue."""
    holder = other.consumer([real.queue])
    held = real.call("reserve by another adapter", lambda: holder.reserve(NO_PAUSE))
    if held is None:
        real.broken("another adapter does not get a job that is ready")
    return holder, held


def _comes_back(settlement: Settlement, real: Bench, other: QueueAdapter) -> Prepared:
    message = real.put()
    holder, held = _holder(real, other)
    what = f"{type(settlement).__name__.lower()} by another adapter"
    return (
        real.consumer(),
        message,
        lambda: real.call(what, lambda: holder.settle(held, settlement)),
    )


def _kick(real: Bench, other: QueueAdapter) -> Prepared:
    message = real.put()
    holder, held = _holder(real, other)
    real.call("bury by another adapter", lambda: holder.settle(held, Bury("error", "it failed")))
    job_id = real.buried()[0].id
    operations = need(other, Buried)
    return (
        real.consumer(),
        message,
        lambda: real.call("kick by another adapter", lambda: operations.kick(real.queue, job_id)),
    )


def _resume(real: Bench, other: QueueAdapter) -> Prepared:
    real.pause(real.queue, _HOUR)
    operations = need(other, Pause)
    return (
        real.consumer(),
        real.put(),
        lambda: real.call("resume by another adapter", lambda: operations.pause(real.queue, NO_PAUSE)),
    )


def _follows(
    what: str,
    settles: Callable[[Consumer, Reservation, Settlement], object],
    real: Bench,
    other: QueueAdapter,
) -> Prepared:
    real.put()
    holder, held = _holder(real, other)
    told = real.message(queue=real.queue_named("told"))
    return (
        real.consumer(told.queue),
        told,
        lambda: real.call(
            f"{what} with a follow-up, by another adapter",
            lambda: settles(holder, held, Commit(follow=(told,))),
        ),
    )
