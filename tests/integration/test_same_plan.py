"""The same plan on different adapters ends alike where they promise alike (S4, S6, S8, S9)."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from kessel_conformance import Harness
from kessel_conformance.bench import move
from kessel_conformance.world import Plan, World, random_plan
from kessel_memory.plugin import SPEC as MEMORY
from kessel_sqlite.plugin import SPEC as SQLITE

LEASE = "lease=1h&max_body_bytes=70000"


def harnesses() -> Mapping[str, Harness]:
    return {
        "memory": Harness(MEMORY, url="memory://{namespace}?tie_break=enqueued&" + LEASE),
        "sqlite": Harness(SQLITE, url="sqlite:///{tmp}/{namespace}.db?" + LEASE),
    }


def settled_order(harness: Harness, plan: Plan, unit: float) -> list[str]:
    """Run a plan to its end; the model watches meanwhile."""
    from datetime import timedelta

    clock, namespace = harness.clock(), harness.namespace()
    adapter = harness.open(clock, namespace)
    # Real adapters that share a server share its clock's noise.
    world = World(
        adapter, clock, f"{namespace}.plan", harness.capabilities, 2e-6 if harness.virtual else 0.25
    )
    try:
        for steps in plan:
            for step in steps:
                world.step(step)
            move(clock, timedelta(seconds=unit))
        world.finish(lambda seconds: move(clock, timedelta(seconds=seconds)))
        return world.settled
    finally:
        world.close()
        adapter.close()


def without_looks_at_time(plan: Plan) -> Plan:
    """Leave out what ends differently for a reason: closing returns a job at once or by its lease."""
    return [[step for step in steps if step[0] not in ("close_worker", "pause", "delete")] for steps in plan]


@pytest.mark.parametrize("seed", range(12))
def test_same_plan_settles_the_same_jobs_in_the_same_order(seed: int) -> None:
    plan = without_looks_at_time(random_plan(random.Random(seed), rounds=15, unit=1.0))
    found = {}
    for name, harness in harnesses().items():
        harness.up()
        try:
            assert str(harness.capabilities.tie_break) == "enqueued"
            found[name] = settled_order(harness, plan, 1.0)
        finally:
            harness.down()
    assert found["memory"], "the plan settles nothing"
    assert found["sqlite"] == found["memory"]
