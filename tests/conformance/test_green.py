"""The cases are green on the two correct adapters of which mutants are made.

They have a module of their own, because beside the mutants cases try less often and wait less long.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pytest
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import cases
from kessel_conformance.job_calls import Extend
from kessel_conformance.outcome import Verdict
from kessel_conformance.settings import Settings
from kessel_conformance.trials import Trials

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from networked import LEASE, NetworkedHarness
from networked_mutants import SHOWN_HERE
from reference import Reference, ReferenceHarness
from running import ended


def test_reference_without_a_fault_passes() -> None:
    found = ended(ReferenceHarness(Reference), Settings(shrink=False), list(cases()))
    assert {name: one.text for name, one in found.items() if one.verdict is Verdict.FAIL} == {}


def test_networked_adapter_without_a_fault_passes() -> None:
    found = ended(NetworkedHarness(), Settings(), SHOWN_HERE)
    assert {name: one.text for name, one in found.items() if one.verdict is not Verdict.PASS} == {}


def test_lost_settle_takes_the_next_job_under_a_lost_lease_for_no_lease_of_the_settled_one() -> None:
    found = ended(NetworkedHarness("InOneStep"), Settings(), ["lost.settle"])["lost.settle"]
    assert found.verdict is Verdict.PASS, found.text


def test_leases_are_extended_behind_a_proxy_when_a_part_of_them_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passed: list[timedelta] = []
    before: list[list[timedelta]] = []

    class Noted(Extend):
        def act(self) -> object:
            before.append(list(passed))
            return super().act()

        def later(self) -> None:
            """Nothing has passed."""

    harness = NetworkedHarness()
    harness.up()
    try:
        with Bench(harness) as bench, Trials(bench) as trials:
            monkeypatch.setattr(bench, "let_pass", passed.append)
            trials.run([Noted], 3)
    finally:
        harness.down()
    undisturbed, *tried = before
    assert undisturbed == []
    assert len(tried) > 6 and all(one == [LEASE * Noted.lease_passes] for one in tried)
