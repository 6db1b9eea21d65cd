"""What a handler may do to its process (docs/howto/what-handlers-may-do.md), on every queue and way to work.

One worker for each site, which must live through all of it; who ends it is in test_ending.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kessel_beanstalk.testing import Beanstalkd

from tests.process.sites import Site, ends, runs

SITES = [
    ("command", "sqlite"),
    ("command", "beanstalk"),
    ("processes", "sqlite"),
    ("processes", "beanstalk"),
    ("embedded", "memory"),
    ("embedded", "sqlite"),
    ("embedded", "beanstalk"),
]

BURIED = ["bury", "error"]
DONE = ["commit", "None"]
AGAIN = ["rollback", "timed-out"]
#: Exceptions that are no `Exception`, or no mistake of a handler.
BASES = ("generator", "cancelled", "own", "memory")
#: Handler, payload, and what becomes of the job.
CASES = [
    ("fork_return", None, DONE),
    ("fork_raise", None, DONE),
    ("fork_exit", 0, DONE),
    ("fork_exit", 3, DONE),
    ("fork_interrupt", None, DONE),
    ("fork_close", None, DONE),
    ("fork_async", False, DONE),
    ("fork_async", True, BURIED),
    ("fork_async_exit", 3, DONE),
    ("in_pool", None, DONE),
    ("terminate_pool", None, DONE),
    ("broken_pool", None, BURIED),
    ("terminate_child", None, DONE),
    ("child_signal", None, DONE),
    ("status", 3, DONE),
    ("reap", None, DONE),
    *(("leave", status, BURIED) for status in (None, 0, 3, 256, -1, "no")),
    ("interrupt", None, BURIED),
    *((name, what, BURIED) for name in ("base", "async_base") for what in BASES),
    ("async_leave", 0, BURIED),
    ("async_leave", "no", BURIED),
    ("async_interrupt", None, BURIED),
    ("async_stop", None, DONE),
    ("async_task_leave", None, DONE),
    ("limit", None, AGAIN),
    ("chdir", None, DONE),
    ("threads", None, DONE),
    ("thread_raise", None, DONE),
    ("dispositions", None, BURIED),
    ("second_worker", None, DONE),
    ("same_queue", None, DONE),
    ("second_async", None, DONE),
    ("logs", None, DONE),
    ("basic", None, DONE),
    ("shut_logs", None, DONE),
    ("shared", None, DONE),
    ("recursion", None, DONE),
    ("async_recursion", None, DONE),
    ("close_streams", None, DONE),
    ("no_streams", None, DONE),
    ("bad_streams", None, DONE),
    ("close_standard", None, DONE),
    ("redirect_standard", None, DONE),
]


def address(queue: str, home: Path, stack: ExitStack) -> str:
    """Return the address of a queue, whose server is stopped with the stack."""
    if queue != "beanstalk":
        return {"memory": "memory://?lease=2s", "sqlite": f"sqlite:///{home}/jobs.db?lease=2s"}[queue]
    server = Beanstalkd()
    server.start()
    stack.callback(server.kill)
    return f"beanstalk://127.0.0.1:{server.port}?ttr=2"


@pytest.fixture(scope="module", params=SITES, ids="-".join)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    kind, queue = request.param
    home = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        opened = Site(home, kind, address(queue, home, stack), slots=3)
        stack.callback(opened.close)
        assert opened.settled(opened.request("good")) == DONE
        yield opened
        # Python itself ends with 120 where the standard output cannot be flushed.
        assert opened.stop()[0] in ((0, 120) if kind == "embedded" else (0,))


@pytest.mark.parametrize(
    ("handler", "payload", "end"), CASES, ids=[f"{name}-{payload}" for name, payload, _ in CASES]
)
def test_finding_a1_finding_a2_finding_d2_the_job_ends_right_and_its_worker_lives(
    site: Site, handler: str, payload: object, end: list[str]
) -> None:
    """Findings A1, A2, A8, D2; faults 41, 44 and 45."""
    pids = [int(line[-1]) for line in site.notes("settled")]
    if handler == "same_queue":
        payload = {"url": site.url, "word": "apart"}
    ref = site.request(handler, payload)
    assert site.settled(ref) == end, f"{site.notes('settled', ref)}\n{site.errors()[-4000:]}"
    for neighbour in ("good", "async_good"):
        assert site.settled(site.request(neighbour)) == DONE
    if "fork" in handler or "child" in handler:
        site.eventually(lambda: site.notes("child", ref))
        child = int(site.notes("child", ref)[0][2])
        assert ends(child)
    if end == AGAIN:
        site.eventually(lambda: len(site.notes("settled", ref)) == 2)
    else:
        assert len(site.notes("settled", ref)) == 1
    assert all(runs(pid) for pid in pids), "the worker died"


@pytest.mark.parametrize(
    ("handler", "seen"),
    [
        ("context", "unset"),
        ("async_context", "unset"),
        ("decimals", "28"),
        ("async_decimals", "28"),
        ("set_decimals", "28"),
    ],
)
def test_finding_a5_what_a_job_sets_in_its_context_no_other_sees(site: Site, handler: str, seen: str) -> None:
    refs = [site.request(handler) for _ in range(6)]
    for ref in refs:
        assert site.settled(ref) == DONE
    assert [site.notes("saw", ref) for ref in refs] == [[["saw", ref, seen]] for ref in refs]


def test_finding_a8_a_worker_whose_logging_was_set_up_anew_goes_on_logging(site: Site) -> None:
    if site.kind == "embedded":
        pytest.skip("there logging is the application's own")
    for again in range(1, 4):
        before = site.errors().count("turned kessel's loggers off")
        site.settled(site.request("logs"))
        site.eventually(lambda: site.errors().count("turned kessel's loggers off") > before)  # noqa: B023
        refs = [site.request("leave", again) for _ in range(4)]
        for ref in refs:
            site.settled(ref)
            site.eventually(lambda: f"ref={ref}" in site.errors())  # noqa: B023
    assert str(Path(site.home) / "handlers.py") in site.errors()


def test_f45_a_job_that_forks_leaves_no_descriptor_behind(site: Site) -> None:
    pid = int(site.notes("settled")[-1][-1])
    folder = Path(f"/proc/{pid}/fd")
    if not folder.exists():
        pytest.skip("there is no /proc here")
    before = len([*folder.iterdir()])
    for _ in range(10):
        site.settled(site.request("fork_exit", 0))
    assert len([*folder.iterdir()]) < before + 10


@pytest.mark.parametrize(
    "handler", ["close_streams", "no_streams", "bad_streams", "close_standard", "redirect_standard"]
)
def test_f45_a_worker_whose_standard_streams_were_closed_goes_on_logging(site: Site, handler: str) -> None:
    if site.kind == "embedded":
        pytest.skip("there logging is the application's own")
    for _ in range(3):  # in either process
        site.settled(site.request(handler))
    for again in range(4):
        ref = site.request("leave", again)
        site.settled(ref)
        site.eventually(lambda: f"ref={ref}" in site.errors())  # noqa: B023


def test_f45_what_is_written_to_a_closed_stream_reaches_no_file_of_a_later_job(site: Site) -> None:
    """The numbers 0 to 2 are free, and the next file that somebody opens gets one of them."""
    for _ in range(3):
        site.settled(site.request("close_standard"))
        ref = site.request("open_and_wait")
        site.eventually(lambda: site.notes("opened", ref))  # noqa: B023
        for again in range(3):
            site.settled(site.request("leave", again))
        (site.home / f"go-{ref}").touch()
        assert site.settled(ref) == DONE
        assert (site.home / f"file-{ref}").read_text() == "mine", site.kind


@pytest.mark.parametrize(("kind", "queue"), [("command", "beanstalk"), ("embedded", "memory")])
def test_f45_an_event_loop_that_starts_late_gets_no_number_of_a_closed_stream(
    kind: str, queue: str, tmp_path: Path
) -> None:
    """Else the next handler that redirects takes it away, and no async job ends any more.

    Not on SQLite, which itself opens closed streams onto nothing.
    """
    with ExitStack() as stack:
        site = Site(tmp_path, kind, address(queue, tmp_path, stack), slots=3)
        stack.callback(site.close)
        for handler in ("close_standard", "async_good", "redirect_standard", "async_good"):
            assert site.settled(site.request(handler)) == DONE, handler


def test_f43_while_an_async_handler_holds_up_the_loop_only_async_jobs_wait(site: Site) -> None:
    name = f"go-{time.monotonic_ns()}"
    block = site.request("block_until", name)
    site.eventually(lambda: site.notes("started", block))
    if site.kind != "processes":  # there the other process has another loop
        waits = site.request("async_good")
        for _ in range(2):
            assert site.settled(site.request("good")) == DONE
        assert not site.notes("settled", waits)
    (site.home / name).touch()
    assert site.settled(block) == DONE
    assert site.settled(site.request("async_good")) == DONE


@pytest.mark.parametrize("handler", ["swallow_limit", "block_limit"])
def test_finding_d2_an_async_handler_that_outlives_its_timeout_keeps_no_job_for_ever(
    site: Site, handler: str
) -> None:
    """Its lease is not extended any more; who gets the job next has it for good."""
    if site.kind == "embedded" and handler == "block_limit":
        pytest.skip("nobody else has a loop, and logging is the application's own")
    name = f"go-{time.monotonic_ns()}"
    before = site.errors().count("runs longer than its timeout")
    ref = site.request(handler, name)
    try:
        if handler == "swallow_limit":
            site.eventually(lambda: len(site.notes("started", ref)) >= 2)
        else:
            site.eventually(lambda: site.errors().count("runs longer than its timeout") > before)
    finally:
        (site.home / name).touch()
    site.eventually(lambda: ["settled", ref, *DONE] in [line[:4] for line in site.notes("settled", ref)])
    # The first delivery holds its slot until it ends, which the next test may need.
    site.eventually(lambda: len(site.notes("ended", ref)) == len(site.notes("started", ref)))
    assert site.settled(site.request("async_good")) == DONE


def test_f45_a_closed_connection_is_replaced_and_its_job_delivered_again(site: Site) -> None:
    if not site.url.startswith("beanstalk"):
        pytest.skip("has no connection")
    ref = site.request("close_queue")
    assert site.settled(ref) == DONE
    for neighbour in ("good", "async_good"):
        assert site.settled(site.request(neighbour)) == DONE
    assert "unexpected error" not in site.errors()
