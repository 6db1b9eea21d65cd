"""The worker: slots, heartbeat and stop, on scripted consumers and on memory; S7, S15, S21, D8, D9."""

from __future__ import annotations

import _thread
import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import attrs
import pytest

from kessel_core import (
    AdapterUnavailable,
    Config,
    InvalidConfig,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    JsonValue,
    KesselError,
    LeaseLost,
    Problem,
    SystemClock,
    Worker,
    WorkerConfig,
    handler,
    hookimpl,
)
from kessel_core.contract import (
    COMMIT,
    Capabilities,
    Consumer,
    Message,
    QueueAdapter,
    QueueStats,
    Reach,
    Reservation,
    Settlement,
    Snooze,
)
from kessel_core.hooks import WorkerInfo
from kessel_core.testing import VirtualClock
from tests.threadless import no_thread
from tests.until import until

Open = Callable[..., JobManager]
BOUND = 20.0
MINUTE = timedelta(minutes=1)


def job(kind: str = "a", job_id: str = "i") -> Reservation:
    return Reservation(job_id, "default", json.dumps({"type": kind, "id": job_id}).encode(), 1)


def leased(lease: timedelta, clock: VirtualClock, job_id: str = "i") -> Reservation:
    reservation = job(job_id=job_id)
    reservation.lease = lease
    reservation.deadline = clock.monotonic() + lease.total_seconds()
    return reservation


class Scripted(Consumer):
    """Does one step after the other when asked for a job; then it waits for its end."""

    def __init__(self, *steps: Reservation | BaseException | None, clock: VirtualClock | None = None) -> None:
        self.steps = list(steps)
        self.clock = clock
        self.settled: list[Settlement] = []
        #: For each extend, how many seconds of the lease were over.
        self.extended: list[float] = []
        self.closed = 0
        self.ended = threading.Event()
        self.fail: dict[str, Exception] = {}

    def _failing(self, what: str) -> None:
        if what in self.fail:
            raise self.fail[what]

    def reserve(self, timeout: timedelta) -> Reservation | None:
        if not self.steps:
            if timeout:
                self.ended.wait(BOUND)
            return None
        step = self.steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        self._failing("settle")
        self.settled.append(settlement)

    def extend(self, reservation: Reservation) -> None:
        self._failing("extend")
        assert self.clock is not None
        assert reservation.deadline is not None
        assert reservation.lease is not None
        end = self.clock.monotonic() + reservation.lease.total_seconds()
        self.extended.append(end - reservation.deadline)
        reservation.deadline = end

    def cancel(self) -> None:
        self.ended.set()
        self._failing("cancel")

    def close(self) -> None:
        self.closed += 1
        self._failing("close")


class Stage(QueueAdapter):
    """Hands out scripted consumers in order, and notes what is given back for a slot."""

    name = "stage"

    def __init__(self, *consumers: Consumer, lease: timedelta | None = None) -> None:
        self.consumers = list(consumers)
        self.capabilities_ = Capabilities(reach=Reach.PROCESS, lease=lease)
        self.given_back: list[str | None] = []
        #: What giving a job back raises, by its id.
        self.fail: dict[str | None, Exception] = {}

    @property
    def capabilities(self) -> Capabilities:
        return self.capabilities_

    def enqueue(self, message: Message) -> None: ...

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        return self.consumers.pop(0)

    def give_back(self, reservation: Reservation) -> None:
        if reservation.id in self.fail:
            raise self.fail[reservation.id]
        self.given_back.append(reservation.id)

    def queues(self) -> list[str]:
        return []

    def stats(self, queue: str) -> QueueStats:
        return QueueStats(queue=queue)

    def purge(self, queue: str) -> int:
        return 0

    def close(self) -> None: ...


class Stuck:
    """A handler that runs until the test lets it go."""

    def __init__(self) -> None:
        self.running, self.go_on = threading.Event(), threading.Event()

    def handle(self, payload: JsonValue) -> str:
        self.running.set()
        assert self.go_on.wait(BOUND)
        return "done"


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    handling = Stuck()
    yield handling
    handling.go_on.set()


# --- slots --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), BaseException()]
)
def test_f41_a_handler_that_asks_for_the_end_of_the_program_ends_only_its_job(
    opened: Open, error: BaseException
) -> None:
    def ending(payload: JsonValue) -> None:
        raise error

    manager = opened(handlers={"end": ending, "a": len})
    manager.request_many([("end", 1), ("a", [])])
    assert manager.worker(slots=1).drain() == {"failed": 1, "success": 1}
    assert [stored.reason for stored in manager.adapter.buried("default")] == ["error"]


def test_f41_an_async_handler_that_is_cancelled_ends_only_its_job(opened: Open) -> None:
    async def cancelled(payload: JsonValue) -> None:
        raise asyncio.CancelledError

    manager = opened(handlers={"end": cancelled, "a": len})
    manager.request_many([("end", 1), ("a", [])])
    assert manager.worker(slots=1).drain() == {"failed": 1, "success": 1}


def test_s15_a_callback_that_ends_the_program_ends_nothing(opened: Open) -> None:
    def leave(result: JobResult) -> None:
        raise SystemExit(1)

    manager = opened(handlers={"a": len})
    manager.request(JobRequest(type="a", payload=[], callback=leave))
    manager.request("a", [])
    assert manager.worker(slots=1).drain() == {"success": 2}


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(3)])
def test_f42_a_slot_survives_whatever_its_consumer_raises_and_takes_a_new_one(
    opened: Open, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Scripted(error), Scripted(job())
    manager = opened(Stage(first, second), handlers={"a": lambda payload: 1})
    worker = manager.start(slots=1)
    until(lambda: second.settled)
    until(lambda: not worker.health().busy)
    assert (first.closed, worker.health().ok) == (1, True)
    manager.stop()
    assert worker.counts == {"success": 1}
    assert caplog.text.count("unexpected error") == 1


def test_f42_after_a_bug_in_the_middle_of_a_job_its_slot_holds_nothing_any_more(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing its consumer gives the job back; nobody extends it, and a stop does not give it back again."""
    first, second = Scripted(job()), Scripted()
    stage = Stage(first, second)
    manager = opened(stage, handlers={"a": lambda payload: 1})

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(manager.pipeline, "run", failing)
    worker = manager.start(slots=1)
    until(lambda: first.closed and not stage.consumers)
    until(lambda: worker.health().ok)
    assert worker.health().busy == 0
    manager.stop(timedelta(0))
    assert stage.given_back == []


def test_d9_after_a_lost_connection_the_same_consumer_goes_on(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "kessel.worker")
    consumer = Scripted(AdapterUnavailable("away"), AdapterUnavailable("still away"), job())
    manager = opened(Stage(consumer), handlers={"a": lambda payload: 1})
    worker = manager.start(slots=1)
    until(lambda: consumer.settled)
    manager.stop()
    assert worker.counts == {"success": 1}
    for said in ("not usable, trying again: away", "still not usable: still away", "usable again"):
        assert caplog.text.count(said) == 1


def test_d9_an_empty_queue_that_is_back_is_known_to_be_back_without_waiting_for_a_job(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kessel.worker")
    manager = opened(Stage(Scripted(AdapterUnavailable("away"))))
    worker = manager.start(slots=1)
    until(lambda: "usable again" in caplog.text)
    assert worker.health().ok
    manager.stop()


def test_f68_a_consumer_that_cannot_be_cancelled_or_closed_does_not_hold_up_the_stop(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = Scripted(), Scripted()
    broken.fail = {"cancel": RuntimeError("a bug"), "close": RuntimeError("another")}
    manager = opened(Stage(broken, other))
    worker = manager.start(slots=2)
    until(lambda: not manager.adapter.consumers)  # type: ignore[attr-defined]  # a Stage
    manager.stop()
    assert (broken.closed, other.closed) == (1, 1)
    assert not worker.health().running
    assert "could not be cut short" in caplog.text


def test_s21_a_job_that_came_with_the_last_settle_is_snoozed_by_a_stopping_worker(
    opened: Open, stuck: Stuck
) -> None:
    consumer = Scripted(job(), job("a", "second"))
    manager = opened(Stage(consumer), handlers={"a": stuck})
    worker = manager.start(slots=1)
    assert stuck.running.wait(BOUND)
    worker.stop(timedelta(seconds=BOUND))
    stuck.go_on.set()
    worker.join()
    assert consumer.settled == [COMMIT, Snooze()]
    assert worker.counts == {"success": 1}


def test_d3_watchers_of_the_worker_get_who_it_is(opened: Open) -> None:
    class Watching:
        @hookimpl
        def kessel_worker_started(self, worker: WorkerInfo) -> None:
            seen.append(worker)

        @hookimpl
        def kessel_worker_stopping(self, worker: WorkerInfo) -> None:
            seen.append(worker)

    seen: list[WorkerInfo] = []
    manager = opened(plugin=Watching())
    worker = manager.start(queues=["q"], slots=2)
    manager.stop(timedelta(seconds=7))
    started, stopping = seen
    assert (started.queues, started.slots, started.grace) == (("q",), 2, worker.grace)
    assert (started.pid, started.host) == (os.getpid(), socket.gethostname())
    assert attrs.evolve(started, grace=timedelta(seconds=7)) == stopping


@pytest.mark.parametrize("when", ["before", "at the start", "ready"])
def test_d3_whenever_a_stop_comes_each_start_that_is_told_has_one_stop_that_is_told(
    opened: Open, when: str
) -> None:
    told: list[tuple[str, timedelta]] = []

    class Watching:
        @hookimpl
        def kessel_worker_started(self, worker: WorkerInfo) -> None:
            stop("at the start")
            told.append(("started", worker.grace))

        @hookimpl
        def kessel_worker_stopping(self, worker: WorkerInfo) -> None:
            told.append(("stopping", worker.grace))

    def stop(now: str) -> None:
        if now == when:  # in another thread, which has told everybody when it returns
            stopping = threading.Thread(target=worker.stop, args=(timedelta(seconds=7),))
            stopping.start()
            stopping.join(BOUND)

    worker = opened(plugin=Watching()).worker(slots=2)
    stop("before")
    worker.run(ready=lambda: stop("ready"))
    worker.stop()
    assert told == [("started", worker.grace), ("stopping", timedelta(seconds=7))]


def test_d3_a_stop_of_a_worker_that_never_starts_is_told_to_nobody(opened: Open) -> None:
    class Watching:
        @hookimpl
        def kessel_worker_stopping(self, worker: WorkerInfo) -> None:
            told.append(worker)

    told: list[WorkerInfo] = []
    worker = opened(plugin=Watching()).worker()
    worker.stop()
    until(lambda: all(not announcing.locked() for announcing in worker._announcing))
    assert told == []


def test_hooks_hand_out_values_and_never_the_worker_itself(opened: Open) -> None:
    """What a plugin does with it changes nothing; its health can still be asked."""

    class Watching:
        @hookimpl
        def kessel_worker_started(self, worker: WorkerInfo) -> None:
            seen.append(worker)

    seen: list[WorkerInfo] = []
    worker = opened(plugin=Watching()).start(slots=1)
    (info,) = seen
    assert not isinstance(info, Worker)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        info.slots = 9  # type: ignore[misc]  # that is the point
    assert info.health() == worker.health()


def test_health_before_start_and_while_draining_is_good(opened: Open) -> None:
    worker = opened().worker(slots=2)
    before = worker.health()
    worker.drain()
    after = worker.health()
    assert (before.ok, before.running, after.ok, after.running) == (True, False, True, False)


def test_queues_that_the_adapter_refuses_are_an_error_of_the_caller_and_nothing_starts(opened: Open) -> None:
    """A slot would be refused again and again, with nobody there to see it."""

    class Picky(Stage):
        def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
            if not self.consumers:
                raise InvalidConfig([Problem(("queues", 0), "is not for you")])
            return super().make_consumer(queues)

    first = Scripted()
    manager = opened(Picky(first), handlers={"a": lambda _: None})
    before = set(threading.enumerate())  # other tests leave slots behind whose handlers never end
    with pytest.raises(InvalidConfig, match="is not for you"):
        manager.start(slots=2)
    assert first.closed == 1
    begun = set(threading.enumerate()) - before
    assert not any(thread.name.startswith("kessel-slot") for thread in begun)
    manager.adapter.consumers.append(Scripted())  # type: ignore[attr-defined]  # a Picky
    assert manager.start(slots=1).health().ok


@pytest.mark.parametrize("patience", [0, 30])
def test_a_drain_gives_up_when_the_queue_stays_unusable_for_its_patience(opened: Open, patience: int) -> None:
    """So that a cron job ends; what was done before is known."""
    clock = VirtualClock()
    gone = [AdapterUnavailable("nobody answers") for _ in range(10_000)]
    manager = opened(
        Stage(Scripted(job(), *gone)),
        handlers={"a": lambda _: None},
        clock=clock,
        config=Config(worker=WorkerConfig(patience=timedelta(seconds=patience))),
    )
    worker = manager.worker(slots=1)
    start = clock.monotonic()
    with pytest.raises(AdapterUnavailable, match=f"gave up after {patience} s .* nobody answers"):
        worker.drain()
    assert clock.monotonic() - start == pytest.approx(patience, abs=0.001)
    assert worker.counts == {"success": 1}


@pytest.mark.parametrize(("patience", "longest"), [(2, 2), (60, 30)])
def test_a_drain_tries_to_settle_for_its_patience_at_most(
    opened: Open, monkeypatch: pytest.MonkeyPatch, patience: int, longest: int
) -> None:
    clock, consumer = VirtualClock(), Scripted(job())
    tries: list[float] = []

    def away(*args: object) -> None:
        tries.append(clock.monotonic())
        raise AdapterUnavailable("nobody answers")

    monkeypatch.setattr(consumer, "settle", away)
    manager = opened(
        Stage(consumer),
        handlers={"a": lambda _: None},
        clock=clock,
        config=Config(worker=WorkerConfig(patience=timedelta(seconds=patience))),
    )
    assert manager.worker(slots=1).drain() == {"lost": 1}
    assert longest - 2 < tries[-1] - tries[0] <= longest


def test_what_a_stop_gives_up_to_settle_is_said_before_the_worker_has_ended(
    opened: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body in the log is all that may be left of a job, and a process that ends says nothing more."""
    consumer, tried = Scripted(job()), threading.Event()

    def away(*args: object) -> None:
        if tried.is_set():  # the last try, which takes its time
            time.sleep(0.2)
        if caplog.records:  # "not settled yet", from when on the pauses are long
            tried.set()
        raise AdapterUnavailable("nobody answers")

    monkeypatch.setattr(consumer, "settle", away)
    caplog.set_level("WARNING", "kessel.worker")
    manager = opened(Stage(consumer), handlers={"a": lambda _: None})
    worker = manager.start(slots=1)
    assert tried.wait(BOUND)
    manager.stop(timedelta(0))
    assert worker.counts == {"lost": 1}
    assert caplog.text.count("could not be settled (commit)") == 1


def test_a_drain_goes_on_when_the_queue_is_usable_again_and_its_patience_starts_anew(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 1.0)  # then four failures take 3 s
    gone = [AdapterUnavailable("nobody answers") for _ in range(4)]
    manager = opened(
        Stage(Scripted(*gone, job("a", "1"), *gone, job("a", "2"))),
        handlers={"a": lambda _: None},
        clock=VirtualClock(),
        config=Config(worker=WorkerConfig(patience=timedelta(seconds=4))),
    )
    assert manager.worker(slots=1).drain() == {"success": 2}


@pytest.mark.parametrize(
    ("requests", "said"), [([], "no jobs"), (["a"], "1 success"), (["a", "a", "b"], "1 failed, 2 success")]
)
def test_d9_the_last_line_of_a_worker_says_what_came_of_its_jobs(
    opened: Open, caplog: pytest.LogCaptureFixture, requests: list[str], said: str
) -> None:
    manager = opened(handlers={"a": lambda payload: 1, "b": lambda payload: 1 / 0})
    manager.request_many(requests)
    caplog.set_level("INFO", "kessel.worker")
    manager.worker(slots=1).drain()
    lines = [record.getMessage() for record in caplog.records if record.name == "kessel.worker"]
    assert lines == ["worker: 1 slot on default", f"worker: stopped ({said})"]


def test_d9_a_second_stop_can_only_shorten_the_grace_period(opened: Open, stuck: Stuck) -> None:
    manager = opened(handlers={"a": stuck})
    manager.request("a")
    worker = manager.worker(slots=1)
    running = threading.Thread(target=worker.run)
    running.start()
    assert stuck.running.wait(BOUND)
    worker.stop(timedelta(hours=1))
    worker.stop(timedelta(0))
    worker.stop(timedelta(hours=2))
    running.join(BOUND)
    assert not running.is_alive()
    assert manager.adapter.stats("default").ready == 1


class Slow(SystemClock):
    """A clock that stands still for a slot between taking a job and showing that it has it."""

    def __init__(self) -> None:
        self.taking, self.go_on = threading.Event(), threading.Event()

    def monotonic(self) -> float:
        caller = sys._getframe(1).f_code
        if caller.co_name == "__init__" and caller.co_filename.endswith("lease.py"):
            self.taking.set()
            assert self.go_on.wait(BOUND)
        return super().monotonic()


def test_d9_s21_a_job_that_is_taken_while_the_grace_period_ends_is_not_begun_and_ready_again(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[JsonValue] = []
    clock = Slow()
    manager = opened(handlers={"a": ran.append}, clock=clock)
    manager.request("a")
    worker = manager.start(slots=1)
    assert clock.taking.wait(BOUND)
    (slot,) = worker._slots
    real = slot.thread.join

    def join(timeout: float | None = None) -> None:  # called when what is held was given back
        clock.go_on.set()
        real(BOUND)

    monkeypatch.setattr(slot.thread, "join", join)
    manager.stop(timedelta(0))
    stats = manager.adapter.stats("default")
    assert (ran, stats.ready, stats.total) == ([], 1, 1)
    assert worker.counts == {}


def test_d9_s21_a_slot_that_settles_what_it_took_at_the_last_moment_is_waited_for(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks like one whose handler runs on; without the wait the process ends with the job held."""
    consumer, clock, settling = Scripted(job()), Slow(), threading.Event()

    def settle(reservation: Reservation, settlement: Settlement) -> None:
        settling.set()
        time.sleep(0.1)
        consumer.settled.append(settlement)

    monkeypatch.setattr(consumer, "settle", settle)
    worker = opened(Stage(consumer), handlers={"a": lambda _: None}, clock=clock).start(slots=1)
    assert clock.taking.wait(BOUND)

    def cut_off(threads: object) -> None:  # called when what is held was given back
        clock.go_on.set()
        assert settling.wait(BOUND)

    monkeypatch.setattr(worker._pipeline, "cut_off", cut_off)
    worker.stop(timedelta(0))
    worker.join()
    assert consumer.settled == [Snooze()]


def test_d9_a_handler_that_runs_on_after_the_grace_period_is_not_waited_for(
    opened: Open, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = opened(Stage(Scripted(job())), handlers={"a": stuck}).start(slots=1)
    assert stuck.running.wait(BOUND)
    waited: list[float | None] = []
    monkeypatch.setattr(worker._slots[0].thread, "join", lambda timeout=None: waited.append(timeout))
    worker.stop(timedelta(0))
    worker.join()
    assert waited == [0]


def slots_alive() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("kessel-slot-")}


def test_d9_without_a_thread_for_a_slot_the_start_says_so_and_nothing_of_it_is_left(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, before = opened(), slots_alive()
    no_thread(monkeypatch, "kessel-slot-3")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        manager.start(slots=4)
    assert slots_alive() <= before
    manager.start(slots=4)
    assert len(slots_alive() - before) == 4


def test_d9_slots_that_never_began_are_not_waited_for(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still meanwhile, so the end of the grace period does not come."""
    consumers, clock = [Scripted() for _ in range(4)], VirtualClock(auto_advance=False)
    worker = opened(Stage(*consumers), clock=clock).worker(slots=4)
    no_thread(monkeypatch, "kessel-slot-3")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        worker.start()
    worker.stop()
    ending = threading.Thread(target=worker.join, daemon=True)
    ending.start()
    ending.join(BOUND)
    has_ended = not ending.is_alive()
    clock.advance(MINUTE)
    assert has_ended
    assert [consumer.closed for consumer in consumers] == [1] * 4
    assert not worker.health().running


def test_d9_a_ctrl_c_during_the_start_is_what_is_raised_and_leaves_no_slot(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = opened(config=Config(worker=WorkerConfig(grace=timedelta(0)))).worker(slots=4)
    real, before = threading.Thread.start, slots_alive()

    def start(thread: threading.Thread) -> None:
        if thread.name == "kessel-slot-2":
            _thread.interrupt_main()
            until(lambda: worker.is_stopping)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    assert slots_alive() <= before


@pytest.mark.parametrize("again", ["start", "run", "drain"])
def test_s7_a_second_start_is_refused_and_the_first_goes_on(opened: Open, stuck: Stuck, again: str) -> None:
    manager = opened(handlers={"a": stuck})
    manager.request("a")
    worker = manager.start(slots=1)
    assert stuck.running.wait(BOUND)
    with pytest.raises(KesselError, match="only once"):
        getattr(worker, again)()
    health = worker.health()
    assert (health.running, health.busy, worker.is_stopping) == (True, 1, False)
    stuck.go_on.set()
    until(lambda: worker.counts)
    manager.stop()
    assert worker.counts == {"success": 1}


def test_d9_s21_every_job_is_given_back_even_if_one_cannot_be(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """By the adapter, not by the consumers, which belong to the threads that are still in their handlers."""
    consumers = [Scripted(job(job_id=str(n))) for n in range(3)]
    stage = Stage(*consumers)
    stage.fail = {"0": RuntimeError("a bug"), "1": AdapterUnavailable("away")}
    barrier, go_on = threading.Barrier(4), threading.Event()

    def wait(payload: JsonValue) -> None:
        barrier.wait(BOUND)
        go_on.wait(BOUND)

    manager = opened(stage, handlers={"a": wait})
    worker = manager.start(slots=3)
    barrier.wait(BOUND)
    assert worker.health().busy == 3
    manager.stop(timedelta(0))
    assert stage.given_back == ["2"]
    assert caplog.text.count("could not be given back") == 2
    go_on.set()
    until(lambda: all(consumer.closed for consumer in consumers))
    assert [consumer.settled for consumer in consumers] == [[], [], []]
    assert worker.counts == {"lost": 3}


# --- leases -------------------------------------------------------------------------------------------


class Beating(VirtualClock):
    """A clock that only the test moves; it counts the waits of the heartbeat."""

    def __init__(self) -> None:
        super().__init__(auto_advance=False)
        self.waits = 0
        #: How long the heartbeat wanted to wait, in seconds.
        self.asked: list[float | None] = []

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        if threading.current_thread().name == "kessel-reporter":  # another one that waits by the clock
            return condition.wait(0.02)
        self.waits += 1
        if threading.current_thread().name == "kessel-heartbeat":
            self.asked.append(timeout)
        return super().wait(condition, timeout)

    def beat(self, span: timedelta) -> None:
        """Let time pass, and wait until the heartbeat has looked and waits again."""
        until(lambda: self.waiting == 1)
        before = self.waits
        self.advance(span)
        until(lambda: self.waits > before and self.waiting == 1)


def test_s7_the_heartbeat_keeps_the_lease_of_a_long_job(opened: Open, stuck: Stuck) -> None:
    clock = Beating()
    manager = opened("memory://?lease=60s", handlers={"a": stuck}, clock=clock)
    manager.request("a")
    worker = manager.start(slots=1)
    assert stuck.running.wait(BOUND)
    for _ in range(12):
        clock.beat(MINUTE / 3)
    assert worker.health().longest == 240
    stuck.go_on.set()
    until(lambda: worker.counts)
    assert worker.counts == {"success": 1}
    manager.stop(timedelta(0))
    assert manager.adapter.stats("default").total == 0


def test_s7_a_heartbeat_that_could_not_be_started_once_is_started_with_the_next_lease(
    opened: Open, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Beating()
    first, second = (Scripted(leased(MINUTE, clock), clock=clock) for _ in range(2))
    failed = no_thread(monkeypatch, "kessel-heartbeat")
    opened(Stage(first, second), handlers={"a": stuck}, clock=clock).start(slots=1)
    until(lambda: clock.waiting == 1)  # the slot, before it takes another consumer
    assert (failed, first.closed, stuck.running.is_set()) == (["kessel-heartbeat"], 1, False)
    clock.advance(timedelta(seconds=1))
    assert stuck.running.wait(BOUND)
    clock.beat(MINUTE / 3)
    assert len(second.extended) == 1


def overdue(opened: Open, stuck: Stuck, **fields: Any) -> tuple[Beating, JobManager, Worker]:
    """Run a job that has just passed its handler's timeout of half a minute; its lease is one minute."""
    clock = Beating()
    limited = handler("a", timeout=MINUTE / 2)(stuck)
    manager = opened("memory://?lease=60s", handlers=[limited], clock=clock)
    manager.request(JobRequest(type="a", **fields))
    worker = manager.start(slots=1)
    assert stuck.running.wait(BOUND)
    for _ in range(3):
        clock.beat(MINUTE / 3)
    return clock, manager, worker


def test_s7_a_plain_handler_beyond_its_timeout_loses_its_lease(
    opened: Open, stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    clock, manager, worker = overdue(opened, stuck)
    clock.beat(MINUTE)
    assert caplog.text.count("runs longer than its timeout") == 1
    assert manager.adapter.stats("default").ready == 1
    worker.stop(timedelta(seconds=BOUND))  # else this slot would take the job again
    stuck.go_on.set()
    until(lambda: worker.counts)
    assert worker.counts == {"lost": 1}
    worker.join()


def test_s15_an_overdue_job_that_still_ends_within_its_lease_is_reported(opened: Open, stuck: Stuck) -> None:
    told: list[JobResult] = []
    _, manager, worker = overdue(opened, stuck, callback=told.append)
    stuck.go_on.set()
    until(lambda: worker.counts)
    manager.stop(timedelta(0))
    assert worker.counts == {"success": 1}
    assert [result.value for result in told] == ["done"]


def test_s7_a_lease_is_extended_when_a_third_of_it_is_gone(opened: Open, stuck: Stuck) -> None:
    clock = Beating()
    consumer = Scripted(leased(MINUTE, clock), clock=clock)
    manager = opened(Stage(consumer, lease=MINUTE), handlers={"a": stuck}, clock=clock)
    manager.start(slots=1)
    assert stuck.running.wait(BOUND)
    clock.beat(MINUTE / 3)
    assert consumer.extended == [20.0]
    assert clock.asked == [20.0, 20.0]


def test_s7_b3_the_lease_that_counts_is_the_one_of_the_job_and_not_of_the_adapter(
    opened: Open, stuck: Stuck
) -> None:
    """Other clients may put jobs with a shorter one; it would end before the first beat for the other."""
    clock = Beating()
    reservation = leased(timedelta(seconds=9), clock)
    consumer = Scripted(reservation, clock=clock)
    manager = opened(Stage(consumer, lease=MINUTE), handlers={"a": stuck}, clock=clock)
    begun = clock.monotonic()
    manager.start(slots=1)
    assert stuck.running.wait(BOUND)
    for _ in range(5):
        clock.beat(timedelta(seconds=3))
    assert consumer.extended == [3.0] * 5  # seconds since the lease began anew
    assert reservation.deadline == begun + 15 + 9


def test_s7_b3_a_shorter_lease_is_noticed_while_a_longer_one_runs(opened: Open) -> None:
    """The heartbeat of a worker is for all its slots; it is in the middle of a long wait then.

    Each lease is extended at a third of its own length: beats for another one are not for all.
    """
    clock, gate, going = Beating(), threading.Event(), [Stuck(), Stuck()]

    class Late(Scripted):
        def reserve(self, timeout: timedelta) -> Reservation | None:
            gate.wait(BOUND)
            return super().reserve(timeout)

    first = Scripted(leased(MINUTE, clock, "long"), clock=clock)
    second = Late(leased(timedelta(seconds=9), clock, "short"), clock=clock)
    handlers = {"a": lambda payload, job: going[job.id == "short"].handle(payload)}
    manager = opened(Stage(first, second, lease=MINUTE), handlers=handlers, clock=clock)
    manager.start(slots=2)
    assert going[0].running.wait(BOUND)
    until(lambda: clock.asked == [20.0])
    gate.set()
    assert going[1].running.wait(BOUND)
    until(lambda: clock.asked[-1] == 3.0)
    for _ in range(14):
        clock.beat(timedelta(seconds=3))
    for stuck in going:
        stuck.go_on.set()
    assert second.extended == [3.0] * 14
    assert first.extended == [21.0, 21.0]  # the beat that is nearest to 20 and does not come before 18.5


def test_s7_a_configured_heartbeat_extends_as_often_as_it_says(opened: Open, stuck: Stuck) -> None:
    clock = Beating()
    consumer = Scripted(leased(MINUTE, clock), clock=clock)
    config = Config(worker=WorkerConfig(heartbeat=timedelta(seconds=5)))
    opened(Stage(consumer), handlers={"a": stuck}, clock=clock, config=config).start(slots=1)
    assert stuck.running.wait(BOUND)
    for _ in range(3):
        clock.beat(timedelta(seconds=5))
    assert consumer.extended == [5.0] * 3


def test_s7_b3_the_lease_of_each_job_of_a_slot_is_noticed(opened: Open, stuck: Stuck) -> None:
    clock = Beating()
    jobs = [leased(timedelta(seconds=lease), clock, str(lease)) for lease in (60, 30, 9)]
    consumer = Scripted(*jobs, clock=clock)

    def handle(payload: JsonValue, job: JobContext) -> None:
        if job.id == "9":
            stuck.handle(payload)

    opened(Stage(consumer), handlers={"a": handle}, clock=clock).start(slots=1)
    assert stuck.running.wait(BOUND)
    until(lambda: clock.asked and clock.asked[-1] == 3.0)
    clock.beat(timedelta(seconds=3))
    assert consumer.extended == [3.0]


@pytest.mark.parametrize(
    ("configured", "lease", "every"),
    [(None, 60, 20.0), (5, 60, 5.0), (50, 60, 40.0), (None, None, None), (5, None, None)],
)
def test_the_heartbeat_comes_three_times_a_lease_or_as_configured_but_never_too_late(
    opened: Open, stuck: Stuck, configured: int | None, lease: int | None, every: float | None
) -> None:
    """However it is configured, no lease ends between two beats; without leases there is no heartbeat."""
    clock = Beating()
    reservation = leased(timedelta(seconds=lease), clock) if lease else job()
    heartbeat = timedelta(seconds=configured) if configured else None
    config = Config(worker=WorkerConfig(heartbeat=heartbeat))
    manager = opened(Stage(Scripted(reservation)), handlers={"a": stuck}, clock=clock, config=config)
    manager.start(slots=1)
    assert stuck.running.wait(BOUND)
    if every is not None:
        until(lambda: clock.asked)
    assert clock.asked == ([every] if every is not None else [])
    if every is None:
        until(lambda: not any(thread.name == "kessel-heartbeat" for thread in threading.enumerate()))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LeaseLost("i", "it is gone"), "it is gone while its handler runs"),
        (AdapterUnavailable("away"), "lease not extended: away"),
        (RuntimeError("a bug"), "lease not extended: a bug"),
    ],
)
def test_s7_an_extend_that_fails_is_said_and_the_heartbeat_of_the_others_goes_on(
    opened: Open, stuck: Stuck, error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock, together = Beating(), threading.Barrier(3)

    def handle(payload: JsonValue) -> None:
        together.wait(BOUND)
        stuck.handle(payload)

    first, second = (Scripted(leased(MINUTE, clock), clock=clock) for _ in range(2))
    first.fail = {"extend": error}
    opened(Stage(first, second), handlers={"a": handle}, clock=clock).start(slots=2)
    together.wait(BOUND)
    for _ in range(2):
        clock.beat(MINUTE / 3)
    assert said in caplog.text
    assert second.extended == [20.0] * 2


def test_s7_the_heartbeat_goes_on_until_the_last_job_has_ended(opened: Open, stuck: Stuck) -> None:
    """Also while the worker is stopping: the grace period may be longer than a lease."""
    clock = Beating()
    manager = opened("memory://?lease=60s", handlers={"a": stuck}, clock=clock)
    manager.request("a")
    worker = manager.start(slots=1)
    assert stuck.running.wait(BOUND)
    worker.stop(timedelta(hours=1))
    for _ in range(12):
        clock.beat(MINUTE / 3)
    stuck.go_on.set()
    worker.join()
    assert worker.counts == {"success": 1}


def test_s7_a_job_that_has_ended_is_not_extended(opened: Open) -> None:
    clock = Beating()
    consumer = Scripted(leased(MINUTE, clock), clock=clock)
    manager = opened(Stage(consumer), handlers={"a": lambda payload: 1}, clock=clock)
    worker = manager.start(slots=1)
    until(lambda: worker.counts)
    until(lambda: not worker.health().busy)
    clock.beat(MINUTE / 3)
    assert consumer.extended == []


def test_f43_an_async_handler_that_blocks_its_loop_keeps_its_lease(opened: Open, stuck: Stuck) -> None:
    async def blocking(payload: JsonValue) -> str:
        return stuck.handle(payload)

    clock = Beating()
    manager = opened("memory://?lease=60s", handlers={"a": blocking}, clock=clock)
    manager.request("a")
    worker = manager.start(slots=1)
    assert stuck.running.wait(BOUND)
    for _ in range(6):
        clock.beat(MINUTE / 3)
    stuck.go_on.set()
    until(lambda: worker.counts)
    assert worker.counts == {"success": 1}
    manager.stop(timedelta(0))


# --- many jobs ----------------------------------------------------------------------------------------


def test_sync_and_async_handlers_share_one_worker(opened: Open) -> None:
    async def later(payload: JsonValue, job: JobContext) -> str:
        await asyncio.sleep(0)
        return job.type

    manager = opened(handlers={"sync": len, "async": later})
    manager.request_many([("sync", []), ("async", None)] * 50)
    assert manager.worker(slots=4).drain() == {"success": 100}


def test_i1_many_slots_run_every_job_once(opened: Open) -> None:
    ran: list[JsonValue] = []
    manager = opened(handlers={"a": ran.append})
    manager.request_many([("a", n) for n in range(500)])
    assert manager.worker(slots=8).drain() == {"success": 500}
    assert sorted(ran) == list(range(500))  # type: ignore[type-var]  # all are numbers
