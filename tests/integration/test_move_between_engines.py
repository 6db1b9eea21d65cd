"""`kessel move` from each engine to each other one: jobs keep what they are, in order (S3, S4, S6, S9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest
from kessel_beanstalk.testing import Beanstalkd
from kessel_postgres.testing import Postgres
from kessel_redis.testing import Redis

from kessel_core import JobManager
from kessel_core.client.moving import Moved, move_jobs
from kessel_core.contract import COMMIT, NO_PAUSE, Browse, Bury, Consumer, JobState, QueueAdapter, need
from kessel_core.wire import requests

ENGINES = ("memory", "sqlite", "beanstalk", "postgres", "redis")
HOUR = timedelta(hours=1)
LOWEST = 2**32 - 1

Opened = Callable[[str], QueueAdapter]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Callable[[], str]]]:
    """The addresses of servers; each started when it is first asked for."""
    with ExitStack() as stack:
        started: dict[str, str] = {}

        def beanstalk() -> str:
            if "beanstalk" not in started:
                server = Beanstalkd()
                stack.callback(server.kill)
                server.start()
                started["beanstalk"] = f"beanstalk://127.0.0.1:{server.port}"
            return started["beanstalk"]

        def postgres() -> str:
            if "postgres" not in started:
                server = Postgres()
                stack.callback(server.close)
                server.start()
                server.install()
                started["postgres"] = server.url()
            return started["postgres"]

        def redis() -> str:
            if "redis" not in started:
                server = Redis()
                stack.callback(server.close)
                server.start()
                started["redis"] = server.url()
            return started["redis"]

        yield {"beanstalk": beanstalk, "postgres": postgres, "redis": redis}


@pytest.fixture
def opened(servers: dict[str, Callable[[], str]], tmp_path: Path) -> Iterator[Opened]:
    with ExitStack() as stack:

        def open_(engine: str) -> QueueAdapter:
            own = {"memory": "memory://?tie_break=enqueued", "sqlite": f"sqlite:///{tmp_path / 'jobs.db'}"}
            url = own.get(engine) or servers[engine]()
            adapter = stack.enter_context(JobManager(url, only_requests=True)).adapter
            for queue in adapter.queues():  # what an earlier test has left
                adapter.purge(queue)
            return adapter

        yield open_


def drained(consumer: Consumer) -> list[str]:
    """Commit all that is ready; return the types in order."""
    found = []
    while (taken := consumer.reserve(NO_PAUSE)) is not None:
        found.append(requests.decode(taken.body).type)
        consumer.settle(taken, COMMIT)
    return found


@pytest.mark.parametrize(("source", "target"), list(permutations(ENGINES, 2)), ids=lambda engine: engine)
def test_a_move_between_any_two_engines_keeps_jobs_and_their_order(
    opened: Opened, source: str, target: str
) -> None:
    old, new = opened(source), opened(target)
    queue = f"from-{source}-to-{target}"
    due = datetime.now(UTC).replace(microsecond=0) + HOUR
    with JobManager(old, only_requests=True) as manager:
        for name, priority in (("last", LOWEST), ("second", 7), ("third", 7), ("first", 0)):
            manager.request(name, {"text": "ä\0"}, queue=queue, priority=priority, ref=name)
        later = manager.request("later", [1.5, None], queue=queue, priority=3, delay=due)
        with closing(old.consumer([queue])) as consumer:
            manager.request("next", queue=queue, priority=0)
            moved = Moved()
            first = consumer.reserve(NO_PAUSE)
            assert first is not None
            consumer.settle(first, Bury("error", "broken"))  # it stays
        move_jobs(old, new, [queue], moved)
    assert (moved.count, moved.double, moved.left, moved.pending) == (5, [], [], {})
    left = old.stats(queue)
    assert (left.ready, left.delayed, left.buried) == (0, 0, 1)
    there = new.stats(queue)
    assert (there.ready, there.delayed, there.buried) == (4, 1, 0)
    with closing(new.consumer([queue])) as consumer:
        assert drained(consumer) == ["next", "second", "third", "last"]
    (stays,) = need(new, Browse).peek(queue, JobState.DELAYED, 10)
    assert stays.due is not None
    assert due <= stays.due <= due + timedelta(seconds=2)
    job = requests.decode(stays.body)
    assert (job.id, job.payload, job.priority, job.not_before) == (later.id, [1.5, None], 3, due)
