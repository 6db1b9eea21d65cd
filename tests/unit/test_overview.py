"""What a live view is given to show: only what is known, the rest by the name of what is missing (S17)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, cast

import attrs
import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.entries import Entries, MemoryStore
from kessel_memory.options import MemoryOptions

from kessel_core import AdapterUnavailable, BusyJob, WorkerEntry, WorkerState
from kessel_core.contract import (
    AdapterContext,
    Buried,
    Bury,
    Capabilities,
    Delete,
    Entry,
    Message,
    Pause,
    QueueStats,
    Reach,
    StoreCapabilities,
    StoredJob,
)
from kessel_core.features import watching as module
from kessel_core.features.overview import Action, Standing
from kessel_core.features.watching import Overviews
from kessel_core.features.workers import write_entry
from kessel_core.model.progress import Progress
from kessel_core.testing import VirtualClock
from kessel_core.wire.entries import encode_progress

SECOND = timedelta(seconds=1)


class Queue(MemoryAdapter):
    """A queue that can lose facets, exact counts and its connection, and counts how often it is asked."""

    name = "moon"

    def __init__(self, clock: VirtualClock, *, without: tuple[object, ...] = (), exact: bool = True) -> None:
        super().__init__(MemoryOptions(name="", lease=timedelta(hours=1)), AdapterContext(clock=clock))
        self.without, self.exact = without, exact
        self.failing: Exception | None = None
        self.asked: list[str] = []
        self.is_age_known = True
        self.given, self.last = 0, ""

    @property
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities, counts=self.exact)

    def facet(self, kind: Any) -> Any:
        return None if kind in self.without else super().facet(kind)

    def stats(self, queue: str) -> QueueStats:
        self.asked.append("stats")
        if self.failing is not None:
            raise self.failing
        found = super().stats(queue)
        return found if self.is_age_known else attrs.evolve(found, oldest_ready=None)

    def each_buried(self, queue: str) -> Iterator[StoredJob]:
        self.asked.append(f"buried {queue}")
        return super().each_buried(queue)

    def give(self, queue: str = "default", number: int = 1, body: bytes | None = None) -> None:
        for _ in range(number):
            self.given += 1
            self.last = f"job-{self.given}"
            text = f'{{"v":1,"id":"{self.last}","type":"t","requested_at":"2026-01-01T00:00:00Z","ref":"r"}}'
            self.enqueue(Message(id=self.last, queue=queue, body=body or text.encode(), priority=1))

    def bury(self, queue: str = "default", number: int = 1, message: str = "no") -> None:
        for _ in range(number):
            consumer = self.consumer([queue])
            held = consumer.reserve(timedelta(0))
            assert held is not None
            consumer.settle(held, Bury("error", message))


class Places(MemoryStore):
    """A store that others can reach, as long as it does not fail."""

    def __init__(self, clock: VirtualClock, reach: Reach = Reach.HOST) -> None:
        super().__init__(Entries(clock, threading.RLock()))
        self.reach = reach
        self.failing: Exception | None = None
        self.got = 0

    @property
    def capabilities(self) -> StoreCapabilities:
        return StoreCapabilities(reach=self.reach)

    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        if self.failing is not None:
            raise self.failing
        return super().scan_entries(space, prefix, after, limit)

    def get_entry(self, space: str, key: str) -> Entry | None:
        self.got += 1
        return super().get_entry(space, key)


@pytest.fixture
def queue(clock: VirtualClock) -> Queue:
    return Queue(clock)


@pytest.fixture
def store(clock: VirtualClock) -> Places:
    return Places(clock)


@pytest.fixture
def looking(queue: Queue, store: Places, clock: VirtualClock) -> Callable[..., Overviews]:
    def make(adapter: Queue = queue, kept: Places | None = store, **options: Any) -> Overviews:
        return Overviews(adapter, kept, clock, **({"configured": ("default",)} | options))

    return make


def worker(store: Places, clock: VirtualClock, age: float = 0, **fields: Any) -> WorkerEntry:
    now = clock.now()
    given: dict[str, Any] = {
        "id": "w1",
        "host": "north",
        "pid": 7,
        "version": "1",
        "state": WorkerState.RUNNING,
        "queues": ("default",),
        "types": ("t",),
        "slots": 2,
        "busy": 0,
        "started_at": now,
        "seen_at": now - timedelta(seconds=age),
    }
    entry = WorkerEntry(**given | fields)
    write_entry(store, entry)
    return entry


# --- queues --------------------------------------------------------------------------------------


def test_configured_queues_come_first_and_others_that_hold_jobs_follow(
    queue: Queue, looking: Callable[..., Overviews], clock: VirtualClock
) -> None:
    queue.give("a", 2)
    queue.give("default")
    queue.pause("a", timedelta(hours=1))
    clock.advance(3 * SECOND)
    one, other = looking().look().queues.rows
    assert (one.stats.queue, other.stats.queue) == ("default", "a")
    assert (other.stats.ready, other.stats.oldest_ready) == (2, 3 * SECOND)
    assert other.stats.paused is not None
    assert one.stats.paused is None


def test_only_named_queues_and_what_belongs_to_them_are_shown(
    queue: Queue, store: Places, looking: Callable[..., Overviews], clock: VirtualClock
) -> None:
    for name in ("a", "b"):
        queue.give(name, 2)
        queue.bury(name)
    job = {name: BusyJob(id=name, type="t", queue=name, since=clock.now()) for name in "ab"}
    worker(store, clock, id="both", queues=("a", "b"), busy=2, jobs=tuple(job.values()))
    worker(store, clock, id="other", queues=("b",))
    seen = looking(only=("a", "a")).look()
    assert [one.stats.queue for one in seen.queues.rows] == ["a"]
    assert [one.job.queue for one in seen.burials.rows] == ["a"]
    assert [one.entry.id for one in seen.workers.rows] == ["both"]
    assert [one.job.id for one in seen.running.rows] == ["a"]
    assert seen.stats("a") is not None
    assert seen.stats("b") is None


def test_a_rate_is_that_of_the_last_minute_and_none_before_there_is_time_for_it(
    queue: Queue, looking: Callable[..., Overviews], clock: VirtualClock
) -> None:
    """S17: two seconds are no minute."""
    overviews = looking()

    def change() -> float | None:
        return overviews.look().queues.rows[0].change

    assert change() is None
    queue.give(number=3)
    clock.advance(4 * SECOND)
    assert change() is None
    clock.advance(2 * SECOND)
    assert change() == pytest.approx(30.0)
    clock.advance(54 * SECOND)
    assert change() == pytest.approx(3.0)
    clock.advance(60 * SECOND)
    assert change() == 0.0
    queue.purge("default")
    clock.advance(30 * SECOND)
    assert change() == pytest.approx(-3 * 60 / 90)


def test_what_was_gone_has_no_rate_when_it_is_back(
    queue: Queue, store: Places, looking: Callable[..., Overviews], clock: VirtualClock
) -> None:
    overviews = looking(configured=())

    def rates() -> list[float | None]:
        seen = overviews.look()
        return [*(one.change for one in seen.queues.rows), *(one.rate for one in seen.workers.rows)]

    for _ in range(2):
        queue.give()
        worker(store, clock)
        assert rates() == [None, None]
        queue.purge("default")
        store.delete("workers", "w1")
        clock.advance(10 * SECOND)
        assert rates() == []


def test_no_more_queues_are_counted_than_are_shown(
    queue: Queue, looking: Callable[..., Overviews], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_QUEUES", 3)
    for number in range(5):
        queue.give(f"q{number}")
    part = looking().look().queues
    assert [one.stats.queue for one in part.rows] == ["default", "q0", "q1"]
    assert part.left_out == 3
    assert part.missing == ("3 more queues are not looked at: name those that you want to see",)
    assert queue.asked.count("stats") == 3


def test_what_an_adapter_cannot_show_is_named(clock: VirtualClock, looking: Callable[..., Overviews]) -> None:
    """S17."""
    bare = Queue(clock, without=(Buried, Pause, Delete), exact=False)
    bare.is_age_known = False
    bare.give()
    seen = looking(bare, None, no_store="set one").look()
    assert [text.partition(" ")[0] for text in seen.queues.missing] == [
        "'counts'",
        "'oldest_ready'",
        "'pause'",
    ]
    assert seen.burials.missing[0].startswith("'buried' is missing: the adapter 'moon'")
    for part in (seen.running, seen.workers):
        assert part.missing[0].startswith("'store' is missing")
        assert "set one" in part.missing[0]
        assert not part.rows
    assert set(seen.refused) == {Action.PAUSE, Action.RESUME, Action.KICK, Action.DELETE}
    assert "'delete' is missing" in seen.refused[Action.DELETE]
    assert "'pause' is missing" in seen.refused[Action.RESUME]
    assert seen.queues.rows[0].workers is None


def test_nothing_is_said_to_be_missing_where_nothing_is(
    queue: Queue, looking: Callable[..., Overviews]
) -> None:
    queue.give()
    seen = looking().look()
    assert (seen.queues.missing, seen.burials.missing, seen.running.missing, seen.workers.missing) == (
        (),
    ) * 4
    assert not seen.refused


def test_a_view_that_only_looks_refuses_every_action(looking: Callable[..., Overviews]) -> None:
    refused = looking(read_only=True).look().refused
    assert set(refused) == set(Action)
    assert "--read-only" in refused[Action.PAUSE]


# --- burials -------------------------------------------------------------------------------------


def test_the_last_burials_come_first_with_type_reason_and_text(
    queue: Queue, looking: Callable[..., Overviews], clock: VirtualClock
) -> None:
    for name, text in (("a", "first"), ("b", "second"), ("a", "third")):
        queue.give(name)
        queue.bury(name, message=text)
        clock.advance(SECOND)
    rows = looking().look().burials.rows
    assert [one.job.message for one in rows] == ["third", "second", "first"]
    assert (rows[0].type, rows[0].ref, rows[0].job.reason, rows[0].job.id) == ("t", "r", "error", queue.last)


def test_a_buried_body_that_is_no_request_has_no_type(
    queue: Queue, looking: Callable[..., Overviews]
) -> None:
    queue.give(body=b"\xff")
    queue.bury()
    (row,) = looking().look().burials.rows
    assert (row.type, row.ref) == (None, None)


def test_so_many_burials_are_shown_and_the_rest_is_counted(
    queue: Queue, looking: Callable[..., Overviews], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BURIALS", 2)
    queue.give(number=5)
    queue.bury(number=5)
    part = looking().look().burials
    assert (len(part.rows), part.left_out) == (2, 3)
    assert part.rows[0].job.id == queue.last


def test_a_queue_with_too_many_burials_is_not_read_and_the_command_that_reads_it_is_named(
    queue: Queue, looking: Callable[..., Overviews], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S17: those that are listed first are not the last ones."""
    monkeypatch.setattr(module, "MOST_READ", 5)
    for name, number in (("big", 6), ("default", 2), ("last", 4)):
        queue.give(name, number)
        queue.bury(name, number)
    part = looking().look().burials
    assert [one.job.queue for one in part.rows] == ["default"] * 2
    assert part.left_out == 10
    assert [text.partition(":")[2].strip() for text in part.missing] == [
        "kessel buried list --newest --queue big",
        "kessel buried list --newest --queue last",
    ]
    assert "buried big" not in queue.asked


def test_as_many_burials_as_are_read_are_shown(
    queue: Queue, looking: Callable[..., Overviews], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_READ", 5)
    queue.give(number=5)
    queue.bury(number=5)
    part = looking().look().burials
    assert (len(part.rows), part.missing) == (5, ())
    assert part.rows[0].job.id == queue.last


def test_burials_are_read_again_when_a_count_changes_or_after_ten_seconds(
    queue: Queue, looking: Callable[..., Overviews], clock: VirtualClock
) -> None:
    queue.give(number=2)
    queue.bury()
    overviews = looking()

    def reads() -> int:
        overviews.look()
        return queue.asked.count("buried default")

    assert (reads(), reads()) == (1, 1)
    queue.bury()
    assert (reads(), reads()) == (2, 2)
    clock.advance(11 * SECOND)
    assert reads() == 3


# --- workers and what they run -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "standing"),
    [
        ({}, Standing.LIVE),
        ({"busy": 2}, Standing.BUSY),
        ({"busy": 2, "disconnected": 1}, Standing.DISCONNECTED),
        ({"disconnected": 1, "state": WorkerState.STOPPING}, Standing.STOPPING),
        ({"age": 20, "state": WorkerState.STOPPING}, Standing.SILENT),
    ],
)
def test_a_worker_stands_as_its_entry_says(
    store: Places, looking: Callable[..., Overviews], clock: VirtualClock, fields: Any, standing: Standing
) -> None:
    """S27."""
    worker(store, clock, **fields)
    (row,) = looking().look().workers.rows
    assert row.standing is standing


def test_a_queue_counts_the_workers_that_serve_it_and_are_not_silent(
    queue: Queue, store: Places, looking: Callable[..., Overviews], clock: VirtualClock
) -> None:
    queue.give("other")
    worker(store, clock)
    worker(store, clock, age=20, id="w2")
    worker(store, clock, id="w3", queues=("default", "x"))
    rows = looking().look().queues.rows
    assert [(one.stats.queue, one.workers) for one in rows] == [("default", 2), ("other", 0)]


def test_the_rate_of_a_worker_is_that_between_its_entries(
    store: Places, looking: Callable[..., Overviews], clock: VirtualClock
) -> None:
    overviews = looking()
    worker(store, clock, counts={"success": 10, "failed": 1})
    assert overviews.look().workers.rows[0].rate is None
    clock.advance(9 * SECOND)
    assert overviews.look().workers.rows[0].rate is None
    clock.advance(SECOND)
    worker(store, clock, counts={"success": 14, "failed": 2})
    assert overviews.look().workers.rows[0].rate == pytest.approx(30.0)
    clock.advance(5 * SECOND)
    assert overviews.look().workers.rows[0].rate == pytest.approx(30.0)
    worker(store, clock, age=14, counts={"success": 1})  # by a clock that was set back
    assert overviews.look().workers.rows[0].rate == pytest.approx(30.0)


def test_running_jobs_are_shown_longest_first_with_the_progress_of_this_attempt(
    store: Places, looking: Callable[..., Overviews], clock: VirtualClock
) -> None:
    """S27."""
    now = clock.now()

    def job(name: str | None, since: float) -> BusyJob:
        return BusyJob(id=name, type="t", queue="default", since=now - timedelta(seconds=since))

    worker(store, clock, jobs=(job("new", 5), job(None, 1)), busy=4)
    worker(store, clock, age=20, id="w2", jobs=(job("old", 60),), busy=1)
    for name, ago in (("new", 10), ("old", 30)):
        progress = Progress(done=1, total=4, note="x", at=now - timedelta(seconds=ago))
        store.put("progress", name, encode_progress(progress))
    part = looking().look().running
    assert [one.job.id for one in part.rows] == ["old", "new", None]
    assert [one.is_silent for one in part.rows] == [True, False, False]
    assert part.rows[0].progress is not None
    assert part.rows[0].progress.share == 0.25
    assert part.rows[1].progress is None  # from before this attempt
    assert part.left_out == 2


def test_progress_is_asked_for_only_of_what_is_shown(
    store: Places, looking: Callable[..., Overviews], clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_RUNNING", 3)
    jobs = tuple(BusyJob(id=f"{n}", type="t", queue="default", since=clock.now()) for n in range(8))
    worker(store, clock, jobs=jobs, busy=8)
    part = looking().look().running
    assert (len(part.rows), part.left_out, store.got) == (3, 5, 3)


def test_a_store_of_one_process_says_that_others_are_not_seen(
    queue: Queue, clock: VirtualClock, looking: Callable[..., Overviews]
) -> None:
    own = Places(clock, Reach.PROCESS)
    worker(own, clock)
    seen = looking(queue, own).look()
    assert seen.workers.missing[0].startswith("'reach'")
    assert len(seen.workers.rows) == 1
    assert seen.queues.rows[0].workers is None


def test_so_many_workers_are_shown_and_no_queue_counts_the_rest(
    store: Places, looking: Callable[..., Overviews], clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WORKERS", 2)
    for number in range(3):
        worker(store, clock, id=f"w{number}")
    seen = looking().look()
    assert (len(seen.workers.rows), seen.workers.left_out) == (2, 1)
    assert seen.queues.rows[0].workers is None


# --- away ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AdapterUnavailable("redis://u:secret@h refused"), KeyError("odd")])
def test_while_the_queue_is_away_its_part_stands_and_says_since_when(
    queue: Queue, looking: Callable[..., Overviews], clock: VirtualClock, error: Exception
) -> None:
    queue.give(number=2)
    queue.bury()
    overviews = looking()
    before = overviews.look()
    queue.failing = error
    clock.advance(SECOND)
    since = clock.now()
    overviews.look()
    clock.advance(SECOND)
    asked = len(queue.asked)
    seen = overviews.look()
    assert len(queue.asked) == asked + 1  # whoever is away is not waited for twice
    assert seen.at == clock.now()
    assert seen.queues.rows == before.queues.rows
    assert seen.burials.rows == before.burials.rows
    assert seen.queues.away is not None
    assert seen.queues.away.since == since
    assert "secret" not in seen.queues.away.why
    assert seen.burials.away == seen.queues.away
    assert seen.workers.away is None
    queue.failing = None
    back = overviews.look()
    assert back.queues.away is None
    assert back.burials.away is None
    assert back.burials.rows


def test_while_the_store_is_away_workers_stand_and_the_queues_go_on(
    queue: Queue, store: Places, looking: Callable[..., Overviews], clock: VirtualClock
) -> None:
    job = BusyJob(id="x", type="t", queue="default", since=clock.now())
    worker(store, clock, jobs=(job,), busy=1)
    overviews = looking()
    overviews.look()
    store.failing = AdapterUnavailable("gone")
    queue.give()
    seen = overviews.look()
    assert seen.queues.away is None
    assert seen.queues.rows[0].stats.ready == 1
    assert seen.queues.rows[0].workers is None
    for part in cast("list[Any]", [seen.workers, seen.running]):
        assert part.away.why == "gone"
        assert len(part.rows) == 1
    store.failing = None
    assert overviews.look().running.away is None


def test_a_queue_that_was_never_seen_is_away_without_rows(
    queue: Queue, looking: Callable[..., Overviews]
) -> None:
    queue.failing = AdapterUnavailable("refused")
    seen = looking().look()
    assert seen.queues.rows == ()
    assert seen.queues.away is not None
