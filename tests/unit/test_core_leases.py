"""One held job: who extends its lease, who ends it, who gives it back (S7, S21, D8)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from math import inf
from typing import Any
from unittest.mock import Mock

import kessel_memory.plugin
import pytest

from kessel_core import (
    AdapterUnavailable,
    JobManager,
    JobResult,
    KesselError,
    LeaseLost,
    build_plugins,
    handler,
    hookimpl,
)
from kessel_core.contract import COMMIT, NO_PAUSE, Consumer, Reservation, Rollback, Settlement
from kessel_core.runtime.heartbeat import beat
from kessel_core.runtime.held import Trouble
from kessel_core.runtime.lease import Lease
from kessel_core.testing import VirtualClock
from tests.until import until

SECONDS = 30.0
#: Between two beats, as for a lease of that length.
EVERY = SECONDS / 3


class Held:
    """A job in the middle of its handler; the test makes the heartbeats."""

    def __init__(self, target: object = print, plugin: object = None) -> None:
        self.clock = VirtualClock(auto_advance=False)
        extra = {"memory": kessel_memory.plugin, "own": plugin or object()}
        plugins = build_plugins(extra=extra, distributions=[])
        url = f"memory://?lease={SECONDS:g}"
        self.manager = JobManager(url, clock=self.clock, handlers={"a": target}, plugins=plugins)
        self.manager.connect()
        self.manager.request("a")
        self.consumer: Consumer = self.manager.adapter.consumer(["default"])
        reservation = self.consumer.reserve(NO_PAUSE)
        assert reservation is not None
        self.reservation: Reservation = reservation
        self.lease = Lease(self.manager.adapter, self.consumer, reservation, self.clock)

    def begin(self, timeout: float) -> Held:
        self.lease.begin(timeout)
        return self

    def after(self, seconds: float) -> float:
        """Let time pass, make one beat, and return the rest of the lease in seconds."""
        self.clock.advance(timedelta(seconds=seconds))
        beat(self.manager.adapter, [self.lease], self.clock.monotonic(), EVERY)
        assert self.reservation.deadline is not None
        return self.reservation.deadline - self.clock.monotonic()


# --- starting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["reserve", "settle_and_reserve"])
def test_s7_a_job_whose_lease_ended_before_its_answer_came_is_not_started(
    call: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[object] = []
    clock = VirtualClock(auto_advance=False)
    plugins = build_plugins(extra={"memory": kessel_memory.plugin}, distributions=[])
    url = f"memory://?lease={SECONDS:g}"
    with JobManager(url, clock=clock, handlers={"a": ran.append}, plugins=plugins) as manager:
        for number in (1, 2):
            manager.request("a", number)
        worker = manager.worker(slots=1)
        late = [True]
        consumer = type(manager.adapter.consumer(["default"]))
        on_time = getattr(consumer, call)

        def answers(*arguments: Any) -> Any:
            found = on_time(*arguments)
            if found is not None and late:
                late.clear()
                clock.advance(timedelta(seconds=SECONDS))
            return found

        monkeypatch.setattr(consumer, call, answers)
        assert worker.drain() == {"success": 2, "lost": 1}
        assert worker.health().leases_lost == {"default": 1}
    assert sorted(ran) == [1, 2]  # type: ignore[type-var]
    assert "ended before it started" in caplog.text


# --- extending ------------------------------------------------------------------------------------------


def test_s7_the_lease_of_a_running_job_is_renewed_to_its_full_length() -> None:
    assert Held().after(10) == pytest.approx(SECONDS)


def test_a_lease_that_has_just_begun_is_left_alone() -> None:
    assert Held().after(1) == pytest.approx(SECONDS - 1)


@pytest.mark.parametrize(
    ("gone", "every", "sooner", "extended"),
    [
        (4.9, 10, inf, False),  # the next beat comes at 14.9: in time
        (5.1, 10, inf, True),  # and else at 15.1, with half of it gone
        (8.4, 3, inf, False),  # often, for the shorter lease of another job
        (8.6, 3, inf, True),
        (2.4, 5, 5, False),  # as configured
        (2.6, 5, 5, True),
        (0.1, 20, 25, True),  # configured as never before the lease is nearly over: each beat counts
    ],
)
def test_a_lease_is_extended_at_its_third_or_sooner_as_configured(
    gone: float, every: float, sooner: float, extended: bool
) -> None:
    held = Held()
    held.clock.advance(timedelta(seconds=gone))
    beat(held.manager.adapter, [held.lease], held.clock.monotonic(), every, sooner)
    left = (held.reservation.deadline or 0) - held.clock.monotonic()
    assert left == pytest.approx(SECONDS if extended else SECONDS - gone)


@pytest.mark.parametrize("field", ["deadline", "lease"])
def test_a_lease_without_an_end_is_never_extended(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    setattr(held.reservation, field, None)
    monkeypatch.setattr(held.consumer, "extend", lambda reservation: pytest.fail("extended"))
    beat(held.manager.adapter, [held.lease], held.clock.monotonic() + SECONDS / 2, EVERY)


def test_a_plain_handler_past_its_timeout_loses_its_lease_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Held().begin(timeout=5)
    assert held.after(10) == pytest.approx(SECONDS - 10)
    assert held.after(1) == pytest.approx(SECONDS - 11)
    assert caplog.text.count("runs longer than its timeout") == 1
    held.after(SECONDS)
    held.after(1)
    # Told to the adapter once, because some backends forget the end of a lease.
    assert caplog.text.count("lease lost") == 1


def test_a_handler_at_its_timeout_is_still_in_time() -> None:
    assert Held().begin(timeout=10).after(10) == pytest.approx(SECONDS)


def test_a_handler_without_a_timeout_keeps_its_lease() -> None:
    assert Held().after(10) == pytest.approx(SECONDS)


@pytest.mark.parametrize(
    "error", [LeaseLost("i", "too late"), AdapterUnavailable("away"), RuntimeError("a bug")]
)
def test_a_lease_that_cannot_be_extended_is_said_and_stops_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    held = Held()

    def failing(reservation: Reservation) -> None:
        raise error

    monkeypatch.setattr(held.consumer, "extend", failing)
    held.after(10)
    assert str(error) in caplog.text


@pytest.mark.parametrize("answer", [RuntimeError("a bug"), []], ids=["raises", "too short"])
def test_a_call_for_all_leases_that_fails_is_said_for_each_and_stops_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    held = Held()
    monkeypatch.setattr(held.manager.adapter, "extend_many", Mock(side_effect=[answer]))
    assert held.after(10) == pytest.approx(SECONDS - 10)
    assert caplog.text.count("lease not extended") == 1
    monkeypatch.undo()
    assert held.after(10) == pytest.approx(SECONDS)


def test_e8_the_leases_of_all_jobs_that_are_due_are_extended_in_one_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held()
    adapter, leases = held.manager.adapter, [held.lease]
    for _ in range(2):
        held.manager.request("a")
        consumer = adapter.consumer(["default"])
        reservation = consumer.reserve(NO_PAUSE)
        assert reservation is not None
        leases.append(Lease(adapter, consumer, reservation, held.clock))
    called = Mock(side_effect=adapter.extend_many)
    monkeypatch.setattr(adapter, "extend_many", called)
    held.clock.advance(timedelta(seconds=10))
    leases[1].reservation.deadline = held.clock.monotonic() + SECONDS  # extended a moment ago
    beat(adapter, leases, held.clock.monotonic(), EVERY)
    ((asked,), _) = called.call_args
    assert [one for _, one in asked] == [leases[0].reservation, leases[2].reservation]
    beat(adapter, leases, held.clock.monotonic(), EVERY)
    assert called.call_count == 1


def test_a_job_that_is_settled_while_its_lease_is_extended_is_not_said_to_be_lost(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()

    def settled(reservation: Reservation) -> None:
        held.lease.settle(COMMIT, take_next=False)
        raise LeaseLost("i", "it was settled")

    monkeypatch.setattr(held.consumer, "extend", settled)
    held.after(10)
    assert "lost" not in caplog.text


def test_after_a_queue_that_was_away_the_lease_is_extended_by_the_next_beat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held()
    errors = [AdapterUnavailable("away")]
    real = held.consumer.extend

    def once(reservation: Reservation) -> None:
        if errors:
            raise errors.pop()
        real(reservation)

    monkeypatch.setattr(held.consumer, "extend", once)
    assert held.after(10) == pytest.approx(SECONDS - 10)
    assert held.after(10) == pytest.approx(SECONDS)


def test_s7_a_lost_lease_is_said_once_however_long_the_handler_runs_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Held()
    held.clock.advance(timedelta(seconds=SECONDS))
    for _ in range(3):
        held.after(10)
    assert caplog.text.count("lease lost") == 1


# --- settling -------------------------------------------------------------------------------------------


def test_s9_a_queue_that_is_away_for_a_second_and_a_half_is_told_of_the_end_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pauses double from 50 ms: 50, 100, 200, 400 and 800; the sixth try is the last one."""
    held = Held()
    held.clock.auto_advance = True
    began, tried = held.clock.monotonic(), list[float]()
    settle = held.consumer.settle

    def late(reservation: Reservation, settlement: Settlement) -> None:
        tried.append(round(held.clock.monotonic() - began, 3))
        if len(tried) < 6:
            raise AdapterUnavailable("away")
        settle(reservation, settlement)

    monkeypatch.setattr(held.consumer, "settle", late)
    assert held.lease.settle(COMMIT, take_next=False).is_settled
    assert tried == [0.0, 0.05, 0.15, 0.35, 0.75, 1.55]


@pytest.mark.parametrize(
    ("error", "level"), [(AdapterUnavailable("away"), "DEBUG"), (RuntimeError("a bug"), "ERROR")]
)
@pytest.mark.parametrize(("number", "what"), [("attempt", "attempts"), ("kicks", "kicks")])
def test_s10_s22_a_number_that_is_not_known_is_an_estimate_and_only_a_bug_alarms(
    error: Exception,
    level: str,
    number: str,
    what: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bug of an adapter comes with its traceback; a queue that is away is said elsewhere."""
    held = Held()
    monkeypatch.setattr(held.consumer, number, Mock(side_effect=error))
    caplog.set_level("DEBUG", "kessel.worker")
    assert getattr(held.lease, number)() == getattr(held.reservation, number)
    (said,) = [record for record in caplog.records if "not known" in record.getMessage()]
    assert said.getMessage() == f"job {held.reservation.id}: number of {what} not known: {error}"
    assert (said.levelname, vars(said)["job_id"]) == (level, held.reservation.id)
    assert bool(said.exc_info) is (level == "ERROR")


# --- who ends it ----------------------------------------------------------------------------------------


class Reporting:
    def __init__(self) -> None:
        self.told: list[str] = []

    @hookimpl
    def kessel_job_settled(self, result: JobResult, settlement: Settlement) -> None:
        self.told.append("settled")

    @hookimpl
    def kessel_job_finished(self, result: JobResult) -> None:
        self.told.append("finished")


def test_s21_what_a_stopping_worker_gave_back_is_settled_and_reported_by_nobody_else() -> None:
    """It is delivered again, and counts as no attempt."""
    reporting = Reporting()
    held = Held(lambda payload: held.lease.give_back(), reporting)
    held.manager.pipeline.run(held.lease)
    assert reporting.told == []
    again = held.consumer.reserve(NO_PAUSE)
    assert again is not None
    assert (again.id, again.attempt, again.snoozes) == (held.reservation.id, 1, 1)


def test_what_was_settled_is_given_back_by_nobody(caplog: pytest.LogCaptureFixture) -> None:
    held = Held()
    assert held.lease.settle(COMMIT, take_next=False).is_settled
    held.lease.give_back()
    assert held.manager.adapter.stats("default").total == 0
    assert caplog.text == ""


@pytest.mark.parametrize("hurried", [False, True], ids=["running", "at the end of the grace"])
def test_s8_a_settlement_is_tried_for_half_a_minute_and_not_beyond_the_grace(
    hurried: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is restarted comes back meanwhile; one that stays away must not hold up a stop."""
    held = Held()
    tries: list[float] = []

    def away(*args: object) -> None:
        tries.append(held.clock.monotonic())
        if hurried and len(tries) == 10:
            held.lease.give_back()
        raise AdapterUnavailable("away")

    held.clock.auto_advance = True
    monkeypatch.setattr(held.consumer, "settle", away)
    assert held.lease.settle(COMMIT, take_next=False).trouble is Trouble.NOT_TOLD
    lasted = tries[-1] - tries[0]
    assert len(tries) == 10 if hurried else 28 < lasted <= 30
    assert caplog.text.count("is not settled yet: away") == 1
    assert caplog.text.count("could not be settled") == 1


def test_a_settlement_that_waits_is_given_up_at_once_at_the_end_of_the_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This clock stands still, so whoever is not woken waits for ever."""
    held = Held()
    monkeypatch.setattr(held.consumer, "settle", Mock(side_effect=AdapterUnavailable("away")))
    settling = threading.Thread(
        target=held.lease.settle, args=(COMMIT,), kwargs={"take_next": False}, daemon=True
    )
    settling.start()
    until(lambda: held.lease._pausing is not None)
    held.lease.give_back()
    settling.join(20)
    assert not settling.is_alive()


def test_a_lease_ends_once() -> None:
    held = Held()
    assert held.lease.settle(Rollback(), take_next=False).is_settled
    assert not held.lease.settle(COMMIT, take_next=False).is_settled
    assert held.manager.adapter.stats("default").ready == 1


def test_of_many_threads_one_ends_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others do not even ask the queue, whoever comes first."""
    held = Held()
    ended: list[str] = []
    monkeypatch.setattr(held.consumer, "settle", lambda *args: ended.append("settled"))
    monkeypatch.setattr(held.manager.adapter, "give_back", lambda *args: ended.append("given back"))
    together = threading.Barrier(8)

    def compete(end: Callable[[], object]) -> None:
        together.wait(10)
        end()

    ways: list[Callable[[], object]] = [lambda: held.lease.settle(COMMIT, take_next=False)]
    ways += [held.lease.give_back] * 7
    threads = [threading.Thread(target=compete, args=(end,)) for end in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(ended) == 1


@pytest.mark.parametrize("end", ["settle", "give_back"])
def test_a_lease_that_is_about_to_end_is_extended_no_more(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the heartbeat would report a lost lease of a job that has just been settled."""
    held = Held()
    monkeypatch.setattr(held.consumer, "extend", lambda reservation: pytest.fail("extended"))
    if end == "settle":
        held.lease.settle(COMMIT, take_next=False)
    else:
        held.lease.give_back()
    held.after(10)


@pytest.mark.parametrize(
    "error", [LeaseLost("i", "too late"), AdapterUnavailable("away"), RuntimeError("a bug")]
)
def test_d9_a_job_that_cannot_be_given_back_is_said_and_stops_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    held = Held()

    def failing(reservation: Reservation) -> None:
        raise error

    monkeypatch.setattr(held.manager.adapter, "give_back", failing)
    held.lease.give_back()
    assert f"did not end in time and could not be given back: {error}" in caplog.text


def test_s7_a_handler_that_extends_is_told_of_what_it_lost() -> None:
    held = Held()
    held.clock.advance(timedelta(seconds=SECONDS))
    with pytest.raises(LeaseLost):
        held.lease.extend()
    assert issubclass(LeaseLost, KesselError)


@pytest.mark.parametrize(
    ("kind", "runs", "kept"), [("plain", 10, False), ("async", 5.9, True), ("async", 10, False)]
)
def test_finding_d2_the_lease_of_a_handler_that_outlives_its_timeout_is_left_to_end(
    kind: str, runs: float, kept: bool
) -> None:
    """The beat that matters comes in the middle; an async handler gets a second to be cancelled."""
    limit = handler("a", timeout=timedelta(seconds=5))
    rest: list[float] = []

    def plain(payload: Any) -> None:
        rest.append(held.after(runs))

    async def slow(payload: Any) -> None:
        rest.append(held.after(runs))

    held = Held(limit(plain) if kind == "plain" else limit(slow))
    held.manager.pipeline.run(held.lease)
    held.manager.close()
    assert rest == [pytest.approx(SECONDS if kept else SECONDS - runs)]
