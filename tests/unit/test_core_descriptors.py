"""What a handler closes that is not its own (fault 45), in this very process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kessel_core import DescriptorsLost, JobManager, LeaseLost
from kessel_core.contract import COMMIT, Consumer, Reservation, Settlement
from kessel_core.runtime.descriptors import Descriptors
from kessel_core.runtime.held import GIVEN_BACK
from kessel_core.runtime.lease import Lease
from kessel_core.testing import VirtualClock
from tests.descriptors import is_open, numbers
from tests.until import until

Open = Callable[..., JobManager]


class Watched:
    """Descriptors of this process, and how often their loss was said."""

    def __init__(self) -> None:
        self.losses = 0
        self.descriptors = Descriptors(self.lose)
        before = numbers()
        self.descriptors.open()
        (self.number,) = numbers() - before

    def lose(self) -> None:
        self.losses += 1


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.descriptors.close()


def replaced_by(number: int, how: str, folder: Path) -> None:
    """Let another file have the number."""
    flags = {
        "null": os.O_WRONLY,
        "file": os.O_RDWR | os.O_CREAT,
        "log": os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    }
    other = os.open(os.devnull if how == "null" else folder / "file", flags[how], 0o600)
    os.dup2(other, number)
    os.close(other)


def test_f45_nothing_is_lost_while_nobody_closes_anything(watched: Watched) -> None:
    assert watched.descriptors.check()
    watched.descriptors.close()
    assert not is_open(watched.number)
    assert watched.descriptors.check()
    watched.descriptors.close()
    assert watched.losses == 0


def test_f45_a_closed_descriptor_is_noticed_and_said_once(watched: Watched) -> None:
    os.close(watched.number)
    assert not watched.descriptors.check()
    assert not watched.descriptors.check()
    assert (watched.losses, watched.descriptors.are_lost) == (1, True)


@pytest.mark.parametrize("how", ["null", "file", "log"])
def test_f45_a_descriptor_that_somebody_else_has_is_lost_and_left_to_him(
    watched: Watched, tmp_path: Path, how: str
) -> None:
    replaced_by(watched.number, how, tmp_path)
    assert not watched.descriptors.check()
    watched.descriptors.close()
    assert is_open(watched.number)
    os.close(watched.number)


def test_f45_no_descriptor_left_is_no_reason_not_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError("too many open files")

    monkeypatch.setattr(os, "open", none_left)
    descriptors = Descriptors(pytest.fail)
    descriptors.open()
    assert descriptors.check()


class Untouchable(Consumer):
    """Must not be called any more."""

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        pytest.fail("settled")

    def reserve(self, timeout: timedelta) -> Reservation | None:
        pytest.fail("reserved")

    def extend(self, reservation: Reservation) -> None:
        pytest.fail("extended")

    def attempt(self, reservation: Reservation) -> int:
        pytest.fail("asked")

    def cancel(self) -> None: ...

    def close(self) -> None: ...


def test_f45_with_lost_descriptors_a_lease_touches_the_queue_no_more(watched: Watched) -> None:
    os.close(watched.number)
    clock = VirtualClock()
    reservation = Reservation("1", "default", b"", 3, clock.monotonic() + 30, timedelta(seconds=30))
    lease = Lease(object(), Untouchable(), reservation, clock, watched.descriptors)  # type: ignore[arg-type]  # never used
    clock.advance(timedelta(seconds=20))
    assert not lease.is_due(clock.monotonic(), 10)
    assert lease.attempt() == 3
    with pytest.raises(LeaseLost):
        lease.extend()
    assert lease.settle(COMMIT, take_next=True) is GIVEN_BACK
    lease.give_back()
    assert watched.losses == 1


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("how", ["run", "drain", "start"])
def test_f45_a_worker_whose_job_closes_descriptors_ends_and_its_job_comes_back(
    opened: Open, caplog: pytest.LogCaptureFixture, kind: str, how: str
) -> None:
    before: set[int] = set()
    deliveries: list[int] = []

    def close(payload: object, job: Any) -> None:
        deliveries.append(job.attempt)
        if len(deliveries) == 1:
            for number in numbers() - before:
                flags = os.get_blocking(number)
                if not flags and os.readlink(f"/proc/self/fd/{number}") == os.devnull:  # noqa: PTH115
                    os.close(number)

    async def close_async(payload: object, job: Any) -> None:
        close(payload, job)

    handlers = {"close": close if kind == "plain" else close_async}
    manager = opened(
        "memory://?lease=30s", handlers=handlers
    )  # so long that no heartbeat is the first to see it
    before |= numbers()
    job = manager.request("close")
    worker = manager.worker(slots=2)
    with pytest.raises(DescriptorsLost, match="not its own"):
        if how == "start":
            worker.start()
            worker.join()
        else:
            getattr(worker, how)()
    assert worker.has_lost_descriptors
    assert not worker.health().running
    (said,) = [record for record in caplog.records if "descriptors" in record.getMessage()]
    assert (said.levelname, vars(said)["job_id"]) == ("ERROR", job.id)
    manager.close()  # raises nothing, whoever has been told already
    until(lambda: all(thread.name != "kessel-heartbeat" for thread in threading.enumerate()))


def test_f45_with_lost_descriptors_a_slot_does_not_even_close_its_connection(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S7: its number may be that of somebody else's file by now."""
    closed: list[Consumer] = []

    def close(_: object) -> None:
        number = worker._descriptors._number
        assert number is not None
        os.close(number)

    manager = opened("memory://?lease=30s", handlers={"close": close})
    monkeypatch.setattr(
        type(manager.adapter.consumer(["default"])), "close", lambda consumer: closed.append(consumer)
    )
    manager.request("close")
    worker = manager.worker(slots=1)
    with pytest.raises(DescriptorsLost):
        worker.run()
    assert closed == []


@pytest.mark.parametrize("noticed_by", ["its slot", "another thread"])
def test_s7_the_job_that_closed_descriptors_is_named_if_it_is_known(
    opened: Open, caplog: pytest.LogCaptureFixture, noticed_by: str
) -> None:
    """An operator mends its handler, and not that of a job that ran beside it."""
    beside, go_on = threading.Barrier(2), threading.Event()

    def wait(payload: object) -> None:
        beside.wait(20)
        assert go_on.wait(20)

    def close(payload: object) -> None:
        number = worker._descriptors._number
        assert number is not None
        os.close(number)
        if noticed_by == "another thread":
            thread = threading.Thread(target=worker._descriptors.check)
            thread.start()
            thread.join(20)

    manager = opened("memory://?lease=30s", handlers={"wait": wait, "close": close})
    manager.request("wait")
    worker = manager.start(slots=2)
    beside.wait(20)
    job = manager.request("close")
    with pytest.raises(DescriptorsLost):
        worker.join()
    go_on.set()
    (said,) = [record for record in caplog.records if "descriptors" in record.getMessage()]
    assert vars(said)["job_id"] == (job.id if noticed_by == "its slot" else None)


def test_d9_a_worker_that_has_ended_leaves_no_descriptor_behind(opened: Open) -> None:
    """A program that drains its queue every minute must not run out of them."""
    manager = opened("memory://", handlers={"a": print})
    manager.worker(slots=1).drain()
    before = numbers()
    for _ in range(3):
        manager.worker(slots=1).drain()
    assert numbers() <= before
