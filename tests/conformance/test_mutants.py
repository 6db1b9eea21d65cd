"""The suite bites: every mutant is killed in the quick budget, and every case kills a mutant.

`python tests/conformance/test_mutants.py` writes the page that shows which case kills what.
"""

from __future__ import annotations

# ruff: noqa: E501  # whole sentences, as they stand on the page
import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest
from kessel_conformance.catalogue import Level, cases
from kessel_conformance.runner import Run, Verdict
from kessel_conformance.settings import Settings

from kessel_core.contract import VirtualTime

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "conformance-matrix.md"
PLANS = "model.any_plan"
#: What these find in an adapter depends on luck: on generated plans, and on how threads meet.
CHANCE = frozenset({PLANS, "delivery.threads_share"})
#: Faults that show only when threads meet.
CHANCE_FAULTS = frozenset({"races", "races_enqueue"})


def load_mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kessel_mutants", Path(__file__).with_name("mutants.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def killers(mutants: ModuleType, kind: type) -> list[str]:
    """The ids of the cases that fail on a mutant."""
    harness = mutants.ReferenceHarness(kind)
    # A mutant without a virtual clock would spend real seconds on cases that others cover.
    real = kind.facet(kind.__new__(kind), VirtualTime) is None
    wanted = [c.id for c in cases().values() if c.level is Level.NEGATIVE] if real else None
    run = Run(harness, Settings(shrink=False), wanted)
    run.up()
    try:
        found = [case.id for case in run.wanted if case.id != PLANS and fails(run, case.id)]
        if not CHANCE.issuperset(found):
            return found  # plans would say nothing more, and take longest
        return [*found, *filter(lambda name: fails(run, name), {PLANS} & {case.id for case in run.wanted})]
    finally:
        run.down()


def fails(run: Run, case_id: str) -> bool:
    return run.outcome(case_id).verdict is Verdict.FAIL


def matrix() -> dict[str, tuple[str, list[str]]]:
    mutants = load_mutants()
    return {name: (what, killers(mutants, kind)) for name, (what, kind) in mutants.MUTANTS.items()}


def page(found: dict[str, tuple[str, list[str]]]) -> str:
    lines = [
        "# Which case catches what",
        "",
        "Every line is an adapter with one fault, made from a correct one by changing a single rule.",
        "The suite runs on each in the quick budget; the cases named are those that fail.",
        f"{' and '.join(f'`{case}`' for case in sorted(CHANCE))} catch many of them as well; they are named only where nothing else does, because what they find depends on luck.",
        "",
        "This page is written by `python tests/conformance/test_mutants.py`, and a test compares it.",
        "",
        f"{len(found)} faults, {len(cases())} cases.",
        "",
        "| fault | what it does | caught by |",
        "|---|---|---|",
    ]
    for name, (what, kills) in found.items():
        sure = [kill for kill in kills if kill not in CHANCE]
        named = ", ".join(f"`{kill}`" for kill in sure or kills[:1])
        if name in CHANCE_FAULTS:
            named = "whichever case meets it first"
        lines.append(f"| `{name}` | {what} | {named} |")
    return "\n".join(lines) + "\n"


def test_reference_without_a_fault_passes() -> None:
    mutants = load_mutants()
    assert killers(mutants, mutants.Reference) == []


@pytest.mark.timeout(240)
def test_every_mutant_is_killed_and_every_case_kills() -> None:
    found = matrix()
    assert len(found) >= 25
    assert [name for name, (_, kills) in found.items() if not kills] == [], (
        "mutants that survive the quick budget"
    )
    killing = {kill for _, kills in found.values() for kill in kills}
    assert [name for name in cases() if name not in killing] == [], "cases that kill no mutant"
    assert PAGE.read_text(encoding="utf-8") == page(found), f"run python {Path(__file__).relative_to(ROOT)}"


if __name__ == "__main__":
    logging.disable()  # what a broken adapter makes the core say
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(matrix()), encoding="utf-8")
