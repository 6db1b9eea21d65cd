"""The cases of lost connections, restarts and clocks: green on a correct adapter, each mutant is caught.

All run at once, on servers of their own, because most of them wait.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from kessel_conformance import faults
from kessel_conformance.cases import unanswered, unheard
from kessel_conformance.catalogue import cases
from kessel_conformance.outcome import Outcome, Verdict
from kessel_conformance.runner import Run
from kessel_conformance.settings import Settings

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from networked import KINDS, NetworkedHarness
from networked_mutants import MUTANTS, NetworkedMutant

#: The cases that need a server, a restart of it, or a second clock.
PREFIXES = ("lost.", "scale.", "durable.server_", "durable.killed_", "clocks.")
#: Of clocks that are set in one process, the reference shows what there is.
SHOWN_HERE = [name for name in cases() if name.startswith(PREFIXES) and not name.endswith("_over_a_jump")]
HISTORY = "What happened, in seconds since the start:"
#: Seconds; a call that never ends is given up sooner than for an author.
NO_END = 20.0
#: A failure on a busy machine is not looked at again: some would wait three times for calls that never end.
AT_ONCE = Settings(repeats=0)


def ended(harness: NetworkedHarness, settings: Settings, wanted: Sequence[str]) -> dict[str, Outcome]:
    """Run cases; return how each ended."""
    run = Run(harness, settings, wanted)
    run.up()
    try:
        return {case.id: run.outcome(case.id) for case in run.wanted}
    finally:
        run.down()


def outcome(mutant: NetworkedMutant) -> Outcome:
    kind = mutant.name if mutant.name in KINDS else "Networked"
    return ended(NetworkedHarness(kind, mutant.server), AT_ONCE, [mutant.case])[mutant.case]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, Future[Outcome]]:
    """How the selected mutants do."""
    patch = pytest.MonkeyPatch()
    patch.setattr(faults, "ANSWER_WITHIN", NO_END)
    patch.setattr(unheard, "_TRIES", 1)
    patch.setattr(unanswered, "_LATE_TRIES", 0)
    items = [item for item in request.session.items if hasattr(item, "callspec")]
    chosen = [item.callspec.params.get("mutant") for item in items]
    pool = ThreadPoolExecutor(6)
    request.addfinalizer(patch.undo)
    request.addfinalizer(pool.shutdown)
    # In the order in which they are asked for: a test waits for its own, not for all.
    return {one.name: pool.submit(outcome, one) for one in chosen if isinstance(one, NetworkedMutant)}


@pytest.mark.timeout(300)  # two calls that never end, and the wait for a place in the pool
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_fails_its_case_with_a_history(
    mutant: NetworkedMutant, outcomes: dict[str, Future[Outcome]]
) -> None:
    found = outcomes[mutant.name].result()
    assert found.verdict is Verdict.FAIL, f"{mutant.what}: {found.verdict} {found.reason}"
    assert HISTORY in found.text and found.reason.startswith(found.case.clauses), found.text


def test_networked_adapter_without_a_fault_passes() -> None:
    found = ended(NetworkedHarness(), Settings(), SHOWN_HERE)
    assert {name: one.text for name, one in found.items() if one.verdict is not Verdict.PASS} == {}


def test_lost_settle_takes_the_next_job_under_a_lost_lease_for_no_lease_of_the_settled_one() -> None:
    found = ended(NetworkedHarness("InOneStep"), Settings(), ["lost.settle"])["lost.settle"]
    assert found.verdict is Verdict.PASS, found.text


def test_every_case_that_only_a_server_can_show_has_a_mutant() -> None:
    assert {mutant.case for mutant in MUTANTS} == set(SHOWN_HERE)
