"""A failing plan without Hypothesis is shortened when that is asked for, and fails alike afterwards."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from kessel_conformance import lockstep
from kessel_conformance.history import Violation
from kessel_conformance.lockstep import play, run_lockstep, shortened
from kessel_conformance.plans import random_plan
from mutants import MUTANTS, Reference, ReferenceHarness
from reference import Record

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


def test_plan_that_fails_only_in_company_is_not_called_a_matter_of_timing() -> None:
    """It was the number of jobs in the store, and who read of timing looked at the clock."""

    class Crowded(Reference):
        def order(self, record: Record) -> tuple[object, ...]:
            crowd = len(self.disk.records) > 12
            return (-record.priority, record.number) if crowd else super().order(record)

    harness = ReferenceHarness(Crowded)
    harness.up()
    with pytest.raises(Violation) as caught:
        run_lockstep(harness, queues=20, rounds=12, seed=0)
    assert "alone it passes, beside the 19 other plans it failed again" in caught.value.why
    assert "how many jobs the store holds" in caught.value.why
    assert "timing" not in caught.value.why


def test_plan_that_fails_once_names_all_that_may_be_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([{1: Violation("S6", "the order", "history")}, {}, {}])
    monkeypatch.setattr(lockstep, "play", lambda *_: ())
    monkeypatch.setattr(lockstep, "_failures", lambda _: next(failures))
    harness = ReferenceHarness(Reference)
    harness.up()
    with pytest.raises(Violation, match=r"once more beside the 3 others: load, timing, other queues and the"):
        run_lockstep(harness, queues=4, rounds=1, seed=0)


def test_plans_of_a_correct_adapter_end_with_everything_settled() -> None:
    harness = ReferenceHarness(Reference)
    harness.up()
    plans = [random_plan(random.Random(number), rounds=12, unit=UNIT) for number in range(20)]
    for end in play(harness, plans, UNIT):
        assert not isinstance(end, Violation), end
        assert not end.model.left()
