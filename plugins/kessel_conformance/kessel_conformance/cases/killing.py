"""A worker is killed with jobs in its hands: where they come back at once, nobody waits for their leases."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from math import inf
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.elsewhere import Elsewhere
from kessel_conformance.harness_base import NotShown
from kessel_conformance.history import Violation
from kessel_conformance.meanwhile import FALLS_ASLEEP
from kessel_conformance.requirements import (
    ATTEMPTS,
    BLOCKING_RESERVE,
    LEASE_RETURN,
    RETURNS_AT_ONCE,
    SHARED_REACH,
)
from kessel_conformance.woken import best_of, how_late
from kessel_core import LeaseLost
from kessel_core.contract import COMMIT, NO_PAUSE, Consumer, Message, Reservation

#: Seconds that a job may be seen later than the slack; one that waits for the end of a lease is later by far.
_LATE: Final = 1.0
#: Looks that begin when a job has to be there: a server that got no turn for so long may answer before it
#: sees that a connection has ended.
_LATE_LOOKS: Final = 2
#: How long one waits that only begins to listen.
_A_MOMENT: Final = timedelta(milliseconds=50)
#: Tries, because a busy machine may use up a lease.
_TRIES: Final = 3


@case(
    "consumer.killed_returns_job",
    "S9",
    "S10",
    needs=(LEASE_RETURN, RETURNS_AT_ONCE, SHARED_REACH),
    real_time=True,
    why="A worker is killed, and the jobs that it held, of which others should hear at once, wait for an hour"
    " until their leases end.",
)
def killed_returns_job(bench: Bench) -> None:
    with bench.in_real_time() as real:
        for number in range(_TRIES):
            with Elsewhere(real) as elsewhere:
                if _Killed(real, elsewhere, number).comes_back():
                    return
    raise NotShown("the lease is over before a return at once can be told from that; give the harness 3 s")


#: Adapters that wait in a process that is killed: one of them is in the way, wherever those that live are.
_DEAD: Final = 3
#: How long those wait that live.
_LONG: Final = timedelta(seconds=2.5)


@case(
    "reserve.wakes_beside_the_dead",
    "S9",
    needs=(BLOCKING_RESERVE, SHARED_REACH),
    real_time=True,
    why="A worker is killed while it waits, and whoever tells of a job gets no further than to it.",
)
def wakes_beside_the_dead(bench: Bench) -> None:
    with bench.in_real_time() as real, ExitStack() as stack:
        queues = [real.queue_named(name) for name in ("older", "newer")]
        first = real.consumer(queues[0])
        real.reserve(first, _A_MOMENT)  # it listens before the others do
        with Elsewhere(real) as elsewhere:
            elsewhere.ask("fall_asleep", queues, _DEAD)
            elsewhere.kill()
        real.history.add(f"another process, in which {_DEAD} adapters waited, is killed")
        younger, third = (stack.enter_context(real.sharing()) for _ in range(2))
        waiting = list(zip((first, younger.consumer(queues[1])), queues, strict=True))

        def tried(_: int) -> float:
            told = [(consumer, real.message(queue=queue)) for consumer, queue in waiting]
            return how_late(real, told, partial(_tells, third, told), _LONG)

        bound = _LATE + real.slack.total_seconds()
        best_of(real, tried, bound, "those who waited saw their jobs")


def _tells(third: Bench, told: Sequence[tuple[Consumer, Message]]) -> None:
    for _, message in told:
        third.send(message, " by a third adapter")


class _Killed:
    """A process that holds jobs, which it got in every way, and is killed."""

    def __init__(self, real: Bench, elsewhere: Elsewhere, number: int) -> None:
        self.real = real
        self._elsewhere = elsewhere
        ways = ("reserved", "extended", "taken-with-a-commit", "waited-for")
        self._jobs = {way: real.put(queue=real.queue_named(f"{way}.{number}")) for way in ways}
        self._came: dict[str, tuple[Consumer, Reservation]] = {}
        self._killed_at = 0.0
        begun = time.monotonic()
        #: When the first of its leases may be over.
        self._lease_ends = real.lease_ends(begun)
        for way in ways:
            self._takes(way)
        #: When its jobs have to be there: surely before that.
        self._limit = min(
            time.monotonic() + FALLS_ASLEEP + real.slack.total_seconds() + _LATE,
            begun + 0.8 * (self._lease_ends - begun),
        )

    def _takes(self, way: str) -> None:
        """Let it take the job for one of the ways."""
        message = self._jobs[way]
        held = self._holds(message, "reserve", message.queue)
        try:
            if way == "extended" and self._lease_ends < inf:
                self._elsewhere.ask("extend", held)
            elif way == "taken-with-a-commit":
                self._jobs[way] = following = self.real.put(queue=message.queue)
                self._holds(following, "settle_and_reserve", held, COMMIT)
        except (LeaseLost, Violation):
            if time.monotonic() < self._lease_ends:  # else the machine was busy
                raise

    def _holds(self, message: Message, name: str, *arguments: object) -> int:
        """Let it take a job; return the number under which it is held."""
        what = f"{name} of {self.real.label(message.body)}, in another process"
        found = self.real.call(what, lambda: self._elsewhere.ask(name, *arguments), "nothing")
        if found is None and name != "reserve":  # it may leave the job to the next reserve
            return self._holds(message, "reserve", message.queue)
        self.real.check(found is not None and found[1] == message.body, f"{what}: the job did not come")
        number: int = found[0]
        return number

    def comes_back(self) -> bool:
        """Kill it, and look at its jobs; return whether there was time enough to tell."""
        real = self.real
        consumers = {way: real.consumer(message.queue) for way, message in self._jobs.items()}
        rest = self._limit - time.monotonic()
        if rest < FALLS_ASLEEP + real.slack.total_seconds():
            return False
        waits = []
        if BLOCKING_RESERVE.is_met(real.harness):
            waiter = consumers.pop("waited-for")
            waits.append(partial(self._waits, waiter, timedelta(seconds=rest)))
        real.side_by_side([partial(self._kills, consumers), *waits], 60)
        if self._killed_at + real.slack.total_seconds() > self._limit:
            return False
        for way, message in self._jobs.items():
            self._is_right(way, message)
        return True

    def _waits(self, consumer: Consumer, longest: timedelta) -> None:
        self._is_seen("waited-for", consumer, self.real.reserve(consumer, longest))

    def _kills(self, consumers: dict[str, Consumer]) -> None:
        time.sleep(FALLS_ASLEEP)
        self._elsewhere.kill()
        self._killed_at = time.monotonic()
        self.real.history.add("the other process is killed")
        looks = _LATE_LOOKS
        while consumers and looks:
            looks -= time.monotonic() >= self._limit
            for way, consumer in list(consumers.items()):
                held = consumer.reserve(NO_PAUSE)
                if held is not None:
                    self._is_seen(way, consumers.pop(way), held)
            time.sleep(0.02)

    def _is_seen(self, way: str, consumer: Consumer, held: Reservation | None) -> None:
        if held is not None:
            self._came[way] = consumer, held

    def _is_right(self, way: str, message: Message) -> None:
        real, what = self.real, f"the job ({way}) of a process that was killed"
        if way not in self._came:
            real.broken(f"{what} did not come back at once, as lease_return declares")
        consumer, held = self._came[way]
        real.equal(real.label(held.body), real.label(message.body), what)
        if ATTEMPTS.is_met(real.harness):
            real.equal(real.attempt(consumer, held), 2, f"attempt() of {what}", "S10")
        real.settle(consumer, held)
