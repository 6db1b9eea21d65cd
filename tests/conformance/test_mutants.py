"""The suite bites: every mutant is killed in the quick budget, and every case kills a mutant.

`python tests/conformance/test_mutants.py`, which is `make strength`, prints how many are killed, and writes the
page that shows which case kills what, and the numbers that every report of this version of the suite holds.
"""

from __future__ import annotations

# ruff: noqa: E501  # whole sentences, as they stand on the page
import importlib.util
import logging
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from kessel_conformance import strength
from kessel_conformance.catalogue import SUITE_VERSION, Level, cases
from kessel_conformance.runner import Run, Verdict
from kessel_conformance.settings import Settings

from kessel_core.contract import VirtualTime

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import networked_mutants

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "conformance-matrix.md"
NUMBERS = Path(strength.__file__)
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
        f"{planted(found)} faults, {len(cases())} cases: suite {SUITE_VERSION} catches {caught(found)} of {planted(found)}.",
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
    lines += [
        "",
        "## Lost connections, restarts, clocks",
        "",
        f"{len(networked_mutants.MUTANTS)} faults of an adapter that asks a server, and of that server.",
        "",
        "| fault | what it does | caught by |",
        "|---|---|---|",
    ]
    lines += [f"| `{one.name}` | {one.what} | `{one.case}` |" for one in networked_mutants.MUTANTS]
    return "\n".join(lines) + "\n"


def planted(found: dict[str, tuple[str, list[str]]]) -> int:
    return len(found) + len(networked_mutants.MUTANTS)


def caught(found: dict[str, tuple[str, list[str]]]) -> int:
    # test_networked.py shows that each of the networked ones is.
    return sum(bool(kills) for _, kills in found.values()) + len(networked_mutants.MUTANTS)


def numbers(found: dict[str, tuple[str, list[str]]]) -> str:
    """The source of `kessel_conformance.strength` with what was counted."""
    text = NUMBERS.read_text(encoding="utf-8")
    for name, value in (
        ("SUITE", f'"{SUITE_VERSION}"'),
        ("PLANTED", planted(found)),
        ("CAUGHT", caught(found)),
    ):
        text = re.sub(rf"^{name}: Final = .*$", f"{name}: Final = {value}", text, flags=re.M)
    return text


def test_the_numbers_are_of_this_version_of_the_suite_and_of_these_faults() -> None:
    """The count itself is compared where the faults are run."""
    there_are = len(load_mutants().MUTANTS) + len(networked_mutants.MUTANTS)
    assert (SUITE_VERSION, there_are) == (strength.SUITE, strength.PLANTED), "make strength"


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
    elsewhere = {mutant.case for mutant in networked_mutants.MUTANTS}  # see test_networked.py
    assert [name for name in cases() if name not in killing | elsewhere] == [], "cases that kill no mutant"
    assert PAGE.read_text(encoding="utf-8") == page(found), "make strength"
    assert NUMBERS.read_text(encoding="utf-8") == numbers(found), "make strength"


def main() -> int:
    logging.disable()  # what a broken adapter makes the core say
    found = matrix()
    PAGE.write_text(page(found), encoding="utf-8")
    NUMBERS.write_text(numbers(found), encoding="utf-8")
    print(f"suite {SUITE_VERSION} catches {caught(found)} of {planted(found)} planted faults")
    missed = [name for name, (_, kills) in found.items() if not kills]
    if missed:
        print(f"not caught: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
