"""How jobs are ordered, delayed, delivered and looked at, under virtual time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import pytest
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core import EnqueueRejected, IdHeld, InvalidConfig, UnknownJob
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Browse,
    Buried,
    Bury,
    Delete,
    Find,
    JobState,
    Message,
    Pause,
    Rollback,
    Store,
    VirtualTime,
    facets_of,
)
from kessel_core.testing.clock import VirtualClock
from tests.foreign import reservation_of_another_adapter_holds_nothing

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


def test_S6_lowest_priority_first_then_in_the_order_of_enqueueing(adapter: SqliteAdapter) -> None:
    for name, priority in (("late", 9), ("a", 5), ("b", 5), ("urgent", 0), ("last", 2**32 - 1)):
        adapter.enqueue(message(name, priority=priority))
    assert drained(adapter) == ["urgent", "a", "b", "late", "last"]


def test_S6_order_holds_over_several_queues(adapter: SqliteAdapter) -> None:
    for name, queue, priority in (("a", "x", 5), ("b", "y", 5), ("c", "x", 1), ("d", "y", 0), ("e", "z", 0)):
        adapter.enqueue(message(name, queue=queue, priority=priority))
    assert drained(adapter, "x", "y") == ["d", "c", "a", "b"]


def test_S6_a_job_that_was_away_takes_its_old_place(adapter: SqliteAdapter, clock: VirtualClock) -> None:
    """`tie_break` is `enqueued`: delayed, rolled back or kicked, ahead of younger ones."""
    adapter.enqueue(message("delayed", delay=clock.now() + SECOND))
    adapter.enqueue(message("rolled-back"))
    adapter.enqueue(message("buried"))
    with closing(adapter.consumer(["q"])) as consumer:
        for settlement in (Rollback(),):
            taken = consumer.reserve(NO_PAUSE)
            assert taken is not None
            consumer.settle(taken, settlement)
        adapter.enqueue(message("younger"))
        clock.advance(SECOND)
        assert drained(adapter) == ["delayed", "rolled-back", "buried", "younger"]


def test_S4_nothing_is_delivered_before_its_delay_and_a_wait_ends_right_then(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    due = clock.now() + timedelta(hours=3, microseconds=1)
    adapter.enqueue(message("a", delay=due))
    with closing(adapter.consumer(["q"])) as consumer:
        assert consumer.reserve(NO_PAUSE) is None
        assert adapter.next_change(["q"]) == due
        assert consumer.reserve(timedelta(hours=4)) is not None
    assert due <= clock.now() <= due + timedelta(milliseconds=1)


def test_a_reserve_in_vain_takes_its_timeout(adapter: SqliteAdapter, clock: VirtualClock) -> None:
    before = clock.now()
    with closing(adapter.consumer(["q"])) as consumer:
        assert consumer.reserve(SECOND) is None
    assert clock.now() == before + SECOND


@pytest.mark.parametrize("queues", [[], ["a b"], ["q", ""], "q"])
def test_a_consumer_of_no_queue_or_a_bad_name_is_refused(adapter: SqliteAdapter, queues: list[str]) -> None:
    with pytest.raises(InvalidConfig):
        adapter.consumer(queues)


def test_facets_are_what_the_file_can_do(
    adapter: SqliteAdapter, opened: Callable[..., SqliteAdapter], clock: VirtualClock
) -> None:
    assert set(facets_of(adapter)) == {Browse, Buried, Delete, Find, Pause, Store, VirtualTime}


def test_cancel_ends_reserves_but_not_a_settle(adapter: SqliteAdapter, clock: VirtualClock) -> None:
    adapter.enqueue_many([message("a"), message("b")])
    before = clock.now()
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        consumer.cancel()
        assert consumer.settle_and_reserve(taken, COMMIT) is None
        assert consumer.reserve(SECOND) is None
    assert clock.now() == before
    assert adapter.stats("q").ready == 1


def test_dedupe_stores_an_id_once_while_its_job_is_held(adapter: SqliteAdapter) -> None:
    adapter.enqueue(message("a"))
    with pytest.raises(IdHeld, match="held by a ready job"):
        adapter.enqueue(message("a"))
    first, new, again, last = adapter.enqueue_many([message(name) for name in ("a", "b", "b", "c")])
    assert (new, last) == (None, None)
    for outcome in (first, again):
        assert isinstance(outcome, IdHeld)
        assert outcome.state == "ready"
    adapter.delete("q", "c")
    assert drained(adapter) == ["a", "b"]
    adapter.enqueue(message("a"))
    assert drained(adapter) == ["a"]


def test_kick_does_not_touch_a_delayed_job(adapter: SqliteAdapter, clock: VirtualClock) -> None:
    adapter.enqueue(message("a", delay=clock.now() + SECOND))
    with pytest.raises(UnknownJob):
        adapter.kick("q", "a")


def test_delete_and_purge_leave_what_a_worker_holds(adapter: SqliteAdapter, clock: VirtualClock) -> None:
    adapter.enqueue(message("held"))
    with closing(adapter.consumer(["q"])) as consumer:
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        adapter.enqueue_many([message("ready"), message("more"), message("late", delay=clock.now() + SECOND)])
        with pytest.raises(UnknownJob):
            adapter.delete("q", "held")
        with pytest.raises(UnknownJob):
            adapter.delete("other", "ready")
        adapter.delete("q", "ready")
        assert adapter.purge("q") == 2
        assert adapter.stats("q").reserved == adapter.stats("q").total == 1
        consumer.settle(held, COMMIT)


def test_stats_and_lists_know_every_state(adapter: SqliteAdapter, clock: VirtualClock) -> None:
    due = clock.now() + SECOND
    adapter.enqueue_many([message("b"), message("c"), message("r"), message("d", delay=due)])
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(NO_PAUSE)
        assert taken is not None
        taken = consumer.settle_and_reserve(taken, Bury("error", "x"))
        assert taken is not None
        stats = adapter.stats("q")
        assert (stats.ready, stats.delayed, stats.reserved, stats.buried) == (1, 1, 1, 1)
        shown = {state: [job.id for job in adapter.peek("q", state, 9)] for state in JobState}
        assert shown == {
            JobState.READY: ["r"],
            JobState.DELAYED: ["d"],
            JobState.RESERVED: ["c"],
            JobState.BURIED: ["b"],
        }
        assert adapter.peek("q", JobState.DELAYED)[0].due == due
        clock.advance(timedelta(seconds=61))
        # By time alone, before any claim has come by to say so in the rows.
        assert [job.id for job in adapter.peek("q", JobState.READY, 9)] == ["c", "r", "d"]
        assert adapter.stats("q").ready == 3
    assert adapter.queues() == ["q"]
    assert adapter.stats("none").total == 0


def test_a_paused_queue_delivers_nothing_until_its_pause_is_over(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    adapter.enqueue_many([message("a"), message("b", queue="other")])
    adapter.pause("q", SECOND)
    assert adapter.stats("q").paused == SECOND
    assert adapter.next_change(["q", "other"]) == clock.now() + SECOND
    assert drained(adapter, "q", "other") == ["b"]
    with closing(adapter.consumer(["q"])) as consumer:
        taken = consumer.reserve(timedelta(seconds=5))
    assert taken is not None
    adapter.pause("q", SECOND)
    adapter.pause("q", NO_PAUSE)
    assert adapter.stats("q").paused is None
    assert drained(adapter) == ["a"]


def test_more_jobs_than_one_transaction_promotes_become_due_at_once_in_order(
    adapter: SqliteAdapter, clock: VirtualClock
) -> None:
    due = clock.now() + SECOND
    adapter.enqueue_many([message(f"{n:04}", priority=2000 - n, delay=due) for n in range(1700)])
    clock.advance(SECOND)
    assert drained(adapter) == [f"{n:04}" for n in reversed(range(1700))]


def test_too_large_a_body_is_rejected_alone(opened: Callable[..., SqliteAdapter]) -> None:
    adapter = opened(max_body_bytes=3)
    with pytest.raises(EnqueueRejected) as caught:
        adapter.enqueue(message("four"))
    assert caught.value.reason == "too-large"
    outcomes = adapter.enqueue_many([message("one"), message("three"), message("two")])
    assert [outcome and outcome.job_id for outcome in outcomes] == [None, "three", None]  # type: ignore[attr-defined]
    assert drained(adapter) == ["one", "two"]


def test_F34_a_clock_set_forward_ends_no_running_lease(adapter: SqliteAdapter, clock: VirtualClock) -> None:
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as holder:
        taken = holder.reserve(NO_PAUSE)
        assert taken is not None
        clock.jump_wall(timedelta(hours=1))
        assert drained(adapter) == []
        holder.settle(taken, COMMIT)
    assert adapter.stats("q").total == 0


def test_F34_a_clock_set_back_keeps_no_dead_lease_alive(adapter: SqliteAdapter, clock: VirtualClock) -> None:
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as holder:
        taken = holder.reserve(NO_PAUSE)
        assert taken is not None
        clock.jump_wall(timedelta(hours=-1))
        clock.advance(timedelta(seconds=61))
        assert drained(adapter) == ["a"]


def test_s7_a_reservation_of_another_adapter_holds_nothing(adapter: SqliteAdapter) -> None:
    reservation_of_another_adapter_holds_nothing(adapter)
