"""The examples of docs/howto/beanstalkd.md run as they stand there, with another port."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import greenstalk
import pytest
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import Config, JobManager, PluginsConfig, handler
from kessel_core.contract import Browse, Buried, JobState, need

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "beanstalkd.md"
Example = Callable[[str, str], str]


@pytest.fixture
def example(server: Beanstalkd) -> Example:
    """Return the one example of a language that holds some words, for this server."""

    def find(language: str, words: str) -> str:
        blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
        [found] = [block for block in blocks if words in block]
        return str(found).replace("localhost", "127.0.0.1").replace("11300", str(server.port))

    return find


@pytest.fixture
def manager(server: Beanstalkd, sums: list[float]) -> Iterator[JobManager]:
    """A manager that knows additions, also where the example handlers are installed."""

    @handler("addition")
    def add(payload: dict[str, list[float]]) -> None:
        sums.append(sum(payload["operands"]))

    config = Config(plugins=PluginsConfig(disabled=("handlers-example",)))
    url = f"beanstalk://127.0.0.1:{server.port}"
    with JobManager(url, handlers=[add], config=config) as manager:
        yield manager


@pytest.fixture
def sums() -> list[float]:
    """What the additions came to."""
    return []


def test_a_job_put_with_netcat_runs(
    example: Example, server: Beanstalkd, manager: JobManager, sums: list[float]
) -> None:
    command = example("sh", "| nc")
    if shutil.which("nc"):
        reply = output_of(command)
    else:  # the same bytes
        with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
            connection.sendall(output_of(command.rpartition("|")[0]))
            reply = connection.makefile("rb").read()
    assert reply == b"INSERTED 1\r\n"
    manager.worker(queues=["default"]).drain()
    assert sums == [3]


def output_of(command: str) -> bytes:
    return subprocess.run(["bash", "-c", command], check=True, capture_output=True, timeout=20).stdout


def test_a_job_put_with_greenstalk_alone_runs(
    example: Example, manager: JobManager, sums: list[float]
) -> None:
    exec(example("py", "client.put"), {})
    manager.worker(queues=["sums"]).drain()
    assert sums == [3]


def test_a_consumer_without_kessel_runs_deletes_releases_and_buries_its_jobs(
    example: Example, manager: JobManager, capsys: pytest.CaptureFixture[str]
) -> None:
    consumer = compile(example("py", "client.reserve"), "consumer", "exec")
    manager.request("addition", {"operands": [20, 22]}, queue="sums")
    exec(consumer, {})
    assert capsys.readouterr().out == "42\n"
    assert manager.adapter.stats("sums").total == 0

    soon = timedelta(milliseconds=20)
    manager.request("addition", {"operands": [1]}, queue="sums", expiration=soon)
    time.sleep(0.03)
    exec(consumer, {})
    assert capsys.readouterr().out == ""
    assert manager.adapter.stats("sums").total == 0

    manager.request("unknown", queue="sums", priority=7)
    exec(consumer, {})
    [job] = need(manager.adapter, Browse).peek("sums", JobState.DELAYED)
    assert job.priority == 7


def test_a_job_that_such_a_consumer_buried_is_listed_without_a_reason_and_kicked(
    example: Example, manager: JobManager, server: Beanstalkd
) -> None:
    request = manager.request("unknown", queue="sums", priority=7)
    with greenstalk.Client(("127.0.0.1", server.port), watch=["sums"]) as client:
        for _ in range(4):
            client.release(client.reserve(0), 7, 0)
    exec(example("py", "client.reserve"), {})
    [job] = need(manager.adapter, Buried).buried("sums")
    assert (job.id, job.priority, job.reason, job.attempt) == (request.id, 7, None, 5)
    need(manager.adapter, Buried).kick("sums", request.id)
    assert manager.adapter.stats("sums").ready == 1
