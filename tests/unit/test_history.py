"""Histories of jobs: what is written down, that it delays nobody, and what is said to be missing (S39)."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kessel_core import (
    AdapterUnavailable,
    CapabilityMissing,
    CauseName,
    Config,
    DecodeError,
    Event,
    EventKind,
    HistoryConfig,
    JobContext,
    JobManager,
    JobRequest,
    ResultsConfig,
    Snooze,
    StoreRejected,
    SystemClock,
    Transient,
)
from kessel_core.contract import Buried, Store, need
from kessel_core.features import history as writing
from kessel_core.features.events import DROPPED, SPACE, history_of, ids_begun
from kessel_core.features.gaps import gaps
from kessel_core.features.history import Recorder
from kessel_core.model.history import Dropped
from kessel_core.wire.events import decode_dropped, decode_events, encode_dropped, encode_events
from tests.threadless import no_thread
from tests.until import until

KEPT = Config(history=HistoryConfig(keep=timedelta(days=7)))
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
Opened = Callable[..., JobManager]
R, S, E, Z, F, K, D = (
    EventKind.REQUESTED,
    EventKind.STARTED,
    EventKind.SETTLED,
    EventKind.SNOOZED,
    EventKind.FINISHED,
    EventKind.KICKED,
    EventKind.DELETED,
)


def kinds(manager: JobManager, job_id: str) -> list[EventKind]:
    return [event.kind for event in manager.history(job_id).events]


@pytest.fixture
def recorder() -> Any:
    """A recorder and the store that it writes to, which tests may let fail."""
    manager = JobManager("memory://", only_requests=True).connect()
    made = Recorder(timedelta(days=1), SystemClock())
    made.open(manager.store)
    made.kept = manager.store  # type: ignore[attr-defined]
    yield made
    made.abandon()
    made.close()
    manager.close()


# --- clocks that differ -------------------------------------------------------------------------------


class Ahead(SystemClock):
    """A wall clock that is ahead by so many seconds; the test may change them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)


@pytest.mark.parametrize("seconds", [0.005, 30])
def test_s39_a_request_by_a_clock_that_is_ahead_is_still_the_first_event(
    tmp_path: Path, seconds: float
) -> None:
    url = f"sqlite:///{tmp_path}/q.db"
    with JobManager(url, clock=Ahead(seconds), config=KEPT, only_requests=True) as requesting:
        job = requesting.request("a")
    with JobManager(url, config=KEPT, handlers={"a": lambda payload: None}) as manager:
        manager.worker().drain()
        found = manager.history(job.id)
        assert ([event.kind for event in found.events], found.gaps) == ([R, S, E, F], ())
        assert manager.explain(job.id).causes[0].name is CauseName.ENDED


def test_s39_a_request_long_after_the_end_is_another_one(tmp_path: Path) -> None:
    """The first is no longer kept."""
    url, clock = f"sqlite:///{tmp_path}/q.db", Ahead(0)
    with JobManager(url, clock=clock, config=KEPT, handlers={"a": lambda payload: None}) as manager:
        manager.request(JobRequest(type="a", id="same"))
        assert kinds(manager, "same") == [R], "it is written before what follows"
        manager.worker().drain()
        (first, *_) = manager.store.scan(SPACE, prefix="same/")
        manager.store.delete(SPACE, first.key)
        clock.seconds = 61
        manager.request(JobRequest(type="a", id="same"))
        assert kinds(manager, "same") == [S, E, F, R]


def test_s39_what_one_process_wrote_keeps_its_order_when_its_clock_is_set_back() -> None:
    clock = Ahead(0)

    def set_back(payload: object) -> None:
        clock.seconds -= 5

    with JobManager("memory://", clock=clock, config=KEPT, handlers={"a": set_back}) as manager:
        job = manager.request("a")
        manager.worker().drain()
        found = manager.history(job.id)
    assert ([event.kind for event in found.events], found.gaps) == ([R, S, E, F], ())


def test_s39_what_is_written_later_by_a_clock_that_was_set_back_comes_later() -> None:
    clock, seen = Ahead(0), list[EventKind]()

    def set_back(payload: object, job: JobContext) -> None:
        seen.extend(kinds(manager, job.id))  # they are written for that, in an entry of their own
        clock.seconds = -5

    with JobManager("memory://", clock=clock, config=KEPT, handlers={"a": set_back}) as manager:
        job = manager.request("a")
        manager.worker().drain()
        assert seen == [R, S]
        found = manager.history(job.id)
    assert ([event.kind for event in found.events], found.gaps) == ([R, S, E, F], ())


# --- what is written --------------------------------------------------------------------------------


def test_s39_two_retries_a_snooze_a_burial_and_a_kick_are_complete_and_in_order(opened: Opened) -> None:
    """S39: each event with its time, worker, attempt, reason, and kind and pause of its settlement."""
    tries = iter(
        [Transient("away", after=timedelta(0)), Transient("away", after=timedelta(0)), Snooze(timedelta(0))]
    )

    def flaky(payload: Any) -> str:
        error = next(tries, ValueError("no such card"))
        if payload["kicked"]:
            return "done"
        raise error

    payload = {"kicked": False}
    manager = opened(config=KEPT, handlers={"flaky": lambda _: flaky(payload)})
    job_id = manager.request("flaky").id
    assert manager.worker().drain() == {"failed": 1, "failed-transient": 2, "snoozed": 1}
    found = manager.history(job_id)
    assert found.gaps == ()
    assert [event.kind for event in found.events] == [R, S, E, S, E, S, Z, S, E, F]
    assert [event.attempt for event in found.events] == [None, 1, 1, 2, 2, 3, 3, 3, 3, 3]
    settled = [event for event in found.events if event.kind in (E, Z)]
    assert [event.settled_as for event in settled] == ["rollback", "rollback", None, "bury"]
    assert [event.pause for event in settled] == [timedelta(0)] * 3 + [None]
    assert [event.reason for event in settled] == ["error", "error", None, "error"]
    assert settled[3].message == "ValueError: no such card"
    assert all(event.was_run for event in settled)
    assert found.events[-1].status == "failed"
    assert {event.worker for event in found.events} == {f"{os.uname().nodename}:{os.getpid()}"}
    assert list(found.events) == sorted(found.events, key=lambda event: event.at)

    payload["kicked"] = True
    at = SystemClock().now()
    need(manager.adapter, Buried).kick("default", job_id)
    opened_recorder(manager).note(job_id, EventKind.KICKED, at=at)
    manager.worker().drain()
    assert kinds(manager, job_id)[10:] == [K, S, E, F]
    assert manager.history(job_id).gaps == ()
    assert manager.history(job_id).events[-1].status == "success"


def opened_recorder(manager: JobManager) -> Recorder:
    made = manager._need().recorder
    assert made is not None
    return made


def test_s39_nothing_is_written_unless_it_is_asked_for(opened: Opened) -> None:
    manager = opened(handlers={"work": lambda payload: None})
    job_id = manager.request("work").id
    manager.worker().drain()
    assert manager._need().recorder is None
    assert manager._need().watchers.settled == ()
    assert manager.history(job_id).events == ()
    assert manager.store.scan(SPACE) == []


def test_s39_a_process_that_only_requests_writes_its_part(opened: Opened) -> None:
    manager = opened(config=KEPT, only_requests=True)
    job_id = manager.request("work").id
    assert kinds(manager, job_id) == [R]
    assert manager.history(job_id).gaps == ()


def test_s39_parts_of_plugins_are_still_called_beside_it(opened: Opened) -> None:
    """The history is a watcher beside those of the sections of plugins."""
    import attrs

    from kessel_core import hookimpl
    from kessel_core.hooks import Section

    seen: list[str] = []

    @attrs.frozen
    class Options:
        word: str = "seen"

    class Part:
        @hookimpl
        def kessel_job_enqueued(self, request: Any) -> None:
            seen.append(request.id)

    class Plugin:
        @hookimpl
        def kessel_sections(self) -> Any:
            return [Section(name="tide", options=Options, factory=lambda options, context: Part())]

    manager = opened(config=KEPT, plugin=Plugin())
    job_id = manager.request("work").id
    assert seen == [job_id]
    assert kinds(manager, job_id) == [R]


def test_s39_events_end_after_the_time_for_which_they_are_kept(recorder: Any) -> None:
    recorder.note("j", EventKind.KICKED)
    recorder.flush()
    (entry,) = recorder.kept.scan(SPACE)
    assert abs(entry.expires_at - SystemClock().now() - timedelta(days=1)) < timedelta(minutes=1)


def test_s39_a_history_without_a_store_is_refused_at_start(opened: Opened) -> None:
    """S17: what needs a store and has none is refused by name."""
    from kessel_memory.adapter import MemoryAdapter
    from kessel_memory.options import MemoryOptions

    from kessel_core.contract import AdapterContext

    class Bare(MemoryAdapter):
        def facet(self, kind: Any) -> Any:
            return None if kind is Store else super().facet(kind)

    adapter = Bare(MemoryOptions(), AdapterContext(clock=SystemClock()))
    with pytest.raises(CapabilityMissing, match=r"history\.keep is set"):
        opened(adapter, config=KEPT)
    with pytest.raises(CapabilityMissing, match="histories are kept in a store"):
        opened(adapter).history("j")


def test_s39_ids_of_whatever_form_have_their_own_history(opened: Opened) -> None:
    manager = opened(config=KEPT)
    for job_id in ("a", "a/b", "a/", "é" * 200, "a/0005"):
        manager.request(JobRequest(type="work", id=job_id))
    for job_id in ("a", "a/b", "a/", "é" * 200, "a/0005"):
        assert kinds(manager, job_id) == [R], job_id
    assert sorted(ids_begun(manager.store, "a", 9)) == ["a", "a/", "a/0005", "a/b"]
    assert len(ids_begun(manager.store, "a", 2)) == 2


def test_s39_events_of_several_processes_stand_in_the_order_of_their_times(recorder: Any) -> None:
    other = Recorder(timedelta(days=1), SystemClock())
    other.open(recorder.kept)
    for one, minute in ((recorder, 0), (recorder, 5), (other, 2)):
        one.note("j", EventKind.KICKED, at=NOW + timedelta(minutes=minute))
    recorder.flush()
    other.flush()
    other.close()
    minutes = [(event.at - NOW) / timedelta(minutes=1) for event in history_of(recorder.kept, "j").events]
    assert minutes == [0, 2, 5]


# --- behind the jobs --------------------------------------------------------------------------------


def test_s39_one_thread_writes_what_happened_within_a_second_in_one_entry_a_job(recorder: Any) -> None:
    for number in range(20):
        recorder.note(f"j{number % 2}", EventKind.KICKED)
    until(lambda: len(recorder.kept.scan(SPACE)) == 2)
    assert [len(history_of(recorder.kept, job).events) for job in ("j0", "j1")] == [10, 10]
    recorder.note("later", EventKind.KICKED)  # the thread sleeps by now, and is woken
    until(lambda: history_of(recorder.kept, "later").events)
    assert [thread.name for thread in threading.enumerate()].count("kessel-history") == 1


def test_s39_a_store_that_is_away_delays_nobody_and_is_tried_again(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="kessel.history")
    real, is_away = recorder.kept.put, [True, True, True]
    failed: list[str] = []

    def put(space: str, key: str, value: bytes, **more: Any) -> int:
        if is_away and is_away.pop():
            failed.append(key)
            raise AdapterUnavailable("nobody answers")
        return int(real(space, key, value, **more))

    monkeypatch.setattr(recorder.kept, "put", put)
    for kind in (EventKind.REQUESTED, EventKind.STARTED):
        recorder.note("j", kind)
    for _ in range(3):
        recorder.flush()
    recorder.note("j", EventKind.FINISHED)
    until(lambda: len(history_of(recorder.kept, "j").events) == 3)
    # What may have been written is not written twice.
    assert len(failed) == 3
    assert set(failed) <= {entry.key for entry in recorder.kept.scan(SPACE)}
    levels = [record.levelno for record in caplog.records if "could not be written" in record.message]
    assert levels[:3] == [logging.WARNING, logging.DEBUG, logging.DEBUG]


def test_s39_a_store_that_fails_in_its_own_way_loses_nothing_and_ends_no_thread(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The events of all jobs of the batch are tried again, and not of the first one only."""
    real, errors = recorder.kept.put, [RuntimeError("its own way"), AdapterUnavailable("away")]

    def put(space: str, key: str, value: bytes, **more: Any) -> int:
        if errors:
            raise errors.pop()
        return int(real(space, key, value, **more))

    monkeypatch.setattr(writing, "_PAUSE", 3_600.0)  # the thread leaves it to this one
    monkeypatch.setattr(recorder.kept, "put", put)
    for job_id in ("a", "b", "c"):
        recorder.note(job_id, EventKind.REQUESTED)
    for _ in range(3):
        recorder.flush()
    assert [len(history_of(recorder.kept, job_id).events) for job_id in "abc"] == [1, 1, 1]
    assert "its own way" in caplog.text


def test_s39_each_time_that_the_store_goes_away_is_told_of(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, is_away = recorder.kept.put, [True, False, True]

    def put(space: str, key: str, value: bytes, **more: Any) -> int:
        if is_away and is_away.pop(0):
            raise AdapterUnavailable("nobody answers")
        return int(real(space, key, value, **more))

    monkeypatch.setattr(writing, "_PAUSE", 3_600.0)
    monkeypatch.setattr(recorder.kept, "put", put)
    for kind in (EventKind.REQUESTED, EventKind.STARTED):
        recorder.note("j", kind)
        recorder.flush()  # away
        recorder.flush()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_s39_a_thread_that_could_not_be_started_fails_no_job_and_is_tried_again(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = no_thread(monkeypatch, "kessel-history")
    recorder.note("first", EventKind.REQUESTED)
    assert failed
    recorder.note("second", EventKind.REQUESTED)
    until(lambda: len(recorder.kept.scan(SPACE)) == 2)


def test_s39_without_a_thread_what_waits_is_written_at_the_end(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_thread(monkeypatch, "kessel-history", times=1_000)
    for job_id in ("a", "b"):
        recorder.note(job_id, EventKind.REQUESTED)
    recorder.close()
    assert [len(history_of(recorder.kept, job_id).events) for job_id in "ab"] == [1, 1]


def test_s39_a_ctrl_c_while_events_are_written_loses_none_of_them(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither those of the other jobs of the batch, nor the number of those that were dropped."""
    real, interrupted_at = recorder.kept.put, [2, 4]
    puts: list[str] = []

    def put(space: str, key: str, value: bytes, **more: Any) -> int:
        puts.append(key)
        if len(puts) in interrupted_at:
            raise KeyboardInterrupt
        return int(real(space, key, value, **more))

    monkeypatch.setattr(writing, "_PAUSE", 3_600.0)  # the thread leaves it to this one
    monkeypatch.setattr(writing, "MOST_WAITING", 3)
    monkeypatch.setattr(recorder.kept, "put", put)
    for job_id in ("a", "b", "c", "dropped"):
        recorder.note(job_id, EventKind.REQUESTED)
    for _ in interrupted_at:
        with pytest.raises(KeyboardInterrupt):
            recorder.flush()
    recorder.flush()
    assert [len(history_of(recorder.kept, job_id).events) for job_id in "abc"] == [1, 1, 1]
    (entry,) = recorder.kept.scan(DROPPED)
    assert decode_dropped(entry.value).count == 1


def test_s39_a_flush_without_time_left_raises_nothing(recorder: Any) -> None:
    recorder.note("j", EventKind.REQUESTED)
    recorder.flush(-0.5)


def test_s39_what_somebody_else_could_not_write_is_left_to_the_thread(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that a flush holds is not there for the thread, which must hear of it when it comes back."""
    real, is_away = recorder.kept.put, [True]

    def put(space: str, key: str, value: bytes, **more: Any) -> int:
        if is_away and is_away.pop():
            until(lambda: recorder._changed._waiters)  # the thread found nothing, and sleeps
            raise AdapterUnavailable("nobody answers")
        return int(real(space, key, value, **more))

    monkeypatch.setattr(writing, "_PAUSE", 0.01)
    recorder.note("first", EventKind.REQUESTED)
    until(lambda: recorder.kept.scan(SPACE))
    until(lambda: recorder._changed._waiters)
    monkeypatch.setattr(recorder.kept, "put", put)
    with recorder._changed:
        recorder._noted += 1
        event = history_of(recorder.kept, "first").events[0]
        recorder._waiting.append(writing._Noted("second", recorder._noted, event))
    recorder.flush()  # it fails, with the thread asleep
    until(lambda: history_of(recorder.kept, "second").events)


def test_s39_what_waits_is_bounded_and_what_is_dropped_is_counted_and_said(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MOST_WAITING", 3)
    store, recorder._store = recorder._store, _Away()
    for number in range(8):
        recorder.note(f"j{number}", EventKind.REQUESTED, at=NOW + timedelta(minutes=number))
    assert len(recorder._waiting) == 3
    recorder._store = store
    recorder.flush()
    assert [entry.key[:2] for entry in store.scan(SPACE)] == ["j0", "j1", "j2"]
    (entry,) = store.scan(DROPPED)
    assert decode_dropped(entry.value) == Dropped(
        worker=recorder.worker, since=NOW + timedelta(minutes=3), until=NOW + timedelta(minutes=7), count=5
    )
    assert "could not write 5 events of jobs" in history_of(store, "j0").gaps[0]


class _Away:
    """A store that cannot be reached."""

    def put(self, *_: object, **__: object) -> int:
        raise AdapterUnavailable("nobody answers")


def test_s39_the_number_of_dropped_events_is_not_lost_with_a_store_that_goes_away(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MOST_WAITING", 0)
    recorder.note("j", EventKind.REQUESTED, at=NOW)
    store, recorder._store = recorder._store, _Away()
    recorder.flush()
    recorder.note("j", EventKind.KICKED, at=NOW + timedelta(minutes=1))
    recorder.flush()
    recorder._store = store
    recorder.flush()
    (entry,) = store.scan(DROPPED)
    lost = decode_dropped(entry.value)
    assert (lost.count, lost.since, lost.until) == (2, NOW, NOW + timedelta(minutes=1))
    assert entry.expires_at is not None, "kept as long as the events beside which they are missing"


def test_s39_what_is_dropped_while_the_number_is_written_is_counted_as_well(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MOST_WAITING", 0)
    recorder.note("j", EventKind.REQUESTED, at=NOW)

    class Slow:
        def put(self, *_: object, **__: object) -> int:
            recorder.note("j", EventKind.KICKED, at=NOW + timedelta(minutes=1))
            raise AdapterUnavailable("nobody answers")

    store, recorder._store = recorder._store, Slow()
    recorder.flush()
    recorder._store = store
    recorder.flush()
    (entry,) = store.scan(DROPPED)
    assert decode_dropped(entry.value).count == 2


def test_s39_of_a_long_message_the_beginning_is_kept(opened: Opened) -> None:
    def work(payload: Any) -> None:
        raise ValueError("no " * 1_000)

    manager = opened(config=KEPT, handlers={"work": work})
    job_id = manager.request("work").id
    manager.worker().drain()
    assert [len(event.message) for event in manager.history(job_id).events if event.kind is E] == [500]


def test_s39_what_the_store_refuses_is_dropped_and_counted(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = recorder.kept.put

    def put(space: str, key: str, value: bytes, **more: Any) -> int:
        if key.startswith("bad/"):
            raise StoreRejected(space, key, "it is too large")
        return int(real(space, key, value, **more))

    monkeypatch.setattr(recorder.kept, "put", put)
    recorder.note("bad", EventKind.REQUESTED)
    recorder.note("good", EventKind.REQUESTED)
    recorder.flush()
    assert history_of(recorder.kept, "bad").events == ()
    assert len(history_of(recorder.kept, "good").events) == 1
    assert decode_dropped(recorder.kept.scan(DROPPED)[0].value).count == 1
    assert "its history is not written" in caplog.text


def test_s39_what_waits_is_written_at_the_end_of_worker_and_manager(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_PAUSE", 3_600.0)
    store = opened().store
    manager = opened(config=KEPT, store=store, handlers={"work": lambda payload: None})
    job_id = manager.request("work").id
    manager.worker().drain()
    assert [event.kind for event in history_of(store, job_id).events] == [R, S, E, F]
    later = manager.request("work").id
    assert history_of(store, later).events == ()
    manager.close()
    assert [event.kind for event in history_of(store, later).events] == [R]
    assert not any(thread.name == "kessel-history" and thread.is_alive() for thread in threading.enumerate())


def test_s39_a_store_that_hangs_holds_up_the_end_for_a_bounded_time(recorder: Any) -> None:
    with recorder._writing:  # as the thread does, whose store does not answer
        recorder.note("j", EventKind.REQUESTED)
        recorder.flush(0.05)
    assert len(recorder._waiting) == 1


def test_s39_a_store_is_not_touched_any_more_once_it_was_abandoned(recorder: Any) -> None:
    recorder.note("j", EventKind.REQUESTED)
    recorder.abandon()
    recorder.flush()
    assert recorder.kept.scan(SPACE) == []


def test_fault_45_a_worker_without_its_descriptors_writes_no_history(opened: Opened) -> None:
    manager = opened(config=KEPT)
    manager.worker()._note_loss()
    job_id = manager.request("work").id
    assert manager.history(job_id).events == ()


# --- what is missing --------------------------------------------------------------------------------


def ran(*given: Any) -> list[Event]:
    """Events, a minute apart, each a kind or a kind with its attempt; what was settled was run."""
    found = []
    for number, one in enumerate(given):
        kind, attempt = one if isinstance(one, tuple) else (one, None)
        at = NOW + timedelta(minutes=number)
        found.append(Event(kind=kind, at=at, attempt=attempt, was_run=kind in (E, Z)))
    return found


@pytest.mark.parametrize(
    "events",
    [
        (),
        (R,),
        (R, (S, 1)),
        (R, (S, 1), (E, 1), F),
        (R, (S, 1), (E, 1), (S, 2), (Z, 2), (S, 2), (E, 2), F, K, (S, 1), (E, 1), F),
        (R, D),
    ],
)
def test_s39_a_whole_history_has_no_gap(events: tuple[Any, ...]) -> None:
    assert list(gaps(ran(*events), [])) == []


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (((S, 1), (E, 1), F), "nothing is known from before"),
        ((R, (S, 1), (S, 2), (E, 2), F), "has no end"),
        ((R, (S, 1), D), "has no end"),
        ((R, (E, 1), F), "the start of the attempt that ended"),
        ((R, (S, 1), (E, 1), (E, 2), F), "the start of the attempt that ended"),
        ((R, (S, 1), (E, 1), (S, 3), (E, 3), F), "attempt 2 is missing"),
        ((R, (S, 4), (E, 4), F), "attempt 1 to 3 is missing"),
        ((R, (S, 1), (E, 1), F, K, (S, 2), (E, 2), F), "attempt 1 is missing"),
    ],
)
def test_s39_what_is_missing_is_said(events: tuple[Any, ...], text: str) -> None:
    assert any(text in gap for gap in gaps(ran(*events), [])), list(gaps(ran(*events), []))


def test_s39_what_is_missing_is_said_once() -> None:
    """The attempts behind a gap are there."""
    events = ran(R, (S, 1), (E, 1), (S, 3), (E, 3), (S, 4), (E, 4), F)
    (gap,) = gaps(events, [])
    assert gap.startswith("attempt 2 is missing")


def test_s39_an_attempt_without_a_handler_needs_no_start() -> None:
    settled = Event(kind=E, at=NOW + timedelta(minutes=1), attempt=1, reason="no-handler")
    assert list(gaps([*ran(R), settled], [])) == []


@pytest.mark.parametrize(
    ("events", "since", "until_", "is_said"),
    [
        ((R, D), 5, 9, False),
        ((R,), 5, 9, True),
        ((R, D), -9, -5, False),
        ((R, D), -9, 0, True),
        ((R, D), 1, 9, True),
    ],
)
def test_s39_dropped_events_matter_only_while_the_job_was_there(
    events: tuple[Any, ...], since: int, until_: int, is_said: bool
) -> None:
    lost = Dropped(
        worker="north:7", since=NOW + timedelta(minutes=since), until=NOW + timedelta(minutes=until_), count=3
    )
    assert bool(list(gaps(ran(*events), [lost]))) is is_said


def test_s39_entries_that_cannot_be_read_are_a_gap(recorder: Any) -> None:
    recorder.note("j", EventKind.REQUESTED)
    recorder.flush()
    recorder.kept.put(SPACE, "j/9", b"no json")
    recorder.kept.put(DROPPED, "9", b"[]")
    found = history_of(recorder.kept, "j")
    assert len(found.events) == 1
    assert found.gaps == ("1 entries of its history cannot be read",)


def test_s39_a_history_of_several_pages_is_read_to_its_end(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kessel_core.features.events.LARGEST_PAGE", 2)
    for number in range(5):
        recorder.note("j", EventKind.KICKED, at=NOW + timedelta(minutes=number))
        recorder.flush()
    assert len(history_of(recorder.kept, "j").events) == 5


def test_s39_events_come_back_as_they_were_written() -> None:
    whole = Event(
        kind=E, at=NOW, worker="north:7", attempt=3, settled_as="rollback", pause=timedelta(seconds=1.5),
        was_run=True, status="failed", reason="error", message="no",
    )  # fmt: skip
    assert decode_events(encode_events([whole, *ran(R)])) == [whole, *ran(R)]
    odd = Event(kind=E, at=NOW, message="\udcff \x00 é \U0001f600")
    assert decode_events(encode_events([odd])) == [odd]
    lost = Dropped(worker="w", since=NOW, until=NOW, count=1)
    assert decode_dropped(encode_dropped(lost)) == lost
    newer = b'[{"kind": "teleported", "at": 0}, {"kind": "kicked", "at": "2026-05-01T12:00:00Z"}]'
    assert [event.kind for event in decode_events(newer)] == [K]


@pytest.mark.parametrize(
    "body",
    [b"", b"{}x", b"[1]", b"[{}]", b'[{"kind": "kicked"}]',
     b'[{"kind": "kicked", "at": "2026-05-01T12:00:00"}]',
     b'[{"kind": "kicked", "at": "2026-05-01T12:00:00Z", "pause_seconds": 1e300}]'],
)  # fmt: skip
def test_s39_bytes_that_are_no_events_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_events(body)
    with pytest.raises(DecodeError):
        decode_dropped(body)


# --- what an explanation takes from it --------------------------------------------------------------


def test_s39_an_explanation_tells_the_error_before_a_pause_and_who_ended_a_job(opened: Opened) -> None:
    def work(payload: Any) -> None:
        if payload == "away":
            raise Transient("mail server away", after=timedelta(hours=1))
        if payload == "later":
            raise Snooze(timedelta(hours=1))

    manager = opened(config=KEPT, handlers={"work": work})
    retried, snoozed, done = (manager.request("work", what).id for what in ("away", "later", "now"))
    manager.worker().drain()
    assert "after attempt 1, which failed: error: mail server away" in first_text(manager, retried)
    assert manager.explain(retried).unseen == ()
    assert "it was snoozed (1 so far)" in first_text(manager, snoozed)
    ended = manager.explain(done)
    assert ended.state == "ended"
    assert f"by {os.uname().nodename}:{os.getpid()}, at attempt 1: it succeeded" in ended.causes[0].text
    kept = Config(history=KEPT.history, results=ResultsConfig(keep=timedelta(hours=1)))
    both = opened(config=kept, handlers={"work": work})
    with_outcome = both.request("work", "now").id
    both.worker().drain()
    both.history(with_outcome)
    assert f"0 s ago by {os.uname().nodename}:{os.getpid()}, at attempt 1" in first_text(both, with_outcome)
    opened_recorder(manager).note("gone-by-hand", EventKind.REQUESTED)
    opened_recorder(manager).note("gone-by-hand", EventKind.DELETED)
    opened_recorder(manager).note("gone-anyhow", EventKind.STARTED)
    opened_recorder(manager).flush()
    assert "it was deleted 0 s ago" in first_text(manager, "gone-by-hand")
    assert manager.explain("gone-by-h").id == "gone-by-hand"
    assert manager.explain("gone-by").causes[0].name is CauseName.UNKNOWN
    gone = manager.explain("gone-anyhow")
    assert gone.causes[0].name is CauseName.UNKNOWN
    assert gone.notes == ("the last that was written down of it: started, 0 s ago",)


def first_text(manager: JobManager, job_id: str) -> str:
    return manager.explain(job_id).causes[0].text
