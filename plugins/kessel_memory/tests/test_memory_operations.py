"""What operators do: counts, peek, buried, kick, delete, purge, pause, names."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import pytest
from kessel_memory.adapter import MemoryAdapter

from kessel_core import JobManager, UnknownJob
from kessel_core.contract import COMMIT, NO_PAUSE, Bury, JobState, Message, QueueStats, StoredJob
from kessel_core.testing.clock import VirtualClock

Make = Callable[..., Message]


@pytest.fixture
def one_of_each(adapter: MemoryAdapter, message: Make) -> MemoryAdapter:
    """An adapter with a buried, a reserved, a delayed and a ready job."""
    consumer = adapter.consumer(["default"])
    adapter.enqueue(message("buried"))
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    consumer.settle(reservation, Bury("error", "it did not work"))
    adapter.enqueue(message("reserved"))
    assert consumer.reserve(NO_PAUSE) is not None
    adapter.enqueue(message("delayed", delay=timedelta(hours=1)))
    adapter.enqueue(message("ready", priority=7))
    return adapter


def test_counts_are_exact_in_every_state(one_of_each: MemoryAdapter, clock: VirtualClock) -> None:
    assert one_of_each.stats("default") == QueueStats(
        queue="default", ready=1, delayed=1, reserved=1, buried=1
    )
    clock.advance(timedelta(hours=1))
    assert one_of_each.stats("default") == QueueStats(queue="default", ready=3, buried=1), (
        "time alone made two ready"
    )
    assert one_of_each.stats("nowhere") == QueueStats(queue="nowhere")


def test_peek_shows_what_is_known_of_a_job_in_each_state(
    one_of_each: MemoryAdapter, clock: VirtualClock
) -> None:
    def peeked(state: JobState) -> StoredJob:
        (job,) = one_of_each.peek("default", state, 10)
        return job

    now = clock.now()
    known: dict[str, Any] = {"queue": "default", "body": b"{}", "snoozes": 0, "enqueued_at": now}
    ready, delayed, reserved, buried = (peeked(state) for state in JobState)
    assert ready == StoredJob(id="ready", state=JobState.READY, priority=7, attempt=0, **known)
    assert delayed == StoredJob(
        id="delayed", state=JobState.DELAYED, priority=65536, attempt=0, due=now + timedelta(hours=1), **known
    )
    assert reserved == StoredJob(
        id="reserved",
        state=JobState.RESERVED,
        priority=65536,
        attempt=1,
        due=now + timedelta(minutes=1),
        **known,
    )
    assert buried == StoredJob(
        id="buried",
        state=JobState.BURIED,
        priority=65536,
        attempt=1,
        reason="error",
        message="it did not work",
        buried_at=now,
        **known,
    )
    assert one_of_each.peek("nowhere", JobState.READY) == []
    assert one_of_each.peek("default", JobState.BURIED, 0) == []


@pytest.mark.parametrize("state", [JobState.READY, JobState.DELAYED])
def test_peek_shows_the_next_ones_in_order_and_skips_the_deleted(
    adapter: MemoryAdapter, message: Make, state: JobState
) -> None:
    for number in (7, 3, 9, 1, 8, 2, 6, 5, 4):
        delay = timedelta(seconds=number) if state is JobState.DELAYED else None
        adapter.enqueue(message(str(number), priority=number, delay=delay))
    adapter.delete("default", "1")
    adapter.delete("default", "4")
    assert [job.id for job in adapter.peek("default", state, 4)] == ["2", "3", "5", "6"]
    assert len(adapter.peek("default", state, 100)) == 7


def test_buried_jobs_are_listed_oldest_burial_first(adapter: MemoryAdapter, message: Make) -> None:
    """S8."""
    consumer = adapter.consumer(["default"])
    for job_id in ("a", "b", "c"):
        adapter.enqueue(message(job_id))
        reservation = consumer.reserve(NO_PAUSE)
        assert reservation is not None
        consumer.settle(reservation, Bury("no-handler", job_id))
    adapter.kick("default", "a")
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    consumer.settle(reservation, Bury("error"))
    assert [(job.id, job.reason) for job in adapter.buried("default")] == [
        ("b", "no-handler"),
        ("c", "no-handler"),
        ("a", "error"),
    ]
    assert [job.id for job in adapter.buried("default", 1)] == ["b"]


@pytest.mark.parametrize("job_id", ["ready", "delayed", "reserved", "nowhere"])
def test_only_a_buried_job_can_be_kicked(one_of_each: MemoryAdapter, job_id: str) -> None:
    with pytest.raises(UnknownJob, match=job_id):
        one_of_each.kick("default", job_id)


def test_s8_nobody_kicks_a_job_between_the_look_at_it_and_its_removal(
    one_of_each: MemoryAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S8: what was kicked since it was shown stays, so looking and deleting are one step."""
    (job,) = one_of_each.buried("default")
    looks, kicks = MemoryAdapter.find, []
    with ThreadPoolExecutor(1) as other:

        def find(adapter: MemoryAdapter, job_id: str) -> StoredJob | None:
            found = looks(adapter, job_id)
            kicks.append(other.submit(adapter.kick, "default", job_id))
            wait(kicks, 0.05)
            return found

        monkeypatch.setattr(MemoryAdapter, "find", find)
        one_of_each.delete_shown(job)
        with pytest.raises(UnknownJob):
            kicks[0].result()


def test_a_kicked_job_is_no_longer_listed_as_buried(one_of_each: MemoryAdapter) -> None:
    one_of_each.kick("default", "buried")
    assert one_of_each.buried("default") == []
    assert one_of_each.stats("default").ready == 2


@pytest.mark.parametrize("job_id", ["ready", "delayed", "buried"])
def test_a_job_that_nobody_holds_can_be_deleted_once(
    one_of_each: MemoryAdapter, clock: VirtualClock, job_id: str
) -> None:
    one_of_each.delete("default", job_id)
    assert one_of_each.stats("default").total == 3
    with pytest.raises(UnknownJob):
        one_of_each.delete("default", job_id)
    clock.advance(timedelta(hours=2))
    consumer = one_of_each.consumer(["default"])
    delivered = []
    while (reservation := consumer.reserve(NO_PAUSE)) is not None:
        delivered.append(reservation.id)
        consumer.settle(reservation, COMMIT)
    assert job_id not in delivered


def test_a_reserved_job_is_its_workers(one_of_each: MemoryAdapter) -> None:
    with pytest.raises(UnknownJob):
        one_of_each.delete("default", "reserved")
    with pytest.raises(UnknownJob):
        one_of_each.delete("other", "ready")


def test_purge_leaves_only_what_is_reserved(one_of_each: MemoryAdapter, message: Make) -> None:
    one_of_each.enqueue(message("elsewhere", "other"))
    one_of_each.enqueue(message("gone before"))
    one_of_each.enqueue(message("gone before too", delay=timedelta(hours=1)))
    one_of_each.delete("default", "gone before")
    one_of_each.delete("default", "gone before too")
    assert one_of_each.purge("default") == 3
    assert one_of_each.stats("default") == QueueStats(queue="default", reserved=1)
    assert one_of_each.stats("other").ready == 1
    assert one_of_each.purge("default") == 0
    assert one_of_each.purge("nowhere") == 0
    one_of_each.enqueue(message("ready"))
    assert one_of_each.stats("default").ready == 1, "a purged id can be used again"


def test_a_paused_queue_delivers_nothing_until_its_time_is_over(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    adapter.enqueue_many([message("a", "slow"), message("b", "quick")])
    adapter.pause("slow", timedelta(seconds=10))
    consumer = adapter.consumer(["slow", "quick"])
    clock.advance(timedelta(seconds=4))
    assert adapter.stats("slow").paused == timedelta(seconds=6)
    reservation = consumer.reserve(NO_PAUSE)
    assert reservation is not None
    assert reservation.id == "b"
    assert consumer.settle_and_reserve(reservation, COMMIT) is None
    clock.advance(timedelta(seconds=6))
    assert adapter.stats("slow").paused is None
    assert consumer.reserve(NO_PAUSE) is not None


def test_a_pause_of_zero_resumes_at_once(adapter: MemoryAdapter, message: Make) -> None:
    adapter.pause("nowhere", NO_PAUSE)
    adapter.enqueue(message())
    adapter.pause("default", timedelta(hours=1))
    adapter.pause("default", NO_PAUSE)
    assert adapter.consumer(["default"]).reserve(NO_PAUSE) is not None


def test_queues_are_those_that_hold_jobs_are_consumed_or_paused(
    adapter: MemoryAdapter, message: Make
) -> None:
    adapter.enqueue(message("a", "b-jobs"))
    consumer = adapter.consumer(["a-consumed"])
    adapter.pause("c-paused", timedelta(seconds=1))
    assert adapter.queues() == ["a-consumed", "b-jobs", "c-paused"]
    consumer.close()
    adapter.purge("b-jobs")
    adapter.pause("c-paused", NO_PAUSE)
    assert adapter.queues() == []


def test_next_change_is_when_time_alone_makes_a_job_deliverable(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """S18: delays, leases and pauses, of these queues only."""
    start = clock.now()
    assert adapter.next_change(["default", "nowhere"]) is None
    adapter.enqueue(message("far", delay=timedelta(hours=5)))
    adapter.enqueue(message("else", "other", delay=timedelta(seconds=1)))
    assert adapter.next_change(["default"]) == start + timedelta(hours=5)
    assert adapter.next_change(["default", "other"]) == start + timedelta(seconds=1)
    adapter.enqueue(message("now"))
    assert adapter.next_change(["default"]) == start + timedelta(hours=5), (
        "what is ready already does not count"
    )
    assert adapter.consumer(["default"]).reserve(NO_PAUSE) is not None
    assert adapter.next_change(["default"]) == start + timedelta(seconds=60), "the end of the lease"
    adapter.pause("default", timedelta(seconds=90))
    assert adapter.next_change(["default"]) == start + timedelta(seconds=90), (
        "nothing is delivered in a pause"
    )
    clock.advance(timedelta(seconds=60))
    assert adapter.next_change(["default"]) == start + timedelta(seconds=90), (
        "its lease is over, it waits for the end of the pause"
    )
    clock.advance_to(start + timedelta(seconds=90))
    assert adapter.next_change(["default"]) == start + timedelta(hours=5)


def test_advancing_to_the_next_change_makes_a_job_ready_whatever_the_fractions(
    adapter: MemoryAdapter, message: Make, clock: VirtualClock
) -> None:
    """The scales are rounded so that nobody steps to just before a moment, again and again."""
    consumer = adapter.consumer(["default"])
    for number in range(200):
        clock.advance(timedelta(microseconds=333_333))
        adapter.enqueue(message(str(number)))
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        change = adapter.next_change(["default"])
        assert change is not None
        clock.advance_to(change)
        again = consumer.reserve(NO_PAUSE)
        assert again is not None
        assert clock.now() == change
        consumer.settle(again, COMMIT)


@pytest.mark.parametrize("pause", [timedelta(seconds=10**12), timedelta.max])
def test_finding_d14_a_queue_that_is_paused_for_ever_can_still_be_counted(pause: timedelta) -> None:
    with JobManager("memory://", clock=VirtualClock()) as manager:
        adapter: Any = manager.adapter
        manager.request("a")
        adapter.pause("default", pause)
        assert adapter.stats("default").paused > timedelta(days=365_000)
        assert adapter.next_change(["default"]).year > 3000
