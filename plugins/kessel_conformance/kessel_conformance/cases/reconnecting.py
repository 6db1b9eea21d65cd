"""When all connections of an adapter end at once, as when its server is restarted, one call may fail (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable, Iterator

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.job_calls import OF_ENQUEUE
from kessel_conformance.near import near_adapter
from kessel_conformance.requirements import CONNECTION
from kessel_conformance.together import AT_ONCE, Numbered, one_may_fail
from kessel_core.contract import NO_PAUSE, Browse, JobState, QueueAdapter, need


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
            one_may_fail(near, what, of(near.opened), OF_ENQUEUE)


def _calls(bench: Bench) -> Iterator[tuple[str, Callable[[QueueAdapter], Numbered]]]:
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


def _reserves(adapter: QueueAdapter, bench: Bench) -> Numbered:
    """Return a reserve by a consumer of each thread."""
    queue = bench.queue_named("empty")
    consumers = [adapter.consumer([queue]) for _ in range(AT_ONCE)]
    return lambda number: consumers[number].reserve(NO_PAUSE)
