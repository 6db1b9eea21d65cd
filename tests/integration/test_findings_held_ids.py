"""A job that is requested under an id which the queue holds is refused, and the refusal says by what."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kessel_core import EnqueueIncomplete, Fatal, IdHeld, JobManager, JobRequest, hookimpl
from kessel_core.client.moving import Moved, move_jobs
from kessel_core.plugins.loading import build_plugins

Open = Callable[..., JobManager]


@pytest.fixture(params=["memory://", "sqlite:///{}/jobs.db"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    managers: list[JobManager] = []

    def open_(**more: Any) -> JobManager:
        managers.append(JobManager(request.param.format(tmp_path), **more).connect())
        return managers[-1]

    yield open_
    for manager in managers:
        manager.close()


def fail(payload: Any) -> None:
    raise Fatal("broken")


def asked(payload: Any = None, **fields: Any) -> JobRequest:
    return JobRequest(type="a", payload=payload, id="one", **fields)


def test_finding_b1_a_mended_job_under_the_id_of_the_buried_one_is_refused_by_name(opened: Open) -> None:
    manager = opened(handlers={"a": fail})
    manager.request(asked(1))
    manager.worker(slots=1).drain()
    with pytest.raises(
        IdHeld, match="job one: not stored again, its id is held by a buried job; kick or"
    ) as caught:
        manager.request(asked(2))
    assert caught.value.state == "buried"
    (buried,) = manager.adapter.buried("default")  # type: ignore[attr-defined]
    assert buried.job().payload == 1


def test_finding_b1_every_state_that_holds_an_id_is_named(opened: Open) -> None:
    manager = opened(handlers={"a": fail})
    manager.request(asked(delay=timedelta(hours=1)))
    with pytest.raises(IdHeld, match="held by a delayed job"):
        manager.request(asked(queue="another"))
    manager.adapter.delete("default", "one")  # type: ignore[attr-defined]
    manager.request(asked())
    with pytest.raises(IdHeld, match="held by a ready job"):
        manager.request(asked())
    consumer = manager.adapter.consumer(["default"])
    assert consumer.reserve(timedelta(0)) is not None
    with pytest.raises(IdHeld, match="held by a reserved job"):
        manager.request(asked())
    consumer.close()


def test_finding_b1_of_many_each_is_listed_under_its_outcome(opened: Open) -> None:
    manager = opened()
    manager.request(asked())
    with pytest.raises(
        EnqueueIncomplete, match="1 stored, 0 not stored, 0 unknown, 1 held already"
    ) as caught:
        manager.request_many([JobRequest(type="a", id="two"), asked()])
    assert caught.value.stored == ("two",)
    assert [error.state for error in caught.value.held.values()] == ["ready"]
    assert caught.value.rejected == caught.value.unknown == {}


def test_finding_b1_watchers_are_not_told_of_a_job_that_was_not_stored(opened: Open) -> None:
    seen: list[str] = []

    class Watcher:
        @hookimpl
        def kessel_job_enqueued(self, request: Any) -> None:
            seen.append(request.id)

    manager = opened(plugins=build_plugins(extra={"watcher": Watcher()}))
    manager.request(asked())
    for _ in range(2):
        with pytest.raises(IdHeld):
            manager.request(asked())
    assert seen == ["one"]


def test_finding_b1_the_callback_of_the_job_that_holds_the_id_is_kept() -> None:
    called: list[str] = []
    with JobManager("memory://", handlers={"a": lambda payload: payload}) as manager:
        manager.request(asked(1, callback=lambda result: called.append("first")))
        with pytest.raises(IdHeld):
            manager.request(asked(2, callback=lambda result: called.append("second")))
        with pytest.raises(EnqueueIncomplete):
            manager.request_many([asked(3, callback=lambda result: called.append("third"))])
        manager.worker(slots=1).drain()
    assert called == ["first"]


def test_finding_b1_within_a_transaction_of_the_application_too(tmp_path: Path) -> None:
    with JobManager(f"sqlite:///{tmp_path}/jobs.db") as manager:
        adapter: Any = manager.adapter
        connection = sqlite3.connect(tmp_path / "jobs.db")
        message = manager.message(asked())
        with connection:
            adapter.enqueue(message, connection=connection)
            with pytest.raises(IdHeld, match="held by a ready job"):
                adapter.enqueue(message, connection=connection)
        connection.close()
        assert adapter.stats("default").ready == 1


def test_finding_b1_an_interrupted_move_goes_on_where_its_jobs_are_held(tmp_path: Path) -> None:
    with (
        JobManager(f"sqlite:///{tmp_path}/old.db") as old,
        JobManager(f"sqlite:///{tmp_path}/new.db") as new,
    ):
        job = old.message(asked())
        old.adapter.enqueue(job)
        new.adapter.enqueue(job)
        moved = Moved()
        move_jobs(old.adapter, new.adapter, ["default"], moved)
        assert moved.count == 1
        assert (old.adapter.stats("default").total, new.adapter.stats("default").total) == (0, 1)
