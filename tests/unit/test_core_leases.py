"""The heartbeat of a worker: leases are extended while handlers run, and only then (D8, S7)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import kessel_memory.plugin
import pytest
from kessel_core.runtime.executor import Case

from kessel_core import AdapterUnavailable, JobManager, LeaseLost, Worker, build_plugins, handler
from kessel_core.contract import NO_PAUSE, Consumer, Reservation
from kessel_core.testing import VirtualClock

LEASE = timedelta(seconds=30)


class Held:
    """A job in the middle of its handler, with a worker whose heartbeat the test makes."""

    def __init__(self, target: object) -> None:
        self.clock = VirtualClock(auto_advance=False)
        plugins = build_plugins(extra={"memory": kessel_memory.plugin}, distributions=[])
        url = f"memory://?lease={LEASE.total_seconds():g}"
        self.manager = JobManager(url, clock=self.clock, handlers={"a": target}, plugins=plugins)
        self.manager.connect()
        self.manager.request("a")
        self.worker: Worker = self.manager.worker(slots=1)
        self.consumer: Consumer = self.manager.adapter.consumer(["default"])
        reservation = self.consumer.reserve(NO_PAUSE)
        assert reservation is not None
        self.reservation: Reservation = reservation
        self.case = Case(reservation, self.consumer, since=self.clock.monotonic())
        self.case.handler = self.manager.registry.get("a")

    def after(self, seconds: float) -> float:
        """Let time pass, make one beat, and return the rest of the lease in seconds."""
        self.clock.advance(timedelta(seconds=seconds))
        self.worker._extend(self.case)
        assert self.reservation.deadline is not None
        return self.reservation.deadline - self.clock.monotonic()


def test_s7_the_lease_of_a_running_job_is_renewed_to_its_full_length() -> None:
    assert Held(print).after(10) == pytest.approx(LEASE.total_seconds())


def test_a_lease_that_has_just_begun_is_left_alone() -> None:
    assert Held(print).after(1) == pytest.approx(LEASE.total_seconds() - 1)


def test_a_plain_handler_past_its_timeout_loses_its_lease_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @handler("a", timeout=timedelta(seconds=5))
    def slow(payload: Any) -> None: ...

    held = Held(slow)
    assert held.after(10) == pytest.approx(LEASE.total_seconds() - 10)
    assert held.after(1) == pytest.approx(LEASE.total_seconds() - 11)
    assert caplog.text.count("runs longer than its timeout") == 1
    held.after(LEASE.total_seconds())
    held.after(1)
    # Told to the adapter once, because some backends forget the end of a lease.
    assert caplog.text.count("lease lost") == 1


def test_an_async_handler_past_its_timeout_is_cut_elsewhere_and_keeps_its_lease() -> None:
    @handler("a", timeout=timedelta(seconds=5))
    async def slow(payload: Any) -> None: ...

    assert Held(slow).after(10) == pytest.approx(LEASE.total_seconds())


@pytest.mark.parametrize(
    "error", [LeaseLost("i", "too late"), AdapterUnavailable("away"), RuntimeError("a bug")]
)
def test_a_lease_that_cannot_be_extended_is_said_and_stops_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    held = Held(print)

    def failing(reservation: Reservation) -> None:
        raise error

    monkeypatch.setattr(held.consumer, "extend", failing)
    held.after(10)
    assert str(error) in caplog.text


def test_s7_a_lost_lease_is_said_once_however_long_the_handler_runs_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Held(print)
    held.clock.advance(LEASE)
    for _ in range(3):
        held.after(10)
    assert caplog.text.count("lease lost") == 1
