"""Workers and progress as other processes see them: a stop, a kill, SQLite and beanstalkd (S27)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import JobManager, ResultPending, WorkerEntry, WorkerState, load_config
from kessel_core.testing import VirtualClock
from tests.until import until as until_within

LONG = 60.0

JOBS = """
import time
from pathlib import Path
from kessel_core import JobContext, handler


@handler("count")
def count(name: str, job: JobContext) -> str:
    job.progress(1, 2, "halves")
    Path(name + ".running").touch()
    while not Path(name + ".go").exists():
        time.sleep(0.01)
    job.progress(2, 2, "halves")
    return name
"""


@pytest.fixture(params=["sqlite", "beanstalk"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder with a configuration: the store is in the file of the jobs, or beside beanstalkd."""
    (tmp_path / "jobs.py").write_text(JOBS)
    server = Beanstalkd() if request.param == "beanstalk" else None
    if server is not None:
        server.start()
    adapter = f"sqlite:///{tmp_path}/st.db" if server is None else f"beanstalk://127.0.0.1:{server.port}"
    (tmp_path / "kessel.toml").write_text(
        f'[kessel]\nadapter = "{adapter}"\nstore = "sqlite:///{tmp_path}/st.db"\n'
        '[kessel.handlers]\ncount = "jobs:count"\n[kessel.results]\nkeep = "1h"\n'
    )
    yield tmp_path
    if server is not None:
        server.kill()


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `kessel worker` in the folder; what is left at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: str) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "kessel_core.cli", "worker", "--log-level", "error", *words],
                cwd=folder,
            )
        )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


Start = Callable[..., "subprocess.Popen[bytes]"]


def manager_of(folder: Path, clock: Any = None) -> JobManager:
    """A manager of this process that only looks, perhaps at another time."""
    config = load_config(str(folder / "kessel.toml"), environ={}).config
    return JobManager(config=config, only_requests=True, clock=clock)


until = partial(until_within, seconds=LONG, pause=0.02)


def by_pid(manager: JobManager) -> dict[int, WorkerEntry]:
    return {one.pid: one for one in manager.workers()}


def test_s27_each_worker_process_is_listed_until_it_has_stopped(folder: Path, start: Start) -> None:
    with manager_of(folder) as manager:
        supervisor = start("--processes", "2", "--slots", "3")
        until(lambda: len(manager.workers()) == 2)
        found = by_pid(manager)
        assert supervisor.pid not in found
        assert {one.slots for one in found.values()} == {3}
        assert all("count" in one.types for one in found.values())
        out = subprocess.run(
            [sys.executable, "-m", "kessel_core.cli", "workers", "--json"],
            cwd=folder,
            capture_output=True,
            check=True,
        ).stdout
        assert {one["pid"] for one in json.loads(out)} == set(found)
        supervisor.terminate()
        assert supervisor.wait(LONG) == 0
        assert manager.workers() == []


def test_s27_progress_of_a_running_job_is_seen_elsewhere_and_so_is_a_worker_that_stops(
    folder: Path, start: Start
) -> None:
    with manager_of(folder) as manager:
        worker = start()
        until(manager.workers)
        request = manager.request("count", "a")
        until(lambda: manager.progress(request.id))
        with pytest.raises(ResultPending, match=r"progress: 1 of 2 \(50 %\), halves"):
            manager.result(request.id)
        worker.terminate()
        until(lambda: by_pid(manager)[worker.pid].state is WorkerState.STOPPING)
        assert [job.id for job in by_pid(manager)[worker.pid].jobs] == [request.id]
        (folder / "a.go").touch()
        assert manager.result(request.id, timedelta(seconds=LONG)).value == "a"
        progress = manager.progress(request.id)
        assert progress is not None
        assert progress.done == 2, "who is woken by the outcome sees the last report"
        assert worker.wait(LONG) == 0
        assert manager.workers() == []


@pytest.mark.parametrize("folder", ["sqlite"], indirect=True)
def test_s27_a_worker_that_is_killed_is_gone_after_thirty_seconds(folder: Path, start: Start) -> None:
    with manager_of(folder) as manager:
        supervisor = start("--processes", "2")
        until(lambda: len(manager.workers()) == 2)
        before = by_pid(manager)
        killed = next(iter(before))
        os.kill(killed, signal.SIGKILL)
        until(lambda: set(by_pid(manager)) - set(before))  # the supervisor replaces it
        assert killed in by_pid(manager)
        supervisor.kill()
    seen = before[killed].seen_at  # or ten seconds later, if it had the time to write once more
    for age, is_there in ((29, True), (41, False)):
        with manager_of(folder, VirtualClock(seen + timedelta(seconds=age))) as later:
            assert (killed in by_pid(later)) is is_there
