"""Compare and set: no update is lost, whoever writes (S19a)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.catalogue import STORES
from kessel_conformance.stores.bench import StoreBench, version_of
from kessel_conformance.stores.child import add
from kessel_conformance.stores.process import PATIENCE
from kessel_conformance.stores.requirements import DURABILITY, OTHER_PROCESS, SHARED_REACH
from kessel_core import StoreConflict
from kessel_core.contract import Entry

case = STORES.case

#: How many write one entry at the same time.
WRITERS: Final = 8
#: How often threads meet.
TURNS: Final = 10
#: Expected by careless code in 64 bits, or as a number of the database.
HUGE: Final = (2**31, 2**63 - 1, 2**63, 2**200)


@case(
    "expect.replaces_exactly",
    "S19a",
    why="A put that ignores the version loses what somebody else has written.",
)
def replaces_exactly(bench: StoreBench) -> None:
    first = bench.put(value=b"1", expect=0)
    second = bench.put(value=b"2", expect=first)
    bench.check(second > first, f"version {second} follows {first}")
    there = bench.entry()
    bench.equal((there.version, there.value), (second, b"2"), "after a put that expected what was there")
    for wrong in (first, second + 1, *HUGE):
        bench.not_put(wrong, there)
    # What is refused must not give an end to what is there, nor take it away.
    bench.put(value=b"ends", ttl=timedelta(hours=1))
    bench.not_put(second, bench.entry())


@case("expect.makes_new", "S19a", why="Whoever makes an entry first must win, and the others must be told.")
def makes_new(bench: StoreBench) -> None:
    bench.put(value=b"1", expect=0)
    bench.not_put(0, bench.entry())
    bench.put(value=b"2")
    bench.not_put(0, bench.entry())
    bench.delete()
    bench.put(value=b"3", expect=0)
    bench.equal(bench.entry().value, b"3", "after the entry was deleted and made again")


@case(
    "expect.of_what_ends",
    "S19a",
    why="A lock is an entry that ends by itself: while it is there, no other may take it, or give it back.",
)
def of_what_ends(bench: StoreBench) -> None:
    hour = timedelta(hours=1)
    first = bench.put("lock", b"mine", expect=0, ttl=hour)
    _is_taken(bench, first + 1, first + 2)
    renewed = bench.put("lock", b"mine", expect=first, ttl=hour)
    _is_taken(bench, first, renewed + 1)
    bench.equal(bench.delete("lock", expect=renewed), True, "delete by the one who holds the lock")
    bench.put("lock", b"another's", expect=0, ttl=hour)
    _is_taken(bench, first, renewed)


def _is_taken(bench: StoreBench, *wrong: int) -> None:
    there = bench.entry("lock")
    for expected in (0, *wrong):
        bench.not_put(expected, there, key="lock", ttl=timedelta(hours=2))
        bench.not_put(expected, there, key="lock")
        bench.not_deleted(expected, there, key="lock")


@case("expect.nothing_there", "S19a", why="An update of what is gone must not make it again.")
def nothing_there(bench: StoreBench) -> None:
    for wrong in (1, 7, *HUGE):
        bench.not_put(wrong, None)
    version = bench.put()
    bench.delete()
    bench.not_put(version, None)
    bench.equal(bench.pages(), [], "entries after refused puts", "S19d")


@case(
    "delete.expected",
    "S19a",
    why="A delete that ignores the version removes what somebody else has just written.",
)
def delete_expected(bench: StoreBench) -> None:
    old = bench.put(value=b"1")
    new = bench.put(value=b"2")
    for wrong in (0, old, new + 1, *HUGE):
        bench.not_deleted(wrong, bench.entry())
    bench.put("other")
    bench.equal(bench.delete(expect=new), True, "delete of the expected version")
    bench.equal(bench.get(), None, "after the delete")
    for gone in (0, new, 2**63):
        bench.equal(bench.delete(expect=gone), False, f"delete of nothing, expecting {gone}")
    bench.entry("other", "an entry beside the deleted one")


@case(
    "version.grows",
    "S19a",
    why="A version that comes again lets somebody replace an entry that he never saw.",
)
def grows(bench: StoreBench) -> None:
    seen = [bench.put(value=b"same") for _ in range(3)]
    for _ in range(3):
        bench.delete()
        seen.append(bench.put(value=b"same", expect=0))
    seen.append(bench.put("k", ttl=timedelta(milliseconds=50)))
    bench.let_pass(timedelta(milliseconds=50) + bench.slack)
    bench.put("other")
    seen.append(bench.put(expect=0))
    bench.equal(seen, sorted(set(seen)), "versions of one key, each greater than those before", "S19a")


@case(
    "version.grows_on",
    "S19a",
    "S19c",
    needs=(DURABILITY,),
    why="A counter that is kept in memory, or read from the entries that are left, starts again.",
)
def grows_on(bench: StoreBench) -> None:
    seen = []
    for _ in range(3):
        seen.append(bench.put())
        bench.delete()
        bench.reopen()
    bench.equal(
        seen, sorted(set(seen)), "versions of a key that was deleted before the store was closed", "S19a"
    )


@case(
    "expect.one_wins",
    "S19a",
    why="Two that compare before either has written both believe that they were first.",
)
def one_wins(bench: StoreBench) -> None:
    won: dict[int, int] = {}
    refused: list[StoreConflict] = []

    def make(key: str, number: int) -> None:
        try:
            won[number] = bench.store.put(bench.space, key, b"%d" % number, expect=0)
        except StoreConflict as exc:
            refused.append(exc)

    for turn in range(TURNS):
        key = f"turn{turn}"
        won.clear()
        refused.clear()
        bench.side_by_side([partial(make, key, number) for number in range(WRITERS)])
        bench.history.add(f"{WRITERS} threads put {key!r}, expecting 0: {len(won)} succeed")
        bench.equal(len(won), 1, f"how many threads made {key!r} first")
        there = bench.entry(key)
        ((winner, version),) = won.items()
        bench.equal((there.version, there.value), (version, b"%d" % winner), "what the first one wrote")
        for exc in refused:
            bench.equal((exc.version, exc.value), (version, there.value), "what a conflict says is there")


@case("expect.delete_or_put", "S19a", why="A delete and a put of one version must not both succeed.")
def delete_or_put(bench: StoreBench) -> None:
    done: list[str] = []

    def put(key: str, version: int) -> None:
        with suppress(StoreConflict):
            bench.store.put(bench.space, key, b"new", expect=version)
            done.append("put")

    def delete(key: str, version: int) -> None:
        with suppress(StoreConflict):
            if bench.store.delete(bench.space, key, expect=version):
                done.append("delete")

    for turn in range(TURNS):
        key = f"turn{turn}"
        version = bench.put(key, b"old")
        done.clear()
        bench.side_by_side([partial(put, key, version), partial(delete, key, version)])
        bench.history.add(f"a put and a delete of {key!r}, both expecting {version}: {', '.join(done)}")
        bench.equal(len(done), 1, "how many of them succeed")
        entry = bench.get(key)
        left = None if entry is None else entry.value
        bench.equal(left, b"new" if done == ["put"] else None, "what is left")


@case("expect.threads_add", "S19a", why="The read and the write of a careless compare-and-set are two steps.")
def threads_add(bench: StoreBench) -> None:
    times = bench.settings.amounts.adds
    bench.side_by_side(
        [lambda: add(bench.store, bench.space, "number", times) for _ in range(WRITERS)], limit=PATIENCE * 5
    )
    bench.history.add(f"{WRITERS} threads add 1 to a number, {times} times each")
    _adds_up(bench, bench.get("number"), times)


@case(
    "expect.processes_add",
    "S19a",
    needs=(SHARED_REACH, OTHER_PROCESS),
    why="A lock of the process does not keep other processes from writing in between.",
)
def processes_add(bench: StoreBench) -> None:
    times = bench.settings.amounts.adds
    processes = [bench.process() for _ in range(WRITERS)]
    for process in processes:
        process.ask("add", bench.space, "number", times)
    conflicts = sum(process.answer(PATIENCE * 5) for process in processes)
    bench.history.add(
        f"{WRITERS} processes add 1 to a number, {times} times each, and were too late {conflicts} times"
    )
    _adds_up(bench, bench.get("number"), times)


def _adds_up(bench: StoreBench, entry: Entry | None, times: int) -> None:
    number = 0 if entry is None else int(entry.value)
    bench.equal(number, WRITERS * times, f"the number that {WRITERS} writers have added {times} times 1 to")
    bench.check(version_of(entry) >= WRITERS * times, "each put has a version of its own")
