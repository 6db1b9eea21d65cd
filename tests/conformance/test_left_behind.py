"""What the cases catch that look at another process: faults that no reference in memory can have."""

from __future__ import annotations

import sys
from pathlib import Path

import kessel_sqlite.plugin
import pytest
from kessel_conformance import Harness
from kessel_conformance.outcome import Verdict
from kessel_conformance.settings import Settings
from kessel_sqlite.adapter import SqliteAdapter

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from left_behind import ALONE, AT_CLOSE, COPIES, HEARS, PIPES, POLLS, SPECS, STOPS, SaysAtOnce
from running import ended as ran
from running import how_it_ended

from kessel_core.contract import AdapterSpec

WHY = {
    "following.killed_process": "came, expected job-",
    "adapter.close_ends_threads": "threads of an adapter that was closed: expected [], got ['left']",
    "consumer.killed_returns_job": "did not come back at once, as lease_return declares",
    "adapter.close_ends_files": "descriptors that 20 adapters have left",
    "reserve.wakes_from_another_process": "the waiting reserve ",
}


SQLITE = "sqlite:///{tmp}/{namespace}.db?durability=process-crash"


def ended(case: str, spec: AdapterSpec, url: str = SQLITE) -> tuple[Verdict, str]:
    """Run a case on an adapter; return its verdict, and why."""
    return how_it_ended(Harness(spec, url=url), case)


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: kind.__name__)
def test_S20_S9_what_is_left_behind_fails_its_case(kind: type[SqliteAdapter]) -> None:
    case, spec = SPECS[kind]
    verdict, reason = ended(case, spec)
    if verdict is Verdict.PASS:  # who does not wait yet on a busy machine, finds the job by its first look
        verdict, reason = ended(case, spec)
    assert verdict is Verdict.FAIL
    assert WHY[case] in reason


@pytest.mark.parametrize("case", WHY)
def test_S20_S9_nothing_left_behind_passes(case: str) -> None:
    verdict, reason = ended(case, kessel_sqlite.plugin.SPEC)
    if case == "consumer.killed_returns_job":  # SQLite waits for the lease, and says so; beanstalkd does not
        assert (verdict, reason) == (
            Verdict.SKIP,
            "for adapters that give back the jobs of a dead worker at once",
        )
    else:
        assert (verdict, reason) == (Verdict.PASS, "")


def test_S9_a_return_at_once_is_not_shown_where_a_lease_is_over_as_soon() -> None:
    case, spec = SPECS[SaysAtOnce]
    verdict, reason = ended(case, spec, SQLITE + "&lease=100ms")
    assert (verdict, reason) == (
        Verdict.NOT_SHOWN,
        "the lease is over before a return at once can be told from that; give the harness 3 s",
    )


def test_S9_what_each_consumer_leaves_open_fails_its_case() -> None:
    verdict, reason = ended("adapter.close_ends_files", PIPES)
    assert verdict is Verdict.FAIL
    assert "pipe:" in reason


def test_S9_who_is_told_of_nothing_beside_the_dead_fails_its_case() -> None:
    verdict, reason = ended("reserve.wakes_beside_the_dead", STOPS, "directory://{tmp}/{namespace}")
    assert verdict is Verdict.FAIL
    assert "those who waited saw their jobs" in reason
    assert ended("reserve.wakes_beside_the_dead", HEARS, "directory://{tmp}/{namespace}") == (
        Verdict.PASS,
        "",
    )


def test_S9_who_looks_ten_times_a_second_on_a_real_clock_fails_beside_cases_that_keep_it_busy() -> None:
    polls = "reserve.does_not_poll"
    harness = Harness(POLLS, url="directory://{tmp}/{namespace}", real_clock=True)
    found = ran(harness, Settings(), [polls, "calls.meet_at_each_step", "reserve.loses_no_wake_up"])[polls]
    assert found.verdict is Verdict.FAIL
    assert "a waiting reserve polls" in found.reason


def test_S9_jobs_that_are_written_at_close_fail_for_one_process_as_for_many() -> None:
    verdict, reason = ended("durable.killed_process", AT_CLOSE, "directory://{tmp}/{namespace}")
    assert verdict is Verdict.FAIL
    assert "is gone, expected ready: a process was killed" in reason


def test_S9_a_job_of_which_a_killed_process_leaves_two_files_fails() -> None:
    verdict, reason = ended("durable.killed_process", COPIES, "directory://{tmp}/{namespace}")
    assert verdict is Verdict.FAIL
    assert "a worker reserves" in reason  # two that are alike in all else


def test_S9_jobs_of_one_process_that_is_killed_are_there_when_they_are_written_at_once() -> None:
    assert ended("durable.killed_process", ALONE, "directory://{tmp}/{namespace}") == (Verdict.PASS, "")


def test_S9_durability_of_one_process_is_not_shown_where_no_other_finds_its_files(tmp_path: Path) -> None:
    harness = Harness(ALONE, url=f"directory://{tmp_path}/{{namespace}}")
    outcome = ran(harness, Settings(), ["durable.killed_process"])["durable.killed_process"]
    assert (outcome.verdict, outcome.shows) == (Verdict.NOT_SHOWN, ("durability",))
    assert "{tmp}" in outcome.reason
