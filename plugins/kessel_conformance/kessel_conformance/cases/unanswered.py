"""A call whose answer is lost may have made a job ready: whoever waits beside it must see that (S9, S14).

The waiting consumer is of the same adapter. It is told by the call itself, which fails; and what the server
tells everybody is often left out by the adapter that caused it.
"""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Final, NamedTuple

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.faults import ANSWER_WITHIN
from kessel_conformance.meanwhile import FALLS_ASLEEP
from kessel_conformance.near import Near, near_adapter
from kessel_conformance.proxy import Cut, FaultProxy
from kessel_conformance.requirements import BLOCKING_RESERVE, CONNECTION
from kessel_conformance.woken import soon_enough
from kessel_core import AdapterError
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Buried,
    Bury,
    Commit,
    Consumer,
    Pause,
    QueueAdapter,
    Reservation,
    Rollback,
    need,
)

_LONG: Final = timedelta(seconds=4)
_HOUR: Final = timedelta(hours=1)
#: For all tries of one way, in seconds.
_ALL_TRIES: Final = 60.0
#: So often who was woken may have looked before a busy server did what it was asked, and sleeps on.
_OVERTAKEN: Final = 2
#: So many may be late, for a machine may be busy, or look for all who wait just when all is held.
_TRIES: Final = 3


class _Set(NamedTuple):
    """A queue in which a call of the adapter behind the proxy is to make one job ready."""

    queue: str
    act: Callable[[], object]


class _Waiter:
    """A consumer behind the proxy that waits for one job."""

    def __init__(self, adapter: QueueAdapter, queue: str, longest: timedelta) -> None:
        self._consumer = adapter.consumer([queue])
        self._queue = queue
        self._longest = longest
        #: When the job came.
        self._came: float | None = None
        self._was_hit = False

    def waits(self) -> None:
        """Wait for the job, and commit it."""
        try:
            held = self._consumer.reserve(self._longest)
            at = time.monotonic()
            if held is not None:
                self._consumer.settle(held, COMMIT)
                self._came = at
        except AdapterError:  # its own connection was broken, which was to be the other one
            self._was_hit = True

    def gives_up(self) -> None:
        """End the wait: there is nothing to be seen."""
        self._consumer.cancel()

    def how_late(self, bench: Bench, since: float, never: float) -> float:
        """Return how many seconds late it saw the job; `never`, if it is there and was not seen."""
        self._consumer.close()
        was_stored = bench.drain(bench.consumer(self._queue)) != []
        if self._came is not None:
            return max(0.0, self._came - since)
        # There is nothing to be seen where the server has not done it, or who waited was told of the fault.
        return never if was_stored and not self._was_hit else 0.0


#: Prepares it: the case, and the adapter behind the proxy.
_Way = Callable[[Bench, QueueAdapter], _Set]


@case(
    "lost.wakes_who_waits",
    "S9",
    "S14",
    needs=(CONNECTION, BLOCKING_RESERVE),
    waits=True,
    why="A job is stored, its answer is lost, and the idle slots beside it sleep on for seconds.",
)
def wakes_who_waits(bench: Bench) -> None:
    def tries(way: _Way) -> Callable[[], object]:
        def run() -> None:
            with bench.beside() as beside, near_adapter(beside) as near:
                soon_enough(beside, lambda: _tried(beside, near, way), asleep=_OVERTAKEN)

        return run

    bench.side_by_side([tries(way) for way in _ways(bench)], _ALL_TRIES)


@case(
    "lost.wakes_who_waits_late",
    "S9",
    "S14",
    needs=(CONNECTION, BLOCKING_RESERVE),
    waits=True,
    why="A server does what its caller has given up, and tells all of it: the caller takes that for news of"
    " its own.",
)
def wakes_who_waits_late(bench: Bench) -> None:
    def tries() -> None:
        late: list[float] = []
        bound = bench.slack.total_seconds()
        with bench.beside() as beside, near_adapter(beside) as near:
            while not late or late[-1] > bound:
                what = f"who waits saw a job {min(late, default=0.0):.2f} s after it was stored, or more"
                beside.check(len(late) < _TRIES, what)
                late.append(_stored_late(beside, near))

    bench.side_by_side([tries, tries], _TRIES * 2 * ANSWER_WITHIN)


def _stored_late(bench: Bench, near: Near[Bench, QueueAdapter]) -> float:
    """Return how many seconds late a waiting consumer sees a job whose enqueue was given up before."""
    adapter, message = near.opened, bench.message(queue=_fresh(bench))
    waiter = _Waiter(adapter, message.queue, timedelta(seconds=ANSWER_WITHIN) + _LONG)
    bench.call("stats", lambda: adapter.stats(message.queue))  # so that there is a connection
    stored: list[float] = []

    def enqueues() -> None:
        time.sleep(FALLS_ASLEEP)
        near.proxy.hold_requests()
        releases = threading.Thread(target=_releases, args=(near.proxy,))
        releases.start()
        with suppress(AdapterError):
            adapter.enqueue(message)
        releases.join()
        time.sleep(FALLS_ASLEEP)  # who was woken by that has looked, and waits again
        near.proxy.pass_held()
        stored.append(time.monotonic())
        if not bench.stats(message.queue).total:
            waiter.gives_up()  # what was held was not yet the request that stores it, or it has the job

    bench.history.add("an enqueue that the server has after it was given up, while a consumer waits")
    bench.side_by_side([waiter.waits, enqueues], 2 * ANSWER_WITHIN)
    return waiter.how_late(bench, stored[0], ANSWER_WITHIN)


def _releases(proxy: FaultProxy) -> None:
    """Hold no more than the first request, so that whoever waits may ask and be told."""
    end = time.monotonic() + _LONG.total_seconds()
    while not proxy.holds_some and time.monotonic() < end:
        time.sleep(0.001)
    proxy.end_faults()


def _tried(bench: Bench, near: Near[Bench, QueueAdapter], way: _Way) -> float:
    """Return how many seconds late a waiting consumer sees what a call without an answer has made ready."""
    adapter = near.opened
    once, again = way(bench, adapter), way(bench, adapter)
    before = near.proxy.traffic
    bench.call("the call, with nothing broken", once.act)
    size = (near.proxy.traffic - before).up
    bench.drain(bench.consumer(once.queue))
    waiter = _Waiter(adapter, again.queue, _LONG)
    acted: list[float] = []

    def acts() -> None:
        time.sleep(FALLS_ASLEEP)
        # Behind the last byte of the request: the server does what it is asked, and cannot say so.
        near.proxy.cut_at(Cut(up=True, after=size))
        with suppress(AdapterError):
            again.act()
        acted.append(time.monotonic())
        near.proxy.end_faults()

    bench.history.add("the call, whose answer is dropped, while a consumer of the same adapter waits")
    bench.side_by_side([waiter.waits, acts], 2 * _LONG.total_seconds())
    return waiter.how_late(bench, acted[0], _LONG.total_seconds())


def _ways(bench: Bench) -> Iterator[_Way]:
    yield _enqueue
    yield _enqueue_many
    yield _roll_back
    if bench.has(Buried):
        yield _kick
    if bench.has(Pause):
        yield _resume
    if bench.capabilities.follow:
        yield _follow


def _fresh(bench: Bench) -> str:
    """Return the name of a queue that nobody has used."""
    return bench.queue_named(f"unanswered{bench.message().id}"[-40:])


def _enqueue(bench: Bench, adapter: QueueAdapter) -> _Set:
    message = bench.message(queue=_fresh(bench))
    return _Set(message.queue, lambda: adapter.enqueue(message))


def _enqueue_many(bench: Bench, adapter: QueueAdapter) -> _Set:
    message = bench.message(queue=_fresh(bench))
    return _Set(message.queue, lambda: adapter.enqueue_many([message]))


def _taken(bench: Bench, adapter: QueueAdapter, queue: str) -> tuple[Consumer, Reservation]:
    bench.put(queue=queue)
    consumer = adapter.consumer([queue])
    held = bench.call("reserve", lambda: consumer.reserve(NO_PAUSE))
    if held is None:
        bench.broken("a ready job was not delivered")
    return consumer, held


def _roll_back(bench: Bench, adapter: QueueAdapter) -> _Set:
    queue = _fresh(bench)
    consumer, held = _taken(bench, adapter, queue)
    return _Set(queue, lambda: consumer.settle(held, Rollback()))


def _follow(bench: Bench, adapter: QueueAdapter) -> _Set:
    consumer, held = _taken(bench, adapter, _fresh(bench))
    told = bench.message(queue=_fresh(bench))
    return _Set(told.queue, lambda: consumer.settle(held, Commit(follow=(told,))))


def _kick(bench: Bench, adapter: QueueAdapter) -> _Set:
    queue = _fresh(bench)
    consumer, held = _taken(bench, adapter, queue)
    bench.call("bury", lambda: consumer.settle(held, Bury("error", "it failed")))
    (buried,) = need(adapter, Buried).buried(queue)
    return _Set(queue, lambda: need(adapter, Buried).kick(queue, buried.id))


def _resume(bench: Bench, adapter: QueueAdapter) -> _Set:
    message = bench.message(queue=_fresh(bench))
    bench.pause(message.queue, _HOUR)
    bench.send(message)
    return _Set(message.queue, lambda: need(adapter, Pause).pause(message.queue, NO_PAUSE))
