"""Which thread calls what, above all at a stop past its grace: S7, S10, S21, D8, D9; review X3, X6."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta

import attrs
import pytest

from kessel_core import (
    Config,
    JobContext,
    JobManager,
    JobResult,
    JobsConfig,
    JsonValue,
    LeaseLost,
    Snooze,
    Transient,
    hookimpl,
)
from kessel_core.contract import (
    Capabilities,
    Consumer,
    Message,
    QueueAdapter,
    QueueStats,
    Reach,
    Reservation,
    Settlement,
)
from kessel_core.model.policies import UnknownType
from kessel_core.testing import NeverIdle, VirtualClock, run_until_idle
from tests.until import until

Open = Callable[..., JobManager]
BOUND = 20.0
#: What any thread may call; everything else belongs to the slot's own.
FOR_ALL = {"extend", "cancel"}


class Stuck:
    """A handler that runs until the test lets it go."""

    def __init__(self) -> None:
        self.running, self.go_on = threading.Event(), threading.Event()
        self.seen: list[tuple[int, int]] = []

    def handle(self, payload: JsonValue, job: JobContext) -> None:
        self.seen.append((job.attempt, job.snoozes))
        self.running.set()
        assert self.go_on.wait(BOUND)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    handling = Stuck()
    yield handling
    handling.go_on.set()


@attrs.define(eq=False)
class Recorder:
    """Who called what of which consumer, and of the adapter."""

    calls: list[tuple[int, str, str]] = attrs.Factory(list)

    def note(self, consumer: object, what: str) -> None:
        self.calls.append((id(consumer), what, threading.current_thread().name))

    def shared(self) -> set[str]:
        """What several threads called of one consumer, beside what is for all."""
        found: set[str] = set()
        for consumer in {number for number, _, _ in self.calls}:
            own = [call[1:] for call in self.calls if call[0] == consumer and call[1] not in FOR_ALL]
            if len({thread for _, thread in own}) > 1:
                found |= {what for what, _ in own}
        return found

    def all(self) -> set[str]:
        return {what for _, what, _ in self.calls}


class Watched(Consumer):
    """Another consumer, with every call noted."""

    def __init__(self, inner: Consumer, recorder: Recorder) -> None:
        self._inner, self._recorder = inner, recorder

    def reserve(self, timeout: timedelta) -> Reservation | None:
        self._recorder.note(self, "reserve")
        return self._inner.reserve(timeout)

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        self._recorder.note(self, "settle")
        self._inner.settle(reservation, settlement)

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        self._recorder.note(self, "settle_and_reserve")
        return self._inner.settle_and_reserve(reservation, settlement)

    def extend(self, reservation: Reservation) -> None:
        self._recorder.note(self, "extend")
        self._inner.extend(reservation)

    def attempt(self, reservation: Reservation) -> int:
        self._recorder.note(self, "attempt")
        return self._inner.attempt(reservation)

    def cancel(self) -> None:
        self._recorder.note(self, "cancel")
        self._inner.cancel()

    def close(self) -> None:
        self._recorder.note(self, "close")
        self._inner.close()


class StrictConsumer(Consumer):
    """Written to the letter of the contract: one thread, no lock, and it says so when another one calls."""

    def __init__(self, adapter: StrictAdapter) -> None:
        self.adapter = adapter
        self.owner: threading.Thread | None = None
        self.held: Reservation | None = None
        self.is_cancelled = threading.Event()

    def _mine(self, what: str) -> None:
        self.adapter.recorder.note(self, what)
        current = threading.current_thread()
        self.owner = self.owner or current
        if self.owner is not current:
            self.adapter.broken.append(f"{what} by {current.name}, not by {self.owner.name}")

    def reserve(self, timeout: timedelta) -> Reservation | None:
        self._mine("reserve")
        if not self.adapter.jobs and timeout:
            self.is_cancelled.wait(BOUND)
        if self.is_cancelled.is_set() or not self.adapter.jobs:
            return None
        self.held = Reservation("i", "default", self.adapter.jobs.popleft(), 1)
        return self.held

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        self._mine("settle")
        if reservation is not self.held or reservation in self.adapter.given_back:
            raise LeaseLost(reservation.id, "it was given back")
        self.held = None

    def extend(self, reservation: Reservation) -> None:
        self.adapter.recorder.note(self, "extend")

    def attempt(self, reservation: Reservation) -> int:
        self._mine("attempt")
        return reservation.attempt

    def cancel(self) -> None:
        self.adapter.recorder.note(self, "cancel")
        self.is_cancelled.set()

    def close(self) -> None:
        self._mine("close")


class StrictAdapter(QueueAdapter):
    """Hands out jobs of a list; its consumers refuse to be shared."""

    name = "strict"

    def __init__(self, recorder: Recorder, *bodies: bytes) -> None:
        self.recorder, self.jobs = recorder, deque(bodies)
        self.broken: list[str] = []
        self.given_back: list[Reservation] = []

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(reach=Reach.PROCESS)

    def enqueue(self, message: Message) -> None: ...

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        return StrictConsumer(self)

    def give_back(self, reservation: Reservation) -> None:
        self.given_back.append(reservation)

    def queues(self) -> list[str]:
        return []

    def stats(self, queue: str) -> QueueStats:
        return QueueStats(queue=queue)

    def purge(self, queue: str) -> int:
        return 0

    def close(self) -> None: ...


def watch(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> tuple[Recorder, list[str]]:
    """Note every call to the consumers of a manager, and which threads give jobs back."""
    recorder, back = Recorder(), []
    adapter = manager.adapter
    make, give = adapter.make_consumer, adapter.give_back

    def give_back(reservation: Reservation) -> None:
        back.append(threading.current_thread().name)
        give(reservation)

    monkeypatch.setattr(adapter, "make_consumer", lambda queues: Watched(make(queues), recorder))
    monkeypatch.setattr(adapter, "give_back", give_back)
    return recorder, back


def stop_past_its_grace(manager: JobManager, stuck: Stuck) -> None:
    """Stop a worker in the middle of a job, and only then let the handler end."""
    stuck.running.clear()
    stuck.go_on.clear()
    worker = manager.start(slots=1)
    assert stuck.running.wait(BOUND)
    threads = [slot.thread for slot in worker._slots]
    manager.stop(timedelta(0))
    stuck.go_on.set()
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()
    assert worker.counts == {"lost": 1}


# --- X3 -------------------------------------------------------------------------------------------------


def test_x3_of_a_consumer_other_threads_call_extend_and_cancel_only(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the whole life of a worker: retries, snoozes, burials, long jobs, a stop in good time."""
    clock = VirtualClock(auto_advance=False)
    ended = threading.Semaphore(0)
    endings = iter(["snooze", "fail", "extend", "return"])

    def handle(payload: JsonValue, job: JobContext) -> None:
        ending = next(endings)
        if ending == "extend":
            job.extend()
            until(lambda: clock.waiting == 2)  # the heartbeat, and the reporter
            clock.advance(timedelta(seconds=20))  # the heartbeat extends, too
            until(lambda: ("extend", "kessel-heartbeat") in {(w, t) for _, w, t in recorder.calls})
        elif ending == "snooze":
            raise Snooze(timedelta(0))
        elif ending == "fail":
            raise Transient(after=timedelta(0))

    class Counting:
        @hookimpl
        def kessel_job_settled(self, result: JobResult) -> None:
            ended.release()

    manager = opened("memory://?lease=60s", Counting(), handlers={"a": handle}, clock=clock)
    recorder, back = watch(manager, monkeypatch)
    manager.start(slots=1)
    manager.request_many(["a", "a", "unknown"])
    for _ in range(5):
        assert ended.acquire(timeout=BOUND)
    manager.stop()
    assert recorder.shared() == set()
    assert recorder.all() == {"reserve", "settle_and_reserve", "extend", "attempt", "cancel", "close"}
    assert back == []


def test_x3_s21_at_a_stop_past_its_grace_the_adapter_gives_back_and_no_consumer_is_shared(
    opened: Open, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = opened(handlers={"a": stuck.handle})
    recorder, back = watch(manager, monkeypatch)
    manager.request("a")
    stop_past_its_grace(manager, stuck)
    assert recorder.shared() == set()
    assert "settle" not in recorder.all()
    assert len(back) == 1
    assert not back[0].startswith("kessel-slot")
    assert manager.adapter.stats("default").ready == 1


@pytest.mark.parametrize("failing", [False, True])
def test_x3_an_adapter_to_the_letter_of_the_contract_sees_one_thread_even_then(
    opened: Open, stuck: Stuck, failing: bool
) -> None:
    """Whatever the handler does when it ends at last: its job is not its own any more."""

    def handle(payload: JsonValue, job: JobContext) -> None:
        stuck.handle(payload, job)
        if failing:
            raise ConnectionError

    adapter = StrictAdapter(Recorder(), json.dumps({"type": "a", "id": "i"}).encode())
    stop_past_its_grace(opened(adapter, handlers={"a": handle}), stuck)
    assert adapter.broken == []
    assert [reservation.id for reservation in adapter.given_back] == ["i"]
    assert adapter.recorder.shared() == set()
    assert not adapter.recorder.all() & {"settle", "settle_and_reserve"}


# --- X6 -------------------------------------------------------------------------------------------------


def test_x6_s21_a_job_stopped_twice_past_its_grace_is_not_buried_and_has_used_no_attempt(
    opened: Open, stuck: Stuck
) -> None:
    manager = opened(handlers={"a": stuck.handle}, config=Config(jobs=JobsConfig(max_attempts=2)))
    manager.request("a")
    for _ in range(2):
        stop_past_its_grace(manager, stuck)
    stats = manager.adapter.stats("default")
    assert (stats.ready, stats.buried) == (1, 0)
    assert manager.worker(slots=1).drain() == {"success": 1}
    assert stuck.seen == [(1, 0), (1, 1), (1, 2)]


def test_x6_s10_a_burial_as_worker_lost_says_only_what_is_true(opened: Open, clock: VirtualClock) -> None:
    """It was delivered that often, and came to no end; that nobody reported would be a guess."""
    manager = opened(clock=clock, config=Config(jobs=JobsConfig(max_attempts=2)), handlers={"a": print})
    manager.request("a")
    for _ in range(2):  # a worker that dies
        consumer = manager.adapter.consumer(["default"])
        assert consumer.reserve(timedelta(0)) is not None
        clock.advance(timedelta(minutes=2))
    (result,) = run_until_idle(manager)
    (buried,) = manager.adapter.buried("default")
    assert (buried.reason, buried.message) == ("worker-lost", result.message)
    assert result.message.startswith("delivered 2 times without coming to an end, at most 2 are allowed")
    assert "never reported" not in result.message


def test_x6_s12_s21_workers_that_do_not_know_a_type_use_no_attempt_of_its_jobs(
    opened: Open, clock: VirtualClock
) -> None:
    jobs = JobsConfig(max_attempts=1, unknown_type=UnknownType.RETRY)
    manager = opened(clock=clock, config=Config(jobs=jobs))
    manager.request("later")
    with pytest.raises(NeverIdle) as stopped:
        run_until_idle(manager, limit=timedelta(hours=9))
    snoozes = len(stopped.value.results)
    assert snoozes > 5
    manager.registry.add("later", lambda payload, job: [job.attempt, job.snoozes], "a newer version")
    assert [result.value for result in run_until_idle(manager)] == [[1, snoozes]]
