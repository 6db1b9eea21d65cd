"""The same plan on different adapters ends alike where they promise alike (S4, S6, S8, S9)."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from kessel_beanstalk.plugin import SPEC as BEANSTALK
from kessel_conformance import Harness, ServerHarness
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


def test_same_plan_on_a_real_server_settles_the_same_jobs_in_the_same_order() -> None:
    """Without delays and pauses, because real time decides the order where they matter."""
    command = ["beanstalkd", "-l", "127.0.0.1", "-p", "{port}"]
    server = ServerHarness(BEANSTALK, "beanstalk://127.0.0.1:{port}?ttr=60s", command, variable="BEANSTALKD")
    found: dict[str, list[list[str]]] = {}
    for name, harness in {**harnesses(), "beanstalk": server}.items():
        harness.up()
        try:
            assert str(harness.capabilities.tie_break) == "enqueued"
            found[name] = [settled_order(harness, at_once(seed), 0.0) for seed in range(5)]
        finally:
            harness.down()
    assert any(found["memory"]), "the plans settle nothing"
    assert found["sqlite"] == found["memory"]
    assert found["beanstalk"] == found["memory"]


def at_once(seed: int) -> Plan:
    plan = without_looks_at_time(random_plan(random.Random(seed), rounds=15, unit=1.0))
    for steps in plan:
        for name, arguments in steps:
            if name == "put":
                arguments["delay"] = None
            if name == "settle":
                # A rollback may come back later on a coarse backend, so jobs end by a commit here.
                arguments.update(pause=0.0, how="bury" if arguments["how"] == "bury" else "commit")
    return plan
