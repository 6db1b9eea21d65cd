"""kessel's own workers, queues and stores, proved from seeds (S43); `make simulate` runs many more."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import kessel_core.runtime
from kessel_core.testing import Seed, for_each_seed
from tests.simulation.scenarios import (
    WEATHERS,
    orders,
    orders_in_a_file,
    orders_with_another_store,
    orders_without_transactions,
)

#: What every run of the tests can spare, in times through all weathers; a file takes longer.
COUNTS: Final = {
    orders: 3 * len(WEATHERS),
    orders_without_transactions: 2 * len(WEATHERS),
    orders_with_another_store: 2 * len(WEATHERS),
    orders_in_a_file: len(WEATHERS),
}
RUNTIME: Final = Path(kessel_core.runtime.__file__).parent


@pytest.mark.parametrize("scenario", COUNTS, ids=lambda scenario: scenario.__name__)
def test_whatever_goes_wrong_all_promises_are_kept(scenario: Callable[[Seed], None]) -> None:
    """S4 to S7, S9, S10, S16, S20 to S22, S25, and that nobody sleeps beside a job."""
    totals = for_each_seed(scenario, range(COUNTS[scenario]))
    assert totals.seeds == COUNTS[scenario]
    assert set(totals.counts) == {"jobs", "runs", "deaths", "faults", "jumps", "stops"}
    assert min(totals.counts.values()) > 0, "every kind of mishap was met"
    assert set(totals.checks) >= {"S4", "S5", "S6", "S7", "S9", "S10", "S16", "S20", "S22", "S25", "liveness"}


def calls(path: Path) -> set[str]:
    """What is called in a module, as it is written."""
    return {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
    }


def test_a_worker_waits_by_the_clock_and_its_threads_are_made_in_one_place() -> None:
    """S18, S43: else the order would depend on the machine; elsewhere are the loop, signals and processes."""
    parts = ("delivery", "following", "handling", "heartbeat", "idleness", "lease", "pipeline", "slot")
    for part in parts:
        called = calls(RUNTIME / f"{part}.py")
        assert not called & {"threading.Thread", "_thread.start_new_thread", "time.sleep"}, part
        waits = {name for name in called if name.endswith((".wait", ".sleep"))}
        assert waits <= {"self._clock.wait", "plan.stop.sleep"}, part
