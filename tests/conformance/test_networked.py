"""The cases of lost connections, restarts and clocks catch each mutant of the networked adapter.

All run at once, on servers of their own, because most of them wait.
"""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from kessel_conformance import faults, woken
from kessel_conformance.cases import unanswered
from kessel_conformance.outcome import Outcome, Verdict
from kessel_conformance.settings import Settings

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from networked import KINDS, InOneStep, NetworkedHarness
from networked_mutants import MUTANTS, SHOWN_HERE, NetworkedMutant, told_as_lost
from running import ended

HISTORY = "What happened, in seconds since the start:"
#: Seconds; a call that never ends is given up sooner than for an author.
NO_END = 20.0
#: A failure on a busy machine is not looked at again: some would wait three times for calls that never end.
AT_ONCE = Settings(repeats=0)


def outcome(mutant: NetworkedMutant) -> Outcome:
    kind = mutant.name if mutant.name in KINDS else "Networked"
    return ended(NetworkedHarness(kind, mutant.server), AT_ONCE, [mutant.case])[mutant.case]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, Future[Outcome]]:
    """How the selected mutants do."""
    patch = pytest.MonkeyPatch()
    patch.setattr(faults, "ANSWER_WITHIN", NO_END)
    patch.setattr(woken, "_TRIES", 1)
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
    if found.verdict is Verdict.PASS:
        # Beside all the others a lease may be over before it is asked for, and then what is told is true.
        found = outcome(mutant)
    assert found.verdict is Verdict.FAIL, f"{mutant.what}: {found.verdict} {found.reason}"
    assert HISTORY in found.text and found.reason.startswith(found.case.clauses), found.text


def test_lost_settle_sees_that_the_settled_job_is_held_where_the_next_one_may_be_taken() -> None:
    """S8: it is told as lost though its holder has it still, by an adapter that settles and takes at once."""
    lying = {"settle_and_take": told_as_lost(InOneStep.settle_and_take)}
    KINDS["BothToldAsLost"] = type("BothToldAsLost", (InOneStep,), lying)
    found = ended(NetworkedHarness("BothToldAsLost"), AT_ONCE, ["lost.settle"])["lost.settle"]
    assert found.verdict is Verdict.FAIL
    assert "settle_and_reserve with a commit was told that the lease is lost" in found.reason, found.text


def test_every_case_that_only_a_server_can_show_has_a_mutant() -> None:
    assert {mutant.case for mutant in MUTANTS} == set(SHOWN_HERE)
