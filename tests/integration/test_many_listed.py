"""Many buried jobs are listed, chosen and kicked in memory that does not grow with them (S39)."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kessel_core import SystemClock, build_plugins
from kessel_core.cli.choosing import Choice
from kessel_core.cli.jobs import First, by_ids
from kessel_core.cli.root import kessel
from kessel_core.contract import (
    NO_PAUSE,
    AdapterContext,
    Browse,
    Buried,
    Bury,
    Delete,
    JobState,
    Message,
    QueueAdapter,
    need,
)
from kessel_core.features.finding import buried_jobs, stored_jobs

BODY = b'{"v": 1, "id": "%s", "type": "%s", "payload": "%s"}'


def opened(url: str) -> QueueAdapter:
    return build_plugins().chosen_adapter(url).open(AdapterContext(clock=SystemClock()))


def bury(adapter: QueueAdapter, count: int, queue: str = "default", size: int = 1) -> list[str]:
    ids = [f"{queue}-{number:06d}" for number in range(count)]
    adapter.enqueue_many(
        [
            Message(one, queue, BODY % (one.encode(), b"rare" if n % 10 == 0 else b"usual", b"x" * size), 1)
            for n, one in enumerate(ids)
        ]
    )
    consumer = adapter.consumer([queue])
    held = consumer.reserve(NO_PAUSE)
    while held is not None:
        held = consumer.settle_and_reserve(held, Bury("error", "a bad night"))
    consumer.close()
    return ids


@pytest.fixture(params=["memory", "sqlite", "beanstalk"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        yield "memory://"
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'jobs.db'}?durability=process-crash"
    else:
        testing = pytest.importorskip("kessel_beanstalk.testing")
        if shutil.which(os.environ.get("BEANSTALKD", "beanstalkd")) is None:
            pytest.skip("no beanstalkd")
        server = testing.Beanstalkd()
        server.start()
        yield f"beanstalk://127.0.0.1:{server.port}"
        server.kill()


@pytest.fixture
def adapter(url: str) -> Iterator[QueueAdapter]:
    found = opened(url)
    yield found
    found.close()


def test_s39_all_jobs_of_a_state_are_met_once_in_their_order_on_every_adapter(adapter: QueueAdapter) -> None:
    """More jobs than a page holds, of two queues; as `peek` and `buried` list them."""
    bury(adapter, 1_100)
    bury(adapter, 5, "other")
    browse, buried = need(adapter, Browse), need(adapter, Buried)
    listed = [job.id for job in buried.buried("default", 5_000)]
    assert [job.id for job in buried.each_buried("default")] == listed
    assert [job.id for job in browse.each("default", JobState.BURIED)] == listed
    assert {job.reason for job in buried.each_buried("default")} == {"error"}
    assert sorted(job.id for job in buried_jobs(adapter, ["default", "other"])) == sorted(
        [*listed, *(job.id for job in buried.buried("other"))]
    )
    assert list(browse.each("nowhere", JobState.READY)) == []


@pytest.mark.parametrize("state", [JobState.READY, JobState.DELAYED, JobState.RESERVED])
def test_s39_each_is_as_peek_in_every_state(url: str, state: JobState) -> None:
    adapter = opened(url)
    now = SystemClock().now()
    for n in range(700):
        due = now.replace(year=now.year + 1) if state is JobState.DELAYED else None
        adapter.enqueue(Message(f"j{n}", "default", BODY % (b"j%d" % n, b"t", b""), n % 3, due))
    consumers = [adapter.consumer(["default"]) for _ in range(3)]
    if state is JobState.RESERVED:
        assert all(one.reserve(NO_PAUSE) for one in consumers)
    browse = need(adapter, Browse)
    peeked = [job.id for job in browse.peek("default", state, 1_000)]
    assert len(peeked) == (3 if state is JobState.RESERVED else 700)
    assert [job.id for job in browse.each("default", state)] == peeked
    for one in consumers:
        one.close()
    adapter.close()


def test_s39_jobs_that_are_buried_again_meanwhile_are_kicked_once(adapter: QueueAdapter) -> None:
    """S39: kicking all of them ends, although a worker buries each one again at once."""
    ids = bury(adapter, 20)
    facet, consumer = need(adapter, Buried), adapter.consumer(["default"])
    kicked: list[str] = []
    for job in buried_jobs(adapter, ["default"]):
        facet.kick_shown(job)
        kicked.append(job.id)
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        consumer.settle(held, Bury("error", "again"))
        assert len(kicked) <= len(ids)
    assert kicked == ids
    consumer.close()


def test_s39_buried_jobs_of_several_queues_are_met_in_the_order_of_their_burial(url: str) -> None:
    adapter = opened(url)
    ids = [job_id for n in range(6) for job_id in bury(adapter, 1, f"queue-{n % 3}-{n}")]
    queues = [job_id.rpartition("-")[0] for job_id in ids]
    assert [job.id for job in buried_jobs(adapter, queues[::-1])] == ids
    adapter.close()


def test_s39_memory_shows_no_job_in_a_state_that_it_has_left() -> None:
    adapter = opened("memory://")
    ids = bury(adapter, 4)
    facet = need(adapter, Buried)
    listed = facet.each_buried("default")
    assert next(listed).id == ids[0]
    facet.kick("default", ids[1])
    need(adapter, Delete).delete("default", ids[2])
    assert [job.id for job in listed] == [ids[3]]
    adapter.close()


def test_s39_a_job_that_a_worker_takes_meanwhile_is_listed_once() -> None:
    adapter = opened("memory://")
    consumers = [adapter.consumer(["default"]) for _ in range(2)]
    for one in ("held", "ready"):
        adapter.enqueue(Message(one, "default", BODY % (one.encode(), b"t", b""), 1))
        if one == "held":
            assert consumers[0].reserve(NO_PAUSE)
    listed = stored_jobs(adapter, ["default"])
    assert next(listed).id == "ready"
    assert consumers[1].reserve(NO_PAUSE)
    assert [job.id for job in listed] == ["held"]
    for consumer in consumers:
        consumer.close()
    adapter.close()


def peak(work: Callable[[], Any]) -> int:
    """Return the most memory in bytes that it held at once."""
    work()  # what is imported and cached at the first time
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def work_of(adapter: QueueAdapter) -> dict[str, Callable[[], object]]:
    queues = ["default"]
    buried = adapter.facet(Buried)
    assert buried is not None
    return {
        "list": lambda: First(buried_jobs(adapter, queues), 10),
        "list the newest": lambda: First(buried_jobs(adapter, queues), 10, from_the_end=True),
        "choose": lambda: list(Choice(type="rare", limit=5).of(buried_jobs(adapter, queues))),
        "choose the newest": lambda: list(Choice(newest=True, limit=5).of(buried_jobs(adapter, queues))),
        "by id": lambda: by_ids(buried_jobs(adapter, queues), ["default-000003"]),
        "find": lambda: First((job for job in stored_jobs(adapter, queues) if job.id == "x"), 10),
    }


def test_s39_four_times_as_many_jobs_take_no_more_memory(tmp_path: Path) -> None:
    """S39: 100,000 were tried by hand; 1,500 and 6,000 show the same growth, of none."""
    few, many = (opened(f"sqlite:///{tmp_path / name}?durability=process-crash") for name in ("a", "b"))
    bury(few, 1_500, size=2_000)
    bury(many, 6_000, size=2_000)
    for name, work in work_of(few).items():
        most = peak(work)
        assert peak(work_of(many)[name]) < most * 1.5, name
    few.close()
    many.close()


def test_s39_pages_go_through_all_jobs_whatever_is_kicked_between_them(url: str) -> None:
    """S39: by key, so that a page does not depend on those before it."""
    if url == "memory://":
        pytest.skip("the jobs end with the process")
    adapter = opened(url)
    ids = bury(adapter, 25)
    bury(adapter, 3, "another")

    def page(*arguments: str) -> list[str]:
        command = ["list", "buried", "--adapter", url, "--limit", "10", "--json", *arguments]
        done = CliRunner().invoke(kessel, command)
        assert done.exit_code == 0, done.output
        return [job["id"] for job in json.loads(done.stdout)]

    first = page()
    assert first == [*(f"another-{n:06d}" for n in range(3)), *ids[:7]]
    need(adapter, Buried).kick("default", ids[6])  # the key itself is gone
    second = page("--after", first[-1])
    assert second == ids[7:17]
    assert page("--after", second[-1]) == ids[17:]
    assert page("--after", ids[-1]) == []
    assert page("--type", "rare", "--queue", "default") == [ids[0], ids[10], ids[20]]
    assert page("--reason", "other") == []
    assert page("--since", "1h", "--after", ids[22]) == ids[23:]
    assert page("--since", "0s") == []
    if not adapter.capabilities.dedupe:  # two queues may hold the same id, which no page parts
        for queue in ("x", "y"):
            adapter.enqueue(Message("zz-twice", queue, BODY % (b"zz-twice", b"t", b""), 1))
            with closing(adapter.consumer([queue])) as consumer:
                held = consumer.reserve(NO_PAUSE)
                assert held is not None
                consumer.settle(held, Bury("error", "no"))
        assert page("--limit", "1", "--after", ids[-1]) == ["zz-twice", "zz-twice"]
    adapter.close()
