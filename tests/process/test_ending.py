"""How a worker ends: within the grace and a second, whatever its handlers do, and whoever asks for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import JobManager
from kessel_core.contract import Browse, JobState, need
from tests.process.sites import LONG, Site, ends

GRACE = 0.3
#: What the issue allows beyond the grace, and what a loaded machine needs on top.
SLACK = 1.0 + 2.0

Start = Callable[..., Site]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(kind: str = "command", queue: str = "sqlite", **settings: float) -> Site:
            if queue == "sqlite":
                url = f"sqlite:///{tmp_path}/jobs.db?lease=2s"
            else:
                server = Beanstalkd()
                server.start()
                stack.callback(server.kill)
                url = f"beanstalk://127.0.0.1:{server.port}"
            site = Site(tmp_path, kind, url, **{"grace": GRACE, **settings})  # type: ignore[arg-type]
            stack.callback(site.close)
            assert site.settled(site.request("good")) == ["commit", "None"]
            return site

        yield start


@pytest.mark.parametrize(
    ("kind", "queue"), [("command", "sqlite"), ("command", "beanstalk"), ("processes", "sqlite")]
)
@pytest.mark.parametrize(
    ("handler", "said", "is_back"),
    [
        ("hold", "did not end in time", True),
        ("block", "handler of block holds up the event loop", True),
        ("swallow", "left behind: swallow", True),
        ("to_thread", "ending beside threads", True),
        ("leave_thread", "ending beside threads", False),
        ("leave_process", "ending a process that a handler left behind", False),
    ],
)
def test_finding_a3_finding_a4_a_worker_ends_within_its_grace_and_a_second(
    start: Start, kind: str, queue: str, handler: str, said: str, is_back: bool
) -> None:
    site = start(kind, queue)
    ref = site.request(handler)
    site.eventually(lambda: site.notes("started", ref))
    if not is_back:
        site.settled(ref)
    code, seconds = site.stop()
    assert code == 0, site.errors()
    assert seconds < GRACE + SLACK
    assert site.errors().count(said) == 1, site.errors()
    assert "Traceback" not in site.errors()
    browse = need(site.manager.adapter, Browse)
    # On beanstalkd a moment passes until it is ready.
    waiting = [*browse.peek("default", JobState.READY), *browse.peek("default", JobState.DELAYED)]
    assert [(job.attempt, job.snoozes) for job in waiting] == ([(0, 1)] if is_back else [])
    for line in site.notes("child", ref):
        assert ends(int(line[2]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_finding_a4_a_signal_to_a_worker_that_is_ending_anyway_changes_nothing(
    start: Start, number: int
) -> None:
    site = start()
    site.settled(site.request("leave_thread"))
    site.process.terminate()
    site.eventually(lambda: "worker: stopped" in site.errors())
    time.sleep(0.1)
    code, _ = site.stop(number)
    assert code == 0
    assert "Traceback" not in site.errors()


@pytest.mark.parametrize("handler", ["block", "swallow"])
def test_finding_a3_an_application_with_a_worker_ends_in_time_too(start: Start, handler: str) -> None:
    site = start("embedded")
    ref = site.request(handler)
    site.eventually(lambda: site.notes("started", ref))
    code, seconds = site.stop()
    assert code == 0, site.errors()
    assert seconds < GRACE + SLACK
    assert "left behind" in site.errors()


def test_finding_d3_a_job_that_ends_its_process_with_2_or_3_is_no_wrong_configuration(start: Start) -> None:
    site = start("processes", grace=10.0)
    refs = [site.request("exit_once", status) for status in (2, 3)]
    for ref in refs:
        assert site.settled(ref) == ["commit", "None"]
    assert site.process.poll() is None
    assert site.stop()[0] == 0


def test_finding_a9_a_closed_terminal_is_a_stop(start: Start) -> None:
    site = start()
    ref = site.request("hold")
    site.eventually(lambda: site.notes("started", ref))
    assert site.stop(signal.SIGHUP)[0] == 0
    assert site.manager.adapter.stats("default").ready == 1


def test_finding_a9_nohup_means_it(start: Start) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        site = start()
    finally:
        signal.signal(signal.SIGHUP, before)
    site.process.send_signal(signal.SIGHUP)
    assert site.settled(site.request("good")) == ["commit", "None"]
    assert site.stop()[0] == 0


@pytest.mark.parametrize("kind", ["command", "embedded"])
def test_finding_a1_sigterm_to_the_whole_process_group_counts_once(start: Start, kind: str) -> None:
    """`timeout` and service managers do so; children of the handler are in the group, too."""
    site = start(kind, grace=20.0)
    ref = site.request("leave_process")
    site.settled(ref)
    held = site.request("hold")
    site.eventually(lambda: site.notes("started", held))
    os.killpg(site.process.pid, signal.SIGTERM)
    site.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        site.process.wait(0.5)
    assert "given back" not in site.errors()
    child = int(site.notes("child", ref)[0][2])
    assert ends(child)


SLOW = """
import pathlib, time
pathlib.Path("importing").touch()
time.sleep(20)
def good(payload): pass
"""


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_finding_a10_a_signal_in_the_middle_of_an_import_is_a_stop(
    tmp_path: Path, processes: str, number: signal.Signals
) -> None:
    with _importing(tmp_path, processes) as process:
        process.send_signal(number)
        assert process.wait(LONG) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


FAILS_TO_CLOSE = """
import pathlib
from kessel_sqlite.adapter import SqliteAdapter

close = SqliteAdapter.close

def failing(adapter):
    close(adapter)
    if pathlib.Path("done").exists():  # not in a supervisor that looks whether all can be opened
        raise RuntimeError("the disk is gone")

SqliteAdapter.close = failing

def good(payload):
    pathlib.Path("done").touch()
"""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_error_of_the_closing_is_told_after_a_requested_stop_too(tmp_path: Path, processes: str) -> None:
    """Only what a signal interrupts is no error: this one ended with 0, and nobody was told."""
    with _working(tmp_path, FAILS_TO_CLOSE, processes) as process:
        process.terminate()
        _, errors = process.communicate(timeout=LONG)
        assert process.returncode == 1
        assert "the disk is gone" in errors


DEMO = """
import sys
from kessel_core.cli import main
sys.argv = ["kessel", "demo", "--json"]
main()
"""


def test_an_error_of_the_closing_is_told_after_a_demo_was_interrupted_too(tmp_path: Path) -> None:
    """It said that it was interrupted, and nothing else."""
    (tmp_path / "failing.py").write_text(FAILS_TO_CLOSE + DEMO)
    with _begun([sys.executable, "failing.py"], tmp_path) as process:
        assert process.stderr is not None
        while "working" not in (line := process.stderr.readline()):
            assert line, "the demo ended before it worked on anything"
        (tmp_path / "done").touch()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LONG)
        assert process.returncode == 1
        assert "the disk is gone" in errors


def test_finding_a10_the_first_process_of_a_container_hears_sigterm(tmp_path: Path) -> None:
    """To a process 1, a signal that nobody handles is not delivered."""
    tried = subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True)
    if tried.returncode:
        pytest.skip("no namespaces here")
    with _importing(tmp_path, "1", "unshare", "--pid", "--fork", "--kill-child") as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert process.wait(LONG) == 0


def _importing(directory: Path, processes: str, *before: str) -> subprocess.Popen[str]:
    """Start a worker; return when it imports its handlers."""
    process = _started(directory, SLOW, processes, *before)
    _await(process, directory / "importing")
    return process


def _working(directory: Path, handlers: str, processes: str) -> subprocess.Popen[str]:
    """Start a worker; return when it has done a job."""
    process = _started(directory, handlers, processes)
    with JobManager(f"sqlite:///{directory}/jobs.db", only_requests=True) as manager:
        manager.request("good")
    _await(process, directory / "done")
    return process


def _await(process: subprocess.Popen[str], path: Path) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)


def _started(directory: Path, handlers: str, processes: str, *before: str) -> subprocess.Popen[str]:
    (directory / "site_handlers.py").write_text(handlers)
    text = f'[kessel]\nadapter = "sqlite:///{directory}/jobs.db"\nhandlers.good = "site_handlers:good"\n'
    (directory / "kessel.toml").write_text(text)
    command = [*before, sys.executable, "-m", "kessel_core.cli", "worker", "--processes", processes]
    return _begun(command, directory)


def _begun(command: list[str], directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=directory,
        env={k: v for k, v in os.environ.items() if not k.startswith("KESSEL_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


APPLICATION = """
import os, signal, sys, threading, time
from datetime import timedelta
from pathlib import Path
from kessel_core import Config, JobManager, WorkerConfig

def hold(payload):
    with open("started", "a") as file:
        print(payload, file=file)
    time.sleep(20)

def stop(payload):
    (manager.close if sys.argv[1] == "close-inside" else manager.stop)()
    return 1

async def async_stop(payload):
    manager.close()

config = Config(worker=WorkerConfig(grace=timedelta(seconds=0.3)))
how = sys.argv[1]
if how == "run":
    with JobManager("sqlite:///jobs.db?lease=60s", handlers={"hold": hold}, config=config) as manager:
        manager.worker(slots=2).run()
elif how == "leave":
    with JobManager("sqlite:///jobs.db?lease=60s", handlers={"hold": hold}, config=config) as manager:
        manager.worker(slots=2).start()
        while not Path("started").exists():
            time.sleep(0.01)
        raise ValueError("leaves the with")
elif how == "start":
    manager = JobManager("sqlite:///jobs.db?lease=60s", handlers={"hold": hold}, config=config).connect()
    manager.start(slots=2)
    while not Path("started").exists():
        time.sleep(0.01)
elif how == "many":
    managers = [
        JobManager("sqlite:///jobs.db?lease=60s", handlers={"hold": hold}, config=config).connect()
        for _ in range(6)
    ]
    for number in range(4):
        managers[0].request("hold", number)
    for manager in managers:
        manager.start(slots=1)
    while not Path("started").exists() or len(Path("started").read_text().splitlines()) < 5:
        time.sleep(0.01)
elif how.endswith("-inside"):
    handlers = {"hold": async_stop if how.startswith("async") else stop}
    with JobManager("sqlite:///jobs.db?lease=60s", handlers=handlers, config=config) as manager:
        worker = manager.start(slots=2)
        worker.join()
        print(worker.counts)
"""


def application(directory: Path, how: str) -> subprocess.Popen[str]:
    from kessel_core import JobManager

    (directory / "application.py").write_text(APPLICATION)
    with JobManager(f"sqlite:///{directory}/jobs.db?lease=60s", only_requests=True) as manager:
        manager.request("hold")
    return subprocess.Popen(
        [sys.executable, "application.py", how],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def held(directory: Path) -> tuple[int, int, int]:
    """Return the number of jobs that are ready, reserved and buried."""
    from kessel_core import JobManager

    with JobManager(f"sqlite:///{directory}/jobs.db?lease=60s", only_requests=True) as manager:
        count = manager.adapter.stats("default")
        return count.ready, count.reserved, count.buried


@pytest.mark.parametrize(
    ("how", "last"), [("run", "KeyboardInterrupt"), ("leave", "ValueError: leaves the with"), ("start", "")]
)
def test_finding_a11_finding_d1_the_end_of_a_script_gives_jobs_back(
    tmp_path: Path, how: str, last: str
) -> None:
    with application(tmp_path, how) as process:
        while not (tmp_path / "started").exists():
            assert process.poll() is None
        if how == "run":
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LONG)
    assert said.rstrip().endswith(last)
    assert ("Traceback" in said) is bool(last), said
    assert held(tmp_path) == (1, 0, 0)


def test_finding_a11_at_the_end_of_a_script_no_worker_begins_what_another_gives_back(tmp_path: Path) -> None:
    with application(tmp_path, "many") as process:
        _, said = process.communicate(timeout=LONG)
    assert said.count("did not end in time; given back") == len(said.splitlines()) == 5
    assert sorted((tmp_path / "started").read_text().split()) == ["0", "1", "2", "3", "None"]
    assert held(tmp_path) == (5, 0, 0)


@pytest.mark.parametrize("how", ["stop-inside", "close-inside", "async-inside"])
def test_finding_a7_a_job_may_stop_its_own_worker(tmp_path: Path, how: str) -> None:
    with application(tmp_path, how) as process:
        out, said = process.communicate(timeout=LONG)
    assert (process.returncode, out.strip()) == (0, "{'success': 1}"), said
    assert said == ""
    assert held(tmp_path) == (0, 0, 0)


def test_finding_d18_a_stop_in_a_signal_handler_waits_for_no_lock(tmp_path: Path) -> None:
    """The main thread is interrupted where it holds the locks of the adapter and of the worker."""
    from kessel_core import JobManager

    with JobManager(f"sqlite:///{tmp_path}/jobs.db", handlers={"a": len}) as manager:
        worker = manager.worker(slots=2)
        worker.start()
        engine = manager.adapter.engine  # type: ignore[attr-defined]
        before = signal.signal(signal.SIGALRM, lambda *_: worker.stop(timedelta(0)))
        try:
            with engine.line.lock, engine.line.turns.lock:
                signal.raise_signal(signal.SIGALRM)
                assert worker.is_stopping
        finally:
            signal.signal(signal.SIGALRM, before)
        worker.join()
        assert not worker.health().running
