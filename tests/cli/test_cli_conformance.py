"""`kessel conformance URL`: the suite without a test file, and wrong arguments said before it runs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

MEMORY = "memory://{namespace}"


def test_adapter_that_conforms_is_exit_code_0_and_leaves_a_report(kessel: Any, tmp_path: Path) -> None:
    """Its last line says how much the suite finds."""
    from kessel_conformance import strength

    done = kessel.ok("conformance", MEMORY, "--report", "out/report.json")
    assert " fail " not in done.out
    last = done.out.splitlines()[-1]
    assert "memory: " in last
    assert f"catches {strength.CAUGHT} of {strength.PLANTED} planted faults" in last
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["passed"] and found["not_run"] == []
    assert (found["distribution"], found["runs"][0]["url"]) == ("kessel-memory", MEMORY)
    assert (tmp_path / "out" / "report.md").exists() and (tmp_path / "out" / "report.badge.json").exists()


def test_report_of_an_earlier_run_is_gone_if_this_one_cannot_be(
    kessel: Any, tmp_path: Path, unreachable: None
) -> None:
    """It would be taken for this one."""
    for ending in ("json", "md", "badge.json"):
        kessel.write(f"report.{ending}", "an earlier one")
    assert kessel("conformance", "moon://base", "--report", "report.json").code == 1
    assert list(tmp_path.glob("report.*")) == []


def test_json_is_the_report_and_nothing_else(kessel: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does a log tell of jobs that failed: those of cases are to fail."""
    done = kessel.ok("conformance", MEMORY, "--json", "--suite", "1.0", "--seed", "7")
    found = done.json
    assert (done.err, caplog.records) == ("", [])
    assert logging.root.isEnabledFor(logging.WARNING)  # again
    assert (found["schema"], found["pinned"], found["seed"]) == (2, "1.0", 7)


BROKEN = """
from kessel_core.contract import AdapterSpec, Capabilities, QueueAdapter, QueueStats, Reach
from kessel_core import hookimpl
import attrs

@attrs.frozen
class Options:
    host: str = ""

class Pit(QueueAdapter):
    name = "pit"
    capabilities = Capabilities(reach=Reach.PROCESS)
    def enqueue(self, message): raise RuntimeError("it fell in")
    def make_consumer(self, queues): raise RuntimeError("it fell in")
    def give_back(self, reservation): raise RuntimeError("it fell in")
    def queues(self): return []
    def stats(self, queue): return QueueStats(queue=queue)
    def purge(self, queue): return 0
    def close(self): pass

@hookimpl
def kessel_adapters():
    return [AdapterSpec(name="pit", schemes=("pit",), options=Options, open=lambda options, context: Pit())]
"""


def test_adapter_that_does_not_conform_is_exit_code_1(kessel: Any, site: Any) -> None:
    site.install("pit", BROKEN)
    done = kessel("conformance", "pit://{namespace}")
    assert done.code == 1
    assert "fail  delivery.body_untouched" in done.out
    assert "it fell in" in done.out
    assert "failed" in done.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["foo://x"], 3, "no plugin opens 'foo://'"),
        (["memory://x?mood=1"], 2, "mood: unknown option"),
        (["memory://x?lease=soon"], 2, "lease"),
        (["memory://{port}"], 2, "{port} is not known; known: {namespace}, {tmp}"),
        ([MEMORY, "--report", "report.md"], 2, "--report: 'report.md' must end in .json"),
        ([MEMORY, "--report", "kessel.toml/x.json"], 2, "--report: 'kessel.toml/x.json' cannot be written"),
        ([MEMORY, "--suite", "9.9"], 2, "--suite: this is suite"),
        ([MEMORY, "--suite", "0.1"], 2, "--suite: this is suite"),
        ([MEMORY, "--suite", "newest"], 2, "--suite: expected a suite version such as"),
        ([MEMORY, "--budget", "huge"], 2, "'huge' is not one of"),
        ([MEMORY, "--seed", "x"], 2, "--seed"),
        ([], 2, "Missing argument 'URL'"),
    ],
)
def test_wrong_argument_is_one_error_and_nothing_runs(
    kessel: Any, arguments: list[str], code: int, said: str
) -> None:
    kessel.write("kessel.toml", "")
    done = kessel("conformance", *arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "Traceback" not in done.err


def test_adapter_that_cannot_be_reached_is_exit_code_1(kessel: Any, unreachable: None) -> None:
    done = kessel("conformance", "moon://base")
    assert done.code == 1
    assert "nobody answers" in done.err
