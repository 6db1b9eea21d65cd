"""Each cause of an explanation is planted on three adapters, and named first and alone (S39)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from kessel_core import CauseName, Config, Explanation, JobManager, ResultsConfig, SystemClock, build_plugins
from kessel_core.contract import NO_PAUSE, Bury, Consumer, Pause, Rollback, Snooze, Store, need
from kessel_core.features.looking import explain
from kessel_core.features.workers import write_entry
from kessel_core.model.worker import BusyJob, WorkerEntry, WorkerState

HOUR = timedelta(hours=1)


@attrs.frozen
class Later(SystemClock):
    """The machine's clock, some time later."""

    by: timedelta

    def now(self) -> datetime:
        return super().now() + self.by


class Place:
    """A queue with a store, and what can be planted in it."""

    def __init__(self, manager: JobManager) -> None:
        self.manager = manager
        self.later = NO_PAUSE
        self._consumers: list[Consumer] = []

    @property
    def store(self) -> Store:
        return self.manager.store

    def request(self, **fields: Any) -> str:
        return self.manager.request("work", 1, **fields).id

    def consumer(self) -> Consumer:
        self._consumers.append(self.manager.adapter.consumer(["default"]))
        return self._consumers[-1]

    def end(self, settlement: Any) -> None:
        """Take the next job, and settle it."""
        consumer = self.consumer()
        held = consumer.reserve(timedelta(seconds=5))
        assert held is not None
        consumer.settle(held, settlement)

    def worker(self, **fields: Any) -> None:
        """Write the entry of a worker that serves the queue and has a free slot."""
        now = SystemClock().now() + self.later
        given: dict[str, Any] = {
            "id": "w1",
            "host": "north",
            "pid": 7,
            "version": "1",
            "state": WorkerState.RUNNING,
            "queues": ("default",),
            "types": ("work",),
            "slots": 2,
            "busy": 0,
            "started_at": now,
            "seen_at": now,
        }
        write_entry(self.store, WorkerEntry(**given | fields))

    def explain(self, job_id: str) -> Explanation:
        return explain(self.manager.adapter, self.store, job_id, clock=Later(self.later))

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.close()


@pytest.fixture(params=["memory", "sqlite", "beanstalk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    url, store, server = "memory://", "adapter", None
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'jobs.db'}?durability=process-crash"
    elif request.param == "beanstalk":
        testing = pytest.importorskip("kessel_beanstalk.testing")
        if shutil.which(os.environ.get("BEANSTALKD", "beanstalkd")) is None:
            pytest.skip("no beanstalkd")
        server = testing.Beanstalkd()
        server.start()
        url, store = f"beanstalk://127.0.0.1:{server.port}", f"sqlite:///{tmp_path / 'store.db'}"
    config = Config(results=ResultsConfig(keep=HOUR))
    handlers = {"work": lambda payload: payload}
    try:
        with JobManager(
            url, store=store, config=config, handlers=handlers, plugins=build_plugins()
        ) as manager:
            found = Place(manager)
            yield found
            found.close()
    finally:
        if server is not None:
            server.kill()


# --- the situations -------------------------------------------------------------------------------


def unknown(place: Place) -> str:
    place.request()
    place.worker()
    return "019b8d7e-16fa-7c3f-a0b1-5d2c3e4f5a6b"


def ended(place: Place) -> str:
    job_id = place.request()
    place.manager.worker().drain()
    return job_id


def buried(place: Place) -> str:
    job_id = place.request()
    place.end(Bury("no-handler", "no handler for type 'work'"))
    return job_id


def running(place: Place) -> str:
    job_id = place.request()
    assert place.consumer().reserve(timedelta(seconds=5)) is not None
    since = SystemClock().now()
    place.worker(busy=1, jobs=(BusyJob(id=job_id, type="work", queue="default", since=since),))
    return job_id


def reserved(place: Place) -> str:
    job_id = place.request()
    assert place.consumer().reserve(timedelta(seconds=5)) is not None
    place.worker()
    return job_id


def delayed(place: Place) -> str:
    place.worker()
    return place.request(delay=HOUR)


def retried(place: Place) -> str:
    job_id = place.request()
    place.worker()
    place.end(Rollback(HOUR))
    return job_id


def snoozed(place: Place) -> str:
    job_id = place.request()
    place.worker()
    place.end(Snooze(HOUR))
    return job_id


def expired(place: Place) -> str:
    job_id = place.request(expiration=HOUR)
    place.later = 2 * HOUR
    place.worker()
    return job_id


def paused(place: Place) -> str:
    need(place.manager.adapter, Pause).pause("default", HOUR)
    place.worker()
    return place.request()


def unserved(place: Place) -> str:
    place.worker(queues=("mail", "reports"))
    return place.request()


def no_handler(place: Place) -> str:
    place.worker(types=("other",))
    return place.request()


def disconnected(place: Place) -> str:
    place.worker(disconnected=2)
    return place.request()


def busy(place: Place) -> str:
    place.worker(busy=2)
    return place.request()


def behind(place: Place) -> str:
    place.worker()
    job_id = place.request()
    place.request(priority=1)
    place.request(priority=2)
    return job_id


def deaf(place: Place) -> str:
    job_id = place.request()
    place.later = timedelta(minutes=5)
    place.worker(started_at=SystemClock().now())
    return job_id


def free(place: Place) -> str:
    place.worker()
    place.request(priority=100_000)
    return place.request()


SITUATIONS: dict[Callable[[Place], str], tuple[CauseName, str]] = {
    unknown: (CauseName.UNKNOWN, "never stored here"),
    ended: (CauseName.ENDED, "it succeeded"),
    buried: (CauseName.BURIED, "(no-handler): no handler for type 'work'"),
    running: (CauseName.RUNNING, "north:7 runs it since"),
    reserved: (CauseName.RESERVED, "no worker says that it runs it"),
    delayed: (CauseName.DELAYED, "the end of its delay"),
    retried: (CauseName.DELAYED, "the pause after attempt 1"),
    snoozed: (CauseName.DELAYED, "it was snoozed (1 so far)"),
    expired: (CauseName.EXPIRED, "it expired 60 min ago"),
    paused: (CauseName.PAUSED, "the queue 'default' is paused until"),
    unserved: (CauseName.UNSERVED, "no worker serves the queue 'default' (1 worker: mail, reports)"),
    no_handler: (CauseName.NO_HANDLER, "a handler for 'work'; known types: other"),
    disconnected: (CauseName.DISCONNECTED, "north:7 cannot reach the queue"),
    busy: (CauseName.BUSY, "all slots of 1 worker are busy (2 of 2)"),
    behind: (CauseName.BEHIND, "2 jobs are ahead of it; its priority is 65536"),
    deaf: (CauseName.DEAF, "slots of north:7 idle although it waits for 5 min"),
    free: (CauseName.FREE, "nothing that was seen keeps it"),
}


def test_s39_every_cause_is_planted() -> None:
    assert {name for name, _ in SITUATIONS.values()} == set(CauseName)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_s39_the_planted_cause_is_named_and_no_other(place: Place, situation: Callable[[Place], str]) -> None:
    """S39: the first cause that holds decides, and what does not hold is not said."""
    name, text = SITUATIONS[situation]
    job_id = situation(place)
    queues = place.manager.adapter.queues()
    before = [place.manager.adapter.stats(queue) for queue in queues]
    found = place.explain(job_id)
    assert [cause.name for cause in found.causes] == [name]
    assert text in found.causes[0].text
    expected = ["what attempt 1 failed on"] if situation is retried else []
    assert [one.what for one in found.unseen] == expected
    assert found.id == job_id
    after = [place.manager.adapter.stats(queue) for queue in queues]
    assert [attrs.evolve(one, paused=None) for one in after] == [
        attrs.evolve(one, paused=None) for one in before
    ]


def test_s39_the_same_id_in_two_queues_is_said_where_ids_are_not_compared(place: Place) -> None:
    if place.manager.adapter.capabilities.dedupe:
        pytest.skip("ids are compared in the whole adapter")
    from kessel_core import JobRequest

    for queue in ("default", "other"):
        place.manager.request(JobRequest(type="work", id="twice-the-same", queue=queue))
    found = place.explain("twice-the-same")
    assert found.facts.job is not None
    assert found.facts.job.queue == "default"
    assert "another job with this id is in the queue 'other', ready" in found.notes
