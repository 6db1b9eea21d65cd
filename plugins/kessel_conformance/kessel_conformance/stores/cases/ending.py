"""Entries that end: never early, never late (S19b)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from kessel_conformance.catalogue import STORES
from kessel_conformance.opencase import MICRO
from kessel_conformance.stores.bench import STEP, StoreBench
from kessel_conformance.stores.requirements import VIRTUAL_TIME
from kessel_core.contract import Entry
from kessel_core.testing import VirtualClock

case = STORES.case

#: With fractions that get cut off.
SPANS: Final = (timedelta(milliseconds=1), timedelta(milliseconds=400), timedelta(seconds=1.6))
SHORT: Final = timedelta(milliseconds=300)
HOUR: Final = timedelta(hours=1)


@case(
    "expiry.exact",
    "S19b",
    waits=True,
    why="Ends get cut to whole seconds, compared with the wrong clock, or only swept now and then.",
)
def exact(bench: StoreBench) -> None:
    for span in SPANS:
        key = f"for {span.total_seconds():g} s"
        before = bench.now()
        bench.put(key, ttl=span)
        after = bench.now()
        bench.put(f"{key}, beside")
        entry = bench.get(key)
        if entry is None:
            gone = bench.now() - before
            bench.check(gone >= span, f"{key!r} is gone {gone} after its put", "S19b")
            continue  # a slow machine, and a short span
        end = bench.ends_right(entry, span, before, after)
        for part in (0.5, 0.9, 0.99):
            bench.until(before + span * part)
            _is_there_until(bench, key, end)
        if bench.harness.virtual:
            bench.until(end - MICRO)
            _is_there_until(bench, key, end)
        bench.until(end)
        _is_gone(bench, key)
        bench.entry(f"{key}, beside", "an entry beside the one that ended", clause="S19b")


def _is_there_until(bench: StoreBench, key: str, end: datetime) -> None:
    """Check that neither a read nor a scan loses an entry before its end, or finds it after that."""
    for what, read in (("get", bench.get), ("scan", partial(_scanned, bench))):
        before = bench.now()
        entry = read(key)
        if entry is None:
            early = end - bench.now()
            bench.check(early <= timedelta(0), f"{what} misses {key!r}, {early} before its end", "S19b")
        else:
            late = before - end
            bench.check(late < timedelta(0), f"{what} returns {key!r}, {late} after its end", "S19b")
            bench.equal(entry.expires_at, end, f"the end that {what} says")


def _scanned(bench: StoreBench, key: str) -> Entry | None:
    return next((entry for entry in bench.scan(key) if entry.key == key), None)


def _is_gone(bench: StoreBench, key: str) -> None:
    """Check that nothing shows an entry whose time is over."""
    bench.equal(bench.get(key), None, f"get of {key!r} at its end", "S19b")
    bench.check(
        all(entry.key != key for entry in bench.scan(key)), f"a scan returns {key!r} at its end", "S19b"
    )
    bench.equal(bench.delete(key), False, f"delete of {key!r} at its end", "S19b")


@case(
    "expiry.frees_the_key",
    "S19b",
    "S19a",
    waits=True,
    why="What has ended still counts as there for a compare-and-set.",
)
def frees_the_key(bench: StoreBench) -> None:
    old = {key: bench.put(key, ttl=SHORT) for key in ("made", "expected", "deleted")}
    bench.let_pass(SHORT + STEP)
    bench.not_put(old["expected"], None, key="expected")
    bench.equal(bench.delete("deleted", expect=old["deleted"]), False, "delete of what has ended", "S19b")
    new = bench.put("made", expect=0)
    bench.check(new > old["made"], f"version {new} follows {old['made']}, which has ended", "S19a")
    bench.equal([entry.key for entry in bench.pages()], ["made"], "keys after all have ended", "S19b")


@case(
    "expiry.replaced", "S19b", waits=True, why="A timer of the entry that was there before ends the new one."
)
def replaced(bench: StoreBench) -> None:
    for key in ("longer", "stays", "made anew"):
        bench.put(key, b"old", ttl=SHORT)
    bench.put("shorter", b"old", ttl=HOUR)
    bench.put("longer", b"new", ttl=HOUR)
    bench.put("stays", b"new")
    bench.delete("made anew")
    bench.put("made anew", b"new", ttl=HOUR)
    bench.put("shorter", b"new", ttl=SHORT)
    bench.equal(bench.entry("stays").expires_at, None, "end of what was put without one", "S19b")
    bench.let_pass(SHORT + STEP)
    for key in ("longer", "stays", "made anew"):
        entry = bench.entry(key, f"{key!r}, at the end of the entry before it", clause="S19b")
        bench.equal(entry.value, b"new", f"value of {key!r}")
    bench.equal(bench.get("shorter"), None, "what was given a shorter time", "S19b")
    bench.equal(len(bench.pages()), 3, "entries that are left", "S19b")


@case(
    "expiry.many",
    "S19b",
    waits=True,
    why="A removal in portions takes along what is alive, or shows the rest meanwhile.",
)
def many(bench: StoreBench) -> None:
    numbers = range(250)
    for number in numbers:
        bench.store.put(bench.space, f"ends{number}", b"v", ttl=SHORT)
        if number % 5 == 0:
            bench.store.put(bench.space, f"stays{number}", b"v", ttl=HOUR if number % 2 else None)
    bench.history.add(f"{len(numbers)} entries are put for {SHORT}, and some that stay")
    bench.let_pass(SHORT + STEP)
    for turn in range(3):
        left = [entry.key for entry in bench.pages()]
        ended = [key for key in left if key.startswith("ends")]
        bench.equal(ended, [], "keys of ended entries that a scan returns", "S19b")
        bench.equal(len(left), len(numbers) // 5, "how many entries are left", "S19b")
        bench.put("stays0", b"%d" % turn)  # a store may remove what has ended with what is written next


@case(
    "expiry.extremes",
    "S19b",
    waits=True,
    why="A very long time overflows and is over at once; a very short one becomes for ever.",
)
def extremes(bench: StoreBench) -> None:
    before = bench.now()
    bench.put("shortest", ttl=MICRO)
    for name, span in (("years", timedelta(days=36_500)), ("longest", timedelta.max)):
        bench.put(name, ttl=span)
        entry = bench.entry(name, f"an entry that was just put for {span}", clause="S19b")
        bench.check(
            entry.expires_at is None or entry.expires_at >= before + timedelta(days=36_499),
            f"{name!r} says that it ends at {entry.expires_at}",
            "S19b",
        )
    bench.let_pass(bench.slack + MICRO)
    bench.equal(bench.get("shortest"), None, "what was put for a microsecond", "S19b")
    if bench.harness.virtual:
        bench.let_pass(timedelta(days=30_000))
    for name in ("years", "longest"):
        bench.entry(name, clause="S19b")


@case(
    "expiry.by_the_clock",
    "S19b",
    "S18",
    needs=(VIRTUAL_TIME,),
    why="A test that moves the clock must end entries, and real time must not.",
)
def by_the_clock(bench: StoreBench) -> None:
    bench.put(ttl=timedelta(milliseconds=20))
    bench.harness.sleep(0.05)
    bench.history.add("0.05 s of real time pass")
    bench.entry(why="an entry whose time has passed in reality, but not on the clock", clause="S18")
    assert isinstance(bench.clock, VirtualClock)
    bench.let_pass(timedelta(milliseconds=21))
    bench.equal(bench.get(), None, "after its time has passed on the clock", "S18")
    # The wall clock is what ends follow: it may be set, and the monotonic clock does not show that.
    bench.put(ttl=HOUR)
    bench.clock.jump_wall(2 * HOUR)
    bench.history.add("the wall clock is set forward by two hours")
    bench.equal(bench.get(), None, "after the wall clock was set past its end", "S19b")
