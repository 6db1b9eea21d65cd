"""A wait ends when the version differs, or when the time is over (S19e)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

from kessel_conformance.catalogue import STORES
from kessel_conformance.stores.bench import StoreBench, version_of
from kessel_conformance.stores.child import answer
from kessel_conformance.stores.process import PATIENCE
from kessel_conformance.stores.requirements import OTHER_PROCESS, SHARED_REACH, WAKES
from kessel_core import AdapterUnavailable
from kessel_core.contract import Entry

case = STORES.case

NOW: Final = timedelta(0)
SHORT: Final = timedelta(milliseconds=300)
_MINUTE: Final = timedelta(minutes=1)
#: Seconds until a thread that was started surely waits; nothing depends on it.
_A_MOMENT: Final = 0.05
#: Keys that careless code cuts, strips or changes where it tells other processes of them.
_TOLD: Final = ("a b", " : ", "a:b\n", "a,b;c=d/e|f\\g'h\"i\tj\x01k", "%s*ü\U0001f600" + "x" * 200)
#: Seconds after which a wait sleeps for sure; where it does not, a test finds less, and nothing else.
_ASLEEP: Final = 0.3
#: Seconds within which a wait that is woken has returned, on a busy machine, too. Whoever is not woken looks
#: by himself after some seconds, in case that something was not heard.
_WOKEN: Final = 1.5


def _waits(bench: StoreBench, seen: int, act: Callable[[], object], key: str = "k") -> Entry | None:
    """Let a thread wait, do something meanwhile, and return what the wait returned."""
    found: list[tuple[Entry | None, float]] = []
    acted: list[float] = []

    def wait() -> None:
        found.append((bench.woken(key, seen=seen), time.monotonic()))

    def act_later() -> None:
        time.sleep(_A_MOMENT)
        act()
        acted.append(time.monotonic())

    bench.side_by_side([wait, act_later], limit=PATIENCE)
    entry, ended = found[0]
    _is_in_time(bench, ended - acted[0])
    return entry


def _is_in_time(bench: StoreBench, late: float) -> None:
    """Check that a wait which must be woken ended in time, so many seconds after the change."""
    is_woken = late < _WOKEN or not bench.capabilities.wakes
    bench.check(is_woken, f"the wait ended {late:.1f} s after the change: it was not woken, it looked again")


@case(
    "wait.already",
    "S19e",
    why="A wait that only looks for what comes misses what came between the read and the wait.",
)
def already(bench: StoreBench) -> None:
    bench.equal(bench.wait(timeout=NOW), None, "a wait for nothing, where nothing is")
    first = bench.put()
    bench.equal(version_of(bench.woken(seen=0)), first, "the version, if none was seen")
    second = bench.put()
    bench.equal(version_of(bench.woken(seen=first)), second, "the version, if an older one was seen")
    bench.equal(version_of(bench.woken(seen=second + 1)), second, "the version, if another one was seen")
    bench.equal(version_of(bench.woken(seen=2**63)), second, "the version, if one was seen that cannot be")
    bench.delete()
    bench.equal(bench.woken(seen=second), None, "what is there after a delete")
    third = bench.put(ttl=SHORT)
    bench.let_pass(SHORT + bench.slack)
    bench.equal(bench.woken(seen=third), None, "what is there after the end of the entry")


@case(
    "wait.times_out",
    "S19e",
    waits=True,
    why="A wait that ends early makes its caller poll, one that never ends hangs him.",
)
def times_out(bench: StoreBench) -> None:
    version = bench.put()
    there = bench.entry()
    # A minute costs nothing on a virtual clock; a store that cuts waits after some seconds ends it early.
    for timeout in (SHORT, *([_MINUTE] if bench.harness.virtual else ())):
        for seen, key, expected in ((version, "k", there), (0, "none", None)):
            start = bench.clock.monotonic()
            bench.equal(bench.wait(key, seen=seen, timeout=timeout), expected, "what has not changed")
            waited, span = bench.clock.monotonic() - start, timeout.total_seconds()
            bench.check(waited >= span * 0.999, f"the wait of {timeout} ended {waited:.3f} s after its begin")
            if bench.harness.virtual:
                bench.check(waited < 2 * span, f"the wait of {timeout} took {waited:.3f} s of the clock")
    for timeout in (NOW, -SHORT):
        start = bench.clock.monotonic()
        bench.equal(bench.wait(seen=version, timeout=timeout), there, f"a wait of {timeout}")
        if bench.harness.virtual:
            bench.equal(bench.clock.monotonic(), start, "the time after a wait without time")


@case(
    "wait.put_and_delete",
    "S19e",
    waits=True,
    why="A deaf wait returns what it waited for when its time is over.",
)
def put_and_delete(bench: StoreBench) -> None:
    real = bench.in_real_time()
    entry = _waits(real, 0, lambda: real.put(value=b"1"))
    real.equal(None if entry is None else entry.value, b"1", "what a wait returns that a put ended")
    version = version_of(entry)
    entry = _waits(real, version, lambda: real.put(value=b"2"))
    real.equal(None if entry is None else entry.value, b"2", "what a wait returns that a second put ended")
    version = version_of(entry)
    real.equal(_waits(real, version, lambda: real.delete()), None, "what a wait returns that a delete ended")


@case(
    "wait.end_of_entry",
    "S19e",
    "S19b",
    waits=True,
    why="Nobody writes when an entry ends, so nobody wakes a wait for that.",
)
def end_of_entry(bench: StoreBench) -> None:
    real = bench.in_real_time()
    version = real.put(ttl=4 * SHORT)
    end = real.entry().expires_at
    assert end is not None
    real.equal(real.woken(seen=version), None, "what a wait returns that the end of the entry ended")
    real.check(real.now() >= end, f"the wait ended {end - real.now()} before the entry did")
    if bench.harness.virtual:
        before = bench.now()
        version = bench.put(ttl=SHORT)
        bench.equal(bench.woken(seen=version), None, "the same on a virtual clock")
        took = bench.now() - before
        bench.check(took >= SHORT, f"the wait for the end of an entry of {SHORT} took {took} of the clock")


@case(
    "wait.only_its_entry",
    "S19e",
    waits=True,
    why="A wait that any write ends returns what has not changed, long before its time.",
)
def only_its_entry(bench: StoreBench) -> None:
    real = bench.in_real_time()
    version = real.put(value=b"stays")

    def write_others() -> None:
        for number in range(3):
            real.put(f"k{number}")
            real.put("k", space=real.space_named("beside"))
            real.delete(f"k{number}")
            time.sleep(_A_MOMENT)

    def wait() -> None:
        start = real.clock.monotonic()
        entry = real.wait(seen=version, timeout=2 * SHORT)
        waited = real.clock.monotonic() - start
        real.equal(version_of(entry), version, "the version after the time is over")
        real.check(
            waited >= 2 * SHORT.total_seconds() * 0.999,
            f"writes to others ended the wait after {waited:.3f} s",
        )

    real.side_by_side([wait, write_others], limit=PATIENCE)


@case("wait.many", "S19e", waits=True, why="One write wakes one of those who wait, and leaves the others.")
def many(bench: StoreBench) -> None:
    real = bench.in_real_time()
    found: list[int] = []

    def wait(key: str) -> None:
        found.append(version_of(real.woken(key)))

    def put() -> None:
        time.sleep(2 * _A_MOMENT)
        for key in "ab":
            real.put(key)

    real.side_by_side([put, *(partial(wait, key) for key in "ab" * 6)], limit=PATIENCE)
    expected = sorted(real.entry(key).version for key in "ab" * 6)
    real.equal(sorted(found), expected, "versions that twelve waits for two entries return")


@case("wait.closed", "S19e", waits=True, why="A stop that a wait holds up lasts as long as the wait.")
def wait_closed(bench: StoreBench) -> None:
    real = bench.in_real_time()
    store, space = real.store, real.space

    def wait() -> None:
        start, patience = real.clock.monotonic(), real.harness.long_wait
        call = partial(store.wait, space, "k", timeout=patience)
        real.refused(AdapterUnavailable, "wait while the store is closed", call)
        waited = real.clock.monotonic() - start
        real.check(waited < patience.total_seconds(), "the close did not end the wait")

    def close() -> None:
        time.sleep(_A_MOMENT)
        real.close()

    real.side_by_side([wait, close], limit=PATIENCE)
    real.open_again()


@case(
    "wait.no_lost_wake_up",
    "S19e",
    needs=(WAKES,),
    waits=True,
    why="A write between the look and the sleep of a wait wakes nobody; it happens once in thousands.",
)
def no_lost_wake_up(bench: StoreBench) -> None:
    real, turns = bench.in_real_time(), bench.settings.amounts.turns
    patience, interval = real.harness.long_wait, sys.getswitchinterval()

    def talk(own: str, others: str) -> None:
        lost = answer(real.store, real.space, own, others, own == "ping", turns, patience)
        real.check(lost is None, lost or "")

    sys.setswitchinterval(1e-5)  # threads meet in more ways
    try:
        real.history.add(f"two threads answer each other, {turns} times each")
        real.side_by_side([partial(talk, "ping", "pong"), partial(talk, "pong", "ping")], limit=600)
        _wakes_at_any_line(real, turns // 2)
    finally:
        sys.setswitchinterval(interval)


def _wakes_at_any_line(real: StoreBench, most: int) -> None:
    """Let a put come at each line of Python that a wait goes through before it sleeps, or at some of them."""
    real.history.add("a thread waits, and another one puts while it is at one line of its way after another")
    lines = _put_at(real, sys.maxsize)[0]
    for line in sorted(real.random.sample(range(1, lines + 1), min(lines, most))):
        _, waited, place = _put_at(real, line)
        if waited >= real.harness.long_wait.total_seconds():
            real.broken(f"a put that came while the wait was at {place} did not wake it")


def _put_at(real: StoreBench, line: int) -> tuple[int, float, str]:
    """Wait, and let a put come at a line of that; return lines passed until then, seconds, and the place."""
    is_there, is_put = threading.Event(), threading.Event()
    passed, place, waited = 0, "", 0.0
    seen = version_of(real.store.get(real.space, "any"))  # the put may come before a slow thread

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal passed, place
        if event == "line" and not is_put.is_set():
            passed += 1
            if passed == line:
                place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                is_there.set()
                is_put.wait(0.02)  # not for ever: it may wait for a lock that is held here
        return trace

    def wait() -> None:
        nonlocal waited
        before = sys.gettrace()
        begin = time.monotonic()
        sys.settrace(trace)
        try:
            real.store.wait(real.space, "any", seen=seen, timeout=real.harness.long_wait)
        finally:
            sys.settrace(before)
        waited = time.monotonic() - begin

    def put() -> None:
        is_there.wait(_ASLEEP)
        real.store.put(real.space, "any", b"now")
        is_put.set()

    real.side_by_side([wait, put], limit=PATIENCE)
    return passed, waited, place


@case(
    "wait.other_process",
    "S19e",
    needs=(SHARED_REACH, OTHER_PROCESS),
    waits=True,
    why="Who waits for a result is hardly ever the process that writes it.",
)
def other_process(bench: StoreBench) -> None:
    real = bench.in_real_time()
    process = real.process()
    for turn in range(10):
        # One that surely sleeps waits for a key that may be cut, or cut others, where it is told.
        key = _TOLD[turn // 2] if turn % 2 else "asked"
        space = real.space_named("o-t_h.er") if turn % 4 == 1 else real.space
        seen = version_of(real.get(key, space=space))
        process.ask("wait", space, key, seen=seen, timeout=real.harness.long_wait)
        time.sleep(_A_MOMENT * (turn % 2))
        asked, began = real.put(key, b"%d" % turn, space=space), time.monotonic()
        real.equal(version_of(process.answer()), asked, "the version that another process waited for")
        is_woken = time.monotonic() - began < real.harness.long_wait.total_seconds()
        real.check(is_woken, "the wait of another process was not woken")
        _is_in_time(real, time.monotonic() - began)
        answered = f"answered {key}" if turn % 2 else "answered"
        seen, began = version_of(real.get(answered)), time.monotonic()
        process.ask("put", real.space, answered, b"%d" % turn)
        entry = real.wait(answered, seen=seen)
        _is_in_time(real, time.monotonic() - began)
        real.equal(version_of(entry), process.answer(), "the version that another process has put")
    version = version_of(real.get(answered))
    entry = _waits(real, version, lambda: process.call("delete", real.space, answered), answered)
    real.equal(entry, None, "what a wait returns that a delete of another process ended")
    ping, turns = [process, real.process()], real.settings.amounts.turns // 4
    for one, own, others in ((ping[0], "ping", "pong"), (ping[1], "pong", "ping")):
        one.ask("answer", real.space, own, others, own == "ping", turns, real.harness.long_wait)
    for one in ping:
        real.equal(one.answer(PATIENCE * 5), None, "what two processes say that answer each other")
    real.history.add("two processes answer each other")
