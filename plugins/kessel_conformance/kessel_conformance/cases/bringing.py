"""What a settlement brings along is one thing with it: together, once, told, and for its time (S20)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.bringers import kill_while_it_brings
from kessel_conformance.cases.waking import Prepared, wakes
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import BLOCKING_RESERVE, FOLLOW, LEASE, SHARED_REACH
from kessel_core.contract import Bury, Commit, Entry, Put, Store

_SPACE: Final = "conformance"
_HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)
#: How long a wait for an entry may take, and one that was woken; seconds until it sleeps.
_LONG: Final = timedelta(seconds=8)
_WOKEN: Final = timedelta(seconds=3)
_FALLS_ASLEEP: Final = 0.3


def _entry(bench: Bench, key: str) -> Entry | None:
    return bench.call(f"get {key}", lambda: bench.facet(Store).get(_SPACE, key), "nothing")


@case(
    "following.twice_the_same",
    "S20",
    needs=(FOLLOW,),
    why="A settlement looks at what is stored, and not at itself: an id is stored twice, or the job fails.",
)
def twice_the_same(bench: Bench) -> None:
    for number, is_burial in enumerate((False, True)):
        consumer = bench.consumer()
        held = bench.gets(consumer, bench.put(), "the job")
        first = bench.message(queue=bench.queue_named(f"first{number}"))
        again = bench.message(queue=bench.queue_named(f"second{number}"), job_id=first.id)
        follow = (first, again)
        done = Bury("error", "it failed", follow=follow) if is_burial else Commit(follow=follow)
        bench.settle(consumer, held, done)
        bench.nothing(bench.consumer(again.queue), "another follow-up before it has that id")
        taker = bench.consumer(first.queue)
        bench.settle(taker, bench.gets(taker, first, "the first of two follow-ups with one id"))
        bench.nothing(taker, "the follow-up was committed")


@case(
    "following.killed_process",
    "S20",
    needs=(FOLLOW, LEASE, SHARED_REACH),
    waits=True,
    why="A worker is killed between what its job brings along and the job's end: one is lost, or done twice.",
)
def killed_process(bench: Bench) -> None:
    kill_while_it_brings(bench)


@case(
    "following.wakes_with_next_reserve",
    "S20",
    "S9",
    needs=(FOLLOW, BLOCKING_RESERVE),
    real_time=True,
    why="A busy worker settles and reserves in one call, and tells nobody of what its job brings along.",
)
def wakes_with_next_reserve(bench: Bench) -> None:
    def prepare(real: Bench) -> Prepared:
        holder, waiter = real.consumer(), real.consumer(real.queue_named("other"))
        held = real.gets(holder, real.put(), "the job")
        told = real.message(queue=real.queue_named("other"))
        return waiter, told, lambda: real.settle_and_reserve(holder, held, Commit(follow=(told,)))

    wakes(bench, prepare)


@case(
    "following.entries_wake",
    "S20",
    "S19",
    needs=(FOLLOW, Store),
    real_time=True,
    why="Who waits for a result sleeps on, because a settlement writes it by a way of its own.",
)
def entries_wake(bench: Bench) -> None:
    with ExitStack() as stack:
        waits = list(_waits(bench, stack))
        bench.side_by_side(waits, 60)


def _waits(bench: Bench, stack: ExitStack) -> Iterator[Callable[[], None]]:
    """Yield the waits for an entry that a settlement writes, here and for another adapter, in two ways."""
    for and_reserve in (False, True):
        for afar in (False, True) if SHARED_REACH.is_met(bench.harness) else (False,):
            real = stack.enter_context(bench.in_real_time())
            waiter = stack.enter_context(real.sharing()) if afar else real
            if waiter.facet(Store).capabilities.wakes:
                yield partial(_wakes_for_entry, real, waiter, and_reserve)


def _wakes_for_entry(real: Bench, waiter: Bench, and_reserve: bool) -> None:
    where = "by settle_and_reserve" if and_reserve else "by settle"
    where += ", in another adapter" if waiter is not real else ""
    late = []
    for number in range(2):  # nobody who was woken is so late twice
        key = f"{real.namespace}-{number}"
        holder = real.consumer()
        held = real.gets(holder, real.put(), "the job")
        settle = partial(real.settle_and_reserve if and_reserve else real.settle, holder, held)
        took = _told_after(real, waiter, key, partial(settle, Commit(puts=(Put(_SPACE, key, b"done"),))))
        if took < _WOKEN:
            return
        late.append(took.total_seconds())
    real.broken(f"a wait for an entry that was written {where} ended after {min(late):.1f} s, or more")


def _told_after(real: Bench, waiter: Bench, key: str, settle: Callable[[], object]) -> timedelta:
    """Wait for an entry while a settlement writes it; return how long after that the wait ended."""
    found: list[tuple[Entry | None, float]] = []
    acted: list[float] = []

    def waits() -> None:
        store = waiter.facet(Store)
        entry = waiter.call(f"wait for {key}", lambda: store.wait(_SPACE, key, timeout=_LONG), "nothing")
        found.append((entry, time.monotonic()))

    def settles() -> None:
        time.sleep(_FALLS_ASLEEP)
        settle()
        acted.append(time.monotonic())

    real.side_by_side([waits, settles], 2 * _LONG.total_seconds())
    entry, at = found[0]
    real.check(
        entry is not None and entry.value == b"done", "a wait for the entry of a settlement found none"
    )
    return timedelta(seconds=max(at - acted[0], 0.0))


def _ends_right(bench: Bench, entry: Entry, ttl: timedelta | None, begun: datetime, ended: datetime) -> None:
    """Check the end of an entry that was written between two moments."""
    if ttl is None or entry.expires_at is None:
        bench.equal(entry.expires_at, ttl, f"the end of {entry.key}")
        return
    least, most = begun + ttl - bench.slack, ended + ttl + bench.slack
    what = f"{entry.key} ends at {entry.expires_at}, not between {least} and {most}"
    bench.check(least <= entry.expires_at <= most, what)


@case(
    "following.entries_end",
    "S20",
    "S19",
    needs=(FOLLOW, Store),
    waits=True,
    why="The result of a job stays for ever, or ends at once, as a settlement writes it by a way of its own.",
)
def entries_end(bench: Bench) -> None:
    bench.send_many([bench.message(), bench.message()])
    consumer = bench.consumer()
    ttls = {"short": _SECOND, "long": _HOUR, "stays": None}

    def done(name: str) -> Commit:
        puts = [Put(_SPACE, f"{bench.namespace}-{name}-{end}", b"v", ttl) for end, ttl in ttls.items()]
        return Commit(puts=tuple(puts))

    begun = bench.now()
    following = bench.settle_and_reserve(consumer, bench.taken(consumer), done("both"))
    bench.settle(consumer, following or bench.taken(consumer), done("settle"))
    ended = bench.now()
    for name in ("both", "settle"):
        for put in done(name).puts:
            entry = _entry(bench, put.key)
            if entry is None and put.ttl is not None and bench.now() >= begun + put.ttl:
                continue  # the machine was too busy
            bench.check(entry is not None, f"{put.key} is gone before its end")
            assert entry is not None
            _ends_right(bench, entry, put.ttl, begun, ended)
    bench.until(ended + _SECOND + bench.slack)
    for name in ("both", "settle"):
        for put in done(name).puts:
            is_there = _entry(bench, put.key) is not None
            bench.equal(is_there, put.ttl != _SECOND, f"{put.key} is there after a second")
