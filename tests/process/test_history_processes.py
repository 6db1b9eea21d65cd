"""Histories across processes: what a kill loses, and what a forked child writes (S39)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kessel_core import EventKind, JobManager
from kessel_core.contract import Browse, JobState, need
from kessel_core.features.events import history_of
from tests.until import until

SETUP = """
import os, sys, time
from datetime import timedelta
from kessel_core import Config, HistoryConfig, JobManager

config = Config(history=HistoryConfig(keep=timedelta(days=1)))
manager = JobManager(sys.argv[1], config=config, handlers={"work": lambda payload: None}).connect()
"""

#: Requests and runs jobs for ever.
BUSY = """
manager.start()
while True:
    manager.request("work")
    time.sleep(0.005)
"""

#: Requests a job, forks, and requests another one in the child.
FORKS = """
manager.request("of-the-parent")
pid = os.fork()
manager.request("of-the-child" if pid == 0 else "again-of-the-parent")
if pid == 0:
    manager.close()
    os._exit(0)
os.waitpid(pid, 0)
sys.exit()  # without a close
"""

#: Requests a job, forks, and the child requests another one and lives on.
LIVES_ON = """
manager.request("of-the-parent")
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
else:
    print(manager.request("of-the-child").id, flush=True)
    time.sleep(60)
"""


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'jobs.db'}?durability=process-crash"


def test_s39_a_kill_loses_at_most_a_second(tmp_path: Path) -> None:
    """S39: the log is written behind, at most one second late; what is older survives SIGKILL."""
    url = url_of(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", SETUP + BUSY, url])
    try:
        with JobManager(url, only_requests=True) as manager:
            until(lambda: len(manager.store.scan("events", limit=50)) == 50, pause=0.02)
            begun = time.time()
            until(lambda: time.time() - begun > 2.0, pause=0.02)
            process.kill()
            process.wait()
            entries, after = [], ""
            while page := manager.store.scan("events", after=after, limit=1000):
                entries += [entry.key.rpartition("/")[0] for entry in page]
                after = page[-1].key
            histories = [history_of(manager.store, job_id) for job_id in dict.fromkeys(entries)]
    finally:
        process.kill()
        process.wait()
    # What happened in the last two seconds is there, if not in the very last one.
    assert max(event.at.timestamp() for history in histories for event in history.events) > begun
    whole = [EventKind.REQUESTED, EventKind.STARTED, EventKind.SETTLED, EventKind.FINISHED]
    ended = [history for history in histories if history.events[-1].kind is EventKind.FINISHED]
    assert len(ended) > 10
    assert all([event.kind for event in history.events] == whole for history in ended)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_s39_a_forked_child_writes_its_own_events_and_none_of_its_parent(tmp_path: Path) -> None:
    url = url_of(tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SETUP + FORKS, url],
        timeout=60,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    with JobManager(url, only_requests=True) as manager:
        waiting = need(manager.adapter, Browse).peek("default", JobState.READY, 10)
        jobs = {job.job().type: job.id for job in waiting}
        found = {kind: manager.history(job_id).events for kind, job_id in jobs.items()}
    assert set(found) == {"of-the-parent", "of-the-child", "again-of-the-parent"}
    assert all([event.kind for event in events] == [EventKind.REQUESTED] for events in found.values())
    workers = {kind: events[0].worker for kind, events in found.items()}
    assert workers["of-the-parent"] == workers["again-of-the-parent"] != workers["of-the-child"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_s39_a_forked_child_that_lives_on_writes_within_a_second_as_any_process(tmp_path: Path) -> None:
    """S39: its parent's thread writes in the parent only."""
    url = url_of(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", SETUP + LIVES_ON, url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        with JobManager(url, only_requests=True) as manager:
            until(lambda: len(history_of(manager.store, job_id).events) > 0)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
