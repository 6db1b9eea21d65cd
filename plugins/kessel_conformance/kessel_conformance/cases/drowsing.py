"""What comes at any step of a reserve that is about to wait is seen at once: no wake-up is lost (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.halting import Halt, most_steps
from kessel_conformance.meanwhile import FALLS_ASLEEP
from kessel_conformance.requirements import BLOCKING_RESERVE, DELAYS
from kessel_conformance.woken import best_of
from kessel_core.contract import NO_PAUSE, Consumer, Reservation

#: How long a reserve waits.
_LONG: Final = timedelta(seconds=2.5)
#: Seconds that it stands still at most, for what is done meanwhile may need a lock that it holds.
_STANDS: Final = 0.05
#: A delay that is over soon.
_SOON: Final = timedelta(milliseconds=30)


@case(
    "reserve.loses_no_wake_up",
    "S9",
    "S4",
    needs=(BLOCKING_RESERVE,),
    real_time=True,
    why="A job comes after a reserve has looked and before it listens, once in thousands, and it sleeps on.",
)
def loses_no_wake_up(bench: Bench) -> None:
    with bench.in_real_time() as real, real.views() as others:
        delays = [NO_PAUSE]
        if DELAYS.is_met(real.harness) and real.grain < _SOON:
            delays.append(_SOON)
        for other in others:
            for delay in delays:
                _Sent(real, other, delay).check()
        _Cancelled(real).check()


class _Drowsing(ABC):
    """A reserve that stands still before one of its steps until something was done that has to end it."""

    what: str

    def __init__(self, real: Bench) -> None:
        self.real = real
        self.consumer = self.connected()
        self._held: list[Reservation | None] = []

    def connected(self) -> Consumer:
        """Return a consumer that has looked already."""
        consumer = self.real.consumer()
        self.real.nothing(consumer, "nothing was enqueued")
        return consumer

    @abstractmethod
    def acts(self) -> float:
        """Do it; return when the reserve has to end, on the monotonic clock."""

    @abstractmethod
    def ended(self, held: Reservation | None) -> None:
        """Check what the reserve has returned, and be ready for the next one."""

    def check(self) -> None:
        """Do it before each step of a reserve, until that would sleep."""
        real = self.real
        real.history.add(f"{self.what}, before each step of a reserve that is about to wait")
        walk, steps = self._before_it_sleeps()
        for step in steps:
            what = f"a reserve that was about to wait ended, when {self.what} before {walk.places[step - 1]},"
            best_of(real, partial(self._late, step), real.slack.total_seconds(), what)

    def _before_it_sleeps(self) -> tuple[Halt, Sequence[int]]:
        halt, walked = Halt(self.real.adapter), 0

        def act() -> None:
            nonlocal walked
            time.sleep(FALLS_ASLEEP)
            walked = len(halt.places)
            self.acts()

        self.real.side_by_side([partial(halt.walks, self._waits), act])
        self.ended(self._held.pop())
        return halt, [step for step in halt.some(most_steps(self.real)) if step <= walked]

    def _waits(self) -> None:
        self._held.append(self.consumer.reserve(_LONG))

    def _late(self, step: int, _: int) -> float:
        """Return how late a reserve ended, in seconds."""
        halt = Halt(self.real.adapter, step, _STANDS)
        moments: dict[str, float] = {}

        def waits() -> None:
            self._waits()
            moments["came"] = time.monotonic()

        def acts() -> None:
            moments["due"] = self.acts()

        self.real.side_by_side([partial(halt.walks, waits), partial(halt.acts, acts, FALLS_ASLEEP)])
        self.ended(self._held.pop())
        return moments["came"] - moments["due"]


class _Sent(_Drowsing):
    def __init__(self, real: Bench, other: Bench, delay: timedelta) -> None:
        super().__init__(real)
        self._other = other
        self._delay = delay
        whose = "its own adapter" if other is real else "another adapter"
        self.what = f"{whose} enqueued a job{', due soon,' if delay else ''}"

    def acts(self) -> float:
        message = self.real.message(delay=self._delay or None)
        due = time.monotonic() + self._delay.total_seconds()
        self._other.adapter.enqueue(message)
        return max(due, time.monotonic())

    def ended(self, held: Reservation | None) -> None:
        # One that has slept on finds it now.
        self.real.settle(self.consumer, held or self.real.taken(self.consumer))


class _Cancelled(_Drowsing):
    what = "it was cancelled"

    def acts(self) -> float:
        self.consumer.cancel()
        return time.monotonic()

    def ended(self, held: Reservation | None) -> None:
        self.real.equal(held, None, "what a reserve got that was cancelled")
        self.consumer.close()
        self.consumer = self.connected()
