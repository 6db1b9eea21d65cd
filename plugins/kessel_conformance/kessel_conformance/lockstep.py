"""The model on a real clock: many queues move together, so that all wait only once."""

from __future__ import annotations

import random

from kessel_conformance.harness import Harness
from kessel_conformance.history import Violation
from kessel_conformance.world import Plan, World, random_plan, sleep
from kessel_core.clock import SystemClock

__all__ = ["run_lockstep", "run_plans"]


def run_lockstep(harness: Harness, *, queues: int, rounds: int, seed: int) -> None:
    """Run a plan on each of many queues, a round at a time.

    Raises:
        Violation: With the history of the queue that failed, and whether it failed again alone.
    """
    grain = harness.capabilities.delay_granularity
    # Half a granularity: delays then end inside and between rounds.
    unit = min(1.0, max(0.1, grain.total_seconds() / 2)) if grain is not None else 0.1
    plans = [random_plan(_generator(seed, number), rounds, unit) for number in range(queues)]
    failed = run_plans(harness, plans, unit)
    if failed is None:
        return
    number, violation = failed
    again = run_plans(harness, [plans[number]], unit)
    told = (
        "it failed again when replayed alone"
        if again
        else "it passed when replayed alone, so it is a matter of timing or of load"
    )
    shown = again[1] if again else violation
    raise Violation(shown.clause, f"{shown.why} (plan {number} of seed {seed}; {told})", shown.history)


def _generator(seed: int, number: int) -> random.Random:
    return random.Random(f"{seed}/{number}")  # noqa: S311  # to be repeated, not to be secret


def run_plans(harness: Harness, plans: list[Plan], unit: float) -> tuple[int, Violation] | None:
    """Run plans together; return the number of the first that failed, and how."""
    clock = SystemClock()
    namespace = harness.namespace()
    if harness.plans_url is not None:
        adapter = harness.open_url(harness.plans_url, clock, namespace)
    else:
        adapter = harness.open(clock, namespace)
    noise = harness.tolerance.total_seconds()
    worlds: list[World] = []
    number = 0
    try:
        try:
            for number in range(len(plans)):
                worlds.append(World(adapter, clock, f"{namespace}.{number}", adapter.capabilities, noise))
            for rounds in zip(*plans, strict=True):
                for number, steps in enumerate(rounds):
                    for step in steps:
                        worlds[number].step(step)
                sleep(unit)
            # The first waits for the longest; the others then find everything ready.
            for number, world in enumerate(worlds):  # noqa: B007  # told below
                world.finish(sleep)
        except Violation as exc:
            return number, exc
        finally:
            for world in worlds:
                world.close()
    finally:
        adapter.close()
        harness.purge(namespace)
    return None
