"""Who is told of a job's end, and what the log says of it: S10, S15, S21, D3."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import threading
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from kessel_core import (
    Fatal,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    JobsConfig,
    JsonValue,
    Reason,
    Snooze,
    Status,
    Transient,
    hookimpl,
)
from kessel_core.clock import SystemClock
from kessel_core.contract import Buried, Settlement, need
from kessel_core.testing import VirtualClock, run_until_idle

App = Callable[..., JobManager]
MINUTE = timedelta(minutes=1)


def fail(*errors: BaseException) -> Callable[[JsonValue], None]:
    """A handler that raises one error after the other, and the last one for ever."""
    left = list(errors)

    def failing(payload: JsonValue) -> None:
        raise left.pop(0) if len(left) > 1 else left[0]

    return failing


# --- watchers -----------------------------------------------------------------------------------------


def test_d3_a_watcher_that_raises_changes_nothing_and_is_named(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        @hookimpl
        def kessel_job_started(self) -> None:
            raise RuntimeError("started")

        @hookimpl
        def kessel_job_settled(self, settlement: Settlement) -> None:
            raise RuntimeError("settled")

        @hookimpl
        def kessel_job_finished(self, result: JobResult) -> None:
            raise RuntimeError("finished")

    assert app({"a": print}, plugin=Broken()).process_single_job("a").ok
    named = [r.getMessage() for r in caplog.records if r.name == "kessel.plugins"]
    assert len(named) == 3
    assert all("plugin own" in text for text in named)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
def test_d3_s15_what_no_exception_is_from_a_plugin_changes_nothing_in_a_slot_either(
    app: App, error: BaseException
) -> None:
    """Its job ran again, was told to nobody, and was buried as one that kills its worker."""

    class Broken:
        def fail(self) -> None:
            raise error

        @hookimpl
        def kessel_job_started(self) -> None:
            self.fail()

        @hookimpl
        def kessel_job_settled(self, settlement: Settlement) -> None:
            self.fail()

        @hookimpl
        def kessel_job_finished(self, result: JobResult) -> None:
            self.fail()

        @hookimpl
        def kessel_retry_pause(self, job: JobContext) -> None:
            self.fail()

        @hookimpl(wrapper=True)
        def kessel_enqueue_jobs(self, result: JobResult | None) -> Generator[None, object, None]:
            yield
            if result is not None:
                self.fail()

    told, called, results = list[Any](), list[JobResult](), list[JobResult]()
    handlers = {"a": fail(Transient(), Fatal()), "told": told.append}
    manager = app(handlers, plugin=Broken(), clock=VirtualClock())
    manager.request("a", callback=called.append)
    manager.request("a", callback="job:told")
    slot = threading.Thread(target=lambda: results.extend(run_until_idle(manager)))
    slot.start()
    slot.join(20)
    statuses = [result.status for result in results if result.request and result.request.type == "a"]
    assert sorted(statuses) == [Status.FAILED, Status.FAILED, Status.TRANSIENT]
    assert (len(called), len(told)) == (1, 1)


def test_d3_ctrl_c_in_a_watcher_is_the_users(app: App) -> None:
    class Interrupted:
        @hookimpl
        def kessel_job_started(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        app({"a": print}, plugin=Interrupted()).process_single_job("a")


def test_s15_s21_finished_is_told_of_ends_only_and_settled_of_every_delivery(app: App) -> None:
    settled: list[str] = []
    finished: list[str] = []

    class Watching:
        @hookimpl
        def kessel_job_settled(self, result: JobResult, settlement: Settlement) -> None:
            settled.append(f"{result.status} {type(settlement).__name__}")

        @hookimpl
        def kessel_job_finished(self, result: JobResult) -> None:
            finished.append(str(result.status))

    manager = app({"a": fail(Snooze(MINUTE), Transient(), Fatal())}, plugin=Watching())
    manager.request("a")
    run_until_idle(manager)
    assert settled == ["snoozed Snooze", "failed-transient Rollback", "failed Bury"]
    assert finished == ["failed"]


# --- callbacks ----------------------------------------------------------------------------------------


def test_s15_a_callback_is_told_once_after_the_last_settlement(app: App) -> None:
    told: list[JobResult] = []
    manager = app({"a": fail(Transient())}, jobs=JobsConfig(max_attempts=3))
    manager.request("a", callback=told.append)
    run_until_idle(manager)
    assert [(r.status, r.reason, r.attempt) for r in told] == [(Status.FAILED, Reason.RETRIES_EXHAUSTED, 3)]


def test_s15_while_a_callback_is_told_the_next_job_is_left_for_others(app: App) -> None:
    """A slow one must not sit on the lease of a job that another slot could run."""
    seen: list[tuple[int, int]] = []

    def look(result: JobResult) -> None:
        stats = manager.adapter.stats("default")
        seen.append((stats.ready, stats.reserved))

    manager = app({"a": lambda payload: None}, clock=SystemClock())
    manager.request("a", callback=look)
    manager.request("a")
    assert manager.worker(slots=1).drain() == {"success": 2}
    assert seen == [(1, 0)]


def test_s15_s21_a_snooze_tells_no_callback(app: App) -> None:
    told: list[JobResult] = []
    manager = app({"a": fail(Snooze(MINUTE), Snooze(MINUTE), Fatal("in the end"))})
    manager.request("a", callback=told.append)
    run_until_idle(manager)
    assert [(r.message, r.attempt) for r in told] == [("in the end", 1)]


def test_s15_an_expired_job_tells_its_callback(app: App, clock: VirtualClock) -> None:
    told: list[JobResult] = []
    manager = app({"a": print})
    manager.request("a", expiration=timedelta(hours=1), callback=told.append)
    clock.advance(timedelta(hours=1))
    run_until_idle(manager)
    assert [r.reason for r in told] == [Reason.EXPIRED]


def test_s15_an_async_callback_is_run_to_its_end(app: App, caplog: pytest.LogCaptureFixture) -> None:
    told: list[object] = []

    async def tell(result: JobResult) -> None:
        await asyncio.sleep(0)
        told.append(result.value)
        if result.value == 2:
            raise RuntimeError("away")

    manager = app({"same": lambda payload: payload})
    for number in (1, 2, 3):
        manager.request("same", number, callback=tell)
    assert manager.worker().drain() == {"success": 3}
    assert told == [1, 2, 3]
    assert [record.message.split()[-1] for record in caplog.records if record.exc_info] == ["failed"]


def test_s15_a_callback_that_fails_is_logged_and_changes_nothing(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(result: JobResult) -> None:
        raise RuntimeError("callback")

    manager = app({"a": print})
    manager.request("a", callback=failing)
    assert [r.ok for r in run_until_idle(manager)] == [True]
    assert "callback of job" in caplog.text


# --- the log ------------------------------------------------------------------------------------------


def test_a_job_that_no_middleware_saw_is_logged(
    app: App, deliver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="kessel"):
        deliver(app(), json.dumps({"type": "unknown", "id": "i"}).encode())
    assert any(r.name == "kessel.jobs" and "no-handler" in r.getMessage() for r in caplog.records)


def test_finding_c4_s10_a_burial_is_a_warning_whatever_middleware_there_is(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    manager = app({"a": fail(Transient("no luck"))}, jobs=JobsConfig(max_attempts=2))
    with caplog.at_level(logging.INFO, logger="kessel"):
        manager.request("a", ref="order-1")
        run_until_idle(manager)
    retried, said = [record for record in caplog.records if record.name == "kessel.jobs"]
    assert (retried.levelname, vars(retried)["settled"]) == ("INFO", "rolled back")
    assert (said.levelname, vars(said)["settled"]) == ("WARNING", "buried")
    assert said.getMessage().endswith(": retries-exhausted: no luck")
    assert (vars(said)["job_type"], vars(said)["attempt"], vars(said)["ref"]) == ("a", 2, "order-1")


@pytest.mark.parametrize(
    ("errors", "statuses"),
    [
        ([Fatal("no")], ["failed"]),
        ([Transient("no luck")], ["failed-transient", "failed"]),
        ([LookupError("no such card")], ["failed"]),
        ([Snooze(MINUTE), Fatal("no")], ["snoozed", "failed"]),
        ([Snooze(timedelta(days=9))], ["failed"]),
    ],
    ids=["fatal", "exhausted", "unexpected", "snoozed", "snoozed beyond its expiration"],
)
def test_finding_c13_the_log_says_once_for_all_how_a_job_ended(
    app: App, caplog: pytest.LogCaptureFixture, errors: list[BaseException], statuses: list[str]
) -> None:
    """One line for each attempt, tracebacks included."""
    manager = app({"a": fail(*errors)}, jobs=JobsConfig(max_attempts=2))
    with caplog.at_level(logging.INFO, logger="kessel"):
        job = manager.request("a", expiration=timedelta(days=1))
        run_until_idle(manager)
    lines = [record for record in caplog.records if vars(record).get("job_id") == job.id]
    assert [vars(line)["status"] for line in lines] == statuses


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "job i a success in 250.0 ms"),
        (Fatal("no"), "job i a failed, buried after 250.0 ms: error: no"),
    ],
    ids=["success", "failure"],
)
def test_the_line_of_a_job_says_how_many_milliseconds_it_took(
    app: App, clock: VirtualClock, caplog: pytest.LogCaptureFixture, error: Exception | None, said: str
) -> None:
    def quarter(payload: JsonValue) -> None:
        clock.advance(timedelta(milliseconds=250))
        if error is not None:
            raise error

    with caplog.at_level(logging.INFO, logger="kessel.jobs"):
        manager = app({"a": quarter})
        manager.request(JobRequest(type="a", id="i"))
        run_until_idle(manager)
    (line,) = [record for record in caplog.records if record.name == "kessel.jobs"]
    assert (line.getMessage(), vars(line)["ms"]) == (said, 250.0)


def test_debug_lines_follow_a_job_to_its_settlements(app: App, caplog: pytest.LogCaptureFixture) -> None:
    tries = [Transient("no luck", after=timedelta(seconds=90)), Snooze(timedelta(seconds=5))]

    def once(payload: JsonValue) -> None:
        if tries:
            raise tries.pop()

    manager = app({"a": once})
    with caplog.at_level(logging.DEBUG, logger="kessel.pipeline"):
        job_id = manager.request("a").id
        run_until_idle(manager)
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]
    assert said == [
        f"job {job_id}: reserved from default, delivery 1",
        f"job {job_id}: settled by snooze of 5 s",
        f"job {job_id}: reserved from default, delivery 1",
        f"job {job_id}: settled by rollback, to be tried again in 90 s",
        f"job {job_id}: reserved from default, delivery 2",
        f"job {job_id}: settled by commit",
    ]


def test_a_started_watcher_sees_the_job_before_its_handler(app: App) -> None:
    seen: list[str] = []

    class Watching:
        @hookimpl
        def kessel_job_started(self, job: JobContext) -> None:
            seen.append(f"started {job.type}")

    app({"a": lambda payload: seen.append("handled")}, plugin=Watching()).process_single_job("a")
    assert seen == ["started a", "handled"]


def test_frames_are_kept_where_the_process_has_no_descriptor_left(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the libraries are is read from a file; the outcome must not become another one by that."""

    def later(payload: JsonValue) -> None:
        raise Transient("no descriptor left")

    monkeypatch.setattr(
        "kessel_core.runtime.frames._all_libraries", Mock(side_effect=OSError(errno.EMFILE, "too many"))
    )
    result = app({"a": later}).process_single_job("a")
    assert (result.status, result.message) == (Status.TRANSIENT, "no descriptor left")


def test_finding_c9_the_last_frames_of_the_users_code_are_kept_with_a_buried_job(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    def charge(payload: JsonValue) -> None:
        password = "hunter2"
        json.loads(f"not JSON, {password}"[:8])

    manager = app({"a": charge})
    manager.request("a")
    (result,) = run_until_idle(manager)
    (buried,) = need(manager.adapter, Buried).buried("default")
    text, *frames = str(buried.message).splitlines()
    assert text.startswith("JSONDecodeError: ")
    assert [frame.rpartition(", in ")[2] for frame in frames] == ["charge"]
    assert "test_core_reports.py:" in frames[0]
    assert result.frames == frames[0]
    assert result.raised is None  # it would keep alive whatever the handler held
    assert "hunter2" not in str(buried.message)
    (line,) = [record for record in caplog.records if record.name == "kessel.jobs"]
    assert line.exc_info is not None


def test_finding_c9_only_the_last_frames_are_kept_and_a_long_message_leaves_them_room(
    app: App,
) -> None:
    def dive(payload: JsonValue, depth: int = 0) -> None:
        if depth == 50:
            raise ValueError("x" * 10_000)
        dive(payload, depth + 1)

    def start(payload: JsonValue) -> None:
        dive(payload)

    manager = app({"a": start})
    manager.request("a")
    run_until_idle(manager)
    (buried,) = need(manager.adapter, Buried).buried("default")
    assert len(str(buried.message)) <= 2000
    assert str(buried.message).count(", in dive") == 3


@pytest.mark.parametrize("error", [Fatal("no such card"), Transient("no such card")])
def test_s8_what_a_handler_raises_on_purpose_is_buried_with_where_it_was_raised(
    app: App, error: Exception
) -> None:
    """The same message may come from ten places of a handler."""

    def charge(payload: JsonValue) -> None:
        raise error

    manager = app({"a": charge}, jobs=JobsConfig(max_attempts=1))
    manager.request("a")
    (result,) = run_until_idle(manager)
    (buried,) = need(manager.adapter, Buried).buried("default")
    text, frame = str(buried.message).splitlines()
    assert text == "no such card"
    assert "test_core_reports.py:" in frame
    assert frame.endswith(", in charge")
    assert result.frames == frame
