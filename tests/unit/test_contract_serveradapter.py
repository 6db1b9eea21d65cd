"""Whom an adapter over a network notifies in its own process, before its line looks (S4, S20)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import AdapterError
from kessel_core.contract import (
    AdapterContext,
    Bury,
    Capabilities,
    Commit,
    Ear,
    Message,
    Outlook,
    Put,
    QueueStats,
    Reach,
    Reservation,
    Rollback,
    ServerAdapter,
    ServerLine,
    Settlement,
    Store,
    Waiter,
    kinds_of,
)
from kessel_core.testing import VirtualClock

HOUR = timedelta(hours=1)


class Line(ServerLine):
    """One that nobody listens for."""

    def watch(self) -> None: ...

    def ear(self, pipe: int) -> Ear:
        raise NotImplementedError

    def outlooks(self, queues: Sequence[str]) -> Iterable[Outlook]:
        raise NotImplementedError


class Engine(ServerAdapter):
    name = "engine"

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(AdapterContext(clock=clock))
        self.line = Line("engine")
        beside = MemoryAdapter(MemoryOptions(), AdapterContext(clock=clock)).facet(Store)  # type: ignore[type-abstract]
        assert beside is not None
        self.store = beside

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(reach=Reach.NETWORK)

    def put(self, message: Message) -> None: ...

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        return None

    def end(self, reservation: Reservation, settlement: Settlement) -> None: ...

    def renew_many(self, reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        return [None] * len(reservations)

    def queues(self) -> list[str]:
        return []

    def stats(self, queue: str) -> QueueStats:
        return QueueStats(queue=queue)

    def purge(self, queue: str) -> int:
        return 0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def engine(clock: VirtualClock) -> Iterator[Engine]:
    with closing(Engine(clock)) as made:
        yield made


def message(queue: str, due: datetime | None = None) -> Message:
    return Message("i", queue, b"x", 5, due)


def waiting(engine: Engine, queue: str, count: int = 1, planned: datetime | None = None) -> list[Waiter]:
    found = [engine.line.join(frozenset({queue})) for _ in range(count)]
    for waiter in found:
        waiter.planned = planned
    return found


def woken(waiters: list[Waiter]) -> list[bool]:
    return [waiter.woken for waiter in waiters]


def test_the_store_is_a_facet_and_the_adapter_others(engine: Engine) -> None:
    assert engine.facet(Store) is engine.store  # type: ignore[type-abstract]


def test_as_many_are_notified_of_a_batch_as_it_has_ready_jobs(engine: Engine, clock: VirtualClock) -> None:
    here, elsewhere = waiting(engine, "q", 3), waiting(engine, "other", 2)
    batch = [message("q"), message("q"), message("other")]
    engine.announce_stored(*kinds_of(batch, clock.now()))
    assert (woken(here), woken(elsewhere)) == ([True, True, False], [True, False])


def test_s4_who_waits_is_notified_of_a_delay_that_ends_before_its_next_look(
    engine: Engine, clock: VirtualClock
) -> None:
    (soon,) = waiting(engine, "q", planned=clock.now() + HOUR / 2)
    (late,) = waiting(engine, "r", planned=clock.now() + 2 * HOUR)
    batch = [message(queue, clock.now() + HOUR) for queue in ("q", "r")]
    engine.announce_stored(*kinds_of(batch, clock.now()))
    assert (soon.woken, late.woken) == (False, True)


@pytest.mark.parametrize("settle", [Commit, lambda **brought: Bury("error", "broken", **brought)])
def test_s20_who_waits_for_what_a_settlement_brings_along_is_notified(
    engine: Engine, settle: Callable[..., Commit | Bury]
) -> None:
    (here,), (elsewhere,) = waiting(engine, "q"), waiting(engine, "other")
    entry, another = engine.line.join_entry("s", "k"), engine.line.join_entry("s", "other")
    follow, puts = (message("q"),), (Put("s", "k", b"v"),)
    engine.announce_brought(settle(follow=follow, puts=puts))
    assert (here.woken, elsewhere.woken, entry.woken, another.woken) == (True, False, True, False)


def test_a_settlement_that_brings_nothing_along_notifies_nobody(engine: Engine) -> None:
    (here,), entry = waiting(engine, "q"), engine.line.join_entry("s", "k")
    for settlement in (Commit(), Bury("error", "broken"), Rollback(HOUR)):
        engine.announce_brought(settlement)
    assert (here.woken, entry.woken) == (False, False)
