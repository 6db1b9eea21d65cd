"""What happens to one job, and who goes first: enqueue, reserve, settle, order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.consumer import MemoryConsumer

from kessel_core import AdapterUnavailable, EnqueueRejected, IdHeld, LeaseLost
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Bury,
    Commit,
    JobState,
    Message,
    Reservation,
    Rollback,
    TieBreak,
)
from kessel_core.testing.clock import VirtualClock
from tests.foreign import reservation_of_another_adapter_holds_nothing

Make = Callable[..., Message]
Open = Callable[..., MemoryAdapter]


def drained(consumer: MemoryConsumer) -> list[str | None]:
    """Commit all that is ready, and return the ids in order."""
    ids: list[str | None] = []
    while (reservation := consumer.reserve(NO_PAUSE)) is not None:
        ids.append(reservation.id)
        consumer.settle(reservation, COMMIT)
    return ids


def test_a_committed_job_is_gone(adapter: MemoryAdapter, message: Make) -> None:
    """S8."""
    adapter.enqueue(message("a", body=b"body"))
    consumer = adapter.consumer(["default"])
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    assert (reservation.id, reservation.queue, reservation.body, reservation.attempt) == (
        "a",
        "default",
        b"body",
        1,
    )
    assert adapter.stats("default").reserved == 1
    consumer.settle(reservation, COMMIT)
    assert adapter.stats("default").total == 0
    assert consumer.reserve(NO_PAUSE) is None


def test_lowest_priority_number_first_then_in_the_order_of_enqueueing(
    adapter: MemoryAdapter, message: Make
) -> None:
    """S6."""
    for job_id, priority in (("a", 5), ("b", 0), ("c", 4294967295), ("d", 5), ("e", 0)):
        adapter.enqueue(message(job_id, priority=priority))
    assert drained(adapter.consumer(["default"])) == ["b", "e", "a", "d", "c"]


def test_one_order_over_several_queues(adapter: MemoryAdapter, message: Make) -> None:
    """S6 holds among all jobs that are ready for a consumer."""
    for job_id, queue, priority in (
        ("a", "x", 5),
        ("b", "y", 5),
        ("c", "y", 1),
        ("d", "x", 5),
        ("e", "z", 0),
    ):
        adapter.enqueue(message(job_id, queue, priority=priority))
    assert drained(adapter.consumer(["y", "x", "y"])) == ["c", "a", "b", "d"]
    assert adapter.stats("z").ready == 1


@pytest.mark.parametrize(("tie_break", "order"), [("ready", ["b", "c", "a"]), ("enqueued", ["a", "b", "c"])])
@pytest.mark.parametrize("way", ["rollback", "pause", "kick", "lease"])
def test_place_among_equals_after_coming_back(
    opened: Open, message: Make, clock: VirtualClock, tie_break: str, order: list[str], way: str
) -> None:
    """S6: as `tie_break` declares, whichever way a job comes back."""
    adapter = opened(tie_break=TieBreak(tie_break))
    assert adapter.capabilities.tie_break is TieBreak(tie_break)
    for job_id in ("a", "b", "c"):
        adapter.enqueue(message(job_id))
    consumer = adapter.consumer(["default"])
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    if way == "rollback":
        consumer.settle(reservation, Rollback())
    elif way == "pause":
        consumer.settle(reservation, Rollback(timedelta(seconds=1)))
        clock.advance(timedelta(seconds=1))
    elif way == "kick":
        consumer.settle(reservation, Bury("error"))
        adapter.kick("default", "a")
    else:
        clock.advance(timedelta(minutes=1))
    assert drained(consumer) == order


def test_delayed_jobs_take_their_place_in_the_order_of_becoming_ready(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """S6: across queues, too, and although nobody looked when they became ready."""
    adapter.enqueue(message("late", "x", delay=timedelta(seconds=3)))
    adapter.enqueue(message("early", "y", delay=timedelta(seconds=2)))
    clock.advance(timedelta(seconds=5))
    adapter.enqueue(message("now", "z"))
    assert drained(adapter.consumer(["z", "x", "y"])) == ["early", "late", "now"]


def test_rollback_and_bury_keep_the_priority(adapter: MemoryAdapter, message: Make) -> None:
    """S6, S8."""
    adapter.enqueue(message("urgent", priority=0))
    adapter.enqueue(message("other", priority=9))
    consumer = adapter.consumer(["default"])
    first = consumer.reserve(NO_PAUSE)
    assert first is not None
    consumer.settle(first, Rollback())
    again = consumer.reserve(NO_PAUSE)
    assert again is not None
    assert (again.id, again.attempt) == ("urgent", 2)
    consumer.settle(again, Bury("error", "no luck"))
    adapter.kick("default", "urgent")
    kicked = consumer.reserve(NO_PAUSE)
    assert kicked is not None
    assert (kicked.id, kicked.attempt) == ("urgent", 1), "its attempts start anew"


def test_never_before_its_delay(adapter: MemoryAdapter, message: Make, clock: VirtualClock) -> None:
    """S4, to the microsecond."""
    adapter.enqueue(message(delay=timedelta(hours=3)))
    consumer = adapter.consumer(["default"])
    clock.advance(timedelta(hours=3) - timedelta(microseconds=1))
    assert consumer.reserve(NO_PAUSE) is None
    clock.advance(timedelta(microseconds=1))
    assert consumer.reserve(NO_PAUSE) is not None


def test_a_delay_in_the_past_is_no_delay(adapter: MemoryAdapter, message: Make) -> None:
    adapter.enqueue(message(delay=timedelta(seconds=-1)))
    assert adapter.stats("default").ready == 1


def test_a_pause_beyond_the_calendar_is_kept_as_the_last_day_of_it(
    adapter: MemoryAdapter, message: Make
) -> None:
    adapter.enqueue(message())
    consumer = adapter.consumer(["default"])
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    consumer.settle(reservation, Rollback(timedelta(days=4_000_000)))
    assert adapter.peek("default", JobState.DELAYED)[0].due.year == 9999  # type: ignore[union-attr]


def test_an_id_that_is_held_is_not_stored_again(adapter: MemoryAdapter, message: Make) -> None:
    """`dedupe`: in every state, until the job is gone."""
    consumer = adapter.consumer(["default"])
    adapter.enqueue(message("a", body=b"1"))
    with pytest.raises(IdHeld, match="held by a ready job"):
        adapter.enqueue(message("a", body=b"2"))
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    assert reservation.body == b"1"
    with pytest.raises(IdHeld, match="held by a reserved job"):
        adapter.enqueue(message("a", "other", body=b"3"))
    consumer.settle(reservation, COMMIT)
    assert (adapter.stats("default").total, adapter.stats("other").total) == (0, 0)
    adapter.enqueue(message("a", body=b"4"))
    assert adapter.stats("default").ready == 1


def test_too_large_and_full_are_rejected_by_reason(opened: Open, message: Make) -> None:
    """S14: surely not stored; and room again once a job is gone."""
    adapter = opened(max_body_bytes=4, capacity=2)
    outcomes = adapter.enqueue_many(
        [message("a", body=b"1234"), message("b", body=b"12345"), message("c"), message("d")]
    )
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == [None, "too-large", None, "full"]
    with pytest.raises(EnqueueRejected, match="job d: not stored"):
        adapter.enqueue(message("d"))
    assert drained(adapter.consumer(["default"])) == ["a", "c"]
    adapter.enqueue(message("d"))
    assert adapter.stats("default").total == 1


def test_settle_and_reserve_gives_the_next_ready_job_or_none(adapter: MemoryAdapter, message: Make) -> None:
    adapter.enqueue_many([message("a"), message("b")])
    consumer = adapter.consumer(["default"])
    first = consumer.reserve(NO_PAUSE)
    assert first is not None
    second = consumer.settle_and_reserve(first, COMMIT)
    assert second is not None
    assert second.id == "b"
    assert consumer.settle_and_reserve(second, Bury("error")) is None
    assert adapter.stats("default").buried == 1


def test_an_old_reservation_settles_nothing(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """S7: neither after its lease, nor after its settle, nor when it came from elsewhere."""
    adapter.enqueue(message("a"))
    consumer = adapter.consumer(["default"])
    old = consumer.reserve(NO_PAUSE)
    assert old is not None
    clock.advance(timedelta(seconds=60))
    new = consumer.reserve(NO_PAUSE)
    assert new is not None
    assert new.attempt == 2
    with pytest.raises(LeaseLost, match="job a: lease lost"):
        consumer.settle(old, COMMIT)
    with pytest.raises(LeaseLost, match="job a: lease lost"):
        consumer.extend(old)
    with pytest.raises(LeaseLost, match="job a: lease lost"):
        consumer.settle_and_reserve(old, Bury("error"))
    consumer.settle(new, COMMIT)
    with pytest.raises(LeaseLost):
        consumer.settle(new, COMMIT)
    with pytest.raises(LeaseLost):
        consumer.settle(Reservation("a", "nowhere", b"", 1), COMMIT)


def test_a_lease_ends_at_its_deadline_and_not_before(
    opened: Open, message: Make, clock: VirtualClock
) -> None:
    """S7, S10: the lost delivery has counted."""
    adapter = opened(lease=timedelta(milliseconds=1300))
    adapter.enqueue(message())
    consumer, other = adapter.consumer(["default"]), adapter.consumer(["default"])
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    assert reservation.deadline == pytest.approx(clock.monotonic() + 1.3)
    clock.advance(timedelta(microseconds=1_299_999))
    assert other.reserve(NO_PAUSE) is None
    clock.advance(timedelta(microseconds=1))
    again = other.reserve(NO_PAUSE)
    assert again is not None
    assert again.attempt == 2


def test_extend_renews_the_lease_to_its_full_length(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """S7: and leases of other jobs, that were younger, now end before it."""
    adapter.enqueue_many([message("a"), message("b")])
    consumer, other = adapter.consumer(["default"]), adapter.consumer(["default"])
    extended, left_alone = consumer.reserve(NO_PAUSE), other.reserve(NO_PAUSE)
    assert extended is not None
    assert left_alone is not None
    clock.advance(timedelta(seconds=59))
    consumer.extend(extended)
    assert extended.deadline == pytest.approx(clock.monotonic() + 60)
    clock.advance(timedelta(seconds=59))
    assert adapter.stats("default").ready == 1
    with pytest.raises(LeaseLost):
        other.settle(left_alone, COMMIT)
    consumer.settle(extended, COMMIT)


def test_closing_a_consumer_gives_its_job_back_at_once(adapter: MemoryAdapter, message: Make) -> None:
    adapter.enqueue(message())
    consumer = adapter.consumer(["default"])
    assert consumer.reserve(NO_PAUSE) is not None
    consumer.close()
    consumer.close()
    assert adapter.stats("default").ready == 1
    assert consumer.reserve(NO_PAUSE) is None
    again = adapter.consumer(["default"]).reserve(NO_PAUSE)
    assert again is not None
    assert again.attempt == 2


def test_closing_a_consumer_after_its_settle_changes_nothing(adapter: MemoryAdapter, message: Make) -> None:
    adapter.enqueue(message())
    consumer = adapter.consumer(["default"])
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    consumer.settle(reservation, COMMIT)
    consumer.close()
    assert adapter.stats("default").total == 0


def test_after_cancel_a_held_job_can_be_settled_but_no_other_is_taken(
    adapter: MemoryAdapter, message: Make
) -> None:
    adapter.enqueue_many([message("a"), message("b")])
    consumer = adapter.consumer(["default"])
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    consumer.cancel()
    consumer.cancel()
    consumer.extend(reservation)
    assert consumer.settle_and_reserve(reservation, COMMIT) is None
    assert consumer.reserve(timedelta(hours=1)) is None
    assert adapter.stats("default").ready == 1


def test_a_closed_adapter_stores_nothing(adapter: MemoryAdapter, message: Make) -> None:
    """S14: surely not stored, and a consumer that waited is let go."""
    consumer = adapter.consumer(["default"])
    adapter.close()
    adapter.close()
    with pytest.raises(AdapterUnavailable, match="closed"):
        adapter.enqueue(message())
    assert [type(outcome) for outcome in adapter.enqueue_many([message(), message()])] == [
        AdapterUnavailable
    ] * 2
    assert consumer.reserve(NO_PAUSE) is None
    with pytest.raises(AdapterUnavailable):
        adapter.consumer(["default"])


def test_a_job_whose_lease_is_over_is_ready_before_one_that_comes_later(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """S6: although nobody looked when its lease ended."""
    adapter.enqueue(message("a"))
    dead, consumer = adapter.consumer(["default"]), adapter.consumer(["default"])
    assert dead.reserve(NO_PAUSE) is not None
    clock.advance(timedelta(minutes=2))
    adapter.enqueue(message("b"))
    assert drained(consumer) == ["a", "b"]


def test_a_lease_that_ran_out_unnoticed_is_lost_all_the_same(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """S7: nobody else asked meanwhile, and yet nothing is settled or extended."""
    adapter.enqueue(message("a"))
    consumer = adapter.consumer(["default"])
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    clock.advance(timedelta(seconds=60))
    with pytest.raises(LeaseLost):
        consumer.settle(reservation, COMMIT)
    assert adapter.stats("default").ready == 1


def test_a_job_that_was_never_taken_is_not_in_the_way_of_those_behind_it(
    adapter: MemoryAdapter, message: Make
) -> None:
    """Deleted jobs are skipped."""
    adapter.enqueue_many([message("a", priority=0), message("b"), message("c")])
    adapter.delete("default", "a")
    adapter.delete("default", "b")
    assert drained(adapter.consumer(["default"])) == ["c"]


def test_jobs_may_come_into_a_paused_queue(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    adapter.pause("default", timedelta(seconds=5))
    consumer = adapter.consumer(["default"])
    adapter.enqueue(message("a"))
    adapter.enqueue(message("b", delay=timedelta(seconds=1)))
    assert consumer.reserve(timedelta(seconds=4)) is None
    assert consumer.reserve(timedelta(seconds=4)) is not None
    assert adapter.stats("default").ready == 1


def test_an_interrupted_enqueue_can_be_repeated(
    adapter: MemoryAdapter, message: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S9, S14: the id of a job that was not stored is not taken for one that is held."""

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("kessel_memory.store.heappush", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adapter.enqueue(message("a"))
    adapter.enqueue(message("a"))
    assert drained(adapter.consumer(["default"])) == ["a"]


def test_s7_a_reservation_of_another_adapter_holds_nothing(adapter: MemoryAdapter) -> None:
    reservation_of_another_adapter_holds_nothing(adapter)


def test_s20_a_commit_makes_room_for_one_follow_up_and_a_burial_for_none(opened: Open, message: Make) -> None:
    adapter = opened(capacity=1)
    consumer = adapter.consumer(["default"])
    adapter.enqueue(message("a"))
    held = consumer.reserve(timedelta(0))
    assert held is not None
    for settlement in (Bury("r", follow=(message("b"),)), Commit(follow=(message("b"), message("c")))):
        with pytest.raises(EnqueueRejected, match="holds its 1 jobs"):
            consumer.settle(held, settlement)
    consumer.settle(held, Commit(follow=(message("b"),)))
    assert adapter.stats("default").ready == 1


def test_jobs_stay_until_the_last_of_those_who_share_them_closes(opened: Open, message: Make) -> None:
    first, second = opened(name="shared-by-three"), opened(name="shared-by-three")
    first.enqueue(message("a"))
    first.close()
    third = opened(name="shared-by-three")
    assert third.find("a") is not None
    second.close()
    third.close()
    assert opened(name="shared-by-three").find("a") is None
