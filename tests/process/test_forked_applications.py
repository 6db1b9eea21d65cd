"""A process that runs jobs, and forks: what is the parent's stays the parent's."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from kessel_core import JobManager

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
BOUND = 60.0


def in_child(act: Callable[[], object]) -> str:
    """Do it in a forked child, bounded; return what it raised, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            act()
        except BaseException:
            said = traceback.format_exc()
        os.write(writing, said.encode()[:4000])
        os._exit(0)
    os.close(writing)
    try:
        end = time.monotonic() + BOUND
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.kill(child, 9)
                os.waitpid(child, 0)
                return "it did not end"
            time.sleep(0.01)
        return os.read(reading, 4000).decode()
    finally:
        os.close(reading)


@pytest.fixture(params=["memory://", "sqlite:///jobs.db"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(request.param)


def test_s7_a_forked_child_does_not_give_back_the_jobs_of_its_parent(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def wait(payload: object) -> None:
        started.set()
        assert go_on.wait(BOUND)

    with JobManager(url, handlers={"wait": wait}) as manager:
        worker = manager.start(slots=2)
        manager.request("wait")
        assert started.wait(BOUND)

        def leave() -> None:
            manager.stop(timedelta(0))
            manager.close()

        assert in_child(leave) == ""
        assert manager.adapter.stats("default").reserved == 1
        go_on.set()
        manager.stop()
        assert worker.counts == {"success": 1}


def test_a_forked_child_may_start_a_worker_of_its_own(url: str) -> None:
    with JobManager(url, handlers={"note": lambda payload: None}) as manager:
        manager.start()
        time.sleep(0.2)  # so that its slot waits, and holds no lock that the child would find locked

        def work() -> None:
            worker = manager.start(queues=["child"])
            manager.request("note", queue="child")
            end = time.monotonic() + BOUND
            while not worker.counts and time.monotonic() < end:
                time.sleep(0.01)
            manager.stop()
            assert worker.counts == {"success": 1}

        assert in_child(work) == ""


def test_a_forked_child_runs_async_handlers_on_a_loop_of_its_own() -> None:
    async def answer(payload: object) -> int:
        return 42

    with JobManager("memory://", handlers={"answer": answer}) as manager:
        assert manager.process_single_job("answer").value == 42

        def ask() -> None:
            assert manager.process_single_job("answer").value == 42
            manager.close()

        assert in_child(ask) == ""
        assert manager.process_single_job("answer").value == 42
