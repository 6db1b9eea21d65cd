"""Kicking and delivering many buried jobs costs each as many calls as one of few: on every adapter."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import pytest

from kessel_core import build_plugins
from kessel_core.clock import SystemClock
from kessel_core.contract import (
    NO_PAUSE,
    AdapterContext,
    Buried,
    Bury,
    Commit,
    Message,
    QueueAdapter,
    need,
)
from tests.kicked import kicked_says_nothing_of_its_burial

#: Jobs of the two runs, and how many times as many calls each job of the larger one may cost. What is done
#: once for all is shared by fewer in the smaller run, and what grows with their number shows.
FEW, MANY, MORE = 25, 100, 1.5
BODY: Final = b'{"type": "t", "id": "%s"}'


@pytest.fixture(params=["memory", "sqlite", "beanstalk"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueAdapter]:
    url, server = f"{request.param}://", None
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'jobs.db'}?durability=process-crash"
    elif request.param == "beanstalk":
        testing = pytest.importorskip("kessel_beanstalk.testing")
        if shutil.which(os.environ.get("BEANSTALKD", "beanstalkd")) is None:
            pytest.skip("no beanstalkd")
        server = testing.Beanstalkd()
        server.start()
        url = f"beanstalk://127.0.0.1:{server.port}"
    opened = build_plugins().chosen_adapter(url).open(AdapterContext(clock=SystemClock()))
    try:
        yield opened
    finally:
        opened.close()
        if server is not None:
            server.kill()


def calls_of(work: Callable[[], None]) -> int:
    """Return how many functions this thread calls meanwhile, those of C included."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def night(adapter: QueueAdapter, count: int) -> int:
    """Bury some jobs; return the calls that it takes to list, kick and deliver all of them."""
    queue = f"night-{count}"
    ids = [f"{queue}-{number}" for number in range(count)]
    adapter.enqueue_many([Message(name, queue, BODY % name.encode(), 1) for name in ids])
    consumer = adapter.consumer([queue])
    while (held := consumer.reserve(NO_PAUSE)) is not None:
        consumer.settle(held, Bury("error", "a bad night"))
    delivered = []

    def work() -> None:
        facet = need(adapter, Buried)
        for job in facet.buried(queue, count):
            facet.kick(queue, job.id)
        while (held := consumer.reserve(NO_PAUSE)) is not None:
            delivered.append(held.id)
            consumer.settle(held, Commit())

    calls = calls_of(work)
    assert sorted(map(str, delivered)) == sorted(ids)
    consumer.close()
    return calls


def test_finding_c1_kicking_and_delivering_many_takes_a_bounded_number_of_calls_each(
    adapter: QueueAdapter,
) -> None:
    night(adapter, 5)  # what is done once in a process
    few, many = (night(adapter, count) / count for count in (FEW, MANY))
    assert many <= few * MORE, f"{few:.0f} calls a job among {FEW}, {many:.0f} among {MANY}"


def test_s8_a_kicked_job_says_nothing_of_its_burial(adapter: QueueAdapter) -> None:
    kicked_says_nothing_of_its_burial(adapter)
