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
from functools import partial
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
#: Seconds until everybody has heard what a server tells.
_TOLD: Final = 0.15
#: By so many bytes one request may be shorter than the next of its kind: ids, tokens and counts are numbers.
_VARIES: Final = 8
#: So many may be late that are given up, for a machine may be busy, or look for all just when all is held.
_LATE_TRIES: Final = 2


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
        #: There may be nothing to be seen, or it was told of the fault.
        self._is_excused = False

    def waits(self) -> None:
        """Wait for the job, and commit it."""
        try:
            held = self._consumer.reserve(self._longest)
            at = time.monotonic()
            if held is not None:
                self._consumer.settle(held, COMMIT)
                self._came = at
        except AdapterError:  # its own connection was broken, which was to be the other one
            self._is_excused = True

    def gives_up_unless_ready(self, bench: Bench) -> None:
        """End the wait if nothing is ready: the server was asked for nothing, or the job has come."""
        stats = bench.stats(self._queue)
        if not stats.ready or stats.paused is not None:
            self._is_excused = True
            self._consumer.cancel()

    def how_late(self, bench: Bench, since: float, never: float) -> float | None:
        """Return how many seconds late it saw the job.

        `never` if it is there and was not seen; None if there was nothing to be seen.
        """
        self._consumer.close()
        was_stored = bench.drain(bench.consumer(self._queue)) != []
        if self._came is not None:
            return max(0.0, self._came - since)
        return never if was_stored and not self._is_excused else None


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
    def tries(way: _Way, is_given_up: bool) -> Callable[[], object]:
        def run() -> None:
            with bench.beside() as beside, near_adapter(beside) as near:
                tried = partial(_stored_late, beside, near, way, is_given_up)
                if is_given_up:  # each try waits for the end of the adapter's patience
                    soon_enough(beside, tried, asleep=_LATE_TRIES, enough=1, unseen=2)
                else:
                    soon_enough(beside, tried)

        return run

    ways = [tries(way, is_given_up) for way in (_enqueue, _enqueue_many) for is_given_up in (True, False)]
    bench.side_by_side(ways, (_LATE_TRIES + 1) * 2 * ANSWER_WITHIN)


def _stored_late(bench: Bench, near: Near[Bench, QueueAdapter], way: _Way, is_given_up: bool) -> float | None:
    """Return how many seconds late a waiting consumer sees a job whose enqueue is held on its way.

    Args:
        bench: The case.
        near: The adapter behind the proxy.
        way: Enqueues the job.
        is_given_up: Whether it is held until the call has ended without an answer; else for a moment, in
            which nobody can see the job, and whoever is woken sleeps on.
    """
    adapter, wanted = near.opened, way(bench, near.opened)
    most = timedelta(seconds=ANSWER_WITHIN) if is_given_up else NO_PAUSE
    waiter = _Waiter(adapter, wanted.queue, most + _LONG)
    bench.call("stats", lambda: adapter.stats(wanted.queue))  # so that there is a connection
    stored: list[float] = []

    def passes() -> None:
        time.sleep(FALLS_ASLEEP)  # who was woken too soon has looked, and waits again
        near.proxy.pass_held()
        stored.append(time.monotonic())

    def enqueues() -> None:
        time.sleep(FALLS_ASLEEP)
        near.proxy.hold_requests(of_first=True)  # whoever waits may ask, and be told
        others = threading.Thread(
            target=_when_held, args=(near.proxy, (lambda: None) if is_given_up else passes)
        )
        others.start()
        with suppress(AdapterError):
            wanted.act()
        others.join()
        if is_given_up:
            passes()
        waiter.gives_up_unless_ready(bench)  # what was held was not yet the request that stores it

    how = "after it was given up" if is_given_up else "a moment later"
    bench.history.add(f"an enqueue that the server has {how}, while a consumer waits")
    bench.side_by_side([waiter.waits, enqueues], 2 * ANSWER_WITHIN)
    return waiter.how_late(bench, stored[0], ANSWER_WITHIN)


def _when_held(proxy: FaultProxy, then: Callable[[], None]) -> None:
    """Do something as soon as a request is held, and hold no other one."""
    end = time.monotonic() + _LONG.total_seconds()
    while not proxy.holds_some and time.monotonic() < end:
        time.sleep(0.001)
    proxy.end_faults()
    then()


def _tried(bench: Bench, near: Near[Bench, QueueAdapter], way: _Way) -> float | None:
    """Return how many seconds late a waiting consumer sees what a call without an answer has made ready."""
    adapter = near.opened
    size = _sent_by(bench, near, way)
    again = way(bench, adapter)
    waiter = _Waiter(adapter, again.queue, _LONG)
    acted: list[float] = []
    missed: list[bool] = []

    def acts() -> None:
        time.sleep(FALLS_ASLEEP)
        # Behind the last byte of the request: the server does what it is asked, and cannot say so. The
        # adapter sees the cut when the server has told everybody else.
        near.proxy.cut_at(Cut(up=True, after=max(1, size - _VARIES), whole=True, unseen=True))
        shows = threading.Timer(_TOLD, near.proxy.show_cuts)
        shows.start()
        with suppress(AdapterError):
            again.act()
        shows.join()
        acted.append(time.monotonic())
        missed.append(near.proxy.end_faults())
        time.sleep(FALLS_ASLEEP)
        waiter.gives_up_unless_ready(bench)

    bench.history.add("the call, whose answer is dropped, while a consumer of the same adapter waits")
    bench.side_by_side([waiter.waits, acts], 2 * _LONG.total_seconds())
    late = waiter.how_late(bench, acted[0], _LONG.total_seconds())
    return None if missed[0] else late  # it was answered


def _sent_by(bench: Bench, near: Near[Bench, QueueAdapter], way: _Way) -> int:
    """Return how many bytes the call sends when nothing is broken, on a connection that is there."""
    size = 0
    for _ in range(2):  # the first one may connect
        once = way(bench, near.opened)
        before = near.proxy.traffic
        bench.call("the call, with nothing broken", once.act)
        size = (near.proxy.traffic - before).up
        bench.drain(bench.consumer(once.queue))
    return size


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
