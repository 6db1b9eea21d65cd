"""Whose clock counts: a second process whose clock is an hour ahead, an hour behind, or stands still.

Over a network it is the backend's (contract, rule 5): what others believe about the time changes nothing.
"""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.elsewhere import Elsewhere
from kessel_conformance.requirements import DELAYS, FENCING, LEASE, NETWORK
from kessel_core import LeaseLost
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Bury,
    Commit,
    Message,
    Pause,
    Rollback,
    Settlement,
    Snooze,
)

_HOUR: Final = timedelta(hours=1)
#: How a clock may be wrong, and how people call it.
_AHEAD, _BEHIND, _STILL = (_HOUR, False), (-_HOUR, False), (NO_PAUSE, True)
_WRONG: Final = {"an hour ahead": _AHEAD, "an hour behind": _BEHIND, "standing still": _STILL}
_DELAY: Final = timedelta(seconds=2)


class _Other:
    """A process whose clock is wrong."""

    def __init__(self, bench: Bench, elsewhere: Elsewhere, how: str) -> None:
        self.bench = bench
        self.how = how
        #: For the names of queues.
        self.name = how.replace(" ", "-")
        self._elsewhere = elsewhere
        self._ahead, self._stands = _WRONG[how]

    def ask(self, what: str, name: str, *arguments: object) -> object:
        """Let it do something under its clock, and note what came of it."""
        with self._elsewhere.clock(self._ahead, stands=self._stands):
            return self.bench.call(
                f"{what}, by a clock {self.how}", lambda: self._elsewhere.ask(name, *arguments)
            )

    def reserve(self, queue: str) -> tuple[int, bytes] | None:
        """Reserve; return the number of what it holds, and the body."""
        return self._found(self.ask("reserve", "reserve", queue))

    def ends_and_reserves(self, what: str, held: int, settlement: Settlement) -> tuple[int, bytes] | None:
        """Settle, and reserve in the same call; as `reserve`."""
        return self._found(self.ask(f"{what} and reserve", "settle_and_reserve", held, settlement))

    def _found(self, found: object) -> tuple[int, bytes] | None:
        assert found is None or isinstance(found, tuple)
        return found

    def takes(self, queue: str) -> int:
        """Reserve a job that must be there; return the number under which it is held."""
        found = self.reserve(queue)
        if found is None:
            self.bench.broken(f"a ready job was not delivered to a clock {self.how}")
        return found[0]

    def extends(self, held: Sequence[int], until: datetime, *, together: bool) -> bool:
        """Extend leases of which none ends before that moment; return whether it was in time for that."""
        calls = [("extend_many", held)] if together else [("extend", number) for number in held]
        try:
            with self._elsewhere.clock(self._ahead, stands=self._stands):
                for name, argument in calls:
                    self._elsewhere.ask(name, argument)
        except LeaseLost as exc:
            is_late = self.bench.now() >= until  # the machine was busy
            self.bench.check(is_late, f"a lease that holds was not extended by a clock {self.how}: {exc}")
            return False
        self.bench.history.add(f"{'extend_many' if together else 'extend'}, by a clock {self.how}")
        return True

    def refused(self, what: str, name: str, *arguments: object) -> None:
        """Check that it no longer holds a job."""
        with self._elsewhere.clock(self._ahead, stands=self._stands):
            what = f"{what}, by a clock {self.how}"
            self.bench.refused(LeaseLost, what, lambda: self._elsewhere.ask(name, *arguments))


def _each(bench: Bench, elsewhere: Elsewhere) -> list[_Other]:
    return [_Other(bench, elsewhere, how) for how in _WRONG]


class _Waits:
    """A job that must not come until a span has passed, and must come then, to the one who asks for it.

    Args:
        bench: The case.
        message: The job.
        begun: The span began at this moment at the earliest, and now at the latest.
        span: How long the job waits.
        why: What was done with it, for people.
        taker: Who asks for it; None: this process.
    """

    def __init__(
        self,
        bench: Bench,
        message: Message,
        begun: datetime,
        span: timedelta,
        why: str,
        taker: _Other | None = None,
    ) -> None:
        self.bench = bench
        self.message = message
        self.due, self.latest = begun + span, bench.now() + span
        self.why = why if taker is None else f"{why}, taken by a clock {taker.how}"
        self._taker = taker
        self._has_come = False

    def look(self, *, late: bool) -> None:
        """Ask for it; `late`: it is due."""
        if self._has_come:  # on a busy machine, between the first look and the second
            return
        body = self._taken()
        if body is None:
            self.bench.check(not late, f"{self.why}: it did not come when it was due")
            return
        left = (self.due - self.bench.now()).total_seconds()
        self.bench.check(left <= 0, f"{self.why}: it came {left:.3f} s early")
        self.bench.equal(self.bench.label(body), self.bench.label(self.message.body), self.why)
        self._has_come = True

    def _taken(self) -> bytes | None:
        queue = self.message.queue
        if self._taker is not None:
            found = self._taker.reserve(queue)
            return None if found is None else found[1]
        held = self.bench.reserve(self.bench.consumer(queue))
        return None if held is None else held.body


@case(
    "clocks.delays",
    "S4",
    needs=(NETWORK, DELAYS),
    waits=True,
    why="One machine whose clock is wrong starts jobs an hour early, or an hour late.",
)
def delays(bench: Bench) -> None:
    with Elsewhere(bench) as elsewhere:
        waiting = [wait for other in _each(bench, elsewhere) for wait in _delayed(bench, other)]
        for wait in waiting:
            wait.look(late=False)
        for wait in waiting:
            if wait.due - bench.now() < _HOUR / 4:
                bench.until(wait.latest + bench.slack)
                wait.look(late=True)


def _delayed(bench: Bench, other: _Other) -> Iterator[_Waits]:
    def named(what: str) -> str:
        return bench.queue_named(f"{what}.{other.name}")

    sent = bench.message(queue=named("sent"))
    begun = bench.now()
    other.ask(f"enqueue {bench.label(sent.body)}, delay 2 s", "enqueue", sent, _DELAY)
    yield _Waits(bench, sent, begun, _DELAY, f"enqueued by a clock {other.how}")
    together = bench.message(queue=named("together"))
    begun = bench.now()
    other.ask("enqueue_many of 1, delay 2 s", "enqueue_many", [together], _DELAY)
    yield _Waits(bench, together, begun, _DELAY, f"enqueued in a batch by a clock {other.how}")
    for delay in (_DELAY, _HOUR / 2):
        begun = bench.now()
        taken = bench.put(queue=named(f"taken{delay.seconds}"), delay=delay)
        yield _Waits(bench, taken, begun, delay, f"delayed by {delay}", other)
    for settlement in (Rollback(_DELAY), Snooze(_DELAY)):
        yield _returned(bench, other, settlement, named)
    yield from _returned_with_reserve(bench, other, named("both"))
    if bench.has(Pause):
        yield _paused(bench, other, named("paused"))
    if bench.capabilities.follow:
        yield _followed(bench, other, named("followed"))


def _returned(bench: Bench, other: _Other, settlement: Settlement, named: Callable[[str], str]) -> _Waits:
    what = type(settlement).__name__.lower()
    message = bench.put(queue=named(what))
    held = other.takes(message.queue)
    begun = bench.now()
    other.ask(f"{what} {bench.label(message.body)} for 2 s", "settle", held, settlement)
    return _Waits(bench, message, begun, _DELAY, f"put off with {what} by a clock {other.how}")


def _returned_with_reserve(bench: Bench, other: _Other, queue: str) -> Iterator[_Waits]:
    message = bench.put(queue=queue)
    held = other.takes(queue)
    begun = bench.now()
    what = f"roll back {bench.label(message.body)} for 2 s"
    found = other.ends_and_reserves(what, held, Rollback(_DELAY))
    why = f"put off with a rollback that reserves, by a clock {other.how}"
    if found is None:
        yield _Waits(bench, message, begun, _DELAY, why)
    else:
        bench.check(bench.now() >= begun + _DELAY, f"{why}: it came at once")


def _followed(bench: Bench, other: _Other, queue: str) -> _Waits:
    bench.put(queue=queue)
    held = other.takes(queue)
    brought = bench.message(queue=queue)
    begun = bench.now()
    other.ask("commit with a follow-up, delay 2 s", "follow", held, brought, _DELAY)
    return _Waits(bench, brought, begun, _DELAY, f"brought along by a clock {other.how}")


def _paused(bench: Bench, other: _Other, queue: str) -> _Waits:
    message = bench.put(queue=queue)
    begun = bench.now()
    other.ask("pause a queue for 2 s", "pause", queue, _DELAY)
    return _Waits(bench, message, begun, _DELAY, f"in a queue that was paused by a clock {other.how}")


@case(
    "clocks.expiration",
    "S5",
    needs=(NETWORK,),
    waits=True,
    why="A worker whose clock is ahead drops what is not expired, and tells nobody.",
)
def expiration(bench: Bench) -> None:
    with Elsewhere(bench) as elsewhere:
        for other in _each(bench, elsewhere):
            message = bench.put(queue=bench.queue_named(f"expires.{other.name}"), expiration=_HOUR / 2)
            held = other.reserve(message.queue)
            if held is None or held[1] != message.body:
                bench.broken(f"a job that expires in half an hour did not come to a clock {other.how}")
            other.ask(f"commit {bench.label(message.body)}", "settle", held[0], COMMIT)


@case(
    "clocks.leases",
    "S7",
    needs=(NETWORK, LEASE),
    waits=True,
    why="A worker whose clock is ahead takes the jobs of all others while they run.",
)
def leases(bench: Bench) -> None:
    with Elsewhere(bench) as elsewhere:
        waiting = [wait for other in _each(bench, elsewhere) for wait in _held(bench, other)]
        _looked_at(bench, waiting, 0.3, 0.6)


def _looked_at(bench: Bench, waiting: Sequence[_Waits], *parts: float) -> None:
    """Ask for held jobs when these parts of their leases have passed, and when these are over."""
    for part in parts:
        for wait in waiting:
            bench.until(wait.due - bench.lease * (1 - part))
            wait.look(late=False)
    for wait in waiting:
        bench.until(wait.latest + bench.slack)
        wait.look(late=True)


def _held(bench: Bench, other: _Other) -> Iterator[_Waits]:
    here = bench.put(queue=bench.queue_named(f"here.{other.name}"))
    begun = bench.now()
    bench.gets(bench.consumer(here.queue), here, "the job")
    yield _Waits(bench, here, begun, bench.lease, "held by the right clock", other)
    there = bench.put(queue=bench.queue_named(f"there.{other.name}"))
    begun = bench.now()
    other.takes(there.queue)
    yield _Waits(bench, there, begun, bench.lease, f"held by a clock {other.how}")
    first, following = (bench.put(queue=bench.queue_named(f"next.{other.name}")) for _ in range(2))
    held = other.takes(first.queue)
    begun = bench.now()
    found = other.ends_and_reserves(f"commit what is in {first.queue}", held, COMMIT)
    if found is not None:  # it may leave it to the next reserve
        taken = first if found[1] == first.body else following
        yield _Waits(bench, taken, begun, bench.lease, f"taken with a commit by a clock {other.how}")


@case(
    "clocks.extensions",
    "S7",
    needs=(NETWORK, LEASE),
    waits=True,
    why="A worker whose clock is behind loses its job by extending it; one whose clock is ahead keeps it for"
    " an hour after it has died.",
)
def extensions(bench: Bench) -> None:
    with Elsewhere(bench) as elsewhere:
        waiting = [wait for other in _each(bench, elsewhere) for wait in _extended(bench, other)]
        _looked_at(bench, waiting, 0.0, 0.5)


def _extended(bench: Bench, other: _Other) -> Iterator[_Waits]:
    """Yield jobs that are extended one by one, and two that are extended together."""
    for what, together in (("one", False), ("many", True)):
        begun = bench.now()
        messages = [bench.put(queue=bench.queue_named(f"{what}{n}.{other.name}")) for n in (1, 2)]
        held = [other.takes(message.queue) for message in messages]
        moment = bench.now()
        if not other.extends(held, begun + bench.lease, together=together):
            continue
        how = "with another one" if together else "by itself"
        for message in messages:
            yield _Waits(bench, message, moment, bench.lease, f"extended {how} by a clock {other.how}")


@case(
    "clocks.fenced",
    "S7",
    needs=(NETWORK, LEASE, FENCING),
    waits=True,
    why="A holder whose clock stands still never believes that its lease is over, and commits another's job.",
)
def fenced(bench: Bench) -> None:
    told = bench.message(queue=bench.queue_named("told"))
    settlements: dict[str, Settlement] = {"commit": COMMIT}
    if bench.capabilities.follow:
        settlements["commit with a follow-up"] = Commit(follow=(told,))
        settlements["burial with a follow-up"] = Bury("error", "it failed", follow=(told,))
    with Elsewhere(bench) as elsewhere:
        other = _Other(bench, elsewhere, "standing still")
        jobs = [bench.put(queue=bench.queue_named(f"held{number}")) for number in range(len(settlements))]
        held = [other.takes(message.queue) for message in jobs]
        bench.let_pass(bench.lease + bench.slack)
        for (what, settlement), message, found in zip(settlements.items(), jobs, held, strict=True):
            consumer = bench.consumer(message.queue)
            again = bench.gets(consumer, message, "the job whose lease has ended")
            other.refused(what, "settle", found, settlement)
            other.refused("extend", "extend", found)
            other.refused("extend_many", "extend_many", [found])
            bench.settle(consumer, again)
            bench.nothing(consumer, "the job was committed by its holder")
        bench.nothing(bench.consumer(told.queue), "the settlements that bring a follow-up were refused")
