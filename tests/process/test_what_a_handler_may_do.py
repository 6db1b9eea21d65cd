"""What a handler may do to its process (docs/howto/what-handlers-may-do.md), on every queue and way to work.

One worker for each site, which must live through all of it; who ends it is in test_ending.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kessel_beanstalk.testing import Beanstalkd

from tests.process.sites import Site, runs

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
#: Handler, payload, and what becomes of the job.
CASES = [
    ("fork_return", None, DONE),
    ("fork_raise", None, DONE),
    ("fork_exit", 0, DONE),
    ("fork_exit", 3, DONE),
    ("fork_async", False, DONE),
    ("fork_async", True, BURIED),
    ("pool", None, DONE),
    ("child_signal", None, DONE),
    ("leave", 0, BURIED),
    ("leave", 3, BURIED),
    ("interrupt", None, BURIED),
    ("async_leave", 0, BURIED),
    ("async_interrupt", None, BURIED),
    ("async_stop", None, DONE),
    ("async_task_leave", None, DONE),
    ("chdir", None, DONE),
    ("streams", None, DONE),
    ("threads", None, DONE),
    ("dispositions", None, BURIED),
    ("second_worker", None, DONE),
    ("second_async", None, DONE),
    ("logs", None, DONE),
    ("basic", None, DONE),
]


@pytest.fixture(scope="module", params=SITES, ids="-".join)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    kind, queue = request.param
    home = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        url = {"memory": "memory://", "sqlite": f"sqlite:///{home}/jobs.db"}.get(queue)
        if url is None:
            server = Beanstalkd()
            server.start()
            stack.callback(server.kill)
            url = f"beanstalk://127.0.0.1:{server.port}"
        opened = Site(home, kind, url)
        stack.callback(opened.close)
        assert opened.settled(opened.request("good")) == DONE
        yield opened


@pytest.mark.parametrize(
    ("handler", "payload", "end"), CASES, ids=[f"{name}-{payload}" for name, payload, _ in CASES]
)
def test_finding_a1_finding_a2_finding_d2_the_job_ends_right_and_its_worker_lives(
    site: Site, handler: str, payload: object, end: list[str]
) -> None:
    """Findings A1, A2, A8, D2; faults 41, 44 and 45."""
    pids = [int(line[-1]) for line in site.notes("settled")]
    ref = site.request(handler, payload)
    assert site.settled(ref) == end
    assert site.settled(site.request("good")) == DONE
    if handler.startswith("fork"):
        site.eventually(lambda: site.notes("child", ref))
        child = int(site.notes("child", ref)[0][2])
        site.eventually(lambda: not runs(child))
    assert len(site.notes("settled", ref)) == 1
    assert all(runs(pid) for pid in pids), "the worker died"


@pytest.mark.parametrize(
    ("handler", "seen"), [("context", "unset"), ("async_context", "unset"), ("decimals", "28")]
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
