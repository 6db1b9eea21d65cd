"""What others make ready wakes a consumer that waits for it, in other processes, too, and in any way (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias

import attrs

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.meanwhile import SOON, acts, soon
from kessel_conformance.requirements import (
    BLOCKING_RESERVE,
    DELAYS,
    PRIORITIES,
    RETURNS_AT_ONCE,
    SHARED_REACH,
)
from kessel_conformance.woken import Prepared, PreparedAll, wakes, wakes_all
from kessel_core.contract import (
    NO_PAUSE,
    Buried,
    Bury,
    Commit,
    Consumer,
    Message,
    Pause,
    QueueAdapter,
    Reservation,
    Rollback,
    Snooze,
    need,
)

_HOUR: Final = timedelta(hours=1)


@case(
    "reserve.wakes_for_return_and_reserve",
    "S9",
    "S8",
    "S21",
    needs=(BLOCKING_RESERVE, PRIORITIES),
    real_time=True,
    why="A busy worker settles and reserves in one call, and tells nobody of what it gives back.",
)
def return_and_reserve(bench: Bench) -> None:
    for settlement in (Rollback(), Snooze()):
        wakes(bench, partial(_returns_and_reserves, settlement))


def _returns_and_reserves(settlement: Rollback | Snooze, real: Bench) -> Prepared:
    first, second = real.queue_named("first"), real.queue_named("second")
    holder = real.consumer(first, second)
    message = real.put(queue=first)
    held = real.gets(holder, message, "the job")
    real.put(queue=second, priority=0)  # so that it does not get back what it returns

    def act() -> None:
        urgent = real.settle_and_reserve(holder, held, settlement)
        if urgent is not None:
            real.settle(holder, urgent)

    return real.consumer(first), message, act


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
    _hears(bench, _ways(bench))


@case(
    "reserve.wakes_from_afar_later",
    "S9",
    "S4",
    needs=(BLOCKING_RESERVE, SHARED_REACH, DELAYS),
    real_time=True,
    why="Other processes are told of what is ready at once, and sleep through what they were told will be.",
)
def later(bench: Bench) -> None:
    _hears(bench, _ways_later(bench))


def _hears(bench: Bench, ways: Iterable[_Way]) -> None:
    """Check that a consumer hears of what another adapter makes ready, in each of these ways."""

    def hears(lane: Iterable[_Way]) -> None:
        for way in lane:
            with ExitStack() as stack:

                def prepare(real: Bench, way: _Way = way, stack: ExitStack = stack) -> Prepared:
                    other = real.harness.open(real.clock, real.namespace)
                    stack.callback(other.close)
                    return way(real, other)

                wakes(bench, prepare)

    all_ways = list(ways)
    # Two at a time, because each waits for most of its time.
    bench.side_by_side([partial(hears, all_ways[start::2]) for start in range(2)], 300)


def _ways(bench: Bench) -> Iterator[_Way]:
    yield _batch
    yield partial(_comes_back, Rollback())
    yield partial(_comes_back, Snooze())
    yield _given_back
    if RETURNS_AT_ONCE.is_met(bench.harness):
        yield _closes
    if bench.has(Buried):
        yield partial(_kick, False)
        yield partial(_kick, True)
    if bench.has(Pause):
        yield _resume
    if bench.capabilities.follow:
        yield partial(_follows, _commit, NO_PAUSE)
        yield partial(_follows, _commit_and_reserve, NO_PAUSE)


def _ways_later(bench: Bench) -> Iterator[_Way]:
    yield _delayed_job
    yield _delayed_batch
    yield partial(_comes_back, Rollback(SOON))
    yield partial(_comes_back, Snooze(SOON))
    if bench.has(Pause):
        yield _pause_ends
    if bench.capabilities.follow:
        yield partial(_follows, _commit, SOON)


def _batch(real: Bench, other: QueueAdapter) -> Prepared:
    batch = [real.message(queue=real.queue_named(name)) for name in ("one", "two")]
    sends = acts(real, "enqueue 2 by another adapter", lambda: other.enqueue_many(batch))
    return real.consumer(batch[1].queue), batch[1], sends


def _delayed_job(real: Bench, other: QueueAdapter) -> Prepared:
    message = real.message()
    what = "enqueue by another adapter, delayed by 150 ms"
    return real.consumer(), message, acts(real, what, lambda: other.enqueue(soon(real, message)), SOON)


def _delayed_batch(real: Bench, other: QueueAdapter) -> Prepared:
    first, late = real.message(), real.message(delay=_HOUR)
    what = "enqueue 2 by another adapter, delayed by 150 ms and by an hour"

    def act() -> None:
        other.enqueue_many([soon(real, first), late])

    return real.consumer(), first, acts(real, what, act, SOON)


def _holder(real: Bench, other: QueueAdapter) -> tuple[Consumer, Reservation]:
    """Let the other adapter hold the job of the bench's queue."""
    holder = other.consumer([real.queue])
    held = real.call("reserve by another adapter", lambda: holder.reserve(NO_PAUSE))
    if held is None:
        real.broken("another adapter does not get a job that is ready")
    return holder, held


def _comes_back(settlement: Rollback | Snooze, real: Bench, other: QueueAdapter) -> Prepared:
    message = real.put()
    holder, held = _holder(real, other)
    pause = settlement.pause
    what = f"{type(settlement).__name__.lower()} by another adapter{', for 150 ms' if pause else ''}"
    return real.consumer(), message, acts(real, what, lambda: holder.settle(held, settlement), pause)


def _given_back(real: Bench, other: QueueAdapter) -> Prepared:
    message = real.put()
    _, held = _holder(real, other)
    return (
        real.consumer(),
        message,
        acts(real, "give back by another adapter", lambda: other.give_back(held)),
    )


def _closes(real: Bench, other: QueueAdapter) -> Prepared:
    message = real.put()
    holder, _ = _holder(real, other)
    return real.consumer(), message, acts(real, "close of another adapter's consumer", holder.close)


def _kick(as_shown: bool, real: Bench, other: QueueAdapter) -> Prepared:
    message = real.put()
    holder, held = _holder(real, other)
    real.call("bury by another adapter", lambda: holder.settle(held, Bury("error", "it failed")))
    operator = need(other, Buried)
    what = "list the buried by another adapter"
    (shown,) = real.call(what, lambda: operator.buried(real.queue, 1))
    what = f"kick by another adapter{', as it was shown' if as_shown else ''}"

    def act() -> None:
        if as_shown:
            operator.kick_shown(shown)
        else:
            operator.kick(real.queue, shown.id)

    return real.consumer(), message, acts(real, what, act)


def _resume(real: Bench, other: QueueAdapter) -> Prepared:
    real.pause(real.queue, _HOUR)
    pause = need(other, Pause).pause
    what = "resume by another adapter"
    return real.consumer(), real.put(), acts(real, what, lambda: pause(real.queue, NO_PAUSE))


def _pause_ends(real: Bench, other: QueueAdapter) -> Prepared:
    real.pause(real.queue, _HOUR)
    pause = need(other, Pause).pause
    what = "pause by another adapter, for 150 ms"
    return real.consumer(), real.put(), acts(real, what, lambda: pause(real.queue, SOON), SOON)


def _commit(holder: Consumer, held: Reservation, done: Commit) -> None:
    holder.settle(held, done)


def _commit_and_reserve(holder: Consumer, held: Reservation, done: Commit) -> None:
    holder.settle_and_reserve(held, done)


def _follows(
    settles: Callable[[Consumer, Reservation, Commit], None],
    delay: timedelta,
    real: Bench,
    other: QueueAdapter,
) -> Prepared:
    real.put()
    holder, held = _holder(real, other)
    told = real.message(queue=real.queue_named("told"))
    how = settles.__name__.strip("_").replace("_", " ")
    what = f"{how} with a follow-up, by another adapter{', delayed by 150 ms' if delay else ''}"

    def act() -> None:
        settles(holder, held, Commit(follow=(soon(real, told) if delay else told,)))

    return real.consumer(told.queue), told, acts(real, what, act, delay)


#: Makes jobs of several queues ready, by one call of another adapter or by several that follow each other.
_Burst: TypeAlias = Callable[[Bench, QueueAdapter, Sequence[Message]], Callable[[], None]]
_QUEUES: Final = "abcde"


@case(
    "reserve.wakes_from_afar_for_each_queue",
    "S9",
    needs=(BLOCKING_RESERVE, SHARED_REACH),
    real_time=True,
    why="Other processes tell of several queues at once; who listens reads of one, and forgets the others.",
)
def for_each_queue(bench: Bench) -> None:
    numbers = itertools.count(1)
    for burst in _bursts(bench):
        with ExitStack() as stack:

            def prepare(real: Bench, burst: _Burst = burst, stack: ExitStack = stack) -> PreparedAll:
                other = real.harness.open(real.clock, real.namespace)
                stack.callback(other.close)
                # Names of this try only, so that what was left unread in the last one wakes nobody in this.
                number = next(numbers)
                told = [real.message(queue=real.queue_named(f"{name}{number}")) for name in _QUEUES]
                act = burst(real, other, told)
                waiting = [(real.consumer(message.queue), message) for message in told]
                return waiting[-1:] if burst is _last_is_due else waiting, act

            wakes_all(bench, prepare)


def _bursts(bench: Bench) -> Iterator[_Burst]:
    yield _in_one_batch
    yield _one_by_one
    if DELAYS.is_met(bench.harness):
        yield _last_is_due
    if bench.capabilities.follow:
        yield _all_follow


def _in_one_batch(real: Bench, other: QueueAdapter, told: Sequence[Message]) -> Callable[[], None]:
    return acts(real, f"enqueue {len(told)} by another adapter", lambda: other.enqueue_many(told))


def _one_by_one(real: Bench, other: QueueAdapter, told: Sequence[Message]) -> Callable[[], None]:
    what = f"enqueue {len(told)} one by one, by another adapter"
    return acts(real, what, lambda: [other.enqueue(message) for message in told])


def _last_is_due(real: Bench, other: QueueAdapter, told: Sequence[Message]) -> Callable[[], None]:
    late = [attrs.evolve(message, delay=real.now() + _HOUR) for message in told[:-1]]
    what = f"enqueue {len(told)} by another adapter, the last one delayed by 150 ms, the others by an hour"
    return acts(real, what, lambda: other.enqueue_many([*late, soon(real, told[-1])]), SOON)


def _all_follow(real: Bench, other: QueueAdapter, told: Sequence[Message]) -> Callable[[], None]:
    real.put()
    holder, held = _holder(real, other)
    what = f"commit with {len(told)} follow-ups, by another adapter"
    return acts(real, what, lambda: holder.settle(held, Commit(follow=tuple(told))))
