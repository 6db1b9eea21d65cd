"""Results and callbacks between processes: a producer, a worker, and who is told (S22, S25, S26)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from kessel_beanstalk.testing import Beanstalkd
from kessel_postgres.testing import Postgres
from kessel_redis.testing import Redis

from kessel_core import JobManager

LONG = 100.0
T = TypeVar("T")

JOBS = """
from kessel_core import Outcome, handler


@handler("double")
def double(n: int) -> int:
    return 2 * n
"""

TOLD = """
import json

from kessel_core import Outcome, handler


@handler("told")
def told(outcome: Outcome) -> None:
    with open("told.jsonl", "a") as file:
        file.write(json.dumps([outcome.ref, str(outcome.status), str(outcome.reason), outcome.value]) + "\\n")
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["sqlite", "beanstalk", "postgres", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack) -> str:
    """Where the jobs are."""
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path}/jobs.db"
        case "beanstalk":
            beanstalkd = Beanstalkd()
            stack.callback(beanstalkd.kill)
            beanstalkd.start()
            return f"beanstalk://127.0.0.1:{beanstalkd.port}"
        case "postgres":
            postgres = Postgres()
            stack.callback(postgres.close)
            postgres.start()
            postgres.install()
            return postgres.url()
        case _:
            redis = Redis()
            stack.callback(redis.close)
            redis.start()
            return redis.url()


@pytest.fixture
def folder(tmp_path: Path, url: str) -> Path:
    """With handlers, and a configuration that keeps results: beanstalkd cannot, so in a file."""
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "told.py").write_text(TOLD)
    store = f"sqlite:///{tmp_path}/store.db" if url.startswith("beanstalk") else "adapter"
    (tmp_path / "kessel.toml").write_text(
        f'[kessel]\nadapter = "{url}"\nstore = "{store}"\n[kessel.results]\nkeep = "1h"\n'
        '[kessel.callbacks]\nqueue = "callbacks"\n'
    )
    return tmp_path


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kessel_core.cli", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LONG)
    return process.returncode, out, err


def test_s26_a_request_waits_for_the_end_in_another_process(folder: Path) -> None:
    waiting = [start(folder, "request", "double", text, "--wait", "60s") for text in ("21", '"x"')]
    with start(folder, "worker", "--handlers", "jobs") as worker:
        done, failed = (ended(one) for one in waiting)
        worker.terminate()
        assert worker.wait(LONG) == 0
    assert done[:2] == (0, "42\n")
    assert failed[:2] == (1, "null\n")
    assert "failed: bad-payload" in failed[2]


def eventually(read: Callable[[], T], wanted: T) -> None:
    end = time.monotonic() + LONG
    while (found := read()) != wanted:
        assert time.monotonic() < end, found
        time.sleep(0.02)


def test_s22_a_worker_without_the_handler_of_the_callback_stores_it_for_one_that_has_it(
    folder: Path, url: str, stack: ExitStack
) -> None:
    """Three processes: the producer is this one."""

    def worker(handlers: str, queue: str) -> subprocess.Popen[str]:
        process = stack.enter_context(start(folder, "worker", "--handlers", handlers, "-q", queue))
        stack.callback(process.kill)
        return process

    def told() -> list[list[object]]:
        file = folder / "told.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return sorted(json.loads(line) for line in lines)

    manager = stack.enter_context(JobManager(url, only_requests=True))
    manager.request("double", 21, ref="good", callback="job:told")
    manager.request("double", "x", ref="bad", callback="job:told")
    manager.request("double", 1, ref="late", callback="job:told", expiration=timedelta(milliseconds=1))
    workers = [worker("jobs", "default")]
    eventually(lambda: manager.adapter.stats("callbacks").ready, 3)
    assert told() == []
    workers.append(worker("told", "callbacks"))
    eventually(
        told,
        [
            ["bad", "failed", "bad-payload", None],
            ["good", "success", "None", 42],
            ["late", "failed", "expired", None],
        ],
    )
    assert manager.adapter.stats("default").buried == 1
    for process in workers:
        process.terminate()
        assert process.wait(LONG) == 0
    assert manager.adapter.stats("callbacks").total == 0
