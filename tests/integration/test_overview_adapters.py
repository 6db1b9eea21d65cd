"""Overviews of real adapters, with a store and without one: the same picture, or what is missing (S17)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import JobManager, SystemClock, WorkerEntry, WorkerState
from kessel_core.contract import Bury, Pause, QueueStats, need
from kessel_core.features.overview import Overview, Standing
from kessel_core.features.watching import Overviews
from kessel_core.features.workers import write_entry
from kessel_core.model.progress import Progress
from kessel_core.model.worker import BusyJob
from kessel_core.wire.entries import encode_progress


@pytest.fixture(params=["memory", "sqlite", "beanstalk"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobManager]:
    """An application with a store that other processes can reach."""
    server = Beanstalkd() if request.param == "beanstalk" else None
    if server is not None:
        server.start()
        url = f"beanstalk://127.0.0.1:{server.port}"
    else:
        url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/jobs.db"}[request.param]
    with JobManager(url, store=f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened
    if server is not None:
        server.kill()


@pytest.fixture
def running(manager: JobManager) -> Iterator[str]:
    """A ready, a delayed and two buried jobs, a paused queue, a worker, and the job that it runs."""
    adapter = manager.adapter
    for number in range(2):
        manager.request("shop.ship", number, queue="shop", ref=f"order {number}")
        consumer = adapter.consumer(["shop"])
        held = consumer.reserve(timedelta(seconds=5))
        assert held is not None
        consumer.settle(held, Bury("error", f"no address {number}"))
        consumer.close()
    manager.request("shop.ship", 8, queue="shop")
    manager.request("shop.ship", 9, queue="shop", delay=timedelta(hours=1))
    running = manager.request("report", queue="night").id
    holder = adapter.consumer(["night"])
    assert holder.reserve(timedelta(seconds=5)) is not None
    manager.request("report", queue="paused")
    need(adapter, Pause).pause("paused", timedelta(hours=1))
    now = SystemClock().now()
    job = BusyJob(id=running, type="report", queue="night", since=now)
    entry = WorkerEntry(
        id="w", host="north", pid=7, version="1", state=WorkerState.RUNNING, queues=("night",),
        types=("report",), slots=1, busy=1, jobs=(job,), started_at=now, seen_at=now,
    )  # fmt: skip
    write_entry(manager.store, entry)
    progress = Progress(done=3, total=4, note="pages", at=now)
    manager.store.put("progress", running, encode_progress(progress))
    yield running
    holder.close()


def seen(manager: JobManager, *, with_store: bool) -> Overview:
    store = manager.store if with_store else None
    return Overviews(manager.adapter, store, SystemClock(), configured=("default",)).look()


def counts(overview: Overview) -> list[QueueStats]:
    return [attrs.evolve(one.stats, paused=None) for one in overview.queues.rows]


def test_a_picture_has_all_that_is_there(manager: JobManager, running: str) -> None:
    overview = seen(manager, with_store=True)
    queues = {one.stats.queue: one for one in overview.queues.rows}
    assert list(queues) == ["default", "night", "paused", "shop"]
    shop = queues["shop"].stats
    assert (shop.ready, shop.delayed, shop.reserved, shop.buried) == (1, 1, 0, 2)
    assert shop.oldest_ready is not None
    assert shop.oldest_ready < timedelta(minutes=1)
    assert queues["paused"].stats.paused is not None
    assert [queues[name].workers for name in ("night", "shop")] == [1, 0]
    burials = [(one.type, one.ref, one.job.reason, one.job.message) for one in overview.burials.rows]
    assert burials == [
        ("shop.ship", "order 1", "error", "no address 1"),
        ("shop.ship", "order 0", "error", "no address 0"),
    ]
    (job,) = overview.running.rows
    assert (job.job.id, str(job.progress)) == (running, "3 of 4 (75 %), pages")
    (worker,) = overview.workers.rows
    assert worker.standing is Standing.BUSY
    for part in (overview.queues, overview.running, overview.burials, overview.workers):
        assert (part.missing, part.away) == ((), None)
    assert not overview.refused


def test_without_a_store_workers_and_what_they_run_are_named_as_missing(
    manager: JobManager, running: str
) -> None:
    """S17: a reserved job alone does not say who runs it."""
    overview = seen(manager, with_store=False)
    assert [one.stats.queue for one in overview.queues.rows] == ["default", "night", "paused", "shop"]
    assert len(overview.burials.rows) == 2
    for part in (overview.running, overview.workers):
        assert part.rows == ()
        assert "'store' is missing" in part.missing[0]
    assert {one.workers for one in overview.queues.rows} == {None}


def test_looking_changes_nothing(manager: JobManager, running: str) -> None:
    overviews = Overviews(manager.adapter, manager.store, SystemClock(), configured=("default",))
    first = overviews.look()
    for _ in range(3):
        again = overviews.look()
    assert counts(again) == counts(first)
    assert [one.job.id for one in again.burials.rows] == [one.job.id for one in first.burials.rows]
