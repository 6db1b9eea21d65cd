"""What the cases catch that look at another process: faults that no reference in memory can have."""

from __future__ import annotations

import sys
from pathlib import Path

import kessel_sqlite.plugin
import pytest
from kessel_conformance import Harness
from kessel_conformance.runner import Run, Verdict
from kessel_conformance.settings import Settings

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from left_behind import SPECS

from kessel_core.contract import AdapterSpec

WHY = {
    "following.killed_process": "came, expected job-",
    "adapter.close_ends_threads": "threads of an adapter that was closed: expected [], got ['left']",
}


def ended(case: str, spec: AdapterSpec) -> tuple[Verdict, str]:
    """Run a case on an adapter; return its verdict, and why."""
    harness = Harness(spec, url="sqlite:///{tmp}/{namespace}.db?durability=process-crash")
    run = Run(harness, Settings(shrink=False), [case])
    run.up()
    try:
        outcome = run.outcome(case)
        return outcome.verdict, outcome.reason
    finally:
        run.down()


@pytest.mark.parametrize("case", SPECS)
def test_S20_S9_what_is_left_behind_fails_its_case(case: str) -> None:
    verdict, reason = ended(case, SPECS[case])
    assert verdict is Verdict.FAIL
    assert WHY[case] in reason


@pytest.mark.parametrize("case", SPECS)
def test_S20_S9_nothing_left_behind_passes(case: str) -> None:
    assert ended(case, kessel_sqlite.plugin.SPEC) == (Verdict.PASS, "")
