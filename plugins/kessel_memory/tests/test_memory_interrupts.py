"""Whatever a signal handler raises, and wherever: no job is lost, and none comes twice (S9)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterContext,
    Bury,
    Message,
    Rollback,
    Snooze,
)
from kessel_core.testing import VirtualClock
from tests.interrupts import interrupted_at

LEASE = timedelta(seconds=60)
NAMES = ("a", "b", "c")


class Given:
    """Three jobs, of which two are held, as far as a test wants that."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.adapter = MemoryAdapter(MemoryOptions(lease=LEASE), AdapterContext(clock=self.clock))
        self.consumers = [self.adapter.consumer(["q"]) for _ in range(2)]

    def jobs(self, delay: timedelta | None = None) -> None:
        due = None if delay is None else self.clock.now() + delay
        for name in NAMES:
            self.adapter.enqueue(Message(name, "q", b"x", 1, delay=due))

    def held(self) -> list[Any]:
        return [consumer.reserve(NO_PAUSE) for consumer in self.consumers]

    def left(self) -> list[str]:
        """Return the ids of all jobs, each as often as it is there, once all delays and leases are over."""
        self.clock.advance(2 * LEASE)
        for job in self.adapter.buried("q"):
            self.adapter.kick("q", job.id)
        consumer, found = self.adapter.consumer(["q"]), []
        while (taken := consumer.reserve(NO_PAUSE)) is not None:
            found.append(taken.id)
            consumer.settle(taken, COMMIT)
        assert self.adapter.stats("q").total == 0
        self.jobs()  # their ids are free
        return sorted(found)


@pytest.mark.parametrize(
    "settlement", [COMMIT, Rollback(), Rollback(timedelta(seconds=1)), Snooze(), Bury("error")], ids=str
)
def test_s9_an_interrupted_settlement_loses_no_job(settlement: Any) -> None:
    for number in itertools.count(1):
        given = Given()
        given.jobs()
        first, _ = given.held()
        if not interrupted_at(number, lambda: given.consumers[0].settle(first, settlement)):  # noqa: B023
            break
        left = given.left()
        assert left == ["a", "b", "c"] or (settlement == COMMIT and left == ["b", "c"])
    assert number > 5


@pytest.mark.parametrize("way", ["reserve", "settle_and_reserve", "give_back", "close"])
def test_s9_an_interrupted_reserve_or_return_loses_no_job(way: str) -> None:
    for number in itertools.count(1):
        given = Given()
        given.jobs()
        if way == "reserve":
            work: Callable[[], object] = lambda: given.consumers[0].reserve(NO_PAUSE)  # noqa: B023, E731
        else:
            first, _ = given.held()
            work = {
                "settle_and_reserve": lambda: given.consumers[0].settle_and_reserve(first, Rollback()),  # noqa: B023
                "give_back": lambda: given.adapter.give_back(first),  # noqa: B023
                "close": given.consumers[0].close,
            }[way]
        if not interrupted_at(number, work):
            break
        assert given.left() == ["a", "b", "c"]
    assert number > 5


@pytest.mark.parametrize("what", ["delays", "leases"])
def test_s9_an_interrupt_while_time_makes_jobs_ready_loses_none(what: str) -> None:
    for number in itertools.count(1):
        given = Given()
        given.jobs(timedelta(seconds=1) if what == "delays" else None)
        if what == "leases":
            given.held()
        given.clock.advance(LEASE)
        if not interrupted_at(number, lambda: given.adapter.stats("q")):  # noqa: B023
            break
        assert given.left() == ["a", "b", "c"]
    assert number > 5


@pytest.mark.parametrize("way", ["put", "put with a ttl", "delete", "replace"])
def test_s19_an_interrupted_write_leaves_what_a_look_and_a_page_agree_on(way: str) -> None:
    for number in itertools.count(1):
        store = Given().adapter._entry_store
        for key in ("a", "c", "d"):
            store.put("s", key, b"old")

        def work() -> None:
            if way == "delete":
                store.delete("s", "c")  # noqa: B023
            else:
                ttl = timedelta(seconds=1) if "ttl" in way else None
                store.put("s", "c" if way == "replace" else "b", b"new", ttl=ttl)  # noqa: B023

        if not interrupted_at(number, work):
            break
        page = {entry.key: entry.value for entry in store.scan("s")}
        looked = {key: found.value for key in "abcd" if (found := store.get("s", key)) is not None}
        assert page == looked
        for key in "abcd":
            store.delete("s", key)
        assert store.scan("s") == []
    assert number > 3
