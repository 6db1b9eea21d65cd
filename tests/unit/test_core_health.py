"""`Worker.health()` sees what nobody logs: slots that idle beside waiting jobs (D9, S38)."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

import kessel_core.runtime.worker as worker_module
from kessel_core import Health, JobManager
from kessel_core.contract import AdapterUnavailable, Consumer, QueueStats
from kessel_core.runtime.held import Trouble
from kessel_core.runtime.idleness import Idleness
from kessel_core.testing import VirtualClock
from tests.until import until

App = Callable[..., JobManager]
SOME_SECONDS = timedelta(seconds=4)
MINUTE = timedelta(minutes=1)


def raising(error: Exception) -> Callable[..., Any]:
    """A function that fails so."""

    def fail(*args: object) -> Any:
        raise error

    return fail


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


def test_s38_what_keeps_the_queue_away_is_told_without_its_password(
    app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = app({"a": print})

    def stats(queue: str) -> Any:
        raise AdapterUnavailable("cannot connect to pit://me:hunter2@host:11300")

    monkeypatch.setattr(manager.adapter, "stats", stats)
    away = Idleness(manager.adapter, ["default"], clock, MINUTE).look(1, None, 0).away
    assert "cannot connect to pit://" in away and "hunter2" not in away


# --- live and ready (S38) ---------------------------------------------------------------------------------


class Deaf(Consumer):
    """Gets nothing, whatever is ready; `raises` is what it is told instead."""

    def __init__(self, ended: threading.Event) -> None:
        self.ended = ended
        self.raises: Exception | None = None

    def reserve(self, timeout: timedelta) -> None:
        if self.raises is not None:
            raise self.raises
        self.ended.wait(20)

    def settle(self, *args: Any) -> None: ...
    def extend(self, *args: Any) -> None: ...
    def cancel(self) -> None:
        self.ended.set()

    def close(self) -> None: ...


class Ward:
    """A worker whose consumers are deaf, and a probe that asks for its health every few seconds."""

    def __init__(self, app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = clock
        self.manager = app({"a": print})
        self.ended = threading.Event()
        monkeypatch.setattr(self.manager.adapter, "make_consumer", lambda queues: Deaf(self.ended))
        self.worker = self.manager.worker(slots=1)
        self.others: Consumer | None = None

    def start(self) -> None:
        self.worker.start()
        until(lambda: self.worker.health().idle_since is not None)

    def probed(self, seconds: float, every: float = 3.0, between: Callable[[], object] = list) -> Health:
        """Ask again and again for so long; return the last answer."""
        asked = 0.0
        health = self.worker.health()
        while asked < seconds:
            between()
            self.clock.advance(timedelta(seconds=every))
            asked += every
            health = self.worker.health()
        return health


@pytest.fixture
def ward(app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    one = Ward(app, clock, monkeypatch)
    yield one
    one.ended.set()
    one.worker.stop(timedelta(0))
    one.worker.join()


def test_s38_a_worker_that_gets_none_of_the_jobs_that_wait_is_not_live_after_a_minute(ward: Ward) -> None:
    """M1: it said that all is well."""
    ward.start()
    ward.manager.request("a")
    assert ward.probed(57).live
    health = ward.probed(6)
    why = "1 of the slots idle although jobs are ready: 1 in queue default; none was taken for 1m"
    assert (health.live, health.reasons) == (False, (why,))
    assert health.ready  # the queue can be reached, and it does not stop


def test_s38_one_that_idled_long_before_a_job_came_is_live_for_another_minute(ward: Ward) -> None:
    ward.start()
    ward.probed(300)
    ward.manager.request("a")
    assert ward.probed(57).live
    assert not ward.probed(6).live


def test_s38_a_slot_that_has_begun_to_wait_only_now_is_not_deaf_yet(app: App, clock: VirtualClock) -> None:
    """Jobs were waiting for long, but not beside an idle slot."""
    manager = app({"a": print})
    manager.request("a")
    looking = Idleness(manager.adapter, ["default"], clock, MINUTE)
    for _ in range(40):
        clock.advance(timedelta(seconds=3))
        looking.look(1, clock.monotonic() - 3, 0)
    assert looking.seen.idle != ""
    assert looking.seen.deaf == ""


def test_s38_a_worker_with_jobs_beside_it_in_a_paused_queue_is_live(ward: Ward) -> None:
    ward.start()
    ward.manager.request("a")
    ward.manager.adapter.pause("default", timedelta(hours=1))  # type: ignore[attr-defined]  # of memory
    assert ward.probed(200) == ward.worker.health(looks=False)
    assert ward.worker.health().reasons == ()


def test_s38_a_pause_that_ends_begins_the_minute_anew(ward: Ward) -> None:
    ward.start()
    ward.manager.request("a")
    ward.probed(50)
    ward.manager.adapter.pause("default", timedelta(seconds=6))  # type: ignore[attr-defined]  # of memory
    assert ward.probed(60).live
    assert not ward.probed(12).live


def test_s38_a_worker_beside_an_empty_queue_is_live_and_ready(ward: Ward) -> None:
    ward.start()
    ward.manager.request("a", delay=timedelta(days=1))
    health = ward.probed(200)
    assert (health.live, health.ready, health.reasons) == (True, True, ())


def test_s38_a_worker_whose_queue_others_serve_is_live(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others take the jobs while as many come: at each look one is ready."""
    ward.start()
    ready, reserved = itertools.cycle([2, 1]), itertools.cycle([0, 1, 0])

    def stats(queue: str) -> QueueStats:
        return QueueStats(queue=queue, ready=next(ready), reserved=next(reserved))

    monkeypatch.setattr(ward.manager.adapter, "stats", stats)
    assert ward.probed(200).live


@pytest.mark.parametrize("now", [(4, 1), (5, 2)], ids=["fewer ready", "one more reserved"])
def test_s38_a_single_job_that_others_took_begins_the_minute_anew(
    now: tuple[int, int], ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [(5, 1)]
    monkeypatch.setattr(
        ward.manager.adapter,
        "stats",
        lambda queue: QueueStats(queue=queue, ready=counts[-1][0], reserved=counts[-1][1]),
    )
    ward.start()
    assert ward.probed(45).live
    counts.append(now)
    assert ward.probed(57).live
    counts.append((9, now[1]))  # more jobs are no sign of life
    assert not ward.probed(9).live


def test_s38_what_nobody_has_watched_is_not_held_against_it(ward: Ward) -> None:
    """Between two questions that are minutes apart others may have taken jobs."""
    ward.start()
    ward.manager.request("a")
    assert ward.probed(600, every=31).live
    assert not ward.probed(90, every=30).live


def test_s38_a_worker_whose_slots_are_busy_is_live(app: App, clock: VirtualClock) -> None:
    running, go_on = threading.Event(), threading.Event()

    def long(payload: object) -> None:
        running.set()
        go_on.wait(20)

    manager = app({"long": long})
    for _ in range(3):
        manager.request("long")
    worker = manager.worker(slots=1)
    worker.start()
    try:
        assert running.wait(20)
        for _ in range(50):
            clock.advance(timedelta(seconds=3))
            health = worker.health()
            assert (health.live, health.ready, health.idle_since) == (True, True, None)
    finally:
        go_on.set()
        worker.stop()
        worker.join()


def test_s38_a_server_that_is_away_leaves_it_live_and_not_ready(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.start()
    ward.manager.request("a")
    ward.probed(50)
    with monkeypatch.context() as patch:
        patch.setattr(ward.manager.adapter, "stats", raising(AdapterUnavailable("nobody answers")))
        health = ward.probed(120)
        assert (health.live, health.ready) == (True, False)
        assert health.reasons == ("the queue cannot be reached: nobody answers",)
    assert ward.probed(57).ready  # it is back, and has a minute again
    assert ward.worker.health().live


def test_s38_an_adapter_that_fails_in_its_own_way_leaves_it_live_and_not_ready(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.start()
    monkeypatch.setattr(ward.manager.adapter, "stats", raising(ValueError("no x://me:hunter2@h/")))
    health = ward.probed(6)
    assert (health.live, health.ready, health.ok) == (True, False, False)
    assert health.reasons == ("the queue cannot be asked: ValueError: no x://***@h/",)


def test_s38_slots_that_have_all_lost_the_queue_are_not_ready(ward: Ward) -> None:
    consumers = [Deaf(ward.ended)]
    consumers[0].raises = AdapterUnavailable("gone")
    ward.manager.adapter.make_consumer = lambda queues: consumers[0]  # type: ignore[method-assign]  # planted
    ward.worker.start()
    until(lambda: ward.worker.health().disconnected == 1)
    health = ward.worker.health()
    assert (health.live, health.ready) == (True, False)
    assert health.reasons == ("no slot can reach the queue",)
    assert health.idle_since is None
    ward.manager.request("a")
    ward.probed(200)
    assert ward.worker._idleness.seen.idle == ""  # a slot without a queue does not idle


def test_s38_a_slot_that_has_lost_the_queue_beside_one_that_has_not_leaves_it_ready(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Deaf(ward.ended)
    lost.raises = AdapterUnavailable("gone")
    consumers: list[Consumer] = [Deaf(ward.ended)]
    monkeypatch.setattr(
        ward.manager.adapter, "make_consumer", lambda queues: consumers.pop() if consumers else lost
    )
    ward.worker = ward.manager.worker(slots=2)
    ward.start()
    until(lambda: ward.worker.health().disconnected == 1)
    assert ward.worker.health().ready


def test_s38_a_slot_that_is_told_again_and_again_that_nothing_is_there_has_idled_all_the_time(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait for a job ends every thirty seconds, and the next one begins."""
    asked = threading.Semaphore(0)
    again = threading.Semaphore(0)

    class Returning(Deaf):
        def reserve(self, timeout: timedelta) -> None:
            asked.release()
            again.acquire(timeout=20)

    monkeypatch.setattr(ward.manager.adapter, "make_consumer", lambda queues: Returning(ward.ended))
    ward.start()
    ward.manager.request("a")

    def next_wait() -> None:
        assert asked.acquire(timeout=20)
        again.release()

    try:
        assert not ward.probed(66, between=next_wait).live
    finally:
        ward.worker.stop(timedelta(0))
        again.release(2)


def test_s38_of_several_slots_the_one_that_has_waited_longest_counts(app: App) -> None:
    clock = VirtualClock(auto_advance=False)
    running, go_on = threading.Event(), threading.Event()

    def long(payload: object) -> None:
        running.set()
        go_on.wait(20)

    manager = app({"long": long}, clock=clock)
    worker = manager.worker(slots=2)
    begun = clock.now()
    worker.start()
    try:
        until(lambda: worker.health().idle_since == begun)
        clock.advance(timedelta(minutes=1))
        manager.request("long")
        assert running.wait(20)
        clock.advance(timedelta(seconds=5))  # its lease lasts longer
        go_on.set()
        until(lambda: worker.health().busy == 0)
        assert worker.health().idle_since == begun
    finally:
        worker.stop()
        worker.join()
    assert worker.health().idle_since is None


def test_s38_a_queue_that_hangs_is_told_of_without_waiting_for_it(
    app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = app({"a": print})
    asked, go_on = threading.Event(), threading.Event()

    def stats(queue: str) -> QueueStats:
        asked.set()
        go_on.wait(20)
        return QueueStats(queue=queue)

    monkeypatch.setattr(manager.adapter, "stats", stats)
    looking = Idleness(manager.adapter, ["default"], clock, MINUTE)
    thread = threading.Thread(target=looking.look, args=(1, None, 0))
    thread.start()
    try:
        assert asked.wait(20)
        clock.advance(timedelta(seconds=9))
        assert looking.seen.away == ""
        clock.advance(timedelta(seconds=4))
        assert looking.seen.away == "the queue has not answered for 13 s"
    finally:
        go_on.set()
        thread.join()
    assert looking.seen.away == ""


def test_s38_a_queue_is_asked_rarely_while_every_slot_is_busy_unless_it_was_away(
    app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = app({"a": print})
    looking = Idleness(manager.adapter, ["default"], clock, MINUTE)
    asked: list[float] = []

    def stats(queue: str) -> QueueStats:
        asked.append(clock.monotonic() - begun)
        if asked[-1] > 20:
            raise AdapterUnavailable("away")
        return QueueStats(queue=queue)

    begun = clock.monotonic()
    monkeypatch.setattr(manager.adapter, "stats", stats)
    for _ in range(35):
        looking.look(0, None, 0)
        clock.advance(timedelta(seconds=1))
    assert asked == [0, 15, 30, 32, 34]


def test_s38_a_slot_that_ends_by_itself_makes_it_not_live(
    app: App, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = app({"a": print}).worker(slots=2)
    monkeypatch.setattr(worker_module.Slot, "_work", lambda slot: slot._plan.on_end(slot))
    worker.start()
    until(lambda: worker.health().dead == 2)
    assert not worker.health().live
    assert worker.health().reasons == ("2 of 2 slots have ended by themselves",)
    assert not worker.health().ready


def test_s38_before_its_start_and_after_its_stop_it_is_live_and_not_ready(app: App) -> None:
    worker = app({"a": print}).worker(slots=1)
    before = worker.health()
    worker.start()
    assert worker.health().ready
    worker.stop()
    stopping = worker.health()
    worker.join()
    told = [(health.live, health.ready, health.reasons) for health in (before, stopping, worker.health())]
    assert told == [
        (True, False, ("the worker has not begun",)),
        (True, False, ("the worker stops",)),
        (True, False, ("the worker stops",)),
    ]


def test_s38_jobs_that_fail_change_nothing_of_it(app: App) -> None:
    clock = VirtualClock(auto_advance=False)

    def bad(payload: object) -> None:
        raise ValueError("as always")

    manager = app({"bad": bad}, clock=clock)
    worker = manager.worker(slots=1)
    worker.start()
    try:
        for _ in range(20):
            manager.request("bad")
        until(lambda: worker.counts.get("failed") == 20)
        clock.advance(timedelta(minutes=5))
        health = worker.health()
        assert (health.live, health.ready, health.counts) == (True, True, {"failed": 20})
    finally:
        worker.stop()
        worker.join()


def test_s38_when_a_job_was_taken_and_since_when_none_is_there(app: App) -> None:
    clock = VirtualClock(auto_advance=False)
    manager = app({"a": print}, clock=clock)
    worker = manager.worker(slots=1)
    assert (worker.health().last_reserved, worker.health().idle_since) == (None, None)
    worker.start()
    try:
        until(lambda: worker.health().idle_since is not None)
        assert worker.health().last_reserved is None
        clock.advance(timedelta(hours=1))
        taken = clock.now()
        manager.request("a")
        until(lambda: worker.counts and worker.health().idle_since is not None)
        clock.advance(timedelta(minutes=2))
        health = worker.health()
        assert (health.last_reserved, health.idle_since) == (taken, taken)
        with pytest.raises(TypeError):
            health.counts["success"] = 0  # type: ignore[index]  # that is the point
    finally:
        worker.stop()
        worker.join()


class Counting(Counter[Any]):
    """Counts on while somebody goes through it, as a slot does."""

    def items(self) -> Any:
        for item in super().items():
            self["more", len(self)] = 1
            yield item


def test_s38_health_can_be_asked_while_the_slots_count(app: App) -> None:
    worker = app({"a": print}).start(slots=2)
    first, second = worker._slots
    first.counts["success"] = 1
    second.counts = Counting(success=2)
    second.troubles = Counting({("default", Trouble.LEASE_LOST): 3})
    health = worker.health()
    assert worker.counts == health.counts == {"success": 3}
    assert health.leases_lost == {"default": 3}


def test_finding_c2_health_is_not_ok_while_the_consumer_is_deaf(ward: Ward) -> None:
    ward.start()
    ward.manager.request("a")
    assert ward.worker.health().ok
    ward.clock.advance(SOME_SECONDS)
    assert ward.worker.health().ok  # it saw the job for the first time
    ward.clock.advance(SOME_SECONDS)
    health = ward.worker.health()
    assert not health.ok
    assert "1 in queue default" in health.reason
