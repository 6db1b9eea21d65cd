"""Whether a consumer that waits in real time sees soon what became ready meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from kessel_conformance.meanwhile import FALLS_ASLEEP
from kessel_core.contract import Consumer, Message, Reservation

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = [
    "LONG",
    "Prepared",
    "PreparedAll",
    "awaited",
    "best_of",
    "comes",
    "how_late",
    "soon_enough",
    "wakes",
    "wakes_all",
]

#: How long a reserve waits, and how long one that must not be woken may take to be found asleep.
LONG: Final = timedelta(seconds=4)
#: So many tries may be late, for a machine may be busy; and so many must be in time,
#: for one that looks every few seconds is in time by luck.
_LATE: Final = 3
_IN_TIME: Final = 2
#: Tries of `best_of`, of which one in time is enough.
_TRIES: Final = 3
#: See `soon_enough`.
_UNSEEN: Final = 6
#: Seconds; nobody who was woken is so late twice. One that looks every five seconds is found so: after a wait
#: of four in which no look fell, the next look comes at once.
_ASLEEP: Final = 0.75 * LONG.total_seconds()

#: The consumer that is to wait, the job that it is to get, and what makes that ready.
Prepared: TypeAlias = tuple[Consumer, Message, Callable[[], object]]
#: As `Prepared`, for several that wait at once.
PreparedAll: TypeAlias = tuple[Sequence[tuple[Consumer, Message]], Callable[[], object]]


def wakes(bench: Bench, prepare: Callable[[Bench], Prepared]) -> None:
    """Let a consumer wait in real time, make a job ready, and check that it has it soon."""

    def prepared(real: Bench) -> PreparedAll:
        waiter, message, act = prepare(real)
        return [(waiter, message)], act

    wakes_all(bench, prepared)


def wakes_all(bench: Bench, prepare: Callable[[Bench], PreparedAll]) -> None:
    """Let consumers wait in real time, make jobs ready, and check that each has its own soon."""
    with bench.in_real_time() as real:
        soon_enough(real, lambda: how_late(real, *prepare(real)))


def how_late(
    real: Bench,
    waiting: Sequence[tuple[Consumer, Message]],
    act: Callable[[], object],
    longest: timedelta | None = None,
) -> float:
    """Let consumers wait, make their jobs ready, and return how late the last one saw its own, in seconds.

    Args:
        real: The case, in real time.
        waiting: Consumers, each with the job that it is to get.
        act: Makes all of them ready.
        longest: How long each waits, `LONG` unless told; one that has seen nothing by then breaks the case.
    """
    acted: list[float] = []
    came: list[float] = []

    def waits(waiter: Consumer, message: Message) -> None:
        came.append(comes(real, waiter, message, longest))

    def meanwhile() -> None:
        time.sleep(FALLS_ASLEEP)
        act()
        acted.append(time.monotonic())

    real.side_by_side([*(partial(waits, *one) for one in waiting), meanwhile], 20)
    return max(abs(at - acted[0]) for at in came)


def comes(real: Bench, waiter: Consumer, message: Message, longest: timedelta | None = None) -> float:
    """Let a consumer wait for this job, and settle it; return when it came."""
    held, at = awaited(real, waiter, longest or LONG)
    real.equal(real.label(held.body), real.label(message.body), "the job that came")
    real.settle(waiter, held)
    return at


def awaited(real: Bench, waiter: Consumer, longest: timedelta) -> tuple[Reservation, float]:
    """Let a consumer wait for a job that becomes ready; return it, and when it came."""
    held = real.reserve(waiter, longest)
    at = time.monotonic()
    if held is None:
        real.broken("the waiting reserve did not see the job, which became ready")
    return held, at


def best_of(bench: Bench, tried: Callable[[int], float], bound: float, what: str) -> None:
    """Try until it was in time once, where nobody is in time by luck.

    Args:
        bench: The case.
        tried: One try; it is given its number, from 0, and returns how late something was seen, in seconds.
        bound: Up to which it was in time, in seconds.
        what: Begins the sentence that says how late it was.
    """
    late: list[float] = []
    while not late or late[-1] > bound:
        bench.check(len(late) < _TRIES, f"{what} {min(late, default=0.0):.2f} s later, or more")
        late.append(tried(len(late)))


def soon_enough(
    real: Bench,
    tried: Callable[[], float | None],
    *,
    asleep: int = 1,
    enough: int = _IN_TIME,
    unseen: int = _UNSEEN,
) -> None:
    """Try until it was in time often enough.

    Args:
        real: The case, in real time.
        tried: One try; returns how late the job was seen, in seconds, or None if there was nothing to see.
        asleep: So often it may have slept on, for a reason that is not the adapter's.
        enough: So often it has to be in time.
        unseen: After so many tries that show nothing it is given up.
    """
    late: list[float] = []
    in_time = blind = 0
    while in_time < enough and blind < unseen:
        passed = tried()
        if passed is None:
            blind += 1
            continue
        if passed <= real.slack.total_seconds():
            in_time += 1
            continue
        late.append(passed)
        if passed > _ASLEEP:
            in_time = 0  # what was in time before was luck: a look of its own that was due just then
        real.check(
            len(late) <= _LATE and sum(one > _ASLEEP for one in late) <= asleep,
            f"the waiting reserve saw the job {min(late):.3f} s after it became ready, or more: it polls",
        )
