"""Generated plans against the reference model."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case

CLAUSES = ("S9", "S4", "S5", "S6", "S7", "S8", "S10", "S16")


@case(
    "model.any_plan", *CLAUSES, waits=True, why="Single cases miss what only a sequence of calls brings out."
)
def any_plan(bench: Bench) -> None:
    settings = bench.settings
    amounts = settings.amounts
    if bench.harness.virtual:
        from kessel_conformance.machine import run_machine

        run_machine(
            bench.harness,
            examples=amounts.examples,
            steps=amounts.steps,
            seed=settings.seed,
            shrink=settings.shrink,
        )
        return
    from kessel_conformance.lockstep import run_lockstep

    for batch in range(amounts.batches):
        run_lockstep(
            bench.harness,
            queues=amounts.queues,
            rounds=amounts.rounds,
            seed=settings.seed + batch,
            shrink=settings.shrink_real,
        )
