"""What lost reserves may have taken is asked for until it is found, or surely held no more (S7)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

import pytest

from kessel_core import AdapterUnavailable
from kessel_core.contract import LostReserve, LostReserves, new_token
from kessel_core.testing import VirtualClock

LEASE = timedelta(seconds=60)


class Backend:
    """Remembers what it is asked for, and finds what a test says."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.found: set[int] = set()
        self.error: BaseException | None = None
        self.asked: list[list[int]] = []
        self.lost = LostReserves(self.clock, LEASE, self.give_back)

    def give_back(self, lost: Sequence[LostReserve]) -> set[int]:
        self.asked.append([one.token for one in lost])
        if self.error is not None:
            raise self.error
        return self.found

    def advance(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


@pytest.fixture
def backend() -> Backend:
    return Backend()


def test_nothing_is_asked_where_nothing_was_lost(backend: Backend) -> None:
    backend.lost.ask()
    backend.lost.ask_quietly(every=True)
    assert backend.asked == []
    assert backend.lost.next_ask is None


def test_what_is_found_is_asked_for_no_more(backend: Backend) -> None:
    backend.lost.add(7, ("q",))
    backend.found = {7}
    assert backend.lost.next_ask == timedelta(0)
    backend.lost.ask()
    backend.advance(1000)
    backend.lost.ask()
    assert backend.asked == [[7]]
    assert backend.lost.next_ask is None


def test_what_is_not_found_is_asked_for_again_after_pauses_that_grow(backend: Backend) -> None:
    backend.lost.add(7, ("q",))
    times = []
    while backend.lost.next_ask is not None:
        before = len(backend.asked)
        backend.lost.ask()
        if len(backend.asked) > before:
            times.append(backend.clock.monotonic())
        backend.advance(0.25)
    assert [later - times[0] for later in times] == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5]


def test_what_it_took_is_held_no_more_once_its_lease_is_over_and_it_was_asked_for_then(
    backend: Backend,
) -> None:
    """Even if nobody could ask before; a server that stood still does first what it was asked first."""
    backend.lost.add(7, ("q",))
    backend.advance(1000)
    backend.lost.ask()
    assert backend.asked == [[7]]
    assert backend.lost.next_ask is None


def test_a_reserve_is_known_to_be_lost_until_the_end_of_a_lease_counted_from_then(backend: Backend) -> None:
    backend.lost.add(7, ("q",))
    backend.advance(59.5)
    backend.lost.ask()
    assert backend.lost.next_ask == timedelta(seconds=0.5)
    backend.advance(0.5)  # a lease is over at its end, not after it
    backend.lost.ask()
    assert backend.lost.next_ask is None


def test_server_that_cannot_be_asked_is_asked_at_the_next_call(backend: Backend) -> None:
    backend.lost.add(7, ("q",))
    backend.error = AdapterUnavailable("away")
    for _ in range(3):
        with pytest.raises(AdapterUnavailable):
            backend.lost.ask()
        backend.lost.ask_quietly()
    assert backend.lost.next_ask == timedelta(0)
    assert backend.asked == [[7]] * 6
    backend.advance(1000)
    backend.lost.ask_quietly()
    backend.error, backend.found = None, {7}
    backend.lost.ask()
    assert backend.lost.next_ask is None


def test_pauses_do_not_grow_while_the_server_cannot_be_asked(backend: Backend) -> None:
    backend.lost.add(7, ("q",))
    backend.error = AdapterUnavailable("away")
    for _ in range(5):
        backend.lost.ask_quietly()
    backend.error = None
    backend.lost.ask()
    assert backend.lost.next_ask == timedelta(seconds=0.5)


def test_only_errors_of_the_contract_are_passed_over_in_silence(backend: Backend) -> None:
    backend.lost.add(7, ("q",))
    backend.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        backend.lost.ask_quietly()
    assert backend.lost.next_ask == timedelta(0)


def test_last_chance_is_taken_for_all(backend: Backend) -> None:
    backend.lost.add(7, ("q",))
    backend.lost.ask()
    backend.lost.add(8, ("r",))
    backend.lost.ask_quietly()
    backend.lost.ask_quietly(every=True)
    assert backend.asked == [[7], [8], [7, 8]]


def test_each_has_its_time_and_the_first_counts(backend: Backend) -> None:
    backend.lost.add(7, ("q",))
    backend.lost.ask()
    backend.advance(0.2)
    backend.lost.add(8, ("q",))
    assert backend.lost.next_ask == timedelta(0)
    backend.lost.ask()
    assert backend.lost.next_ask == timedelta(seconds=0.3)
    backend.advance(0.3)
    backend.lost.ask()
    backend.found = {8}
    backend.advance(0.2)
    backend.lost.ask()
    assert backend.asked == [[7], [8], [7], [8]]
    assert backend.lost.next_ask == timedelta(seconds=0.8)
    backend.advance(10)
    assert backend.lost.next_ask == timedelta(0)


def test_while_one_thread_asks_others_need_not(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    backend.lost.add(7, ("q",))
    give_back = backend.give_back

    def meanwhile(lost: Sequence[LostReserve]) -> set[int]:
        backend.lost.ask()
        return give_back(lost)

    monkeypatch.setattr(backend.lost, "_give_back", meanwhile)
    backend.lost.ask()
    assert backend.asked == [[7]]


def test_what_another_thread_has_found_meanwhile_is_no_error(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.lost.add(7, ("q",))
    backend.found = {7}
    give_back = backend.give_back

    def meanwhile(lost: Sequence[LostReserve]) -> set[int]:
        monkeypatch.setattr(backend.lost, "_give_back", give_back)
        backend.lost.ask_quietly(every=True)
        return {7}

    monkeypatch.setattr(backend.lost, "_give_back", meanwhile)
    backend.lost.ask()
    assert backend.lost.next_ask is None


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_tokens_are_of_62_bits_and_none_comes_twice_not_even_after_a_fork() -> None:
    mine = {new_token() for _ in range(1000)}
    assert len(mine) == 1000
    assert 2**61 < max(mine) < 2**62
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:  # pragma: no cover - another process
        os.write(writing, str(new_token()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reading, 100)) != new_token()
    os.close(reading)
    os.close(writing)
