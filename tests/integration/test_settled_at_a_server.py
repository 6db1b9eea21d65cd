"""What PostgreSQL and Redis must do alike around a settlement that goes together with a reserve (E8, S7)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kessel_core.contract import (
    COMMIT,
    AdapterUnavailable,
    Bury,
    Commit,
    LeaseLost,
    Message,
    Put,
    Reservation,
    Rollback,
    Snooze,
)
from kessel_core.testing import VirtualClock
from tests.foreign import reservation_of_another_adapter_holds_nothing
from tests.kicked import kicked_says_nothing_of_its_burial

HOUR = timedelta(hours=1)
Heard = list[str]


def message(job_id: str, queue: str = "q") -> Message:
    return Message(job_id, queue, b"x", 1)


@pytest.fixture
def adapter(opened: Callable[..., Any]) -> Any:
    """One with jobs of its own, under virtual time, with a lease of 60 s."""
    return opened(VirtualClock())


@pytest.fixture
def heard(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> Heard:
    """What those who wait in this process are told; what it publishes itself its listener leaves out."""
    told: Heard = []
    monkeypatch.setattr(type(adapter.line), "is_empty", False)
    monkeypatch.setattr(adapter.line, "announce", lambda queue, *more: told.append(queue))
    monkeypatch.setattr(adapter.line, "announce_entry", lambda space, key: told.append(f"{space}/{key}"))
    return told


def raises(error: BaseException) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        raise error

    return call


def test_reservation_of_another_adapter_holds_nothing(adapter: Any) -> None:
    """S7"""
    reservation_of_another_adapter_holds_nothing(adapter)


@pytest.mark.parametrize("settlement", [Rollback(), Snooze(), Rollback(HOUR)])
def test_slots_of_this_process_are_told_of_what_a_busy_slot_returns(
    adapter: Any, heard: Heard, settlement: Any
) -> None:
    """E8: the job is of a queue that this slot does not take from next; another one waits for it."""
    adapter.enqueue(message("a", "r"))
    held = adapter.take(("r",))
    heard.clear()
    assert adapter.settle_and_take(held, settlement, ("q",)) is None
    assert heard == ["r"]


@pytest.mark.parametrize("kind", [Commit, lambda **brought: Bury("r", "m", **brought)])
@pytest.mark.parametrize("is_busy", [True, False])
def test_slots_of_this_process_are_told_of_what_a_settlement_brings(
    adapter: Any, heard: Heard, kind: Any, is_busy: bool
) -> None:
    """S20, E8"""
    adapter.enqueue(message("a"))
    held = adapter.take(("q",))
    heard.clear()
    brought = kind(follow=(message("b", "r"),), puts=(Put("s", "k", b"v"),))
    if is_busy:
        adapter.settle_and_take(held, brought, ("q",))
    else:
        adapter.settle(held, brought)
    assert heard == ["r", "s/k"]


def test_slots_of_this_process_are_told_of_a_batch(adapter: Any, heard: Heard) -> None:
    """E8"""
    later = Message("c", "later", b"x", 1, adapter.clock.now() + HOUR)
    assert adapter.enqueue_many([message("a"), message("b", "r"), later]) == [None] * 3
    assert sorted(heard) == ["later", "q", "r"]


def test_lease_is_reckoned_from_before_the_reserve_is_sent(
    adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S7: the holder must see its end before the others do, however long the call takes."""
    adapter.enqueue_many([message("a"), message("b")])
    adapter.stats("q")  # so that there is a connection
    link = adapter.database.pool.borrow()
    run = type(link).run

    def slow(*arguments: Any, **named: Any) -> Any:
        answer = run(*arguments, **named)
        adapter.clock.advance(timedelta(seconds=7))
        return answer

    adapter.database.pool.give(link)
    monkeypatch.setattr(type(link), "run", slow)
    begun = adapter.clock.monotonic()
    held = adapter.take(("q",))
    assert held.deadline == begun + held.lease.total_seconds()
    begun = adapter.clock.monotonic()
    following = adapter.settle_and_take(held, COMMIT, ("q",))
    assert following.deadline == begun + following.lease.total_seconds()


def test_settlement_stands_although_the_next_job_cannot_be_taken(
    adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S8: more is due than one call makes ready, so it asks again, and then the server is away."""
    deliveries = adapter._deliveries
    adapter.enqueue(message("a"))
    held = adapter.take(("q",))
    monkeypatch.setattr(deliveries, "_taken", lambda *answer: (None, False))
    monkeypatch.setattr(deliveries, "take", raises(AdapterUnavailable("away")))
    assert adapter.settle_and_take(held, COMMIT, ("q",)) is None
    assert adapter.find("a") is None


@pytest.mark.parametrize("error", ["not sent", "refused"])
@pytest.mark.parametrize("is_busy", [True, False])
def test_settlement_that_was_surely_not_done_is_not_believed_done(
    adapter: Any, monkeypatch: pytest.MonkeyPatch, error: str, is_busy: bool
) -> None:
    """S7: tried again after the job was given back, it is refused; and nothing asks for a lost reserve."""
    link = importlib.import_module(f"kessel_{adapter.name}.link")
    code = "LOADING" if adapter.name == "redis" else "57P03"
    wrong = link.Lost("it broke before", was_sent=False) if error == "not sent" else link.Refused(code, "up")
    adapter.enqueue(message("a"))
    held = adapter.take(("q",))
    settle = (
        (lambda: adapter.settle_and_take(held, COMMIT, ("q",)))
        if is_busy
        else (lambda: adapter.settle(held, COMMIT))
    )
    with monkeypatch.context() as patch:
        patch.setattr(link.Link, "run", raises(wrong))
        with pytest.raises(AdapterUnavailable):
            settle()
    adapter.give_back(held)
    with pytest.raises(LeaseLost):
        settle()
    assert adapter.stats("q").ready == 1
    assert adapter._deliveries.lost.next_ask is None


def test_of_many_leases_each_is_renewed_whatever_else_is_asked_for(
    adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S7, E8: also where they go in several calls, and some are lost."""
    if adapter.name == "redis":
        monkeypatch.setattr("kessel_redis.consumer._RENEWED_AT_ONCE", 2)
    adapter.enqueue_many([message(name) for name in "abcdefg"])
    held: list[Reservation] = [adapter.take(("q",)) for _ in range(7)]
    adapter.settle(held[2], COMMIT)
    foreign = Reservation("x", "q", b"", 1)
    outcomes = adapter.renew_many([*held[:4], foreign, *held[4:]])
    assert [outcome is None for outcome in outcomes] == [True, True, False, True, False, True, True, True]


def test_s8_a_kicked_job_says_nothing_of_its_burial(adapter: Any) -> None:
    kicked_says_nothing_of_its_burial(adapter)
