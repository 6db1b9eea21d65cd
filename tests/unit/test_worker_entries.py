"""What a worker writes about itself into the store, and who reads it (S27)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.entries import Entries, MemoryStore
from kessel_memory.options import MemoryOptions

from kessel_core import (
    AdapterUnavailable,
    BusyJob,
    CapabilityMissing,
    Config,
    DecodeError,
    JobManager,
    Worker,
    WorkerConfig,
    WorkerEntry,
    WorkerState,
)
from kessel_core.contract import AdapterContext, FacetKind, Store
from kessel_core.testing import VirtualClock
from kessel_core.wire.entries import decode_worker, encode_worker
from tests.until import until

SECOND = timedelta(seconds=1)
BOUND = 20.0
NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


class Noted(MemoryStore):
    """A store that counts what is put and removed, and fails as long as it is told to."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(Entries(clock, threading.RLock()))
        self.puts = 0
        self.tried = 0
        self.removed = 0
        self.failing: Exception | None = None
        #: How long a write takes, by the clock.
        self.takes = timedelta(0)

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        self.tried += 1
        if self.failing is not None:
            raise self.failing
        version = super().put_entry(space, key, value, expect, ttl)
        self.puts += 1
        assert isinstance(self._clock, VirtualClock)
        self._clock.advance(self.takes)
        return version

    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        if self.failing is not None:
            raise self.failing
        threading.Event().wait(0.05)  # others go on meanwhile
        found = super().delete_entry(space, key, expect)
        self.removed += 1
        return found


class Here:
    """An application on a clock that only the test moves, and a store that notes what is written."""

    def __init__(self, clock: Any, handlers: Any, config: dict[str, Any]) -> None:
        self.clock = clock
        self.store = Noted(self.clock)
        self.manager = JobManager(
            "memory://?lease=1h",
            store=self.store,
            handlers=handlers,
            clock=self.clock,
            config=Config(worker=WorkerConfig(**config)),
        ).connect()

    def workers(self) -> list[WorkerEntry]:
        return self.manager.workers()


class Stuck:
    """A handler that says when it runs, and waits to be let go."""

    def __init__(self) -> None:
        self.running, self.go_on = threading.Event(), threading.Event()

    def __call__(self, payload: Any) -> None:
        self.running.set()
        assert self.go_on.wait(BOUND)


@pytest.fixture
def open_here(watched: Callable[[], Any]) -> Iterator[Callable[..., Here]]:
    found: list[Here] = []

    def open_(handlers: Any = None, **config: Any) -> Here:
        found.append(Here(watched(), handlers, config))
        return found[-1]

    yield open_
    for here in found:
        here.store.failing = None
        here.manager.stop(timedelta(0))
        here.manager.close()


Open = Callable[..., Here]


def listed(here: Here) -> WorkerEntry:
    until(here.workers)
    (entry,) = here.workers()
    return entry


# --- what it says -------------------------------------------------------------------------------------


def test_s27_a_worker_says_who_and_where_it_is_and_what_it_can_do(open_here: Open) -> None:
    here = open_here({"b": print, "a": print})
    here.manager.start(slots=3, queues=["fast", "slow"])
    entry = listed(here)
    assert (entry.host, entry.pid) == (socket.gethostname(), os.getpid())
    assert (entry.queues, entry.slots, entry.busy, entry.jobs) == (("fast", "slow"), 3, 0, ())
    assert {"a", "b"} <= set(entry.types)
    assert entry.state is WorkerState.RUNNING
    assert entry.started_at == entry.seen_at == here.clock.now()
    from importlib.metadata import version

    assert entry.version == version("kessel-core")


@pytest.mark.parametrize(("is_listed", "seconds"), [(True, 10.0), (False, 3600.0)])
def test_s27_while_no_job_reports_it_wakes_for_its_entry_only(
    open_here: Open, is_listed: bool, seconds: float
) -> None:
    here = open_here({"a": print}, listed=is_listed)
    here.manager.start()
    here.clock.until_looked()
    here.clock.pass_seconds(int(seconds))
    assert set(here.clock.asked) == {seconds}


def test_s27_it_says_what_it_runs_and_what_came_of_the_others(open_here: Open) -> None:
    stuck = Stuck()
    here = open_here({"stuck": stuck, "quick": lambda payload: None})
    here.manager.request("quick")
    here.manager.start(slots=2)
    until(lambda: here.manager.adapter.stats("default").total == 0)
    here.clock.advance(2 * SECOND)
    taken_at = here.clock.now()
    request = here.manager.request("stuck")
    assert stuck.running.wait(BOUND)
    here.clock.pass_seconds(10)
    until(lambda: here.workers()[0].busy)
    (entry,) = here.workers()
    assert entry.jobs == (BusyJob(id=request.id, type="stuck", queue="default", since=taken_at),)
    assert (entry.busy, entry.counts) == (1, {"success": 1})
    assert entry.seen_at - entry.started_at >= 10 * SECOND
    stuck.go_on.set()


def test_s39_it_says_how_many_slots_cannot_reach_the_queue(open_here: Open) -> None:
    here = open_here()
    worker = here.manager.start(slots=3)
    assert listed(here).disconnected == 0
    for slot in worker._slots[:2]:
        worker._note_connection(slot, False)
    here.clock.pass_seconds(10)
    until(lambda: here.workers()[0].disconnected)
    assert listed(here).disconnected == worker.health().disconnected == 2


def test_s27_it_is_written_every_ten_seconds_and_lives_for_thirty(open_here: Open) -> None:
    here = open_here()
    here.manager.start()
    listed(here)
    here.clock.pass_seconds(9)
    assert here.store.puts == 1
    here.clock.pass_seconds(1)
    until(lambda: here.store.puts == 2)
    seen = here.clock.now()
    assert listed(here).seen_at == seen
    here.store.failing = AdapterUnavailable("as if the worker was dead")
    here.clock.pass_seconds(15)
    assert not listed(here).is_silent(here.clock.now())
    here.clock.pass_seconds(1)
    assert listed(here).is_silent(here.clock.now())
    here.clock.pass_seconds(13)
    assert here.workers()
    here.clock.pass_seconds(1)
    assert here.workers() == []


def test_s27_a_slow_store_does_not_make_the_entries_rarer(open_here: Open) -> None:
    here = open_here()
    here.store.takes = 0.3 * SECOND
    here.manager.start()
    began = listed(here).seen_at
    here.clock.pass_seconds(9)
    assert here.store.puts == 1
    looked = here.clock._begun
    here.clock.advance(0.7 * SECOND)
    here.clock.until_looked(looked)
    assert here.store.puts == 2
    assert listed(here).seen_at - began == 10 * SECOND


def test_s27_entries_that_a_slow_store_kept_from_being_written_are_not_made_up_for(
    open_here: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S27: one entry each ten seconds; those of a minute in which the store hung would all say the same."""
    here = open_here()
    put = here.store.put_entry

    def hangs_once(*given: Any) -> int:
        version = put(*given)
        if here.store.puts == 1:
            here.clock.advance(60 * SECOND)
        return version

    monkeypatch.setattr(here.store, "put_entry", hangs_once)
    here.manager.start()
    until(lambda: here.store.puts == 2)
    here.clock.pass_seconds(9)
    assert here.store.puts == 2
    here.clock.pass_seconds(1)
    assert here.store.puts == 3


def test_fault_45_without_its_descriptors_a_worker_does_not_touch_the_store(
    open_here: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_here()
    worker = here.manager.start()
    listed(here)
    assert worker._reporter is not None
    monkeypatch.setattr(worker._reporter._descriptors, "check", lambda: False)
    here.clock.pass_seconds(20)
    worker.stop()
    worker.join()
    assert (here.store.tried, here.store.removed) == (1, 0)


def test_s27_a_store_that_is_away_is_told_of_once_and_tried_every_ten_seconds(
    open_here: Open, caplog: pytest.LogCaptureFixture
) -> None:
    ran = threading.Event()
    here = open_here({"a": lambda payload: ran.set()})
    here.store.failing = AdapterUnavailable("no route to it")
    here.manager.request("a")
    with caplog.at_level("WARNING", "kessel.worker"):
        here.manager.start()
        assert ran.wait(BOUND)
        here.clock.pass_seconds(30)
    assert here.store.tried == 4
    told = [record.getMessage() for record in caplog.records]
    assert told == ["the entry of this worker could not be written: no route to it"]
    here.store.failing = None
    here.clock.pass_seconds(10)
    listed(here)


def test_s27_a_store_that_fails_in_its_own_way_does_not_end_the_reports(open_here: Open) -> None:
    here = open_here()
    here.store.failing = RuntimeError("a bug")
    here.manager.start()
    until(lambda: here.store.tried)
    here.store.failing = None
    here.clock.pass_seconds(10)
    listed(here)


def test_s27_an_entry_that_cannot_be_made_does_not_end_the_reports(
    open_here: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(worker: Worker) -> dict[str, int]:
        raise RuntimeError("a bug")

    here = open_here()
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "counts", property(fail))
        here.manager.start()
        until(lambda: "could not be written: a bug" in caplog.text)
    here.clock.pass_seconds(10)
    listed(here)


def test_s27_a_store_that_is_away_once_more_is_told_of_once_more(
    open_here: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Who mended the first outage must hear of the second one."""
    here = open_here()
    with caplog.at_level("WARNING", "kessel.worker"):
        here.store.failing = AdapterUnavailable("first")
        here.manager.start()
        here.clock.pass_seconds(10)
        here.store.failing = None
        here.clock.pass_seconds(10)
        here.store.failing = AdapterUnavailable("second")
        here.clock.pass_seconds(20)
    told = [record.getMessage() for record in caplog.records]
    said = "the entry of this worker could not be written"
    assert told == [f"{said}: first", f"{said}: second"]


def test_s27_a_bug_of_a_store_is_told_with_its_traceback_each_time(
    open_here: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """The second one may be another one; a store that is away is the same outage as long as it lasts."""
    here = open_here()
    with caplog.at_level("DEBUG", "kessel.worker"):
        here.store.failing = AdapterUnavailable("away")
        here.manager.start()
        here.clock.pass_seconds(10)
        here.store.failing = RuntimeError("a bug")
        here.clock.pass_seconds(20)
    told = [record for record in caplog.records if "could not be written" in record.getMessage()]
    levels = [(record.levelname, record.exc_info is not None) for record in told]
    assert levels == [("WARNING", False), ("DEBUG", False), ("WARNING", True), ("WARNING", True)]


def test_s27_once_no_job_reports_any_more_it_wakes_no_more(open_here: Open) -> None:
    """One report must not make an idle worker wake once a second for the rest of its life."""
    here = open_here({"a": lambda payload, job: job.progress(1)}, listed=False)
    here.manager.start()
    here.clock.until_looked()
    here.manager.request("a")
    until(lambda: here.clock.asked[-1] == 1.0)  # it was told, and looks a second later
    until(lambda: here.manager.adapter.stats("default").total == 0)
    here.clock.pass_seconds(2)
    assert here.clock.asked[-1] > 3000.0


def test_s27_many_short_jobs_that_report_do_not_put_off_the_entry(open_here: Open) -> None:
    """Else the busiest workers are those that nobody sees."""
    here = open_here({"a": lambda payload, job: job.progress(1)})
    worker = here.manager.start()
    began = listed(here).seen_at
    for count in range(1, 21):
        here.clock.until_looked()
        looked = here.clock._begun
        here.manager.request("a")
        until(lambda count=count: worker.counts == {"success": count})
        here.clock.until_looked(looked)
        here.clock.advance(SECOND / 2)
    until(lambda: listed(here).seen_at == began + 10 * SECOND, seconds=5.0)


def test_s27_a_worker_that_stops_says_so_and_is_gone_when_it_has_ended(open_here: Open) -> None:
    stuck = Stuck()
    here = open_here({"a": stuck})
    here.manager.request("a")
    worker = here.manager.start()
    assert stuck.running.wait(BOUND)
    listed(here)
    worker.stop(timedelta(minutes=5))
    until(lambda: here.workers()[0].state is WorkerState.STOPPING)
    (entry,) = here.workers()
    assert [job.type for job in entry.jobs] == ["a"]
    here.clock.until_looked()
    puts = here.store.puts
    here.clock.pass_seconds(3)
    assert here.store.puts == puts
    stuck.go_on.set()
    worker.join()
    assert here.workers() == []
    assert here.store.removed == 1


def test_s27_a_worker_whose_grace_is_over_is_not_listed_any_more(open_here: Open) -> None:
    stuck = Stuck()
    here = open_here({"a": stuck})
    here.manager.request("a")
    here.manager.start()
    assert stuck.running.wait(BOUND)
    listed(here)
    here.manager.stop(timedelta(0))
    assert here.workers() == []
    stuck.go_on.set()


def test_s27_a_store_that_is_away_does_not_keep_a_worker_from_ending(open_here: Open) -> None:
    here = open_here()
    worker = here.manager.start()
    listed(here)
    here.store.failing = AdapterUnavailable("away")
    here.manager.stop()
    assert not worker.health().running
    here.store.failing = None
    assert here.workers(), "it stays until its time is over"
    here.clock.advance(30 * SECOND)
    assert here.workers() == []


def test_s27_a_worker_that_has_ended_is_told_of_no_report_any_more(open_here: Open) -> None:
    """Else an application that drains again and again would tell all workers that it ever had."""
    here = open_here({"a": print})
    told = here.manager._need().reports.begun
    for _ in range(2):
        worker = here.manager.worker(slots=1)
        worker.start()
        until(lambda: len(told) == 1)
        worker.stop()
        worker.join()
        until(lambda: not told)


def test_s27_each_worker_has_an_entry_of_its_own(open_here: Open) -> None:
    here = open_here()
    first, second = here.manager.worker(queues=["a"]), here.manager.worker(queues=["b"])
    first.start()
    until(here.workers)
    here.clock.advance(SECOND)
    second.start()
    until(lambda: len(here.workers()) == 2)
    assert [one.queues for one in here.workers()] == [("a",), ("b",)]
    first.stop()
    first.join()
    assert [one.queues for one in here.workers()] == [("b",)]
    second.stop()
    second.join()


# --- where nothing is written -------------------------------------------------------------------------


def test_s27_a_worker_that_is_not_to_be_listed_writes_nothing(open_here: Open) -> None:
    here = open_here(listed=False)
    here.manager.start()
    here.clock.pass_seconds(20)
    here.manager.stop()
    assert (here.store.tried, here.store.removed) == (0, 0)


def test_s27_a_short_drain_writes_nothing(open_here: Open) -> None:
    here = open_here({"a": lambda payload: None})
    here.manager.request_many(["a", "a"])
    assert here.manager.worker().drain() == {"success": 2}
    assert (here.store.tried, here.store.removed) == (0, 0)


def test_s27_a_long_drain_is_listed(open_here: Open) -> None:
    stuck = Stuck()
    here = open_here({"a": stuck})
    here.manager.request("a")
    worker = here.manager.worker()
    thread = threading.Thread(target=worker.drain)
    thread.start()
    assert stuck.running.wait(BOUND)
    here.clock.pass_seconds(9)
    assert here.workers() == []
    here.clock.pass_seconds(1)
    assert listed(here).busy == 1
    stuck.go_on.set()
    thread.join(BOUND)
    assert here.workers() == []


class Bare(MemoryAdapter):
    """A memory adapter without a store."""

    def facet(self, kind: FacetKind[Any]) -> Any:
        return None if kind is Store else super().facet(kind)


def test_s17_without_a_store_no_thread_reports_and_nobody_is_listed() -> None:
    clock = VirtualClock(auto_advance=False)
    with JobManager(Bare(MemoryOptions(), AdapterContext(clock=clock)), clock=clock) as manager:
        worker: Worker = manager.start()
        assert worker._reporter is None
        with pytest.raises(CapabilityMissing, match="workers are listed in a store; set store"):
            manager.workers()


# --- reading ------------------------------------------------------------------------------------------


ENTRY = WorkerEntry(
    id="w",
    host="h",
    pid=7,
    version="1.0",
    state=WorkerState.STOPPING,
    queues=("q",),
    types=("a", "b"),
    slots=2,
    busy=2,
    jobs=(
        BusyJob(id="i", type="a", queue="q", since=NOW),
        BusyJob(id=None, type=None, queue="q", since=NOW + SECOND / 3),
    ),
    counts={"success": 3},
    started_at=NOW,
    seen_at=NOW + SECOND,
)


def test_s27_an_entry_comes_back_equal_and_what_is_none_is_left_out_of_the_list(
    open_here: Open, caplog: pytest.LogCaptureFixture
) -> None:
    body = encode_worker(ENTRY)
    assert decode_worker(body) == ENTRY
    assert decode_worker(body[:-1] + b',"new":[1]}') == ENTRY
    cut_off = attrs.evolve(ENTRY, disconnected=2)
    assert decode_worker(encode_worker(cut_off)) == cut_off
    older = encode_worker(ENTRY).replace(b'"disconnected":0,', b"")
    assert decode_worker(older) == ENTRY
    for wrong in (b"", b"[]", b"{}", body.replace(b"stopping", b"asleep"), b"\xff"):
        with pytest.raises(DecodeError, match=r"^it is not the entry of a worker: "):
            decode_worker(wrong)
    here = open_here()
    here.manager.store.put("workers", "w", body)
    here.manager.store.put("workers", "x", b"{}")
    with caplog.at_level("WARNING", "kessel.worker"):
        assert here.workers() == [ENTRY]
    assert "worker x" in caplog.text


def test_s27_however_many_there_are_each_is_listed_in_the_order_of_its_start(open_here: Open) -> None:
    here = open_here()
    for n in range(1100):
        entry = attrs.evolve(ENTRY, id=f"{n:04}", started_at=NOW - n * SECOND)
        here.manager.store.put("workers", entry.id, encode_worker(entry))
    assert [one.id for one in here.workers()] == [f"{n:04}" for n in reversed(range(1100))]


def test_s27_an_entry_names_a_hundred_jobs_at_most_those_that_run_longest(
    open_here: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kessel_core.contract import Reservation
    from kessel_core.runtime.lease import Lease

    here = open_here()
    worker = here.manager.start()
    listed(here)

    def leases() -> Iterator[Lease]:
        for n in reversed(range(150)):
            reservation = Reservation(f"{n:03}", "q", b"\xff", 1)
            lease = Lease(here.manager.adapter, None, reservation, here.clock)  # type: ignore[arg-type]
            lease.since = 100.0 + n
            yield lease

    assert worker._reporter is not None
    monkeypatch.setattr(worker._reporter, "_leases", leases)
    entry = worker._reporter._entry(WorkerState.RUNNING)
    assert (entry.busy, len(entry.jobs)) == (150, 100)
    assert [job.id for job in entry.jobs[:2]] == ["000", "001"]
    assert entry.jobs[0].type is None
