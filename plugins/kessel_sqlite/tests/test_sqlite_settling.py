"""How deliveries end: settlements, leases, snoozes and kept results, under virtual time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import pytest
from kessel_sqlite import sql
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core import AdapterUnavailable, EnqueueRejected, LeaseLost, UnknownJob
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Bury,
    Commit,
    Consumer,
    JobState,
    Message,
    Put,
    Reservation,
    Rollback,
    Snooze,
)
from kessel_core.testing.clock import VirtualClock

SECOND = timedelta(seconds=1)


def message(name: str, *, queue: str = "q", priority: int = 5, **fields: object) -> Message:
    return Message(name, queue, name.encode(), priority, **fields)  # type: ignore[arg-type]


def drained(adapter: SqliteAdapter, *queues: str) -> list[str]:
    """Take and commit all that is ready; return the ids in the order of delivery."""
    names: list[str] = []
    with closing(adapter.consumer(queues or ("q",))) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        while taken is not None:
            names.append(taken.id or "")
            taken = consumer.settle_and_reserve(taken, COMMIT)
    return names


def taken_by(consumer: Consumer) -> Reservation:
    taken = consumer.reserve(NO_PAUSE)
    assert taken is not None
    return taken


def test_S21_a_snooze_does_not_count_as_an_attempt_and_is_counted_apart(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    adapter.enqueue(message("a", priority=7))
    with closing(adapter.consumer(["q"])) as consumer:
        for settlement in (Snooze(), Rollback(), Snooze(SECOND)):
            consumer.settle(taken_by(consumer), settlement)
        (delayed,) = adapter.peek("q", JobState.DELAYED)
        assert (delayed.attempt, delayed.snoozes, delayed.priority) == (1, 2, 7)
        assert delayed.due == clock.now() + SECOND
        assert consumer.reserve(NO_PAUSE) is None
        clock.advance(SECOND)
        again = taken_by(consumer)
        assert (again.attempt, again.snoozes) == (2, 2)
        again = consumer.settle_and_reserve(again, Snooze())
        assert again is not None
        assert (again.attempt, again.snoozes) == (2, 3)


def test_S21_give_back_from_another_thread_fences_the_holder(adapter: SqliteAdapter) -> None:
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as consumer:
        for settlement in (COMMIT, Rollback(), Bury("error")):
            held = taken_by(consumer)
            thread = threading.Thread(target=adapter.give_back, args=(held,))
            thread.start()
            thread.join()
            (ready,) = adapter.peek("q", JobState.READY)
            with pytest.raises(LeaseLost):
                consumer.extend(held)
            with pytest.raises(LeaseLost):
                consumer.settle(held, settlement)
            assert adapter.peek("q", JobState.READY) == [ready]
            assert ready.attempt == 0
        assert taken_by(consumer).snoozes == 3


def test_S21_nothing_is_given_back_that_is_not_held_any_more(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    adapter.enqueue_many([message("a"), message("b")])
    with closing(adapter.consumer(["q"])) as consumer:
        done = taken_by(consumer)
        consumer.settle(done, COMMIT)
        late = taken_by(consumer)
        clock.advance(timedelta(minutes=1))
        for reservation in (done, late, Reservation("x", "q", b"", 1)):
            with pytest.raises(LeaseLost):
                adapter.give_back(reservation)
    assert adapter.peek("q", JobState.READY)[0].attempt == 1


def test_a_job_that_is_given_back_wakes_a_consumer_that_waits(opened: Callable[..., SqliteAdapter]) -> None:
    adapter = opened()
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as holder, closing(adapter.consumer(["q"])) as other:
        timer = threading.Timer(0.05, adapter.give_back, [taken_by(holder)])
        timer.start()
        assert other.reserve(timedelta(seconds=60)) is not None
        timer.join()


def test_a_reservation_says_the_lease_that_extend_renews(
    opened: Callable[..., SqliteAdapter], clock: VirtualClock
) -> None:
    adapter = opened(clock, lease=SECOND)
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as consumer:
        taken = taken_by(consumer)
        assert taken.lease == SECOND
        clock.advance(SECOND / 2)
        consumer.extend(taken)
        assert taken.deadline == clock.monotonic() + 1
        assert adapter.peek("q", JobState.RESERVED)[0].due == clock.now() + SECOND


def test_S8_rollback_makes_ready_after_its_pause_and_keeps_the_priority(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    adapter.enqueue(message("a", priority=7))
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        consumer.settle(taken, Rollback(SECOND))
        assert adapter.stats("q").delayed == 1
        assert consumer.reserve(NO_PAUSE) is None
        clock.advance(SECOND)
        assert adapter.stats("q").ready == 1
        assert adapter.peek("q", JobState.READY)[0].priority == 7
        again = consumer.reserve(NO_PAUSE)
        assert again is not None
        assert again.attempt == 2


def test_S7_a_lease_that_ran_out_is_given_on_and_the_old_reservation_settles_nothing(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as first, closing(adapter.consumer(["q"])) as second:
        old = first.reserve(NO_PAUSE)
        assert old is not None
        clock.advance(timedelta(seconds=61))
        new = second.reserve(NO_PAUSE)
        assert new is not None
        assert new.attempt == 2
        # Also past the local check, by the token alone: a process that was stopped in between.
        old.deadline = None
        for settlement in (COMMIT, Rollback(), Bury("error")):
            first._held = old  # type: ignore[attr-defined]
            with pytest.raises(LeaseLost):
                first.settle(old, settlement)
        first._held = old  # type: ignore[attr-defined]
        with pytest.raises(LeaseLost):
            first.settle_and_reserve(old, COMMIT)
        with pytest.raises(LeaseLost):
            first.extend(old)
        second.settle(new, COMMIT)
    assert adapter.stats("q").total == 0


def test_S7_commit_after_the_lease_is_refused_locally_though_nobody_took_the_job(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        clock.advance(timedelta(seconds=60))
        with pytest.raises(LeaseLost):
            consumer.settle(taken, COMMIT)
    assert adapter.stats("q").ready == 1


def test_S7_an_extended_lease_holds_on(adapter: SqliteAdapter, clock: VirtualClock) -> None:
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        for _ in range(5):
            clock.advance(timedelta(seconds=50))
            consumer.extend(taken)
            assert drained(adapter) == []
        consumer.settle(taken, COMMIT)
        with pytest.raises(LeaseLost):
            consumer.extend(taken)
    assert adapter.stats("q").total == 0


def test_closing_a_consumer_gives_its_job_back_at_once(adapter: SqliteAdapter) -> None:
    adapter.enqueue(message("a"))
    consumer = adapter.consumer(["q"])
    assert consumer.reserve(NO_PAUSE) is not None
    consumer.close()
    consumer.close()
    assert consumer.reserve(SECOND) is None
    assert drained(adapter) == ["a"]


def test_S8_a_buried_job_keeps_why_and_a_kick_starts_its_attempts_anew(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    adapter.enqueue(message("a", priority=3))
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        consumer.settle(taken, Bury("bad-payload", "no \ud800 surrogate"))
        (buried,) = adapter.buried("q")
        assert (buried.id, buried.reason, buried.attempt) == ("a", "bad-payload", 1)
        assert buried.message == "no \\ud800 surrogate"
        assert buried.buried_at == clock.now()
        adapter.kick("q", "a")
        with pytest.raises(UnknownJob):
            adapter.kick("q", "a")
        (kicked,) = adapter.peek("q", JobState.READY)
        assert (kicked.reason, kicked.message, kicked.buried_at) == (None, None, None)
        again = consumer.reserve(NO_PAUSE)
        assert again is not None
        assert (again.attempt, again.body) == (1, b"a")


def test_S10_attempts_outlive_the_adapter(opened: Callable[..., SqliteAdapter], clock: VirtualClock) -> None:
    for attempt in (1, 2, 3):
        adapter = opened(clock)
        if attempt == 1:
            adapter.enqueue(message("a"))
        with closing(adapter.consumer(["q"])) as consumer:
            taken = consumer.reserve(NO_PAUSE)
            assert taken is not None
            assert taken.attempt == attempt
        adapter.close()


def test_s20_follow_ups_are_refused_before_anything_is_written(
    clock: VirtualClock, opened: Callable[..., SqliteAdapter]
) -> None:
    adapter = opened(clock, max_body_bytes=10)
    adapter.enqueue(Message("a", "q", b"x", 5))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    large = Commit(follow=(Message("b", "q", b"x", 5), Message("c", "q", b"x" * 11, 5)))
    with pytest.raises(EnqueueRejected, match="11 bytes"):
        consumer.settle_and_reserve(held, large)
    assert adapter.stats("q").total == 1
    consumer.settle(held, Commit(follow=large.follow[:1]))
    assert adapter.stats("q").ready == 1


def test_s20_a_settle_that_is_lost_brings_nothing_along(
    clock: VirtualClock, opened: Callable[..., SqliteAdapter]
) -> None:
    adapter = opened(clock)
    adapter.enqueue(Message("a", "q", b"x", 5))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    adapter.give_back(held)
    brought = Commit(follow=(Message("b", "q", b"x", 5),), puts=(Put("s", "k", b"v"),))
    for settle in (consumer.settle, consumer.settle_and_reserve):
        with pytest.raises(LeaseLost):
            settle(held, brought)
    assert adapter.stats("q").total == 1
    assert adapter.store.get("s", "k") is None


def test_S7_a_job_is_settled_though_the_one_after_it_cannot_be_taken(
    adapter: SqliteAdapter, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came due fills a transaction, and the next one fails: the settlement before it has been made."""
    monkeypatch.setattr(sql, "PROMOTED_AT_ONCE", 1)
    adapter.enqueue(message("a"))
    adapter.enqueue(message("later", delay=clock.now() + SECOND))
    shared: list[object] = []
    share = adapter.engine.share

    def once(part: Callable[..., object]) -> object:
        shared.append(part)
        if len(shared) > 1:
            raise AdapterUnavailable("the file is locked")
        return share(part)

    with closing(adapter.consumer(["q"])) as consumer:
        held = taken_by(consumer)
        clock.advance(SECOND)
        with monkeypatch.context() as patched:
            patched.setattr(adapter.engine, "share", once)
            assert consumer.settle_and_reserve(held, COMMIT) is None
        assert len(shared) == 2
        assert [taken_by(consumer).id, adapter.stats("q").total] == ["later", 1]


def test_S8_the_message_of_a_burial_is_cut(adapter: SqliteAdapter) -> None:
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as consumer:
        consumer.settle(taken_by(consumer), Bury("error", "x" * 200_000))
    (job,) = adapter.buried("q")
    assert job.message == "x" * 100_000
