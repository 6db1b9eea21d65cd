"""What is published of a run: complete, with what was left out, and with nothing of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from kessel_conformance import Harness, Level, strength
from kessel_conformance.catalogue import SUITE_VERSION, Case, cases
from kessel_conformance.inprocess import NoQueue
from kessel_conformance.outcome import Verdict
from kessel_conformance.page import badge, markdown
from kessel_conformance.report import checked_path, part, report, reports, write_reports
from kessel_conformance.runner import Run, run_case
from kessel_conformance.settings import Settings

from kessel_core.contract import Capabilities, Delete, Durability, Facet, Reach
from kessel_core.hooks import sources_of

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


def ran(names: list[str], harness: Harness | None = None, **options: Any) -> Run:
    run = Run(harness or NoQueueHarness(**options), Settings(), names)
    run.up()
    for case in run.wanted:
        run.outcome(case.id)
    run.down()
    return run


def entries(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The cases of a report with one run."""
    (run,) = found["runs"]
    cases_of_run: list[dict[str, Any]] = run["cases"]
    return cases_of_run


def made(
    ends: Mapping[str, str] = MappingProxyType({}),
    *,
    name: str = "TestOne",
    declared: Iterable[str] = (),
    without: Iterable[str] = (),
    **header: Any,
) -> dict[str, Any]:
    """What a process hands on of a run of the whole suite, in which every case passes but for those given."""
    found = part(ran(FEW), name)
    found["header"] |= header
    found["run"]["declared"] = list(declared)
    found["run"]["cases"] = [
        {
            "id": case.id,
            "clauses": list(case.clauses),
            "level": str(case.level),
            "since": case.since,
            "shows": list(case.shows),
            "status": ends.get(case.id, "pass"),
            "reason": f"why {case.id} ended so" if case.id in ends else "",
            "example": None,
            "seconds": 0.0,
        }
        for case in cases().values()
        if case.id not in without
    ]
    return found


def of_one(*parts: dict[str, Any]) -> dict[str, Any]:
    """The report that they become."""
    (found,) = reports(parts)
    return found


class Declaring(Harness):
    """Declares what it is given, on a real clock, and has nothing behind it."""

    def __init__(self, **declared: Any) -> None:
        super().__init__(real_clock=True)
        self._declared = Capabilities(**{"reach": Reach.HOST, **declared})

    def open(self, clock: Any, namespace: str) -> NoQueue:
        declared = self._declared

        class Liar(NoQueue):
            capabilities = declared

        return Liar()


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
    assert (read["schema"], read["suite"], read["adapter"]) == (2, SUITE_VERSION, "no-queue")
    assert {case["id"]: case["status"] for case in entries(read)} == {
        "refused.pause": "pass",
        "delay.never_early": "skip",
        "stats.unknown_queue": "pass",
    }
    assert (tmp_path / "deep" / "report.md").read_text() == markdown(read)
    assert json.loads((tmp_path / "deep" / "report.badge.json").read_text()) == badge([read])
    assert "| `refused.pause` | S17 | negative | pass |" in markdown(read)


def test_report_names_who_and_what_was_checked_by_whom() -> None:
    found = report(ran(FEW))
    assert (found["distribution"], found["version"]) == ("kessel-conformance", found["conformance"])
    assert found["date"].endswith("Z")
    assert found["runs"][0]["capabilities"]["reach"] == "process"
    assert found["totals"]["pass"] == 2
    assert found["mutants"] == {"caught": strength.CAUGHT, "planted": strength.PLANTED}
    assert (found["package"], found["source"]) == sources_of("kessel_conformance")


def test_run_of_some_cases_does_not_pass_for_the_whole_suite() -> None:
    found = report(ran(FEW))
    assert not found["passed"]
    assert set(found["not_run"]) == cases().keys() - set(FEW)
    assert badge([found])["color"] == "lightgrey"
    assert "**Incomplete**" in markdown(found)


def test_failing_case_is_published_with_its_example() -> None:
    """NoQueue breaks S9: it refuses every job."""
    found = report(ran(["settle.commit_removes"]))
    (entry,) = entries(found)
    assert entry["status"] == "fail"
    assert entry["reason"] and "\n" not in entry["reason"]
    assert entry["example"]
    assert badge([found])["color"] == "red"
    assert entry["example"] in markdown(found)


@pytest.mark.parametrize(
    ("ends", "colour"),
    [
        ({}, "brightgreen"),
        ({"lease.extended": "skip"}, "brightgreen"),
        ({"lease.extended": "expected failure"}, "yellowgreen"),
        ({"lease.extended": "disabled"}, "yellowgreen"),
        ({"lease.extended": "advisory"}, "yellowgreen"),
        ({"lease.extended": "not shown"}, "yellowgreen"),
        ({"lease.extended": "fail"}, "red"),
        ({"lease.extended": "error"}, "red"),
    ],
)
def test_badge_is_bright_green_only_if_all_that_is_declared_was_shown(
    ends: dict[str, str], colour: str
) -> None:
    found = of_one(made(ends))
    assert badge([found])["color"] == colour
    assert found["passed"] is (colour != "red")
    for status in ends.values():
        assert {"skip": "1 not applicable", "fail": "1 failed", "not shown": "not shown: lease"}.get(
            status, f"1 {status}"
        ) in badge([found])["message"]


def test_badge_of_a_pinned_run_names_the_version_that_counted() -> None:
    assert badge([of_one(made(pinned="0.7"))])["message"].startswith("suite 0.7:")


def test_lease_that_is_too_long_for_a_real_clock_is_not_shown() -> None:
    found = report(ran(["lease.extended", "settle.commit_removes"], Declaring(lease=timedelta(minutes=1))))
    assert {entry["id"]: entry["status"] for entry in entries(found)} == {
        "lease.extended": "not shown",
        "settle.commit_removes": "fail",
    }
    assert "a lease of 60 s is too long for a real clock; give the harness 10 s at most" in str(found)


def test_long_lease_is_shown_on_a_virtual_clock_where_nobody_waits_for_it() -> None:
    found = report(ran(["lease.extended"], Harness(url="memory://{namespace}?lease=1h")))
    assert [entry["status"] for entry in entries(found)] == ["pass"]
    found = report(ran(["lease.extended"], Harness(url="memory://{namespace}?lease=1h", real_clock=True)))
    assert [entry["status"] for entry in entries(found)] == ["not shown"]


def test_durability_without_a_restart_of_the_server_is_not_shown() -> None:
    wanted = ["durable.server_restart"]
    crash = Durability.PROCESS_CRASH
    (entry,) = entries(report(ran(wanted, Declaring(reach=Reach.NETWORK, durability=crash))))
    assert (entry["status"], entry["shows"]) == ("not shown", ["durability"])
    (entry,) = entries(report(ran(wanted, Declaring(reach=Reach.NETWORK))))
    assert (entry["status"], entry["reason"]) == ("skip", "for adapters that declare durability")
    (entry,) = entries(report(ran(wanted, Declaring(durability=crash))))
    assert (entry["status"], entry["reason"]) == ("skip", "for adapters with a server")


def test_what_hides_one_capability_of_a_case_hides_no_other() -> None:
    """`lease.keeps_priority` needs both; priorities have cases of their own."""
    declaring = Declaring(lease=timedelta(minutes=1), priorities=(0, 9))
    (entry,) = entries(report(ran(["lease.keeps_priority"], declaring)))
    assert (entry["status"], entry["shows"]) == ("not shown", ["lease"])


def test_what_is_declared_and_no_case_looks_at_is_not_shown() -> None:
    """As the facet of a third party, whose author wrote no case for it."""
    found = of_one(made(declared=["lease", "telepathy"]))
    assert found["not_shown"] == {"telepathy": "no case looked at it"}
    assert "- `telepathy`: no case looked at it" in markdown(found)
    assert badge([found])["color"] == "yellowgreen"


@pytest.mark.parametrize("status", ["skip", "disabled", "error"])
def test_capability_whose_cases_showed_nothing_is_not_shown(status: str) -> None:
    lease = [case.id for case in cases().values() if "lease" in case.shows]
    found = of_one(made(dict.fromkeys(lease, status), declared=["lease"]))
    assert list(found["not_shown"]) == ["lease"]


def test_every_capability_and_facet_of_the_contract_has_a_case_that_shows_it() -> None:
    fields = {field for field in Capabilities(reach=Reach.HOST).__slots__ if not field.startswith("_")}
    shown = {name for case in cases().values() for name in case.shows}
    of_contract = {kind.facet_name for kind in Facet.__subclasses__() if "kessel_core" in kind.__module__}
    assert Delete.facet_name in of_contract
    # Entries beside the jobs are not for this suite, so reports say that it did not look at them.
    assert (fields | of_contract) - shown <= {"store"}


def test_power_is_declared_and_beyond_what_a_run_can_show() -> None:
    found = report(ran(FEW, Declaring(durability=Durability.POWER)))
    assert list(found["runs"][0]["unproved"]) == ["durability"]
    assert "no run can cut the power" in markdown(found)
    found = report(ran(FEW, Declaring(durability=Durability.PROCESS_CRASH)))
    assert found["runs"][0]["unproved"] == {}


def test_a_store_is_declared_and_beyond_what_the_cases_of_adapters_show() -> None:
    """They look at it only where jobs write into it; a store that keeps nothing else had a bright badge."""
    found = report(ran(FEW, Harness(url="sqlite:///{tmp}/jobs.db")))
    assert "StoreConformance proves it" in found["runs"][0]["unproved"]["store"]
    assert "- `store`: the cases of adapters" in markdown(found)


# --- several suite classes ---------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ("fail", "pass"),
        ("error", "fail"),
        ("expected failure", "pass"),
        ("disabled", "advisory"),
        ("advisory", "pass"),
        ("pass", "not shown"),
        ("pass", "skip"),
        ("not shown", "skip"),
    ],
)
def test_worst_of_several_suite_classes_decides(worse: str, better: str, turned: bool) -> None:
    """What one of them shows is shown, though, as a short lease beside the one of production."""
    parts = [made({"lease.extended": worse}, name="TestA"), made({"lease.extended": better}, name="TestB")]
    found = of_one(*(reversed(parts) if turned else parts))
    assert [run["name"] for run in found["runs"]] == (["TestB", "TestA"] if turned else ["TestA", "TestB"])
    assert found["totals"][worse] == (1 if worse != "pass" else len(cases()))
    assert found["totals"][better] == (0 if better != "pass" else len(cases()) - 1)
    assert found["passed"] is not (worse in ("fail", "error"))
    assert isinstance(badge([found]), dict)
    text = markdown(found)
    assert "## TestA" in text and "## TestB" in text


def test_adapter_is_incomplete_if_one_of_its_suite_classes_is() -> None:
    found = of_one(made(name="TestA"), made(name="TestB", without=["lease.extended"]))
    assert (found["passed"], found["not_run"]) == (False, ["lease.extended"])
    assert badge([found])["color"] == "lightgrey"


def test_several_adapters_have_a_report_each_and_one_badge(tmp_path: Path) -> None:
    found = reports([made(), made({"lease.extended": "fail"}, adapter="other")])
    assert [one["adapter"] for one in found] == ["no-queue", "other"]
    write_reports(found, tmp_path / "both.json")
    assert len(json.loads((tmp_path / "both.json").read_text())) == 2
    drawn = json.loads((tmp_path / "both.badge.json").read_text())
    assert (drawn["schemaVersion"], drawn["color"]) == (1, "red")
    assert "2 reports" in drawn["message"] and "1 failed" in drawn["message"]


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
    one, two = part(ran(FEW[:2]), "TestOne"), part(ran(FEW[1:]), "TestOne")
    found = of_one(one, two)
    assert {case["id"] for case in entries(found)} == set(FEW)
    assert sum(found["totals"].values()) == len(FEW)
    two["run"]["cases"][0]["status"] = Verdict.FAIL
    for parts in ([one, two], [two, one]):
        assert of_one(*parts)["totals"]["fail"] == 1
    # Two classes of one name, in two modules, are two runs.
    assert len(of_one(one, two | {"key": "other.TestOne"})["runs"]) == 2


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
    assert {case["id"] for case in entries(found)} >= set(FEW)


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


def test_report_that_was_asked_for_without_a_suite_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("an earlier one")
    done = pytest_with(tmp_path, "--kessel-report", "report.json", source="def test_pause_refused(): pass")
    assert done.returncode == 1
    assert "1 passed" in done.stdout
    assert "error: report.json was not written: no suite ran" in done.stdout
    assert not (tmp_path / "report.json").exists()
    assert pytest_with(tmp_path, source="def test_pause_refused(): pass").returncode == 0


MISSING = "from kessel_conformance import ServerMissing\n" + WIRING.replace(
    "return NoQueue()", "raise ServerMissing('it is not installed')"
)


def test_report_whose_server_is_missing_is_an_error_and_an_earlier_one_is_gone(tmp_path: Path) -> None:
    """Without it the next wheel ships the report of another day."""
    for ending in ("json", "md", "badge.json"):
        (tmp_path / f"report.{ending}").write_text("an earlier one")
    done = pytest_with(tmp_path, "--kessel-report", "report.json", source=MISSING, CI="")
    assert done.returncode == 1
    assert "the harness does not come up: it is not installed" in done.stdout
    assert "error: report.json was not written: no suite ran" in done.stdout
    assert [path.name for path in tmp_path.glob("report.*")] == []


@pytest.mark.parametrize(
    ("left_out", "workers"), [("@pytest.mark.skipif(True, reason='no server here')", 2), ("", 0)]
)
def test_report_may_not_be_silent_about_one_of_the_suite_classes(
    left_out: str, workers: int, tmp_path: Path
) -> None:
    source = f"{WIRING}\nimport pytest\n\n{left_out}\nclass TestOther(AdapterConformance):\n"
    source += "    harness = NoQueueHarness()\n"
    chosen = [] if left_out else ["-k", "TestNoQueue and pause and refused"]
    done = pytest_with(tmp_path, "-n", str(workers), *chosen, "--kessel-report", "report.json", source=source)
    assert done.returncode == 1, done.stdout
    assert "error: report.json was not written: nothing of test_it.TestOther ran" in done.stdout
    assert not (tmp_path / "report.json").exists()


def test_two_suite_classes_are_in_one_report(tmp_path: Path) -> None:
    source = (
        WIRING + "\n\nclass TestOther(AdapterConformance):\n    harness = NoQueueHarness(real_clock=True)\n"
    )
    done = pytest_with(tmp_path, "-n", "2", "--kessel-report", "report.json", source=source)
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "report.json").read_text())
    assert sorted(run["name"] for run in found["runs"]) == ["TestNoQueue", "TestOther"]
    assert isinstance(json.loads((tmp_path / "report.badge.json").read_text()), dict)


def test_report_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    blocked = "\n\ndef test_pause_refused():\n    import os\n    os.mkdir('report.md')\n"
    done = pytest_with(tmp_path, "--kessel-report", "report.json", source=WIRING + blocked)
    assert done.returncode == 1
    assert "error: report.json was not written: it cannot be written" in done.stdout
    assert not (tmp_path / "report.json").exists()
    assert "Traceback" not in done.stdout + done.stderr
    # Nor is anything run while an earlier one cannot be removed.
    (tmp_path / "report.md" / "full").touch()
    done = pytest_with(tmp_path, "--kessel-report", "report.json")
    assert done.returncode == 4
    assert "the earlier report cannot be removed" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_looking_at_what_would_run_removes_no_report(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("an earlier one")
    done = pytest_with(tmp_path, "--collect-only", "--kessel-report", "report.json")
    assert done.returncode == 0
    assert (tmp_path / "report.json").exists()


def test_what_is_not_shown_is_said_at_the_end(tmp_path: Path) -> None:
    source = WIRING.replace("return NoQueue()", "return Liar()").replace(
        "class NoQueueHarness",
        """from datetime import timedelta
from kessel_core.contract import Capabilities, Reach


class Liar(NoQueue):
    capabilities = Capabilities(reach=Reach.HOST, lease=timedelta(minutes=1))


class NoQueueHarness""",
    )
    done = pytest_with(tmp_path, "-rs", "-k", "extended", source=source)
    assert done.returncode == 0, done.stdout
    assert "not shown, though declared: a lease of 60 s" in done.stdout


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
    assert "report.json was not written: no suite ran" in done.stdout
    assert ("suite.py" in done.stdout) is has_traceback


def test_missing_server_is_a_skip_on_a_laptop(tmp_path: Path) -> None:
    done = pytest_with(tmp_path, "-rs", source=MISSING, CI="")
    assert done.returncode == 0
    assert "the server is missing: it is not installed" in done.stdout
    assert pytest_with(tmp_path, source=MISSING, CI="true").returncode == 1


def test_missing_server_is_a_skip_on_a_laptop_for_tests_of_an_authors_own(tmp_path: Path) -> None:
    source = (
        "from kessel_conformance import ServerHarness\n\n"
        "def test_pause_refused():\n"
        "    ServerHarness(None, 'foo://localhost:{port}', ['no-such-food']).start()\n"
    )
    done = pytest_with(tmp_path, "-rs", source=source, CI="")
    assert done.returncode == 0, done.stdout
    assert "the server is missing: the program 'no-such-food' is not installed" in done.stdout
    # Nor is it one where a report is wanted, which would be silent about that test.
    for arguments, ci in ((), "true"), (("--kessel-report", "r.json"), ""):
        done = pytest_with(tmp_path, *arguments, source=source, CI=ci)
        assert done.returncode == 1
        assert "ServerMissing: the program 'no-such-food' is not installed" in done.stdout


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


def test_case_of_the_pinned_version_itself_counts(tmp_path: Path) -> None:
    """Newer is newer: what the pinned version asks for already is no advice."""
    newest = SUITE_VERSION

    def breaks(bench: Any) -> None:
        bench.broken("it is not")

    case = Case(id="x.y", clauses=("S9",), level=Level.CORE, why="a test", run=breaks, since=newest)
    harness = NoQueueHarness()
    harness.up()
    assert run_case(harness, case, Settings(suite=newest)).verdict is Verdict.FAIL
    source = (
        WIRING
        + f"""

from kessel_conformance import case


@case("refused.pause_now", "S17", why="a test", since="{newest}")
def own(bench):
    bench.broken("it is not")
"""
    )
    done = pytest_with(tmp_path, "--kessel-suite", newest, "--kessel-report", "r.json", source=source)
    assert done.returncode == 1, done.stdout
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["totals"]["fail"], found["totals"]["advisory"]) == (1, 0)


def test_no_password_of_the_server_is_published() -> None:
    """Neither the one of the address, nor one in what an error says."""

    class Secretive(Harness):
        def open(self, clock: Any, namespace: str) -> Any:
            return NoQueue()

    harness = Secretive(url="echo://me:hunter2@host:1/?Password=hunter2&n=1")
    run = ran(FEW, harness)
    for case_id, outcome in run.outcomes.items():
        said = "cannot reach echo://me:hunter2@host:1/?token=hunter2"
        run.outcomes[case_id] = attrs.evolve(outcome, verdict=Verdict.FAIL, reason=said, example=f"1 {said}")
    found = report(run)
    assert "hunter2" not in json.dumps(found)
    assert found["runs"][0]["url"] == "echo://***@host:1/?Password=***&n=1"
    shown = entries(found)[0]
    assert shown["reason"] == "cannot reach echo://***@host:1/?token=***"
    assert shown["example"] == "1 cannot reach echo://***@host:1/?token=***"
