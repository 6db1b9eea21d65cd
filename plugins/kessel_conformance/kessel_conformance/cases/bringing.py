"""What a settlement brings along is one thing with it: together, once, told, and for its time (S20)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.bringers import kill_while_it_brings
from kessel_conformance.catalogue import case
from kessel_conformance.meanwhile import FALLS_ASLEEP
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import BLOCKING_RESERVE, FENCING, FOLLOW, LEASE, SHARED_REACH
from kessel_conformance.woken import Prepared, wakes
from kessel_core import LeaseLost
from kessel_core.contract import (
    COMMIT,
    Buried,
    Bury,
    Commit,
    Consumer,
    Entry,
    Find,
    JobState,
    Message,
    Put,
    Reservation,
    Rollback,
    Settlement,
    Store,
)

_SPACE: Final = "conformance"
_HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)
#: The time of an entry that ends soon; one that is cut or rounded to whole seconds shows.
_SHORT: Final = timedelta(seconds=1.4)
#: How long before the end of such an entry it is looked for in real time.
_BEFORE: Final = timedelta(seconds=0.2)
#: How long a wait for an entry may take, and one that was woken; seconds until it sleeps.
_LONG: Final = timedelta(seconds=8)
_WOKEN: Final = timedelta(seconds=3)
#: What the next holder has done with a job by the time at which the one before settles it.
_FATES: Final[dict[str, Settlement | None]] = {
    "which another holds": None,
    "which another committed": COMMIT,
    "which another buried": Bury("error", "it failed"),
    "which another rolled back": Rollback(),
}


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


def _ends(name: str, follow: tuple[Message, ...], puts: tuple[Put, ...] = ()) -> Commit | Bury:
    """Return a commit or a burial that brings this along."""
    return Commit(follow, puts) if name == "commit" else Bury("error", "it failed", follow, puts)


@case(
    "following.fenced",
    "S20",
    "S7",
    needs=(FOLLOW, LEASE, FENCING),
    waits=True,
    why="A process that was stopped for a while is refused its settle, and yet its follow-ups are stored.",
)
def fenced(bench: Bench) -> None:
    kinds = [
        (name, reserves, fate) for name in ("commit", "burial") for reserves in (0, 1) for fate in _FATES
    ]
    held: list[tuple[Message, Consumer, Reservation]] = []
    for number in range(len(kinds)):
        message = bench.put(queue=bench.queue_named(f"held{number}"))
        consumer = bench.consumer(message.queue)
        held.append((message, consumer, bench.gets(consumer, message, "the job")))
    bench.let_pass(bench.lease + bench.slack + MICRO)
    told, keys = bench.queue_named("told"), [f"{bench.namespace}-{number}" for number in range(len(kinds))]
    for (name, reserves, fate), (message, first, old), key in zip(kinds, held, keys, strict=True):
        second = bench.consumer(message.queue)
        again = bench.gets(second, message, "the job whose lease has ended")
        if (done := _FATES[fate]) is not None:
            bench.settle(second, again, done)
        puts = (Put(_SPACE, key, b"ended"),) if bench.has(Store) else ()
        settlement = _ends(name, (bench.message(queue=told),), puts)
        settle = first.settle_and_reserve if reserves else first.settle
        # As if the local check had been passed just before the process was stopped.
        old.deadline = bench.clock.monotonic() + 3600
        what = f"{name} with a follow-up{' that reserves' * reserves} of {bench.label(message.body)}, {fate}"
        bench.refused(LeaseLost, what, partial(settle, old, settlement))
    bench.nothing(bench.consumer(told), "all settlements that bring a follow-up along were refused")
    for key in keys if bench.has(Store) else ():
        bench.equal(_entry(bench, key), None, "the entry of a settlement that was refused")


@case(
    "following.own_id",
    "S20",
    "S14",
    needs=(FOLLOW,),
    why="A job asks for itself again, which is stored before it ends: its id is held, and it never comes.",
)
def own_id(bench: Bench) -> None:
    # In its own queue and in another one, which may be stored in another way.
    ways = [(reserves, other) for reserves in (False, True) for other in ("", "other")]
    for number, (reserves, other) in enumerate(ways):
        job = bench.put(queue=bench.queue_named(f"commit{number}"))
        consumer = bench.consumer(job.queue)
        held = bench.gets(consumer, job, "the job")
        again = bench.message(job_id=job.id, queue=job.queue + other)
        beside = bench.message(queue=bench.queue_named(f"beside{number}"))
        done = Commit(follow=(again, beside))
        what = "a follow-up under the id of the job that was committed"
        following = bench.settle_and_reserve(consumer, held, done) if reserves else None
        if not reserves:
            bench.settle(consumer, held, done)
        taker = consumer if following is not None else bench.consumer(again.queue)
        if following is None:  # allowed: what was stored in this call may be seen by the next
            following = bench.gets(taker, again, what)
        bench.equal(bench.label(following.body), bench.label(again.body), what)
        if bench.capabilities.dedupe:  # the id is the follow-up's, and did not end with the job
            bench.is_held(again, JobState.RESERVED)
        if bench.has(Find):
            found = bench.find(again.id)
            bench.equal(None if found is None else found.body, again.body, "what is found under its id")
        bench.settle(taker, following)
        bench.gets(bench.consumer(beside.queue), beside, "the follow-up beside it")
        bench.nothing(bench.consumer(job.queue, again.queue), "the job and its follow-up were committed")


@case(
    "following.own_id_of_burial",
    "S20",
    "S8",
    needs=(FOLLOW, Buried),
    why="A buried job holds its id: a follow-up under it replaces the job that somebody should look at.",
)
def own_id_of_burial(bench: Bench) -> None:
    for reserves in (False, True):
        job = bench.put(queue=bench.queue_named(f"burial{reserves}"))
        consumer = bench.consumer(job.queue)
        held = bench.gets(consumer, job, "the job")
        again = bench.message(job_id=job.id, queue=job.queue)
        beside = bench.message(queue=bench.queue_named(f"beside{reserves}"))
        done = Bury("error", "it failed", follow=(again, beside))
        if reserves:
            following = bench.settle_and_reserve(consumer, held, done)
            bench.equal(following, None, "what a burial reserved in a queue without another job")
        else:
            bench.settle(consumer, held, done)
        bench.nothing(bench.consumer(job.queue), "a buried job has the id of the follow-up")
        (buried,) = bench.buried(queue=job.queue)
        seen = (bench.label(buried.body), buried.reason, buried.message)
        bench.equal(seen, (bench.label(job.body), "error", "it failed"), "the job that was buried")
        bench.gets(bench.consumer(beside.queue), beside, "the follow-up beside it")
        bench.kick(buried.id, job.queue)
        taker = bench.consumer(job.queue)
        bench.settle(taker, bench.gets(taker, job, "the job after its kick"))
        bench.nothing(taker, "the job was committed")


@case(
    "following.killed_process",
    "S20",
    needs=(FOLLOW, LEASE, SHARED_REACH),
    real_time=True,
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
    settle, left = real.settle_and_reserve if and_reserve else real.settle, ["burial", "commit"]
    for number in range(2):  # nobody who was woken is so late twice
        settles: dict[str, Callable[[], object]] = {}
        for name in left:
            # One that is told to others as a part of a message must not be cut there.
            key = f"{real.namespace} {number}: {name}\n"
            holder = real.consumer()
            held = real.gets(holder, real.put(), "the job")
            puts = (Put(_SPACE, f"{key}-other", b"done"), Put(_SPACE, key, b"done"))  # each one wakes
            settles[key] = partial(settle, holder, held, _ends(name, (), puts))
        took = _told_after(real, waiter, settles)
        left = [name for name, one in zip(left, took, strict=True) if one >= _WOKEN]
        if not left:
            return
    late = max(took).total_seconds()
    real.broken(f"a wait for an entry that a {left[0]} wrote {where} ended after {late:.1f} s")


def _told_after(real: Bench, waiter: Bench, settles: Mapping[str, Callable[[], object]]) -> list[timedelta]:
    """Wait for entries while settlements write them; return how long after its own each wait ended."""
    ended: dict[str, float] = {}
    acted: dict[str, float] = {}

    def waits(key: str) -> None:
        store = waiter.facet(Store)
        entry = waiter.call(f"wait for {key!r}", lambda: store.wait(_SPACE, key, timeout=_LONG), "nothing")
        ended[key] = time.monotonic()
        is_found = entry is not None and entry.value == b"done"
        real.check(is_found, "a wait for the entry of a settlement found none")

    def acts() -> None:
        time.sleep(FALLS_ASLEEP)
        for key, settle in settles.items():
            settle()
            acted[key] = time.monotonic()
            # One that was not told by its own settlement must not be woken by the next.
            while key not in ended and time.monotonic() < acted[key] + _WOKEN.total_seconds():
                time.sleep(0.005)
            time.sleep(0.03)  # so that one who was woken for nothing waits again

    real.side_by_side([*(partial(waits, key) for key in settles), acts], 2 * _LONG.total_seconds())
    return [timedelta(seconds=max(ended[key] - acted[key], 0.0)) for key in settles]


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
    for number in range(3):  # a machine that is busy may let a look come too late
        if _end_in_time(bench, number):
            return


def _end_in_time(bench: Bench, number: int) -> bool:
    """Look at entries until after the end of some; return whether the looks before it were in time."""
    bench.send_many([bench.message(), bench.message()])
    consumer = bench.consumer()
    ttls = {"short": _SHORT, "long": _HOUR, "stays": None}

    def done(name: str) -> Commit:
        key = f"{bench.namespace}-{number}-{name}"
        return Commit(puts=tuple(Put(_SPACE, f"{key}-{end}", b"v", ttl) for end, ttl in ttls.items()))

    begun = bench.now()
    following = bench.settle_and_reserve(consumer, bench.taken(consumer), done("both"))
    bench.settle(consumer, following or bench.taken(consumer), done("settle"))
    ended = bench.now()
    puts = [*done("both").puts, *done("settle").puts]
    in_time = [_is_there(bench, put, begun, ended) for put in puts]
    bench.until(begun + _SHORT - (MICRO if bench.harness.virtual else _BEFORE))
    in_time.append(bench.now() > ended + _SECOND)  # one that was cut to a second has ended by now
    in_time += [_is_there(bench, put, begun, ended) for put in puts]
    bench.until(ended + _SHORT + bench.slack)
    for put in puts:
        is_there = _entry(bench, put.key) is not None
        bench.equal(is_there, put.ttl != _SHORT, f"{put.key} is there after {_SHORT.total_seconds()} s")
    return all(in_time)


def _is_there(bench: Bench, put: Put, begun: datetime, ended: datetime) -> bool:
    """Check an entry that must be there, and its end; return False if the look came after its end."""
    entry = _entry(bench, put.key)
    if entry is None and put.ttl is not None and bench.now() >= begun + put.ttl:
        return False
    bench.check(entry is not None, f"{put.key} is gone before its end")
    assert entry is not None
    _ends_right(bench, entry, put.ttl, begun, ended)
    return True
