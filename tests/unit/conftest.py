"""What several files of unit tests need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from math import inf
from typing import Any

import attrs
import kessel_memory.plugin
import pytest

from kessel_core import Config, JobManager, JobResult, JobsConfig, LeaseLost, build_plugins
from kessel_core.contract import Consumer, Reservation, Settlement
from kessel_core.testing import VirtualClock, run_delivery


@pytest.fixture
def opened() -> Iterator[Callable[..., JobManager]]:
    """Connects managers without any installed plugin but the memory adapter."""
    managers: list[JobManager] = []

    def open_(adapter: Any = "memory://", plugin: object = None, **options: Any) -> JobManager:
        extra = {"memory": kessel_memory.plugin} | ({"own": plugin} if plugin is not None else {})
        managers.append(JobManager(adapter, plugins=build_plugins(extra=extra, distributions=[]), **options))
        return managers[-1].connect()

    yield open_
    for manager in managers:
        manager.close()


@pytest.fixture
def clock() -> VirtualClock:
    """Only the test moves it: with a worker in between, the pauses of its heartbeat would end leases."""
    return VirtualClock(auto_advance=False)


@pytest.fixture
def app(opened: Callable[..., JobManager], clock: VirtualClock) -> Callable[..., JobManager]:
    """Connects managers to a private memory queue on the virtual clock; `jobs` are the rules."""

    def open_(handlers: Any = None, *, jobs: JobsConfig | None = None, **more: Any) -> JobManager:
        config = Config(jobs=jobs if jobs is not None else JobsConfig())
        return opened(**{"clock": clock, "config": config, "handlers": handlers, **more})

    return open_


class _Watched(VirtualClock):
    """A clock that only the test moves, and that knows whether the thread that reports waits for it."""

    def __init__(self) -> None:
        super().__init__(auto_advance=False)
        #: How long the reporter wanted to wait, in seconds.
        self.asked: list[float | None] = []
        self._begun = 0
        self._is_waiting = False
        #: Until when it waits, on the monotonic clock.
        self._end = 0.0

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        if threading.current_thread().name != "kessel-reporter":
            return super().wait(condition, timeout)
        self.asked.append(timeout)
        self._end = self.monotonic() + (inf if timeout is None else timeout)
        self._begun += 1
        self._is_waiting = True
        try:
            return super().wait(condition, timeout)
        finally:
            self._is_waiting = False

    def until_looked(self, begun: int = 0) -> None:
        """Wait until the reporter has looked and waits again."""
        end = time.monotonic() + 20
        while not (self._begun > begun and self._is_waiting):
            assert time.monotonic() < end, "the reporter does not wait"
            time.sleep(0.000_5)

    def pass_seconds(self, count: int) -> None:
        """Let time pass, a second at a time; the reporter looks when its wait is over."""
        self.until_looked()
        for _ in range(count):
            begun, end = self._begun, self._end
            self.advance(timedelta(seconds=1))
            self.until_looked(begun if end <= self.monotonic() else 0)


@pytest.fixture
def watched() -> Callable[[], VirtualClock]:
    """Makes clocks for one worker that reports: `pass_seconds` lets time pass, and the reporter look."""
    return _Watched


class _Settled(Consumer):
    """Notes how it is settled, and may fail first; `exact` is what it answers for the attempt."""

    def __init__(self, failures: tuple[Exception, ...], exact: int | Exception | None) -> None:
        self.failures = list(failures)
        self.settlements: list[Settlement] = []
        self.exact = exact

    def reserve(self, timeout: timedelta) -> Reservation | None:
        return None

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.settlements.append(settlement)

    def extend(self, reservation: Reservation) -> None:
        raise LeaseLost(reservation.id, "too late")

    def attempt(self, reservation: Reservation) -> int:
        if isinstance(self.exact, Exception):
            raise self.exact
        return reservation.attempt if self.exact is None else self.exact

    def cancel(self) -> None: ...

    def close(self) -> None: ...


@attrs.frozen
class Delivered:
    """What became of one delivery."""

    #: None: the queue did not take the settlement.
    result: JobResult | None
    settlements: list[Settlement]

    @property
    def ending(self) -> tuple[str, str | None]:
        """How it ended and why, as texts."""
        assert self.result is not None
        return str(self.result.status), self.result.reason and str(self.result.reason)


@pytest.fixture
def deliver() -> Callable[..., Delivered]:
    """Takes one delivery through the pipeline of a manager; its consumer notes how it is settled."""

    def run(
        manager: JobManager,
        raw: bytes,
        *failures: Exception,
        exact: int | Exception | None = None,
        **fields: Any,
    ) -> Delivered:
        consumer = _Settled(failures, exact)
        reservation = Reservation(**{"id": "i", "queue": "default", "body": raw, "attempt": 1, **fields})
        return Delivered(run_delivery(manager, reservation, consumer), consumer.settlements)

    return run
