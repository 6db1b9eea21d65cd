"""A failing plan without Hypothesis is shortened when that is asked for, and fails alike afterwards."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from kessel_conformance.history import Violation
from kessel_conformance.lockstep import play, run_lockstep, shortened
from kessel_conformance.plans import random_plan
from mutants import MUTANTS, Reference, ReferenceHarness

UNIT = 0.5


def failing(name: str) -> ReferenceHarness:
    harness = ReferenceHarness(MUTANTS[name][1])
    harness.up()
    return harness


@pytest.mark.parametrize(("name", "lines"), [("priority_ignored", 3), ("double_delivery", 3), ("lifo", 5)])
def test_plan_is_shortened_to_the_steps_that_matter(name: str, lines: int) -> None:
    harness = failing(name)
    plan = random_plan(random.Random(3), rounds=20, unit=UNIT)
    (violation,) = play(harness, [plan], UNIT)
    assert isinstance(violation, Violation)
    found = shortened(harness, plan, violation.clause, UNIT)
    assert found is not None
    assert found.clause == violation.clause
    assert len(found.history.splitlines()) <= lines


def test_plan_that_fails_is_shown_with_its_number_and_shortened_only_if_asked() -> None:
    violations = []
    for shrink in (False, True):
        with pytest.raises(Violation, match="of seed 0") as caught:
            run_lockstep(failing("priority_ignored"), queues=4, rounds=12, seed=0, shrink=shrink)
        violations.append(caught.value)
    plain, short = violations
    assert "failed again when replayed alone" in plain.why
    assert "shortened" in short.why
    assert len(short.history) < len(plain.history)


def test_plans_of_a_correct_adapter_end_with_everything_settled() -> None:
    harness = ReferenceHarness(Reference)
    harness.up()
    plans = [random_plan(random.Random(number), rounds=12, unit=UNIT) for number in range(20)]
    for end in play(harness, plans, UNIT):
        assert not isinstance(end, Violation), end
        assert not end.model.left()
