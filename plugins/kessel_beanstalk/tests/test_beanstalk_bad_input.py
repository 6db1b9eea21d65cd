"""What people get wrong: addresses, tube names, bodies put by hand. One clear error, or a burial."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import greenstalk
import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import JobManager
from kessel_core.testing import free_port

Opened = Callable[..., BeanstalkAdapter]

BODIES = {
    "empty": b"",
    "text": b"not json",
    "not UTF-8": b"\xff\xfe\x00",
    "UTF-16": '{"type": "a"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"type": "a"}',
    "list": b"[1]",
    "null": b"null",
    "no type": b'{"payload": 1}',
    "blank type": b'{"type": " "}',
    "number as type": b'{"type": 5}',
    "doubled key": b'{"type": "a", "type": "b"}',
    "deep": b"[" * 30_000,
    "long number": b'{"type": "a", "payload": %s}' % (b"9" * 6_000),
    "NaN": b'{"type": "a", "payload": NaN}',
    "other version": b'{"v": 99, "type": "a"}',
    "protocol": b"delete 1\r\nput 0 0 1 1\r\nx",
}


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real command, in a folder of its own and without the caller's settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KESSEL_")}
    return subprocess.run(
        [sys.executable, "-m", "kessel_core.cli", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_f52_every_body_that_is_no_request_is_buried_untouched_and_the_worker_goes_on(
    durable: Beanstalkd, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """S13; each is named by the server's id, also after a restart, and none is tried twice."""
    with greenstalk.Client(("127.0.0.1", durable.port), encoding=None) as client:
        names = {f"@{client.put(body)}": body for body in BODIES.values()}
        client.put(b'{"type": "good", "ref": "last"}')
    done: list[object] = []
    with (
        caplog.at_level(logging.INFO, logger="kessel"),
        JobManager(f"beanstalk://127.0.0.1:{durable.port}", handlers={"good": done.append}) as manager,
    ):
        assert manager.worker(slots=2).drain() == {"failed": len(BODIES), "success": 1}
    assert done == [None]
    assert all(f"job {name} (undecodable) failed, buried: undecodable" in caplog.text for name in names)
    durable.kill()
    durable.start()
    buried = opened(durable.port).buried("default")
    assert {job.id: job.body for job in buried} == names
    assert {job.reason for job in buried} == {"undecodable"}
    assert all(job.message and job.attempt == 1 for job in buried)


def test_the_command_lists_reasons_after_a_restart_of_the_server(durable: Beanstalkd, tmp_path: Path) -> None:
    """With a binlog; without one the jobs are gone, and their reasons with them."""
    url = f"beanstalk://127.0.0.1:{durable.port}"
    with greenstalk.Client(("127.0.0.1", durable.port), encoding=None) as client:
        client.put(b"not json")
        client.put(b'{"type": "nobody", "id": "mine"}')
    command(tmp_path, "drain", "--adapter", url)
    durable.kill()
    durable.start()
    done = command(tmp_path, "buried", "list", "--json", "--adapter", url)
    assert done.returncode == 0, done.stderr
    assert [(job["id"], job["reason"]) for job in json.loads(done.stdout)] == [
        ("@1", "undecodable"),
        ("mine", "no-handler"),
    ]


@pytest.mark.parametrize("what", [("stats",), ("worker",), ("request", "addition"), ("buried", "list")])
@pytest.mark.parametrize("address", ["closed", ".."])  # no name that a resolver would be asked for
def test_an_address_where_nobody_answers_is_one_line(
    tmp_path: Path, what: tuple[str, ...], address: str
) -> None:
    host = f"127.0.0.1:{free_port()}" if address == "closed" else address
    done = command(tmp_path, *what, "--adapter", f"beanstalk://{host}")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {host}") and "cannot connect" in line


@pytest.mark.parametrize("name", ["a b", "", "-a", "ü", "x" * 201, "a\r\nput", "kessel.buried.a"])
@pytest.mark.parametrize("what", ["worker", "request"])
def test_a_tube_name_that_beanstalkd_or_kessel_refuses_ends_with_one_line_before_anything_is_sent(
    tmp_path: Path, server: Beanstalkd, what: str, name: str
) -> None:
    url = f"beanstalk://127.0.0.1:{server.port}"
    arguments = ("request", "a") if what == "request" else ("worker",)
    done = command(tmp_path, *arguments, "--queue", name, "--adapter", url)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: invalid ") and "--queue" in line
    with greenstalk.Client(("127.0.0.1", server.port)) as client:
        assert client.stats()["total-jobs"] == 0 and client.tubes() == ["default"]
