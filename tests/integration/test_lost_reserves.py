"""What a reserve took whose answer was lost is given back as if it had never been taken (PostgreSQL, Redis).

The cases `lost.reserve_comes_back` and `lost.reserve_done_late` of the suite show it from outside.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from kessel_conformance import Cut, FaultProxy

from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterUnavailable,
    LeaseLost,
    Message,
    Rollback,
    Snooze,
)
from kessel_core.testing import VirtualClock

#: The answer to what is asked next, over whichever connection, is dropped.
ANSWER = Cut(up=False, after=0)
LONG = timedelta(seconds=30)
Opened = Callable[..., Any]
_numbers = itertools.count(1)


def message(job_id: str, queue: str = "q", priority: int = 1) -> Message:
    return Message(job_id, queue, b"x", priority)


@pytest.fixture
def proxy(server: Any) -> Iterator[FaultProxy]:
    with FaultProxy(server.port) as one:
        yield one


@pytest.fixture
def near(opened: Opened, proxy: FaultProxy) -> Any:
    """An adapter behind the proxy, under virtual time, with a lease of 60 s."""
    return opened(VirtualClock(), port=proxy.port)


@pytest.fixture
def late(near: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Let an adapter reserve a job under a token that `near` believes lost, and hear nothing of it."""
    token = next(_numbers)
    near._deliveries.lost.add(token, ("q",))
    near._deliveries.lost.ask()  # it is not done yet

    def done(other: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(module_of(near), "new_token", lambda: token)
            assert other.take(("q",)) is not None

    return done


def module_of(adapter: Any) -> ModuleType:
    return sys.modules[type(adapter._deliveries).__module__]


def loses(near: Any, proxy: FaultProxy) -> None:
    """Let a reserve of the queues q and r take a job, and lose the answer."""
    near.stats("q")  # so that there is a connection
    proxy.cut_at(ANSWER)
    with pytest.raises(AdapterUnavailable):
        near.take(("q", "r"))


def test_job_keeps_its_place_and_its_counts(near: Any, proxy: FaultProxy) -> None:
    """S10, S21: no handler saw it."""
    near.enqueue_many([message(name) for name in "abc"])
    near.settle(near.take(("q",)), Rollback())
    near.settle(near.take(("q",)), Snooze())
    loses(near, proxy)
    held = near.take(("q", "r"))
    assert (held.id, held.attempt, held.snoozes) == ("a", 2, 1)
    near.settle(held, COMMIT)
    assert near.stats("q").ready == 2
    assert near.find("b").attempt == 0


def test_job_keeps_its_priority(near: Any, proxy: FaultProxy) -> None:
    """S6"""
    near.enqueue(message("a", priority=5))
    loses(near, proxy)
    near.enqueue(message("b", priority=4))
    near._deliveries.lost.ask()
    assert [near.take(("q",)).id for _ in range(2)] == ["b", "a"]


def test_job_is_found_in_whichever_queue_it_was(near: Any, proxy: FaultProxy) -> None:
    near.enqueue_many([message("a", "r"), message("b", "r", 2)])
    loses(near, proxy)
    held = near.take(("r",))
    assert (held.id, held.attempt, held.queue) == ("a", 1, "r")


def test_no_other_delivery_is_touched(near: Any, opened: Opened, proxy: FaultProxy) -> None:
    """S7: neither those of this process nor those of others, whenever they began."""
    other = opened()
    near.enqueue_many([message(name) for name in "abcde"])
    held = [(near, near.take(("q",))), (other, other.take(("q",)))]
    loses(near, proxy)
    held.append((other, other.take(("q",))))
    held.append((near, near.take(("q",))))
    assert [one.id for _, one in held] == ["a", "b", "d", "c"]
    for adapter, one in held:
        adapter.settle(one, COMMIT)
    assert near.stats("q").ready == 1


def test_job_of_a_reserve_that_is_interrupted_once_its_answer_is_here_comes_back(
    near: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S7: as when the handler of a signal raises."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    near.enqueue_many([message(name) for name in "ab"])
    with monkeypatch.context() as patch:
        patch.setattr(near._deliveries, "_taken", interrupted)
        with pytest.raises(KeyboardInterrupt):
            near.take(("q",))
    held = near.take(("q",))
    assert (held.id, held.attempt) == ("a", 1)
    with monkeypatch.context() as patch:
        patch.setattr(near._deliveries, "_taken", interrupted)
        with pytest.raises(KeyboardInterrupt):
            near.settle_and_take(held, COMMIT, ("q",))
    following = near.take(("q",))
    assert (following.id, following.attempt) == ("b", 1)


def test_next_job_of_a_settlement_without_an_answer_comes_back(near: Any, proxy: FaultProxy) -> None:
    """S8: the settlement is done, and so was the reserve of the next job."""
    near.enqueue_many([message(name) for name in "ab"])
    consumer = near.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    proxy.cut_at(ANSWER)
    with pytest.raises(AdapterUnavailable):
        consumer.settle_and_reserve(held, COMMIT)
    assert near.stats("q").reserved == 1
    assert consumer.settle_and_reserve(held, COMMIT) is None  # the first try has done it
    following = consumer.reserve(NO_PAUSE)
    assert (following.id, following.attempt) == ("b", 1)
    consumer.settle(following, COMMIT)
    assert near.queues() == []


@pytest.mark.parametrize("settlement", [Snooze(), COMMIT])
def test_next_job_comes_back_for_every_kind_of_settlement(
    near: Any, proxy: FaultProxy, settlement: Any
) -> None:
    """Over several queues, which PostgreSQL does by another statement than over one."""
    near.enqueue_many([message("a"), message("b", "r", 2)])
    held = near.take(("q", "r"))
    proxy.cut_at(ANSWER)
    with pytest.raises(AdapterUnavailable):
        near.settle_and_take(held, settlement, ("r",))
    assert near.stats("r").reserved == 1
    assert near.take(("r",)).attempt == 1


def test_reserve_without_a_connection_is_not_asked_for(near: Any, proxy: FaultProxy) -> None:
    proxy.refuses = True
    proxy.cut()
    with pytest.raises(AdapterUnavailable):
        near.take(("q",))
    assert near._deliveries.lost.next_ask is None


def test_reserve_that_was_surely_not_sent_is_not_asked_for(
    near: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = importlib.import_module(f"kessel_{near.name}.link").Lost
    link = near.database.pool.borrow()

    def fails(*arguments: Any) -> Any:
        raise lost("it broke before", was_sent=False)

    monkeypatch.setattr(link, "run", fails)
    near.database.pool.give(link)
    with pytest.raises(AdapterUnavailable):
        near.take(("q",))
    assert near._deliveries.lost.next_ask is None


def test_reserve_that_a_signal_ended_is_asked_for(near: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    near.enqueue(message("a"))
    pool = near.database.pool
    link = pool.borrow()
    run = link.run

    def interrupted(*arguments: Any) -> Any:
        run(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(link, "run", interrupted)
    pool.give(link)
    with pytest.raises(KeyboardInterrupt):
        near.take(("q",))
    assert near.take(("q",)).attempt == 1


def test_busy_slot_gives_back_what_was_taken_late(
    near: Any, opened: Opened, late: Callable[[Any], None]
) -> None:
    """It asks for the next job with each settlement, and never for a job alone."""
    near.enqueue_many([message(name) for name in "abc"])
    held = near.take(("q",))
    late(opened())
    assert near.stats("q").reserved == 2
    near.clock.advance(timedelta(seconds=0.5))
    held = near.settle_and_take(held, COMMIT, ("q",))
    assert held.id == "c"
    held = near.settle_and_take(held, COMMIT, ("q",))
    assert (held.id, held.attempt) == ("b", 1)


def test_settlement_does_not_fail_because_what_was_lost_cannot_be_asked_for(
    near: Any, opened: Opened, late: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    near.enqueue_many([message(name) for name in "ab"])
    held = near.take(("q",))

    def fails(lost: object) -> set[int]:
        raise AdapterUnavailable("away")

    monkeypatch.setattr(near._deliveries.lost, "_give_back", fails)
    near.clock.advance(timedelta(seconds=0.5))
    assert near.settle_and_take(held, COMMIT, ("q",)).id == "b"


def test_waiting_slot_gives_back_what_was_taken_late(
    near: Any, opened: Opened, late: Callable[[Any], None]
) -> None:
    """It plans to look again, although it knows of no job that time alone makes ready so soon."""
    other = opened()
    other.enqueue(message("a"))
    late(other)
    begun = near.clock.monotonic()
    held = near.consumer(["q"]).reserve(LONG)
    assert (held.id, held.attempt) == ("a", 1)
    assert near.clock.monotonic() - begun <= 1.0


def test_slots_of_other_processes_hear_of_it(near: Any, opened: Opened, proxy: FaultProxy) -> None:
    near.enqueue(message("a"))
    loses(near, proxy)
    other = opened()
    got: list[Any] = []
    consumer = other.consumer(["q"])
    thread = threading.Thread(target=lambda: got.append(consumer.reserve(LONG)))
    thread.start()
    end = time.monotonic() + 20
    while other.line._thread is None or other.line.planned is None:  # it knows when the lease ends
        assert time.monotonic() < end
        time.sleep(0.005)
    time.sleep(0.1)  # what the listener woke when it began
    begun = time.monotonic()
    near._deliveries.lost.ask()
    thread.join(20)
    assert got[0].id == "a"
    assert time.monotonic() - begun < 4.0  # sooner than the look in case of a loss


def test_slots_of_this_process_hear_of_it(
    near: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    near.enqueue(message("a", "r"))
    loses(near, proxy)
    heard: list[str] = []
    monkeypatch.setattr(near.line, "announce", lambda queue, *more: heard.append(queue))
    near._deliveries.lost.ask()
    near._deliveries.lost.ask_quietly(every=True)
    assert heard == ["r"]


def test_closing_the_adapter_gives_it_back(near: Any, opened: Opened, proxy: FaultProxy) -> None:
    near.enqueue(message("a"))
    loses(near, proxy)
    near.close()
    assert opened().take(("q",)).attempt == 1


def test_closing_the_adapter_gives_back_what_was_taken_late_before_its_time(
    near: Any, opened: Opened, late: Callable[[Any], None]
) -> None:
    other = opened()
    other.enqueue(message("a"))
    late(other)
    near.close()
    assert other.take(("q",)).attempt == 1


def test_adapter_closes_its_connections_whatever_happens_when_it_gives_back_what_it_has_lost(
    near: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    near.stats("q")  # so that there is a connection
    [link] = near.database.pool.links

    def breaks(*, every: bool) -> None:
        raise IndexError("an answer that nobody expects")

    monkeypatch.setattr(near._deliveries.lost, "ask_quietly", breaks)
    with pytest.raises(IndexError):
        near.close()
    connection = link._connection
    assert connection.closed if near.name == "postgres" else not connection.is_connected


def test_adapter_closes_although_the_server_is_away(near: Any, proxy: FaultProxy) -> None:
    near.enqueue(message("a"))
    loses(near, proxy)
    proxy.refuses = True
    near.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_asks_for_what_its_parent_has_lost(near: Any, proxy: FaultProxy) -> None:
    """Either may; the other finds nothing."""
    near.enqueue(message("a"))
    loses(near, proxy)
    if (child := os.fork()) == 0:  # pragma: no cover - another process
        try:
            near._deliveries.lost.ask()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert near.stats("q").ready == 1
    held = near.take(("q",))
    near._deliveries.lost.ask_quietly(every=True)
    near.settle(held, COMMIT)


def test_job_that_came_back_by_its_lease_is_left_to_its_next_holder(
    opened: Opened, proxy: FaultProxy
) -> None:
    """S7: it is another delivery, under another token; the one that was lost has counted."""
    near = opened(VirtualClock(), port=proxy.port, lease=timedelta(seconds=0.2))
    near.enqueue(message("a"))
    loses(near, proxy)
    other = opened()
    end = time.monotonic() + 20
    while (held := other.take(("q",))) is None:
        assert time.monotonic() < end
    assert held.attempt == 2
    assert near.take(("q",)) is None
    other.settle(held, COMMIT)
    with pytest.raises(LeaseLost):
        other.settle(held, COMMIT)
