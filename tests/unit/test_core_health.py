"""`Worker.health()` sees what nobody logs: slots that idle beside waiting jobs (D9, S38)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kessel_core import JobManager
from kessel_core.contract import AdapterUnavailable, Consumer, QueueAdapter
from kessel_core.runtime.idleness import Idleness
from kessel_core.runtime.worker import Worker
from kessel_core.testing import VirtualClock

App = Callable[..., JobManager]
SOME_SECONDS = timedelta(seconds=4)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def idleness(app: App, clock: VirtualClock) -> tuple[JobManager, Idleness]:
    """What looks at the queue of a manager that has a job ready."""
    manager = app({"a": print})
    manager.request("a")
    return manager, Idleness(manager.adapter, ["default"], clock, MINUTE)


def test_finding_c2_a_slot_that_idles_beside_a_ready_job_is_seen_at_the_second_look(
    idleness: tuple[JobManager, Idleness], clock: VirtualClock
) -> None:
    _, looking = idleness
    assert looking.look(1, None, 0).idle == ""
    assert looking.look(1, None, 0).idle == ""  # too soon: the job may be on its way
    clock.advance(SOME_SECONDS)
    assert looking.look(1, None, 0).idle == "1 of the slots idle although jobs are ready: 1 in queue default"
    assert looking.look(0, None, 0).idle == ""  # the slot has one
    clock.advance(SOME_SECONDS)
    assert looking.look(1, None, 0).idle == ""


def test_finding_c2_slots_that_work_meanwhile_are_not_blamed(
    idleness: tuple[JobManager, Idleness], clock: VirtualClock
) -> None:
    _, looking = idleness
    for progress in range(5):
        assert looking.look(1, None, progress).idle == ""
        clock.advance(SOME_SECONDS)


def test_finding_c2_a_paused_queue_is_no_reason(
    idleness: tuple[JobManager, Idleness], clock: VirtualClock
) -> None:
    manager, looking = idleness
    manager.adapter.pause("default", timedelta(hours=1))  # type: ignore[attr-defined]  # of memory
    for _ in range(3):
        assert looking.look(1, None, 0).idle == ""
        clock.advance(SOME_SECONDS)


def test_finding_c2_the_queue_is_asked_every_few_seconds_at_most_and_may_fail(
    app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = app({"a": print})
    asked: list[str] = []

    def stats(queue: str) -> Any:
        asked.append(queue)
        raise AdapterUnavailable("away")

    monkeypatch.setattr(manager.adapter, "stats", stats)
    looking = Idleness(manager.adapter, ["default"], clock, MINUTE)
    for _ in range(100):
        assert looking.look(1, None, 0).idle == ""
    assert asked == ["default"]


def test_finding_c2_health_is_not_ok_while_the_consumer_is_deaf(
    app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = app({"a": print})
    adapter: QueueAdapter = manager.adapter
    waiting: list[Worker] = []

    class Deaf(Consumer):
        def reserve(self, timeout: timedelta) -> None:
            waiting[0]._stop.sleep(3600)

        def settle(self, *args: Any) -> None: ...
        def extend(self, *args: Any) -> None: ...
        def cancel(self) -> None: ...
        def close(self) -> None: ...

    monkeypatch.setattr(adapter, "make_consumer", lambda queues: Deaf())
    manager.request("a")
    worker = manager.worker(slots=1)
    waiting.append(worker)
    worker.start()
    try:
        assert worker.health().ok
        clock.advance(SOME_SECONDS)
        health = worker.health()
        assert not health.ok
        assert "1 in queue default" in health.reason
    finally:
        worker.stop(timedelta(0))
        worker.join()
