"""What the base of adapters does for their authors: those who wait, and one slot (S4, S6, S7, S8, S21)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import AdapterError, AdapterUnavailable, LeaseLost
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterContext,
    BaseAdapter,
    Bury,
    Capabilities,
    Commit,
    Consumer,
    Message,
    QueueStats,
    Reach,
    Reservation,
    Rollback,
    Snooze,
    WaitingLine,
    rounded_up,
)
from kessel_core.testing import VirtualClock

HOUR = timedelta(hours=1)
LEASE = timedelta(seconds=60)


class Pile(BaseAdapter):
    """A queue in a list, whose author wrote only the calls; it notes them, and fails as a test wants."""

    name = "pile"

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(AdapterContext(clock=clock))
        self.ready: list[Message] = []
        self.calls: list[tuple[Any, ...]] = []
        self.fails: dict[str, AdapterError] = {}
        self.at: dict[str, Callable[[], object]] = {}
        self.sleeps_until: datetime | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(reach=Reach.PROCESS, lease=LEASE, delay_granularity=timedelta(seconds=2))

    def _called(self, name: str, *what: object) -> None:
        self.calls.append((name, *what))
        if (act := self.at.pop(name, None)) is not None:
            act()
        if (error := self.fails.pop(name, None)) is not None:
            raise error

    def put(self, message: Message) -> None:
        self._called("put", message.id)
        self.ready.append(message)

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        found = next((one for one in self.ready if one.queue in queues), None)
        if found is not None:
            self.ready.remove(found)
        self._called("take")
        if found is None:
            return None
        deadline = self.clock.monotonic() + LEASE.total_seconds()
        return Reservation(found.id, found.queue, found.body, 1, deadline, LEASE)

    def looks_again(self, queues: tuple[str, ...]) -> datetime | None:
        self._called("look")
        return self.sleeps_until

    def commit(self, reservation: Reservation) -> None:
        self._called("commit", reservation.id)

    def release(self, reservation: Reservation, pause: timedelta, *, counts: bool) -> None:
        self._called("release", reservation.id, pause, counts)
        if pause <= NO_PAUSE:
            self.ready.append(message(reservation.id or "", reservation.queue))

    def bury(self, reservation: Reservation, reason: str, message: str) -> None:
        self._called("bury", reservation.id, reason, message)

    def renew(self, reservation: Reservation) -> None:
        self._called("renew", reservation.id)

    def shut(self) -> None:
        self._called("shut")

    def queues(self) -> list[str]:
        return []

    def stats(self, queue: str) -> QueueStats:
        return QueueStats(queue=queue)

    def purge(self, queue: str) -> int:
        return 0


def message(name: str, queue: str = "q") -> Message:
    return Message(name, queue, b"x", 5)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def pile(clock: VirtualClock) -> Pile:
    return Pile(clock)


@pytest.fixture
def consumer(pile: Pile) -> Consumer:
    return pile.consumer(["q"])


def holding(pile: Pile, consumer: Consumer, name: str = "a") -> Reservation:
    pile.enqueue(message(name))
    taken = consumer.reserve(NO_PAUSE)
    assert taken is not None
    pile.calls.clear()
    return taken


# --- the line -----------------------------------------------------------------------------------------


def test_one_job_wakes_the_one_that_has_waited_longest_for_its_queue() -> None:
    line = WaitingLine()
    other, first, second = (line.join(frozenset({queue})) for queue in ("r", "q", "q"))
    line.announce("q")
    assert [one.woken for one in (other, first, second)] == [False, True, False]
    line.announce("q")
    assert [one.woken for one in (other, first, second)] == [False, True, True]


def test_as_many_are_woken_as_there_are_jobs() -> None:
    line = WaitingLine()
    waiters = [line.join(frozenset({"q"})) for _ in range(4)]
    line.announce("q", 3)
    assert [one.woken for one in waiters] == [True, True, True, False]


def test_who_leaves_the_line_passes_the_news_on_to_one_that_can_use_it() -> None:
    """Rule 2: else the job would wait until somebody looks by himself."""
    line = WaitingLine()
    leaving = line.join(frozenset({"q", "r"}))
    other, next_one, last, behind = (line.join(frozenset({queue})) for queue in ("s", "r", "q", "q"))
    line.announce("q")
    assert leaving.woken
    line.leave(leaving)
    assert [one.woken for one in (other, next_one, last)] == [False, True, True], "one of each of its queues"
    line.leave(next_one)
    assert not other.woken, "it waits for another queue"
    assert not behind.woken, "nobody of its queue has left since"
    line.leave(leaving)  # again, which changes nothing
    assert not behind.woken


def test_who_leaves_passes_the_news_on_to_one_that_has_none_yet() -> None:
    """Contract, rules of the line, 2: two jobs are two pieces of news, which one who was woken cannot use."""
    line = WaitingLine()
    leaving, woken, asleep = (line.join(frozenset({"q"})) for _ in range(3))
    line.announce("q", 2)
    assert [one.woken for one in (leaving, woken, asleep)] == [True, True, False]
    line.leave(leaving)
    assert asleep.woken


def test_a_job_for_later_wakes_only_who_would_look_too_late() -> None:
    line = WaitingLine()
    clock = VirtualClock()
    soon, late, never = (line.join(frozenset({"q"})) for _ in range(3))
    due = clock.now() + HOUR
    soon.planned, late.planned = due, due + timedelta(microseconds=1)
    line.announce("q", 0, due)
    assert [one.woken for one in (soon, late, never)] == [False, True, False]
    line.announce("q", 0, due)
    assert [one.woken for one in (soon, late, never)] == [False, True, True]
    line.announce("q", 0, None)
    assert not soon.woken


def test_all_are_woken_or_those_that_are_named_if_they_still_wait() -> None:
    line = WaitingLine()
    gone = line.join(frozenset({"q"}))
    line.leave(gone)
    first, second = (line.join(frozenset({"q"})) for _ in range(2))
    line.wake([second, gone])
    assert [one.woken for one in (first, second, gone)] == [False, True, False]
    assert line.wanted_queues() == ["q"]
    line.wake()
    assert first.woken
    assert line.wanted_queues() == []


def test_queues_of_those_who_wait_are_named_sorted_and_once() -> None:
    line = WaitingLine()
    assert line.is_empty
    waiters = [line.join(frozenset(queues)) for queues in ({"r", "q"}, {"q", "a"}, {"z"})]
    line.wake([waiters[2]])
    assert line.wanted_queues() == ["a", "q", "r"]
    assert not line.is_empty


# --- waiting ------------------------------------------------------------------------------------------


def test_a_job_that_is_there_is_taken_without_waiting(
    pile: Pile, consumer: Consumer, clock: VirtualClock
) -> None:
    pile.enqueue(message("a"))
    before = clock.now()
    taken = consumer.reserve(HOUR)
    assert taken is not None
    assert (clock.now(), pile.calls) == (before, [("put", "a"), ("take",)])


def test_without_a_job_it_waits_to_the_end_and_no_longer(
    pile: Pile, consumer: Consumer, clock: VirtualClock
) -> None:
    before = clock.now()
    assert consumer.reserve(HOUR) is None
    assert clock.now() == before + HOUR
    assert pile.line.is_empty
    assert consumer.reserve(NO_PAUSE) is None
    assert clock.now() == before + HOUR


@pytest.mark.parametrize("moment", ["take", "look"])
def test_a_job_that_comes_while_it_looks_is_not_slept_through(
    pile: Pile, consumer: Consumer, clock: VirtualClock, moment: str
) -> None:
    """It comes after the look into the queue, and before the wait for news (rule 1)."""
    before = clock.now()
    pile.at["take"] = lambda: pile.at.update({moment: lambda: pile.enqueue(message("a"))})
    taken = consumer.reserve(HOUR)
    assert taken is not None
    assert clock.now() == before


def test_it_looks_again_when_the_adapter_says_so(pile: Pile, consumer: Consumer, clock: VirtualClock) -> None:
    before = clock.now()
    pile.sleeps_until = before + timedelta(seconds=7)
    pile.at["look"] = lambda: pile.ready.append(message("a"))  # by another process, which tells nobody
    assert consumer.reserve(HOUR) is not None
    assert clock.now() == before + timedelta(seconds=7)


@pytest.mark.parametrize("seconds", [None, 0.05, 3600])
def test_s18_unless_the_adapter_says_so_it_looks_soon_and_never_later_than_time_makes_a_job_ready(
    pile: Pile, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    """Jobs of other processes come without being told, however far away the next change here is."""
    change = None if seconds is None else clock.now() + timedelta(seconds=seconds)
    monkeypatch.setattr(pile, "facet", lambda kind: Mock(next_change=Mock(return_value=change)))
    expected = timedelta(seconds=min(seconds or 0.1, 0.1))
    assert BaseAdapter.looks_again(pile, ("q",)) == clock.now() + expected


def test_what_it_plans_is_known_to_the_line(pile: Pile, consumer: Consumer, clock: VirtualClock) -> None:
    """So that a job which is due sooner wakes it, and one that is due later does not."""
    seen: list[datetime | None] = []

    def wait(condition: threading.Condition, timeout: float | None) -> bool:
        seen.extend(waiter.planned for waiter in pile.line._waiters)
        clock.advance(HOUR)
        return False

    pile.sleeps_until = clock.now() + timedelta(minutes=5)
    clock.wait = wait  # type: ignore[method-assign]
    assert consumer.reserve(timedelta(minutes=30)) is None
    assert seen == [pile.sleeps_until]


def test_cancelled_or_closed_it_takes_nothing_even_if_a_job_is_there(pile: Pile) -> None:
    cancelled, closed = pile.consumer(["q"]), pile.consumer(["q"])
    cancelled.cancel()
    closed.close()
    pile.enqueue(message("a"))
    for consumer in (cancelled, closed):
        assert consumer.reserve(HOUR) is None
    assert len(pile.ready) == 1


def test_cancelled_while_it_looks_it_does_not_wait(
    pile: Pile, consumer: Consumer, clock: VirtualClock
) -> None:
    before = clock.now()
    pile.at["look"] = consumer.cancel
    assert consumer.reserve(HOUR) is None
    assert clock.now() == before


def test_closing_the_adapter_ends_all_waiting_and_later_calls_are_refused(
    pile: Pile, consumer: Consumer, clock: VirtualClock
) -> None:
    before = clock.now()
    pile.at["look"] = pile.close
    assert consumer.reserve(HOUR) is None
    assert clock.now() == before
    pile.close()
    assert pile.calls.count(("shut",)) == 1
    with pytest.raises(AdapterUnavailable, match="the adapter 'pile' is closed"):
        pile.enqueue(message("a"))
    with pytest.raises(AdapterUnavailable, match="closed"):
        pile.consumer(["q"])


@pytest.mark.parametrize("settlement", [Rollback(), Snooze()], ids=["rollback", "snooze"])
def test_a_job_that_comes_back_wakes_one_who_waits(pile: Pile, settlement: Rollback | Snooze) -> None:
    holder = pile.consumer(["q"])
    taken = holding(pile, holder)
    waiter = pile.line.join(frozenset({"q"}))
    holder.settle(taken, settlement)
    assert waiter.woken


def test_a_job_that_comes_back_later_wakes_who_would_look_too_late(pile: Pile, clock: VirtualClock) -> None:
    holder = pile.consumer(["q"])
    taken = holding(pile, holder)
    patient, restless = (pile.line.join(frozenset({"q"})) for _ in range(2))
    patient.planned = clock.now() + HOUR
    restless.planned = clock.now() + timedelta(minutes=10)
    holder.settle(taken, Rollback(timedelta(minutes=30)))
    assert (patient.woken, restless.woken) == (True, False)


@pytest.mark.parametrize("settlement", [COMMIT, Bury("error", "no")], ids=["commit", "bury"])
def test_a_job_that_has_ended_wakes_nobody(pile: Pile, settlement: Commit | Bury) -> None:
    holder = pile.consumer(["q"])
    taken = holding(pile, holder)
    waiter = pile.line.join(frozenset({"q"}))
    holder.settle(taken, settlement)
    assert not waiter.woken


def test_a_delayed_job_wakes_who_would_look_too_late_and_one_that_is_due_anybody(
    pile: Pile, clock: VirtualClock
) -> None:
    waiter = pile.line.join(frozenset({"q"}))
    pile.enqueue(Message("later", "q", b"x", 5, clock.now() + HOUR))
    assert waiter.woken, "it has no plan but to be told"
    waiter.woken, waiter.planned = False, clock.now() + timedelta(minutes=1)
    pile.enqueue(Message("later still", "q", b"x", 5, clock.now() + HOUR))
    assert not waiter.woken
    pile.enqueue(Message("due", "q", b"x", 5, clock.now()))
    assert waiter.woken


# --- one slot -----------------------------------------------------------------------------------------


def test_settlements_reach_the_author_as_calls(pile: Pile, consumer: Consumer) -> None:
    for settlement, call in (
        (Commit(), ("commit", "a")),
        (Rollback(), ("release", "a", NO_PAUSE, True)),
        (Rollback(timedelta(seconds=3)), ("release", "a", timedelta(seconds=4), True)),
        (Snooze(timedelta(seconds=2)), ("release", "a", timedelta(seconds=2), False)),
        (Bury("error", "text"), ("bury", "a", "error", "text")),
    ):
        pile.ready.clear()
        consumer.settle(holding(pile, consumer), settlement)
        assert pile.calls == [call]


def test_settle_and_reserve_does_one_after_the_other(pile: Pile, consumer: Consumer) -> None:
    taken = holding(pile, consumer)
    pile.enqueue(message("b"))
    following = consumer.settle_and_reserve(taken, COMMIT)
    assert following is not None
    assert following.id == "b"
    assert [call[0] for call in pile.calls] == ["put", "commit", "take"]
    assert consumer.settle_and_reserve(following, COMMIT) is None


@pytest.mark.parametrize("error", [AdapterUnavailable("gone"), AdapterError("refused")])
def test_s7_a_take_that_fails_after_the_settle_is_no_failure_of_it(
    pile: Pile, consumer: Consumer, error: AdapterError
) -> None:
    """Else the worker would take a job that has ended for one that it has lost."""
    taken = holding(pile, consumer)
    pile.fails["take"] = error
    assert consumer.settle_and_reserve(taken, COMMIT) is None
    with pytest.raises(LeaseLost):
        consumer.settle(taken, COMMIT)


@pytest.mark.parametrize("stop", ["cancel", "close"])
def test_a_stopped_consumer_settles_and_takes_nothing_more(pile: Pile, consumer: Consumer, stop: str) -> None:
    taken = holding(pile, consumer)
    pile.enqueue(message("b"))
    if stop == "cancel":
        consumer.cancel()
        assert consumer.settle_and_reserve(taken, COMMIT) is None
        assert [call[0] for call in pile.calls] == ["put", "commit"]
    else:
        consumer.close()
        with pytest.raises(LeaseLost):
            consumer.settle_and_reserve(taken, COMMIT)
    assert [one.id for one in pile.ready if one.id == "b"] == ["b"]


def settled(consumer: Consumer, reservation: Reservation) -> None:
    consumer.settle(reservation, COMMIT)


def settled_and_taken(consumer: Consumer, reservation: Reservation) -> None:
    consumer.settle_and_reserve(reservation, COMMIT)


@pytest.mark.parametrize("settle", [settled, settled_and_taken])
@pytest.mark.parametrize("error", [AdapterUnavailable("gone"), LeaseLost("a", "no"), AdapterError("refused")])
def test_s7_after_a_failed_settle_it_is_held_only_if_another_try_may_help(
    pile: Pile, consumer: Consumer, settle: Callable[..., None], error: AdapterError
) -> None:
    taken = holding(pile, consumer)
    pile.fails["commit"] = error
    with pytest.raises(type(error)):
        settle(consumer, taken)
    if isinstance(error, AdapterUnavailable):
        settle(consumer, taken)
        assert [call[0] for call in pile.calls][:2] == ["commit", "commit"]
        return
    with pytest.raises(LeaseLost, match="does not hold it"):
        settle(consumer, taken)


@pytest.mark.parametrize("settle", [settled, settled_and_taken])
def test_s7_a_lease_that_is_over_is_not_settled(
    pile: Pile, consumer: Consumer, clock: VirtualClock, settle: Callable[..., None]
) -> None:
    taken = holding(pile, consumer)
    clock.advance(LEASE)
    with pytest.raises(LeaseLost, match="its lease is over"):
        settle(consumer, taken)
    assert pile.calls == []
    with pytest.raises(LeaseLost, match="does not hold it"):
        settle(consumer, taken)


def test_s7_until_the_last_moment_of_its_lease_it_is(
    pile: Pile, consumer: Consumer, clock: VirtualClock
) -> None:
    taken = holding(pile, consumer)
    clock.advance(LEASE - timedelta(milliseconds=1))
    consumer.settle(taken, COMMIT)
    assert pile.calls == [("commit", "a")]


def test_s7_what_another_delivery_held_is_not_settled(pile: Pile, consumer: Consumer) -> None:
    before = holding(pile, consumer)
    consumer.settle(before, COMMIT)
    now = holding(pile, consumer, "b")
    for settle in (settled, settled_and_taken):
        with pytest.raises(LeaseLost):
            settle(consumer, before)
    assert pile.calls == []
    consumer.settle(now, COMMIT)


def test_s7_extending_moves_the_deadline_to_one_lease_from_now(
    pile: Pile, consumer: Consumer, clock: VirtualClock
) -> None:
    """From before the call: the backend may count from the moment when the request arrived."""
    taken = holding(pile, consumer)
    clock.advance(timedelta(seconds=50))
    before = clock.monotonic()
    pile.at["renew"] = lambda: clock.advance(timedelta(seconds=5))
    consumer.extend(taken)
    assert taken.deadline == before + 60
    clock.advance(timedelta(seconds=54))
    consumer.settle(taken, COMMIT)


def test_s7_a_lease_that_is_over_is_not_extended_and_one_that_fails_keeps_its_end(
    pile: Pile, consumer: Consumer, clock: VirtualClock
) -> None:
    taken = holding(pile, consumer)
    before = taken.deadline
    clock.advance(timedelta(seconds=10))
    pile.fails["renew"] = AdapterUnavailable("gone")
    with pytest.raises(AdapterUnavailable):
        consumer.extend(taken)
    assert taken.deadline == before
    clock.advance(timedelta(seconds=50))
    pile.calls.clear()
    with pytest.raises(LeaseLost, match="its lease is over"):
        consumer.extend(taken)
    assert pile.calls == []


def test_s7_leases_are_extended_together_in_one_call_but_for_those_that_are_over(
    pile: Pile, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by what the backend says of it; what is over here is not even asked for."""
    held = []
    for name in ("a", "over", "b", "lost"):
        slot = pile.consumer(["q"])
        held.append((slot, holding(pile, slot, name)))
    over = held[1][1]
    over.deadline = clock.monotonic() + 10
    clock.advance(timedelta(seconds=10))
    asked: list[list[str | None]] = []
    lost = LeaseLost("lost", "to another")

    def renew_many(reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        asked.append([one.id for one in reservations])
        clock.advance(timedelta(seconds=5))
        return [None, None, lost]

    monkeypatch.setattr(pile, "renew_many", renew_many)
    before = clock.monotonic()
    outcomes = pile.extend_many(held)
    assert asked == [["a", "b", "lost"]]
    assert [outcomes[0], outcomes[2], outcomes[3]] == [None, None, lost]
    assert "its lease is over" in str(outcomes[1])
    assert [one.deadline for _, one in held] == [before + 60, before, before + 60, before + 50]


def test_s7_without_a_call_for_many_leases_each_is_renewed_whatever_the_others_do(
    pile: Pile, clock: VirtualClock
) -> None:
    held = []
    for name in ("a", "b", "c"):
        slot = pile.consumer(["q"])
        held.append((slot, holding(pile, slot, name)))
    clock.advance(timedelta(seconds=10))
    gone = AdapterUnavailable("gone")

    def fails_at_the_next() -> None:
        pile.at["renew"] = lambda: pile.fails.update(renew=gone)

    pile.at["renew"] = fails_at_the_next
    assert pile.extend_many(held) == [None, gone, None]


def test_s7_the_contract_extends_one_lease_after_the_other_whatever_the_others_raise() -> None:
    adapter = MemoryAdapter(MemoryOptions(), AdapterContext(clock=VirtualClock()))
    bug = RuntimeError("a bug")
    held = []
    for name in ("a", "b", "c"):
        adapter.enqueue(message(name))
        slot = adapter.consumer(["q"])
        taken = slot.reserve(NO_PAUSE)
        assert taken is not None
        held.append((slot, taken))
    held[1][0].extend = Mock(side_effect=bug)  # type: ignore[method-assign]
    held[2][0].settle(held[2][1], COMMIT)
    first, second, third = adapter.extend_many(held)
    assert (first, second) == (None, bug)
    assert isinstance(third, LeaseLost)


def test_s21_giving_back_is_a_snooze_for_any_thread_as_long_as_the_lease_holds(
    pile: Pile, consumer: Consumer, clock: VirtualClock
) -> None:
    taken = holding(pile, consumer)
    waiter = pile.line.join(frozenset({"q"}))
    pile.give_back(taken)
    assert pile.calls == [("release", "a", NO_PAUSE, False)]
    assert waiter.woken
    again = consumer.reserve(NO_PAUSE)
    assert again is not None
    clock.advance(LEASE)
    with pytest.raises(LeaseLost, match="its lease is over"):
        pile.give_back(again)


def test_closing_a_consumer_rolls_back_what_it_holds_once(pile: Pile, consumer: Consumer) -> None:
    holding(pile, consumer)
    waiter = pile.line.join(frozenset({"q"}))
    pile.fails["release"] = AdapterUnavailable("gone")
    consumer.close()
    consumer.close()
    assert pile.calls == [("release", "a", NO_PAUSE, True)]
    assert not waiter.woken
    other = pile.consumer(["q"])
    holding(pile, other, "b")
    other.close()
    assert waiter.woken


@pytest.mark.parametrize(
    ("span", "grain", "whole"),
    [
        (0, 2, 0),
        (-5, 2, 0),
        (-5, None, 0),
        (1, 2, 2),
        (2, 2, 2),
        (2.000001, 2, 4),
        (3, None, 3),
        (3.3, 0.000001, 3.3),
    ],
)
def test_s4_spans_are_rounded_up_and_never_down(span: float, grain: float | None, whole: float) -> None:
    granularity = None if grain is None else timedelta(seconds=grain)
    assert rounded_up(timedelta(seconds=span), granularity) == timedelta(seconds=whole)


def test_s4_the_longest_span_there_is_stays_as_it_is() -> None:
    assert rounded_up(timedelta.max, timedelta(seconds=7)) == timedelta.max
