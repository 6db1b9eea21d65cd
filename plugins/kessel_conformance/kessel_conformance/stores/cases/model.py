"""Generated calls against a model (S19)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from kessel_conformance.catalogue import STORES
from kessel_conformance.stores.bench import StoreBench
from kessel_conformance.stores.machine import run_machine

case = STORES.case


@case(
    "model.any_calls",
    "S19a",
    "S19b",
    "S19c",
    "S19d",
    "S19e",
    why="Single cases miss what only a sequence of calls brings out.",
)
def any_calls(bench: StoreBench) -> None:
    amounts, settings = bench.settings.amounts, bench.settings
    # Each call to a backend in real time may wait for a disk or a network.
    examples = amounts.examples // (2 if bench.harness.virtual else 8)
    run_machine(
        bench.harness, examples=examples, steps=amounts.steps, seed=settings.seed, shrink=settings.shrink
    )
