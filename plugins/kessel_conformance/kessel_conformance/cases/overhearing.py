"""What another process makes ready wakes a consumer, though both may share more in one process (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.elsewhere import Elsewhere
from kessel_conformance.meanwhile import SOON, acts
from kessel_conformance.requirements import BLOCKING_RESERVE, DELAYS, SHARED_REACH
from kessel_conformance.woken import how_late, soon_enough
from kessel_core.contract import NO_PAUSE, Message, Pause, Rollback

_HOUR: Final = timedelta(hours=1)
#: A job, how another process makes it ready, after how long, and the call for that.
_Prepared: TypeAlias = tuple[Message, str, timedelta, Callable[[], object]]
_Way: TypeAlias = Callable[[Bench, Elsewhere], _Prepared]


@case(
    "reserve.wakes_from_another_process",
    "S9",
    "S4",
    needs=(BLOCKING_RESERVE, SHARED_REACH),
    real_time=True,
    why="Adapters of one process wake each other; of other processes they hear in another way, which tells of"
    " ready jobs, and of no delay.",
)
def from_another_process(bench: Bench) -> None:
    def hears(lane: Sequence[_Way]) -> None:
        # One after the other: who looks because of one job may see the others by that look.
        with bench.in_real_time() as real, Elsewhere(real) as elsewhere:
            elsewhere.ask("take_system_clock")
            for way in lane:
                soon_enough(real, partial(_how_late_by, elsewhere, real, way))

    ways = list(_ways(bench))
    bench.side_by_side([partial(hears, ways[start::2]) for start in range(min(2, len(ways)))], 300)


def _how_late_by(elsewhere: Elsewhere, real: Bench, way: _Way) -> float:
    """Let a consumer wait for what another process makes ready; return how late it saw that, in seconds."""
    message, what, delay, act = way(real, elsewhere)
    acting = acts(real, f"{what} by another process{', for 150 ms' if delay else ''}", act, delay)
    return how_late(real, [(real.consumer(message.queue), message)], acting)


def _ways(bench: Bench) -> Iterator[_Way]:
    yield partial(_sent, NO_PAUSE)
    if DELAYS.is_met(bench.harness):
        yield partial(_sent, SOON)
        yield _returned
        if bench.has(Pause):
            yield _resumed
        if bench.capabilities.follow:
            yield _brought


def _sent(delay: timedelta, real: Bench, elsewhere: Elsewhere) -> _Prepared:
    message = real.message(queue=real.queue_named("sent"))
    return message, "enqueue", delay, partial(elsewhere.ask, "enqueue", message, delay or None)


def _returned(real: Bench, elsewhere: Elsewhere) -> _Prepared:
    message = real.put(queue=real.queue_named("returned"))
    number = _held_by(elsewhere, real, message)
    return message, "rollback", SOON, partial(elsewhere.ask, "settle", number, Rollback(SOON))


def _resumed(real: Bench, elsewhere: Elsewhere) -> _Prepared:
    message = real.put(queue=real.queue_named("resumed"))
    real.pause(message.queue, _HOUR)
    return message, "pause", SOON, partial(elsewhere.ask, "pause", message.queue, SOON)


def _brought(real: Bench, elsewhere: Elsewhere) -> _Prepared:
    number = _held_by(elsewhere, real, real.put(queue=real.queue_named("brings")))
    message = real.message(queue=real.queue_named("brought"))
    return message, "follow-up", SOON, partial(elsewhere.ask, "follow", number, message, SOON)


def _held_by(elsewhere: Elsewhere, real: Bench, message: Message) -> int:
    """Let the process take a job; return the number under which it holds it."""
    found = real.call(
        "reserve by another process", lambda: elsewhere.ask("reserve", message.queue), "nothing"
    )
    return elsewhere.taken(found, message, "another process")
