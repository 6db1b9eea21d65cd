"""Waiting for an entry whose writer wakes who is in line: no wake-up is lost, none is used twice (S19)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from kessel_core.contract import Entry, Reach, Store, StoreCapabilities, Waiter, WaitingLine
from kessel_core.testing import VirtualClock

END = 60.0


class Shelf(Store):
    """One entry; something may happen with each look at it, after it was read."""

    name = "shelf"

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.entry: Entry | None = None
        self.looks = 0
        self.after_look: dict[int, Callable[[], object]] = {}

    @property
    def capabilities(self) -> StoreCapabilities:
        return StoreCapabilities(reach=Reach.PROCESS)

    def get_entry(self, space: str, key: str) -> Entry | None:
        self.looks += 1
        found = self.entry
        if found is not None and found.expires_at is not None and self._clock.now() >= found.expires_at:
            found = None
        self.after_look.get(self.looks, lambda: None)()
        return found

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        raise NotImplementedError

    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        raise NotImplementedError

    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        raise NotImplementedError


def entry(version: int, expires_at: datetime | None = None) -> Entry:
    return Entry("k", version, b"v", expires_at)


@pytest.fixture
def clock() -> VirtualClock:
    """Each wait takes its whole time at once."""
    return VirtualClock()


@pytest.fixture
def shelf(clock: VirtualClock) -> Shelf:
    return Shelf(clock)


@pytest.fixture
def line() -> WaitingLine:
    return WaitingLine()


@pytest.fixture
def waiter(line: WaitingLine) -> Waiter:
    return line.join(frozenset({"s:k"}))


def test_s19_a_write_between_the_look_and_the_wait_is_seen_at_once(
    shelf: Shelf, clock: VirtualClock, line: WaitingLine, waiter: Waiter
) -> None:
    def written() -> None:
        shelf.entry = entry(1)
        line.announce("s:k")

    shelf.after_look[1] = written
    begun = clock.monotonic()
    assert shelf.wait_woken("s", "k", 0, begun + END, waiter) == entry(1)
    assert (clock.monotonic(), shelf.looks) == (begun, 2)


def test_s19_a_wake_up_that_changes_nothing_is_used_up_by_one_look(
    shelf: Shelf, clock: VirtualClock, line: WaitingLine, waiter: Waiter
) -> None:
    """Else it would look again and again until the time is over."""
    shelf.after_look[1] = lambda: line.announce("s:k")
    begun = clock.monotonic()
    assert shelf.wait_woken("s", "k", 0, begun + END, waiter) is None
    assert (clock.monotonic(), shelf.looks) == (begun + END, 3)


def test_s19_a_change_that_is_there_already_is_not_waited_for(
    shelf: Shelf, clock: VirtualClock, waiter: Waiter
) -> None:
    shelf.entry = entry(2)
    begun = clock.monotonic()
    assert shelf.wait_woken("s", "k", 1, begun + END, waiter) == entry(2)
    assert clock.monotonic() == begun


def test_s19_after_the_time_is_over_it_returns_what_is_there(
    shelf: Shelf, clock: VirtualClock, waiter: Waiter
) -> None:
    shelf.entry = entry(2)
    begun = clock.monotonic()
    assert shelf.wait_woken("s", "k", 2, begun + END, waiter) == entry(2)
    assert clock.monotonic() == begun + END


def test_s19_the_end_of_an_entry_is_a_change(shelf: Shelf, clock: VirtualClock, waiter: Waiter) -> None:
    shelf.entry = entry(2, clock.now() + timedelta(seconds=5))
    begun = clock.monotonic()
    assert shelf.wait_woken("s", "k", 2, begun + END, waiter) is None
    assert clock.monotonic() == begun + 5


def test_an_end_by_another_clock_is_not_looked_for_without_a_pause(
    shelf: Shelf, clock: VirtualClock, waiter: Waiter
) -> None:
    """Here it is over, there not yet: each look would be followed by the next at once."""
    late = entry(2, clock.now() - timedelta(seconds=1))
    shelf.get_entry = lambda space, key: late if clock.monotonic() < begun + 0.05 else None  # type: ignore[method-assign]
    begun = clock.monotonic()
    assert shelf.wait_woken("s", "k", 2, begun + END, waiter, least=0.01) is None
    assert clock.monotonic() == pytest.approx(begun + 0.05)
