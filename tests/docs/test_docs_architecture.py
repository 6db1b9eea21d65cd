"""The architecture page names the files that a request and a job enter, in their order."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from kessel_beanstalk.testing import Beanstalkd

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")

#: Way -> files in the order of their first entry.
Ways = Mapping[str, tuple[str, ...]]


def traced(url: str) -> Ways:
    """In a process of its own, so that nothing that other tests loaded or patched is on the way."""
    program = ROOT / "tools" / "trace_job.py"
    out = subprocess.run(
        [sys.executable, str(program), url], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    traces = re.findall(r"^(\w+):.*\n((?:    .*\n)+)", out, re.M)
    return {name: tuple(files.split()) for name, files in traces}


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    match request.param:
        case "beanstalk":
            server = Beanstalkd()
            server.start()
            try:
                yield f"beanstalk://127.0.0.1:{server.port}"
            finally:
                server.kill()
        case "sqlite":
            yield f"sqlite:///{tmp_path / 'jobs.db'}"
        case _:
            yield "memory://"


def listed(heading: str) -> tuple[str, ...]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return tuple(re.findall(r"^\d+\. `([\w/]+\.py)`", section, re.M))


def row(adapter: str) -> list[list[str]]:
    (cells,) = re.findall(rf"^\| {adapter} \| (.*) \|$", PAGE, re.M)
    return [re.findall(r"`([\w/]+\.py)`", cell) for cell in cells.split(" | ")]


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_the_way_of_a_request_and_of_a_job_is_as_the_page_says(url: str) -> None:
    traces = traced(url)
    core = [file for file in traces["request"] if file.startswith("kessel_core")]
    assert list(listed("The way of one request")) == [*core, "kessel_memory/adapter.py"]
    assert listed("The way of one job") == traces["success"]
    more = {file for way in ("retry", "burial") for file in traces[way]} - set(traces["success"])
    section = PAGE.partition("## The way of one job\n")[2].partition("Between the same files")[0]
    assert {file for file in more if file.startswith("kessel_core")} == set(
        re.findall(r"`(kessel_core/[\w/]+\.py)`", section.partition("A retry and a burial")[2])
    )


@pytest.mark.parametrize(
    ("url", "adapter"),
    [("memory", "memory"), ("sqlite", "SQLite"), ("beanstalk", "beanstalkd")],
    indirect=["url"],
)
def test_each_adapter_enters_the_files_that_the_page_says(url: str, adapter: str) -> None:
    traces = traced(url)

    def own(way: str) -> list[str]:
        return [file for file in traces[way] if not file.startswith("kessel_core") or "base.py" in file]

    request, success, retry, burial = row(adapter)
    assert request == own("request")
    assert success == own("success")
    assert retry == [file for file in own("retry") if file not in success]
    assert burial == [file for file in own("burial") if file not in {*success, *retry}]


def test_returns_of_a_request_and_rooms_of_a_job_stay_few() -> None:
    """At most three returns to a file that was left, and eight rooms, over memory."""
    spec = importlib.util.spec_from_file_location("trace_job", ROOT / "tools" / "trace_job.py")
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules["trace_job"] = module
    spec.loader.exec_module(module)
    traces = module.traces("memory://")
    assert traces["request"].returns <= 3
    assert len(traces["success"].rooms) <= 8
