"""What is published of a run: complete, with what was left out, and with nothing of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from kessel_conformance import Harness, Level
from kessel_conformance.catalogue import SUITE_VERSION, Case, cases
from kessel_conformance.inprocess import NoQueue
from kessel_conformance.page import badge, markdown
from kessel_conformance.report import checked_path, merged, report, write_reports
from kessel_conformance.runner import Run, Verdict, run_case
from kessel_conformance.settings import Settings

WIRING = """
from kessel_conformance import AdapterConformance, Harness
from kessel_conformance.inprocess import NoQueue


class NoQueueHarness(Harness):
    def open(self, clock, namespace):
        return NoQueue()


class TestNoQueue(AdapterConformance):
    harness = NoQueueHarness()
"""
#: A few quick cases that a queue that holds nothing passes.
FEW = ["refused.pause", "delay.never_early", "stats.unknown_queue"]


class NoQueueHarness(Harness):
    def open(self, clock, namespace):
        return NoQueue()


def ran(names: list[str], **options) -> Run:
    run = Run(NoQueueHarness(**options), Settings(), names)
    run.up()
    for case in run.wanted:
        run.outcome(case.id)
    run.down()
    return run


def whole(found: dict) -> dict:
    """A report as if every case had run."""
    return found | {"passed": not found["totals"]["fail"], "not_run": []}


def pytest_with(
    folder: Path, *arguments: str, source: str = WIRING, **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(source, encoding="utf-8")
    chosen = " or ".join(name.replace(".", " and ") for name in FEW)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_report_tells_what_ran_in_three_forms(tmp_path: Path) -> None:
    found = report(ran(FEW))
    write_reports([found], tmp_path / "deep" / "report.json")
    read = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert (read["schema"], read["suite"], read["adapter"]) == (1, SUITE_VERSION, "no-queue")
    assert {case["id"]: case["status"] for case in read["cases"]} == {
        "refused.pause": "pass",
        "delay.never_early": "skip",
        "stats.unknown_queue": "pass",
    }
    assert (tmp_path / "deep" / "report.md").read_text() == markdown(read)
    assert json.loads((tmp_path / "deep" / "report.badge.json").read_text()) == badge(read)
    assert "| `refused.pause` | S17 | negative | pass |" in markdown(read)


def test_report_names_who_and_what_was_checked_by_whom() -> None:
    found = report(ran(FEW))
    assert (found["distribution"], found["version"]) == ("kessel-conformance", found["conformance"])
    assert found["date"].endswith("Z")
    assert found["capabilities"]["reach"] == "process"
    assert found["totals"]["pass"] == 2


def test_run_of_some_cases_does_not_pass_for_the_whole_suite() -> None:
    found = report(ran(FEW))
    assert not found["passed"]
    assert set(found["not_run"]) == cases().keys() - set(FEW)
    assert badge(found)["color"] == "lightgrey"
    assert "**Incomplete**" in markdown(found)


def test_failing_case_is_published_with_its_example() -> None:
    """NoQueue breaks S9: it refuses every job."""
    found = report(ran(["settle.commit_removes"]))
    (entry,) = found["cases"]
    assert entry["status"] == "fail"
    assert entry["reason"] and "\n" not in entry["reason"]
    assert entry["example"]
    assert badge(found)["color"] == "red"
    assert entry["example"] in markdown(found)


def test_badge_is_not_plain_green_with_known_failures_or_disabled_cases() -> None:
    clean = whole(report(ran(FEW)))
    assert badge(clean)["color"] == "brightgreen"
    known = whole(
        report(ran([*FEW, "settle.commit_removes"], expected_failures={"settle.commit_removes": "no"}))
    )
    disabled = whole(report(ran([*FEW, "settle.commit_removes"], disabled={"settle.commit_removes": "no"})))
    assert badge(known)["color"] == badge(disabled)["color"] == "yellowgreen"
    assert "1 expected failure" in badge(known)["message"]
    assert "1 disabled" in badge(disabled)["message"]


def test_badge_of_a_pinned_run_names_the_version_that_counted() -> None:
    assert badge(whole(report(ran(FEW))) | {"pinned": "0.7"})["message"].startswith("suite 0.7:")


def test_report_holds_no_path_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaks(bench):
        places = (Path.cwd(), tempfile.gettempdir(), sys.prefix, Path.home())
        raise OSError(" ".join(f"{place}/x" for place in places))

    case = Case(id="x.y", clauses=("S9",), level=Level.CORE, why="a test", run=leaks)
    run = ran(FEW)
    run.outcomes["x.y"] = run_case(run.harness, case, Settings())
    text = json.dumps(report(run))
    for place in (str(Path.cwd()), tempfile.gettempdir(), sys.prefix, str(Path.home())):
        assert place not in text, place


def test_parts_of_a_run_become_one_report_and_a_failure_in_either_stays() -> None:
    one, two = report(ran(FEW[:2])), report(ran(FEW[1:]))
    (found,) = merged([one, two])
    assert {case["id"] for case in found["cases"]} == set(FEW)
    assert sum(found["totals"].values()) == len(FEW)
    two["cases"][0]["status"] = Verdict.FAIL
    for parts in ([one, two], [two, one]):
        assert merged(parts)[0]["totals"]["fail"] == 1
    assert len(merged([one, two | {"url": "other://"}])) == 2


@pytest.mark.parametrize("path", ["report.md", "report", ".", "file/report.json"])
def test_path_that_cannot_hold_a_report_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"must end in|cannot be written"):
        checked_path(tmp_path / path)


def test_report_of_pytest_joins_what_its_worker_processes_ran(tmp_path: Path) -> None:
    done = pytest_with(tmp_path, "-n", "2", "--kessel-report", "out/report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kessel conformance report: out/report.json" in done.stdout
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {case["id"] for case in found["cases"]} >= set(FEW)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--kessel-report", "report.md"),
        ("--kessel-suite", "9.9"),
        ("--kessel-suite", "latest"),
        ("--kessel-budget", "huge"),
        ("--kessel-seed", "x"),
    ],
)
def test_wrong_option_ends_pytest_before_anything_runs(option: str, value: str, tmp_path: Path) -> None:
    done = pytest_with(tmp_path, option, value)
    assert done.returncode == 4
    assert option in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert " passed" not in done.stdout


def test_report_without_a_suite_says_that_there_is_none(tmp_path: Path) -> None:
    done = pytest_with(tmp_path, "--kessel-report", "report.json", source="def test_pause_refused(): pass")
    assert done.returncode == 0
    assert "no suite ran, so report.json was not written" in done.stdout
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize(
    ("error", "has_traceback"),
    [
        ("InvalidConfig([], 'a wrong address')", False),
        ("ServerMissing('it is not installed')", False),
        ("RuntimeError('a bug')", True),
    ],
)
def test_harness_that_does_not_come_up_fails_once(error: str, has_traceback: bool, tmp_path: Path) -> None:
    imports = "from kessel_conformance import ServerMissing\nfrom kessel_core.errors import InvalidConfig\n"
    source = imports + WIRING.replace("return NoQueue()", f"raise {error}")
    done = pytest_with(tmp_path, "--kessel-report", "report.json", source=source, CI="true")
    assert done.returncode == 1
    assert "1 failed, 2 skipped" in done.stdout
    assert "report.json was not written" in done.stdout
    assert ("suite.py" in done.stdout) is has_traceback


def test_missing_server_is_a_skip_on_a_laptop(tmp_path: Path) -> None:
    source = "from kessel_conformance import ServerMissing\n" + WIRING.replace(
        "return NoQueue()", "raise ServerMissing('it is not installed')"
    )
    done = pytest_with(tmp_path, "-rs", source=source, CI="")
    assert done.returncode == 0
    assert "the server is missing: it is not installed" in done.stdout


def test_newer_case_that_fails_breaks_no_pinned_build(tmp_path: Path) -> None:
    """What an author sees who upgrades the suite: the failure is shown, and counts once the pin is raised."""
    source = (
        WIRING
        + """

from kessel_conformance import case


@case("refused.pause_newly", "S17", why="a test", since="99.0")
def newer(bench):
    bench.broken("it is not")
"""
    )
    pinned = pytest_with(tmp_path, "-rx", "--kessel-suite", "1.0", "--kessel-report", "r.json", source=source)
    assert pinned.returncode == 0, pinned.stdout
    assert "advisory, newer than the pinned suite: S17: it is not" in pinned.stdout
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["totals"]["advisory"] == 1 and found["totals"]["fail"] == 0
    assert pytest_with(tmp_path, source=source).returncode == 1
