"""Handlers that end the process of their worker, on every queue and way to work (D8, S10; faults 40, 45).

Every job comes back and is done, the exit code says what happened, and with `--processes` others go on. Each
way to work meets each end on one queue, in turns; `KESSEL_CHAOS=1` tries all of them on both.
"""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from kessel_beanstalk.testing import Beanstalkd

from tests.chaos import IS_LARGE
from tests.process.sites import LONG, Site

DONE = ["commit", "None"]
KINDS = ("command", "processes", "embedded")
QUEUES = ("sqlite", "beanstalk")

#: Handler, payload, and the exit code that it causes.
DEATHS = [
    ("exit_once", 0, 0),
    ("async_exit_once", 3, 3),
    ("kill_once", signal.SIGKILL, -signal.SIGKILL),
    ("alarm_once", None, -signal.SIGALRM),
    ("close_all", 1, 1),
    ("async_close_all", 1, 1),
    ("cover_all", 1, 1),
]
#: What is tried on one queue only.
STATUSES = [("exit_once", status, status) for status in (1, 2, 3, 255)]
CASES = [
    *(
        (kind, queue, *death)
        for number, kind in enumerate(KINDS)
        for turn, death in enumerate(DEATHS)
        for queue in (QUEUES if IS_LARGE else [QUEUES[(number + turn) % 2]])
    ),
    *((kind, "sqlite", *death) for kind in ("command", "processes") for death in STATUSES),
]


@pytest.fixture
def site(kind: str, queue: str, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/jobs.db?lease=1s"
        if queue == "beanstalk":
            server = Beanstalkd()
            server.start()
            stack.callback(server.kill)
            url = f"beanstalk://127.0.0.1:{server.port}?ttr=2"
        opened = Site(tmp_path, kind, url, slots=2)
        stack.callback(opened.close)
        assert opened.settled(opened.request("good")) == DONE
        yield opened


@pytest.mark.parametrize(
    ("kind", "queue", "handler", "payload", "code"),
    CASES,
    ids=[f"{kind}-{queue}-{handler}-{code}" for kind, queue, handler, _, code in CASES],
)
def test_f40_f45_chaos_a_job_that_ends_its_process_and_its_neighbours_come_back(
    site: Site, handler: str, payload: object, code: int
) -> None:
    neighbour = site.request("busy", 0.5)
    site.eventually(lambda: site.notes("busy", neighbour))
    ref = site.request(handler, payload)
    if site.kind != "processes":
        assert site.process.wait(LONG) == code, site.errors()
        assert "Traceback" not in site.errors() or site.kind == "embedded" or handler == "async_close_all"
        site.start()
    else:
        how = f"how={signal.Signals(-code).name}" if code < 0 else f"how='exit code {code}'"
        site.eventually(lambda: how in site.errors())
    for one in (ref, neighbour, site.request("good")):
        assert site.settled(one) == DONE
        assert len(site.notes("settled", one)) == 1
    if "all" in handler and site.kind != "embedded":
        assert "descriptors that are not its own" in site.errors()
    assert site.stop()[0] == 0
    stats = site.manager.adapter.stats("default")
    assert (stats.total, stats.buried) == (0, 0)
    if handler == "cover_all" and site.kind != "embedded":  # an application logs by its own numbers
        assert (site.home / "covered").read_bytes() == b""
    if site.url.startswith("sqlite"):
        with closing(sqlite3.connect(site.home / "jobs.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
