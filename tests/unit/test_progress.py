"""Progress of running jobs: the latest value, seldom written, and never a reason to fail (S27)."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, ClassVar
from unittest.mock import Mock

import attrs
import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.entries import Entries, MemoryStore
from kessel_memory.options import MemoryOptions

from kessel_core import (
    AdapterUnavailable,
    CapabilityMissing,
    Config,
    DecodeError,
    Job,
    JobContext,
    JobManager,
    JobsConfig,
    LeaseLost,
    Progress,
    ResultPending,
    ResultsConfig,
    ResultTimeout,
    Status,
    StoreRejected,
    Transient,
    Worker,
)
from kessel_core.contract import AdapterContext, Capabilities, FacetKind, Store
from kessel_core.features.progress import Reports
from kessel_core.testing import VirtualClock, run_until_idle
from kessel_core.wire.entries import decode_progress, encode_progress
from tests.until import until

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
BOUND = 20.0
NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


class Apart(MemoryAdapter):
    """A memory adapter without a store, which cannot write entries with a settlement."""

    name: ClassVar[str] = "apart"

    @property
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities, follow=False)

    def facet(self, kind: FacetKind[Any]) -> Any:
        return None if kind is Store else super().facet(kind)


class Noted(MemoryStore):
    """A store that notes what is put, and fails as long as it is told to."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(Entries(clock, threading.RLock()))
        self.puts: list[tuple[str, Progress]] = []
        self.failing: Exception | None = None
        self.tried = 0
        #: The first write waits for a second one, but not long.
        self.lets_others_go_first = False
        self.second = threading.Event()
        self.is_open = threading.Event()
        self.is_open.set()

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        if space == "progress":
            self.tried += 1
            assert self.is_open.wait(BOUND)
            if self.lets_others_go_first:
                if self.tried == 1:
                    self.second.wait(0.2)
                else:
                    self.second.set()
            if self.failing is not None:
                raise self.failing
            self.puts.append((key, decode_progress(value)))
        return super().put_entry(space, key, value, expect, ttl)

    @property
    def done(self) -> list[float]:
        return [progress.done for _, progress in self.puts]


@pytest.fixture
def managers() -> Iterator[list[JobManager]]:
    found: list[JobManager] = []
    yield found
    for manager in found:
        manager.close()


@pytest.fixture
def noted(
    managers: list[JobManager], watched: Callable[[], VirtualClock]
) -> Callable[..., tuple[JobManager, Noted]]:
    """Connects a manager whose store notes what is put; its clock stands still unless the test moves it."""

    def open_(handlers: Any, **more: Any) -> tuple[JobManager, Noted]:
        clock = watched()
        store = Noted(clock)
        adapter = Apart(MemoryOptions(), AdapterContext(clock=clock))
        manager = JobManager(adapter, store=store, handlers=handlers, clock=clock, **more)
        managers.append(manager.connect())
        return manager, store

    return open_


Open = Callable[..., tuple[JobManager, Noted]]


@pytest.fixture(params=["together", "apart"])
def app(request: pytest.FixtureRequest, managers: list[JobManager]) -> Callable[..., JobManager]:
    def open_(handlers: Any, config: Config | None = None) -> JobManager:
        clock = VirtualClock()
        if request.param == "together":
            manager = JobManager("memory://", handlers=handlers, config=config, clock=clock)
        else:
            adapter = Apart(MemoryOptions(), AdapterContext(clock=clock))
            manager = JobManager(adapter, store="memory://", handlers=handlers, config=config, clock=clock)
        managers.append(manager.connect())
        return manager

    return open_


# --- what a handler may say -----------------------------------------------------------------------------


def test_s27_every_mistake_in_a_report_is_named_at_once() -> None:
    job = JobContext(Job(type="a"), 1, VirtualClock())
    with pytest.raises(ValueError) as caught:
        job.progress(-1, total=-2, note=7)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "progress: done must be a number from 0 to 10**18, got -1; total must be a number from 0"
        " to 10**18, or None, got -2; note must be text, got 7"
    )
    for wrong in (True, math.nan, math.inf, "1", None, [1], 10**18 + 1, 10**5000, 1e30):
        with pytest.raises(ValueError, match="done must be"):
            job.progress(wrong)  # type: ignore[arg-type]
        if wrong is not None:
            with pytest.raises(ValueError, match="total must be"):
                job.progress(1, wrong)  # type: ignore[arg-type]
    job.progress(0, 0.5)
    job.progress(0, 0)  # of nothing to do, as `total=len(rows)` says, which is no reason to bury the job
    job.progress(10**18, 10**18)


def test_s27_other_numbers_become_plain_ones_and_notes_fit() -> None:
    progress = Progress.checked(Fraction(1, 2), Fraction(2), "x" * 300 + "\ud800", NOW)
    assert (progress.done, progress.total, len(progress.note)) == (0.5, 2.0, 200)
    assert Progress.checked(1, None, "a\ud800b", NOW).note == "a?b"


def test_s27_progress_reads_well() -> None:
    def text(done: float, total: float | None = None, note: str = "") -> str:
        return str(Progress(done=done, total=total, note=note, at=NOW))

    assert text(1200) == "1,200"
    assert text(1999, 2000, "rows") == "1,999 of 2,000 (99 %), rows"
    assert text(3, 2) == "3 of 2 (100 %)"
    assert text(0, 0) == "0 of 0 (100 %)"
    whole = [f"{done} of 100 ({done} %)" for done in range(101)]
    assert [text(done, 100) for done in range(101)] == whole, "no float makes it one too low"
    assert text(0.29, 1) == "0.29 of 1 (29 %)"
    assert text(10**18 - 1, 10**18).endswith("(99 %)"), "all is done when it is"
    assert Progress(done=3, total=2, at=NOW).share == 1.0
    assert Progress(done=0, total=0.0, at=NOW).share == 1.0
    assert Progress(done=1, total=4, at=NOW).share == 0.25
    assert Progress(done=1, at=NOW).share is None


def test_s27_progress_comes_back_equal_also_what_a_newer_version_wrote() -> None:
    progress = Progress(done=1.5, total=7, note="a\n\u00e4", at=NOW + timedelta(microseconds=7))
    assert decode_progress(encode_progress(progress)) == progress
    assert decode_progress(b'{"done":1,"at":"2026-01-05T09:00:00Z","new":1}') == Progress(done=1, at=NOW)
    for wrong in (
        b"",
        b"[]",
        b"7",
        b'{"done":1}',
        b'{"done":"x","at":"2026-01-05T09:00:00Z"}',
        b'{"done":1,"at":"2026-01-05T09:00:00"}',
        b"\xff",
    ):
        with pytest.raises(DecodeError, match="not progress"):
            decode_progress(wrong)


# --- what others see --------------------------------------------------------------------------------------


def test_s27_the_last_report_is_there_when_the_outcome_is(app: Callable[..., JobManager]) -> None:
    def do(payload: Any, job: JobContext) -> None:
        for n in range(5):
            job.progress(n, total=4, note="rows")

    manager = app({"a": do}, Config(results=ResultsConfig(keep=DAY)))
    request = manager.request("a")
    assert manager.progress(request.id) is None
    began = manager.clock.now()
    run_until_idle(manager)
    assert manager.result(request.id).ok
    assert manager.progress(request.id) == Progress(done=4, total=4, note="rows", at=began)


def test_s27_it_is_written_at_the_end_of_each_attempt_and_changes_nothing_about_the_job(
    app: Callable[..., JobManager],
) -> None:
    seen: list[Any] = []

    def do(payload: Any, job: JobContext) -> str:
        seen.append(manager.progress(job.id))
        job.progress(len(seen))
        if len(seen) < 3:
            raise Transient("again")
        return "done"

    manager = app({"a": do})
    request = manager.request("a")
    results = run_until_idle(manager)
    assert [result.status for result in results] == [Status.TRANSIENT, Status.TRANSIENT, Status.SUCCESS]
    assert [one and one.done for one in seen] == [None, 1, 2]
    progress = manager.progress(request.id)
    assert progress is not None
    assert progress.done == 3


def test_s27_it_is_kept_for_a_day_after_the_last_report(app: Callable[..., JobManager]) -> None:
    manager = app({"a": lambda payload, job: job.progress(1)})
    request = manager.request("a")
    run_until_idle(manager)
    assert isinstance(manager.clock, VirtualClock)
    manager.clock.advance(DAY - SECOND)
    assert manager.progress(request.id) is not None
    manager.clock.advance(SECOND)
    assert manager.progress(request.id) is None


def test_s27_who_waits_for_a_result_is_told_how_far_the_job_is(app: Callable[..., JobManager]) -> None:
    def do(payload: Any, job: JobContext) -> None:
        job.progress(1, 3, "pages")
        raise Transient(after=timedelta(hours=1))

    manager = app({"a": do}, Config(jobs=JobsConfig(max_attempts=2)))
    request = manager.request("a")
    silent = manager.request("a", delay=DAY)
    from kessel_core.testing import run_delivery

    consumer = manager.adapter.consumer(["default"])
    reservation = consumer.reserve(timedelta(0))
    assert reservation is not None
    run_delivery(manager, reservation, consumer)
    consumer.close()
    for timeout, kind in ((timedelta(0), ResultPending), (SECOND, ResultTimeout)):
        with pytest.raises(ResultPending, match=r"it is delayed; progress: 1 of 3 \(33 %\), pages") as caught:
            manager.result(request.id, timeout)
        assert type(caught.value) is kind
        assert caught.value.progress == manager.progress(request.id)
    with pytest.raises(ResultPending, match=r"it is delayed$") as caught:
        manager.result(silent.id)
    assert caught.value.progress is None


def test_s27_a_job_that_is_run_at_once_reports_as_well(app: Callable[..., JobManager]) -> None:
    ids: list[str] = []

    def do(payload: Any, job: JobContext) -> None:
        ids.append(job.id)
        job.progress(payload)

    manager = app({"a": do})
    assert manager.process_single_job("a", 7).ok
    progress = manager.progress(ids[0])
    assert progress is not None
    assert progress.done == 7


def test_s27_what_cannot_be_read_counts_as_nothing(
    app: Callable[..., JobManager], caplog: pytest.LogCaptureFixture
) -> None:
    manager = app({})
    manager.store.put("progress", "x", b"nonsense")
    with caplog.at_level("WARNING", "kessel"):
        assert manager.progress("x") is None
    assert "not progress" in caplog.text


# --- how it is written --------------------------------------------------------------------------------


class Stopped:
    """A handler that reports some numbers, waits to be let go, and reports others."""

    def __init__(self, before: range, after: range) -> None:
        self.before, self.after = before, after
        self.running, self.go_on, self.has_reported = (threading.Event() for _ in range(3))

    def __call__(self, payload: Any, job: JobContext) -> None:
        for n in self.before:
            job.progress(n)
        self.running.set()
        assert self.go_on.wait(BOUND)
        for n in self.after:
            job.progress(n)
        self.has_reported.set()

    def start(self, noted: Open) -> tuple[Any, Noted, Worker, Job]:
        """Start it in a worker, between two looks of its reporter."""
        manager, store = noted({"a": self})
        worker = manager.start()
        clock: Any = manager.clock
        clock.until_looked()
        request = manager.request("a")
        assert self.running.wait(BOUND)
        if self.before:
            until(lambda: clock.asked[-1] == 1.0)  # it was told, and looks a second later
            clock.until_looked()
        return clock, store, worker, request


def test_s27_of_100_000_reports_in_a_second_at_most_two_are_written_and_the_last_one_counts(
    noted: Open,
) -> None:
    do = Stopped(range(50_000), range(50_000, 100_000))
    clock, store, worker, request = do.start(noted)
    clock.pass_seconds(1)
    do.go_on.set()
    until(lambda: worker.counts)
    assert store.done == [49_999, 99_999]
    assert {key for key, _ in store.puts} == {request.id}
    assert min(clock.asked) == 1.0, "it looks more often than once a second"


def test_s27_what_was_written_is_not_written_again(noted: Open) -> None:
    do = Stopped(range(1, 2), range(0))
    clock, store, worker, _ = do.start(noted)
    clock.pass_seconds(3)
    assert store.done == [1], "a report is written though the handler says nothing more"
    do.go_on.set()
    until(lambda: worker.counts)
    assert store.done == [1]


def test_s27_a_handler_never_waits_for_the_store(noted: Open) -> None:
    do = Stopped(range(1, 2), range(2, 1000))
    clock, store, worker, _ = do.start(noted)
    store.is_open.clear()  # it hangs from now on
    clock.advance(SECOND)
    until(lambda: store.tried)
    do.go_on.set()
    assert do.has_reported.wait(BOUND), "the handler waited for a write"
    store.is_open.set()
    until(lambda: worker.counts)
    assert store.done == [1, 999], "the last report is missing"


def test_s27_an_older_report_never_overtakes_the_last_one(noted: Open) -> None:
    do = Stopped(range(1, 2), range(2, 3))
    clock, store, worker, _ = do.start(noted)
    store.lets_others_go_first = True
    clock.advance(SECOND)
    until(lambda: store.tried)
    do.go_on.set()
    until(lambda: worker.counts)
    assert store.done == [1, 2]


def test_s27_two_threads_of_a_handler_may_report_for_the_first_time_at_once(noted: Open) -> None:
    from kessel_core.features.progress import Reported

    class Raced:
        """Another thread reports between the first and the second look."""

        is_held = True

        def __init__(self) -> None:
            self.looks = 0
            self.other = Reported("i")

        @property
        def reported(self) -> Reported | None:
            self.looks += 1
            return self.other if self.looks > 1 else None

        @reported.setter
        def reported(self, value: Reported) -> None:
            self.other = value

    manager, _ = noted({})
    held, progress = Raced(), Progress(done=1, at=NOW)
    theirs = held.other
    manager._need().reports.note(held, "i", progress)
    assert held.other is theirs
    assert theirs.latest is progress


def test_s27_a_store_that_is_away_fails_no_job_and_is_told_of_once(
    noted: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def do(payload: Any, job: JobContext) -> str:
        job.progress(payload)
        return "done"

    manager, store = noted({"a": do})
    store.failing = AdapterUnavailable("the store is away")
    for n in range(3):
        manager.request("a", n)
    with caplog.at_level("WARNING", "kessel.progress"):
        results = run_until_idle(manager)
    assert [result.value for result in results] == ["done"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"job {results[0].id}: progress not written: the store is away"
    ]
    assert store.tried == 1, "each job waits for a store that is away"
    store.failing = None
    assert isinstance(manager.clock, VirtualClock)
    manager.clock.advance(10 * SECOND)
    manager.request("a", 7)
    run_until_idle(manager)
    assert store.done == [7], "a store that is back is never tried again"


@pytest.mark.parametrize("error", [AdapterUnavailable("away"), RuntimeError("a bug in the store")])
def test_s27_a_store_that_is_back_gets_the_latest_value(noted: Open, error: Exception) -> None:
    do = Stopped(range(1, 2), range(2, 3))
    clock, store, worker, _ = do.start(noted)
    store.failing = error
    clock.pass_seconds(2)
    assert store.tried == 2
    store.failing = None
    clock.pass_seconds(1)
    assert store.done == [1]
    do.go_on.set()
    until(lambda: worker.counts)
    assert store.done == [1, 2]
    assert worker.counts == {"success": 1}


def test_s27_a_store_that_is_away_once_more_is_told_of_once_more_and_a_bug_each_time(
    noted: Open, caplog: pytest.LogCaptureFixture
) -> None:
    do = Stopped(range(1, 2), range(0))
    clock, store, worker, request = do.start(noted)
    held = next(worker._leases())
    assert held.reported is not None
    with caplog.at_level("DEBUG", "kessel.progress"):
        away, bug = AdapterUnavailable("away"), RuntimeError("a bug")
        for store.failing in (away, away, None, away, bug, bug):
            held.reported.latest = held.reported.latest or Progress(done=2, at=NOW)
            clock.pass_seconds(1)
    told = [record for record in caplog.records if "not written" in record.getMessage()]
    assert [(one.levelname, one.exc_info is not None) for one in told] == [
        ("WARNING", False),
        ("DEBUG", False),
        ("WARNING", False),
        ("WARNING", True),
        ("WARNING", True),
    ]
    assert {vars(one)["job_id"] for one in told} == {request.id}
    store.failing = None
    do.go_on.set()
    until(lambda: worker.counts)


def test_s27_what_the_store_refuses_is_not_tried_again_and_others_are_written(
    noted: Open, caplog: pytest.LogCaptureFixture
) -> None:
    manager, store = noted({"a": lambda payload, job: job.progress(payload)})
    store.failing = StoreRejected("progress", "x", "the key is not for this store")
    manager.request("a", 1)
    with caplog.at_level("WARNING", "kessel.progress"):
        assert [result.ok for result in run_until_idle(manager)] == [True]
    assert "the key is not for this store" in caplog.text
    store.failing = None
    manager.request("a", 2)
    run_until_idle(manager)
    assert store.done == [2], "it counts as a store that is away"


def test_s27_a_job_without_an_id_reports_to_nobody(noted: Open) -> None:
    from kessel_core.runtime.lease import Lease

    manager, store = noted({})
    lease = Lease(manager.adapter, None, None, manager.clock)  # type: ignore[arg-type]
    manager._need().reports.note(lease, "", Progress(done=1, at=NOW))
    assert lease.reported is None
    assert store.tried == 0


def test_s27_after_the_job_is_lost_or_has_ended_its_reports_are_dropped(noted: Open) -> None:
    contexts: list[JobContext] = []

    def do(payload: Any, job: JobContext) -> None:
        contexts.append(job)
        job.progress(1)

    manager, store = noted({"a": do})
    manager.request("a")
    run_until_idle(manager)
    assert store.done == [1]
    contexts[0].progress(2)
    from kessel_core.runtime.lease import Lease

    lease = contexts[0]._held
    assert isinstance(lease, Lease)
    assert not lease.is_held
    manager._need().reports.write(lease)
    assert store.done == [1]


def test_s27_a_lost_lease_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    from kessel_core.runtime.heartbeat import beat
    from kessel_core.runtime.lease import Lease

    clock = VirtualClock()
    with JobManager("memory://?lease=60s", clock=clock) as manager:
        manager.request("a")
        consumer = manager.adapter.consumer(["default"])
        reservation = consumer.reserve(timedelta(0))
        assert reservation is not None
        lease = Lease(manager.adapter, consumer, reservation, clock)
        assert lease.is_held

        def lost(reservation: Any) -> None:
            raise LeaseLost("i", "gone")

        monkeypatch.setattr(consumer, "extend", lost)
        clock.advance(timedelta(seconds=30))
        beat(manager.adapter, [lease], clock.monotonic(), 1.0)
        assert not lease.is_held
        consumer.close()


def test_s17_without_a_store_nothing_is_written_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def do(payload: Any, job: JobContext) -> None:
        job.progress(1)
        job.progress(2)

    clock = VirtualClock()
    adapter = Apart(MemoryOptions(), AdapterContext(clock=clock))
    with JobManager(adapter, handlers={"a": do}, clock=clock) as manager:
        manager.request_many(["a", "a"])
        with caplog.at_level(logging.WARNING, "kessel.progress"):
            results = run_until_idle(manager)
        assert [result.ok for result in results] == [True, True]
        assert len(caplog.records) == 1
        assert "set store to a URL" in caplog.text
        with pytest.raises(CapabilityMissing, match="progress is kept in a store; set store"):
            manager.progress("x")


def test_s27_a_report_that_could_not_be_written_does_not_take_the_place_of_a_newer_one() -> None:
    """S27: the last report counts, also of one that came while the one before it failed."""
    clock = VirtualClock()

    class Interrupted(Noted):
        def put_entry(self, space: str, *given: Any) -> int:
            if self.failing is not None:
                reports.note(held, "a", Progress(done=2, at=NOW))
            return super().put_entry(space, *given)

    store = Interrupted(clock)
    reports, held = Reports(store, clock), Mock(reported=None, is_held=True)
    store.failing = AdapterUnavailable("away")
    reports.note(held, "a", Progress(done=1, at=NOW))
    reports.write(held)
    store.failing = None
    reports.write(held)
    assert store.done == [2]
