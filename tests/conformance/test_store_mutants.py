"""The suite for stores bites: each mutant is noticed, the clause is named, and each case notices one.

`python tests/conformance/test_store_mutants.py` writes the page that shows which case notices what.
"""

from __future__ import annotations

# ruff: noqa: E501  # whole sentences, as they stand on the page
import logging
import re
import sys
from pathlib import Path

import pytest
from kessel_conformance.catalogue import STORES, SUITE_VERSION
from kessel_conformance.outcome import Outcome, Verdict
from kessel_conformance.runner import run_suite
from kessel_conformance.settings import Settings
from kessel_conformance.stores import strength

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from running import ended
from store_mutants import MUTANTS, Mutant
from store_networked import Networked, NetworkedStoreHarness, spec_of
from store_reference import REFERENCE, harness_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "conformance-matrix-stores.md"
NUMBERS = Path(strength.__file__)
PLANS = "model.any_calls"
#: Nothing is shortened: that it is noticed is enough.
SETTINGS = Settings(shrink=False)


def outcomes(mutant: Mutant) -> dict[str, Outcome]:
    """How the cases end on a mutant that are said to notice it."""
    return ended(mutant.harness(), SETTINGS, mutant.caught)


def is_caught(mutant: Mutant) -> bool:
    return all(outcome.verdict is Verdict.FAIL for outcome in outcomes(mutant).values())


@pytest.mark.parametrize("options", [{}, {"durability": "process-crash", "reach": "host"}])
def test_reference_without_a_fault_passes(options: dict[str, str]) -> None:
    run = run_suite(harness_of(REFERENCE, **options), SETTINGS)
    assert [outcome.text for outcome in run.outcomes.values() if not outcome.ok] == []


@pytest.mark.parametrize("case", ["lost.write", "lost.all_connections_at_once"])
def test_reference_behind_a_connection_passes_while_that_breaks(case: str) -> None:
    outcome = ended(NetworkedStoreHarness(spec_of(Networked)), SETTINGS, [case])[case]
    assert outcome.verdict is Verdict.PASS, outcome.text


@pytest.mark.parametrize("name", MUTANTS)
def test_s19_mutant_is_noticed_and_its_clause_named(name: str) -> None:
    mutant = MUTANTS[name]
    for case, first in outcomes(mutant).items():
        outcome = first
        for _ in range(4):  # two steps that others come between are so by chance, on a busy machine rarely
            if outcome.verdict is not Verdict.PASS:
                break
            outcome = outcomes(mutant)[case]
        assert outcome.verdict is Verdict.FAIL, case
        clause, wanted = outcome.reason.partition(": ")[0], mutant.caught[case]
        # Which of the calls of a plan shows it first is chance.
        assert clause == wanted or (case == PLANS and clause.startswith(wanted)), (case, outcome.text)
        assert outcome.example, "the calls that showed it"


def test_every_case_notices_a_mutant() -> None:
    noticing = {case for mutant in MUTANTS.values() for case in mutant.caught}
    assert noticing == set(STORES.cases())


def page() -> str:
    lines = [
        "# Which case for stores catches what",
        "",
        "Every line is a store with one fault, made from a correct one by changing a single rule.",
        "The cases named fail on it in the quick budget, and say the clause that stands in brackets.",
        "",
        "This page is written by `python tests/conformance/test_store_mutants.py`, and a test compares it.",
        "",
        f"{len(MUTANTS)} faults, {len(STORES.cases())} cases: suite {SUITE_VERSION} catches {len(MUTANTS)} of {len(MUTANTS)}.",
        "",
        "| fault | what it does | caught by |",
        "|---|---|---|",
    ]
    for mutant in MUTANTS.values():
        caught = ", ".join(f"`{case}` ({clause})" for case, clause in mutant.caught.items())
        lines.append(f"| `{mutant.name}` | {mutant.what} | {caught} |")
    return "\n".join(lines) + "\n"


def numbers(caught: int) -> str:
    """The source of `kessel_conformance.stores.strength` with what was counted."""
    text = NUMBERS.read_text(encoding="utf-8")
    for name, value in (("SUITE", f'"{SUITE_VERSION}"'), ("PLANTED", len(MUTANTS)), ("CAUGHT", caught)):
        text = re.sub(rf"^{name}: Final = .*$", f"{name}: Final = {value}", text, flags=re.M)
    return text


def test_page_and_numbers_are_current() -> None:
    """What they say is shown by the tests above."""
    again = f"run python {Path(__file__).relative_to(ROOT)}"
    assert PAGE.read_text(encoding="utf-8") == page(), again
    assert NUMBERS.read_text(encoding="utf-8") == numbers(len(MUTANTS)), again


if __name__ == "__main__":
    logging.disable()  # what a broken store makes the core say
    PAGE.write_text(page(), encoding="utf-8")
    NUMBERS.write_text(numbers(sum(map(is_caught, MUTANTS.values()))), encoding="utf-8")
