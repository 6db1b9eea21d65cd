"""When all connections of an adapter end at once, as when its server is restarted, one call may fail (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeAlias

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.faults import ANSWER_WITHIN
from kessel_conformance.job_calls import OF_ENQUEUE
from kessel_conformance.near import Near, near_adapter
from kessel_conformance.requirements import CONNECTION
from kessel_core import AdapterError, AdapterUnavailable
from kessel_core.contract import NO_PAUSE, Browse, JobState, QueueAdapter, need

#: Threads that call at once, so that there are as many connections; and calls that follow each other.
_AT_ONCE: Final = 8
#: Seconds; an adapter that has not made so many connections by then makes do with fewer.
_CONNECTED: Final = 0.3
#: Seconds until the end of a connection can be seen.
_SEEN: Final = 0.05

#: A call behind the proxy that any thread can make, by the number of the thread.
_Call: TypeAlias = Callable[[int], object]


@case(
    "lost.all_connections_at_once",
    "S9",
    "S14",
    needs=(CONNECTION,),
    waits=True,
    why="A server was restarted, and each connection that an adapter has had idle fails one more call.",
)
def all_connections_at_once(bench: Bench) -> None:
    for what, of in _calls(bench):
        with near_adapter(bench) as near:
            _one_may_fail(near, what, of(near.opened))


def _one_may_fail(near: Near[Bench, QueueAdapter], what: str, call: _Call) -> None:
    """End all connections that calls in several threads have made, and make calls in one thread."""
    bench = near.bench
    _answered(near, what, call)  # what is asked once is not asked by all of them
    bench.history.add(f"{what} in {_AT_ONCE} threads at once, then all connections end")
    made = near.proxy.traffic.connections
    near.proxy.hold_answers()

    def ends_faults() -> None:
        end = time.monotonic() + _CONNECTED
        while near.proxy.traffic.connections - made < _AT_ONCE - 1 and time.monotonic() < end:
            time.sleep(0.005)
        near.proxy.end_faults()

    bench.side_by_side([*(partial(call, number) for number in range(_AT_ONCE)), ends_faults], ANSWER_WITHIN)
    near.proxy.cut()
    time.sleep(_SEEN)
    errors = [_answered(near, what, call) for _ in range(_AT_ONCE)]
    failed = [number + 1 for number, error in enumerate(errors) if error is not None]
    bench.check(failed in ([], [1]), f"the calls {failed} of {what} failed after that, in one thread")


def _answered(near: Near[Bench, QueueAdapter], what: str, call: _Call) -> AdapterError | None:
    """Make a call; return the error by which it tells of a lost connection."""
    error = near.asked(near.bench.history, what, partial(call, 0)).error
    if error is None or isinstance(error, (*OF_ENQUEUE, AdapterUnavailable)):
        return error
    near.bench.broken(f"expected AdapterUnavailable of {what}, got {error!r}")


def _calls(bench: Bench) -> Iterator[tuple[str, Callable[[QueueAdapter], _Call]]]:
    """Yield calls that find nothing to do, or store a job; each is made of an adapter."""
    yield "stats", lambda adapter: lambda _: adapter.stats(bench.queue)
    yield "queues", lambda adapter: lambda _: adapter.queues()
    yield "enqueue", lambda adapter: lambda _: adapter.enqueue(bench.message())
    yield "enqueue_many", lambda adapter: lambda _: _stored(adapter, bench)
    yield "reserve", lambda adapter: _reserves(adapter, bench)
    if bench.has(Browse):
        yield "peek", lambda adapter: lambda _: need(adapter, Browse).peek(bench.queue, JobState.READY)


def _stored(adapter: QueueAdapter, bench: Bench) -> None:
    for outcome in adapter.enqueue_many([bench.message(), bench.message()]):
        if outcome is not None:
            raise outcome


def _reserves(adapter: QueueAdapter, bench: Bench) -> _Call:
    """Return a reserve by a consumer of each thread."""
    queue = bench.queue_named("empty")
    consumers = [adapter.consumer([queue]) for _ in range(_AT_ONCE)]
    return lambda number: consumers[number].reserve(NO_PAUSE)
