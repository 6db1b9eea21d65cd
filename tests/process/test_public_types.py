"""What a type checker makes of an application: what is right passes, and what is wrong is found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

APPLICATION = """
from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import attrs

from kessel_core import JobContext, JobManager, JobRequest, JobResult, JsonValue, Status, handler


@attrs.frozen
class Picture:
    name: str


@handler("shrink", transient=OSError, max_attempts=3)
def shrink(picture: Picture, job: JobContext) -> int:
    return len(picture.name) + job.attempt


@handler("count")
class Counter:
    def handle(self, payload: list[int]) -> int:
        return sum(payload)


def told(result: JobResult) -> None:
    if result.status is Status.SUCCESS:
        value: JsonValue = result.value


numbers: dict[str, int] = {"a": 1}
names: list[str] = ["a"]


async def requests(manager: JobManager) -> None:
    manager.request("shrink", numbers)
    manager.request("shrink", {"numbers": numbers, "names": names}, callback=told)
    manager.request("shrink", attrs.asdict(Picture("cat")), delay=timedelta(hours=1))
    manager.request(JobRequest(type="shrink", payload=names))
    manager.request_many([("count", names), "count", JobRequest(type="count")])
    await manager.request_async("shrink", numbers, priority=1)
    await manager.request_async("shrink", dealy=timedelta(1))  # wrong
    await manager.request_async("shrink", priority="high")  # wrong
    manager.request("shrink", Picture("cat"), queue="slow")
    manager.request_many([("shrink", Picture("cat")), JobRequest(type="shrink", payload=Decimal(1))])
    manager.request("shrink", object())  # wrong
    manager.request("shrink", [{1, 2}])  # wrong
    manager.request("shrink", delay=5)  # wrong
    manager.request("shrink", priority="high")  # wrong
    manager.request("shrink", callback=lambda: None)  # wrong


number: int = shrink(Picture("cat"), JobContext(JobRequest(type="shrink"), 1, None))  # wrong
shrink("cat", None)  # wrong
text: str = Counter().handle([1])  # wrong


@handler("late", timeout=5)  # wrong
def late(payload: object) -> None: ...
"""


def test_a_strict_application_is_checked(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="types are checked where the tools are installed")
    (tmp_path / "application.py").write_text(APPLICATION, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, "application.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found = {int(line) for line in re.findall(r"^application.py:(\d+): error", done.stdout, re.M)}
    wrong = {number for number, line in enumerate(APPLICATION.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wrong, done.stdout + done.stderr
