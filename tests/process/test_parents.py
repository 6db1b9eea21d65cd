"""Who starts a worker, and what it inherits: servers that fork, test runners, odd signals."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import JobManager
from kessel_core.contract import Browse, JobState, need
from tests.process.sites import LONG, Site, ends, runs

DONE = ["commit", "None"]
Url = Callable[[str], str]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[Url]:
    with ExitStack() as stack:

        def url(queue: str) -> str:
            if queue == "memory":
                return "memory://"
            if queue == "sqlite":
                return f"sqlite:///{tmp_path}/jobs.db?lease=2s"
            server = Beanstalkd()
            server.start()
            stack.callback(server.kill)
            return f"beanstalk://127.0.0.1:{server.port}?ttr=2"

        yield url


@pytest.fixture
def start(tmp_path: Path, url: Url) -> Iterator[Callable[..., Site]]:
    with ExitStack() as stack:

        def start(kind: str, queue: str, **settings: object) -> Site:
            site = Site(tmp_path, kind, url(queue), **settings)  # type: ignore[arg-type]
            stack.callback(site.close)
            return site

        yield start


# --- servers that fork -----------------------------------------------------------------------------------


def children(site: Site, count: int = 2) -> list[int]:
    """Wait until so many children work, and return their process ids."""
    site.eventually(lambda: len(site.notes("ready")) >= count)
    pids = [int(line[1]) for line in site.notes("ready")]
    for pid in pids:
        site.eventually(lambda: site.notes("settled", f"of-{pid}"))  # noqa: B023
    return pids


def waiting(site: Site, queue: str = "default") -> list[tuple[int, int]]:
    """Return attempts and snoozes of the jobs that wait."""
    browse = need(site.manager.adapter, Browse)
    jobs = [job for state in (JobState.READY, JobState.DELAYED) for job in browse.peek(queue, state, 10)]
    return [(job.attempt, job.snoozes) for job in jobs]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
@pytest.mark.parametrize("queue", ["sqlite", "beanstalk"])
def test_finding_a11_a_server_that_forks_and_ends_gives_back_what_its_children_run(
    start: Callable[..., Site], queue: str, number: int
) -> None:
    """SIGQUIT and SIGINT raise SystemExit in the middle of whatever the main thread of a child does."""
    site = start("prefork", queue, grace=0.3)
    pids = children(site)
    held = [site.request("hold") for _ in range(2)]
    for ref in held:
        site.eventually(lambda: site.notes("started", ref))  # noqa: B023
    code, _ = site.stop(number)
    assert code == 0, site.errors()
    assert not [pid for pid in pids if runs(pid)]
    assert [line[2] for line in site.notes("collected")] == ["0", "0"]
    # A child may take what the other has given back, before the signal comes to it, too.
    assert [(attempts, snoozes > 0) for attempts, snoozes in waiting(site)] == [(0, True), (0, True)]
    assert "Traceback" not in site.errors()


@pytest.mark.parametrize("queue", ["memory", "sqlite", "beanstalk"])
def test_finding_a1_a_child_that_is_killed_is_replaced_and_the_parents_worker_goes_on(
    start: Callable[..., Site], queue: str
) -> None:
    site = start("prefork", queue, grace=10.0)
    first, second = children(site)
    ref = "none" if queue == "memory" else site.request("busy", 0.3)
    if queue != "memory":
        site.eventually(lambda: site.notes("busy", ref))
    for pid in (first, second):
        os.kill(pid, signal.SIGKILL)
    children(site, 4)
    if queue != "memory":
        assert site.settled(ref) == DONE
        site.manager.request("good", queue="parent", ref="parents")
        assert site.settled("parents") == DONE
        assert int(site.notes("settled", "parents")[0][-1]) == site.process.pid
    assert site.stop()[0] == 0, site.errors()
    assert "Traceback" not in site.errors()


@pytest.mark.parametrize("handler", ["fork_exit", "fork_raise", "fork_close", "status", "broken_pool"])
def test_finding_a2_what_handlers_start_in_the_child_of_a_server_ends(
    start: Callable[..., Site], handler: str
) -> None:
    site = start("prefork", "sqlite", grace=10.0)
    pids = children(site)
    refs = [site.request(handler, 3) for _ in range(4)]
    for ref in refs:
        assert site.settled(ref) == (["bury", "error"] if handler == "broken_pool" else DONE)
        for line in site.notes("child", ref):
            assert ends(int(line[2]))
    assert all(runs(pid) for pid in pids)
    assert site.stop()[0] == 0, site.errors()


def test_f45_the_child_of_a_server_whose_job_closes_descriptors_works_no_more(
    start: Callable[..., Site],
) -> None:
    """Its server has to notice; meanwhile nobody is served wrongly, and the others go on."""
    site = start("prefork", "sqlite", grace=1.0)
    children(site)
    ref = site.request("close_all", 1)
    assert site.settled(ref) == DONE
    (first, *_), (last, *_) = [line[2:] for line in site.notes("ran", ref)]
    assert first != last
    os.kill(int(first), signal.SIGKILL)
    children(site, 3)
    assert site.settled(site.request("good")) == DONE
    assert site.stop()[0] == 0, site.errors()


# --- signals that the parent has blocked or ignored ---------------------------------------------------------

INHERITED = {
    "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "ignored": "[signal.signal(n, signal.SIG_IGN) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]",
}


@pytest.mark.parametrize("kind", ["command", "processes"])
@pytest.mark.parametrize("inherited", INHERITED)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_finding_a10_a_parent_that_blocks_or_ignores_signals_makes_no_worker_that_cannot_be_stopped(
    start: Callable[..., Site], kind: str, inherited: str, number: int
) -> None:
    program = f"import os, signal, sys\n{INHERITED[inherited]}\nos.execv(sys.argv[1], sys.argv[1:])"
    site = start(kind, "sqlite", before=[sys.executable, "-c", program])
    assert site.settled(site.request("status", 3)) == DONE, "the exit code of a program was lost"
    assert site.settled(site.request("terminate_child")) == DONE
    assert site.stop(number)[0] == 0


def test_finding_a10_a_signal_that_waits_from_before_the_start_is_a_stop(start: Callable[..., Site]) -> None:
    program = (
        "import os, signal, sys\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "os.kill(os.getpid(), signal.SIGTERM)\nos.execv(sys.argv[1], sys.argv[1:])"
    )
    site = start("command", "sqlite", before=[sys.executable, "-c", program])
    assert site.process.wait(LONG) == 0
    assert site.errors() == ""


@pytest.mark.parametrize("kind", ["command", "embedded"])
def test_f45_a_worker_whose_slots_block_all_signals_can_be_stopped(
    start: Callable[..., Site], kind: str
) -> None:
    site = start(kind, "sqlite")
    for _ in range(6):
        assert site.settled(site.request("mask")) == DONE
    assert site.stop()[0] == 0


# --- signals from inside ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize(
    ("kind", "queue"),
    [
        (kind, queue)
        for kind in ("command", "processes", "embedded")
        for queue in ("memory", "sqlite", "beanstalk")
        if queue != "memory" or kind == "embedded"
    ],
)
def test_finding_a7_a_job_that_signals_its_own_process_ends_and_its_worker_stops(
    start: Callable[..., Site], kind: str, queue: str, number: int
) -> None:
    site = start(kind, queue)
    neighbour = site.request("busy", 0.3)
    site.eventually(lambda: site.notes("busy", neighbour))
    ref = site.request("stop_own", number)
    for one in (ref, neighbour):
        assert site.settled(one) == DONE
    if kind == "processes":  # the supervisor has not been asked to stop
        site.eventually(lambda: "how='exit code 0'" in site.errors())
        assert site.settled(site.request("good")) == DONE
        assert site.stop()[0] == 0
    else:
        assert site.process.wait(LONG) == 0
    assert "Traceback" not in site.errors()


# --- test runners ----------------------------------------------------------------------------------------


def run_tests(folder: Path, url: str, *chosen: str) -> subprocess.CompletedProcess[str]:
    """Run the failing tests as anybody would, with warnings as errors."""
    shutil.copy(Path(__file__).with_name("failing.py"), folder / "test_failing.py")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\nfilterwarnings = error\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("KESSEL_", "PYTEST_", "COV"))}
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-rA", *chosen, "test_failing.py"],
        cwd=folder,
        env=environment | {"INNER_URL": url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def ready(url: str, queue: str) -> tuple[int, int]:
    """Return how many jobs wait, and how many somebody holds."""
    with JobManager(url, only_requests=True) as manager:
        stats = manager.adapter.stats(queue)
        return stats.ready + stats.delayed, stats.reserved


@pytest.mark.parametrize("queue", ["memory", "sqlite", "beanstalk"])
def test_finding_a11_tests_with_a_worker_inside_may_fail_in_any_way(
    tmp_path: Path, url: Url, queue: str
) -> None:
    """By an assertion, a failure, an exit, a time limit, and in a thread; what they ran is given back."""
    address = url(queue)
    done = run_tests(tmp_path, address, "-k", "not interrupt")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert re.search(r"^5 failed, 6 passed, 1 deselected in", said, re.MULTILINE), said
    if queue != "memory":  # which is gone with its process
        waits, held = ready(address, "held")
        assert (waits >= 1, held) == (True, 0)


def test_finding_a11_an_interrupted_test_run_gives_its_job_back(tmp_path: Path, url: Url) -> None:
    address = url("sqlite")
    done = run_tests(tmp_path, address, "-k", "interrupt")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "KeyboardInterrupt" in done.stdout
    assert ready(address, "held") == (1, 0)
