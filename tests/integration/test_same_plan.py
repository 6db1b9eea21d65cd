"""The same plan on different adapters ends alike where they promise alike (S4, S6, S8, S9)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import attrs
import pytest
from kessel_beanstalk.plugin import SPEC as BEANSTALK
from kessel_conformance import Harness, ServerHarness
from kessel_conformance.comparison import Comparison, Step
from kessel_conformance.lockstep import play
from kessel_conformance.operator_steps import PauseQueue, Remove
from kessel_conformance.plans import Plan, random_plan
from kessel_conformance.steps import Drop, GiveBack, Put, Settle
from kessel_memory.plugin import SPEC as MEMORY
from kessel_postgres.plugin import SPEC as POSTGRES
from kessel_postgres.testing import Postgres
from kessel_redis.plugin import SPEC as REDIS
from kessel_redis.testing import Redis
from kessel_sqlite.plugin import SPEC as SQLITE

LEASE = "lease=1h&max_body_bytes=70000"
#: Seconds between rounds, and how many. A backend that rounds up to seconds brings a job within a second of
#: its delay; with none of `SPANS` does that second touch a round: all adapters have the job in the same one.
UNIT, ROUNDS = 2.5, 4
SPANS = {None: None, 0.4: 0.5, 1.0: 1.0, 2.5: 3.0, 4.0: 3.5}


def memory() -> Harness:
    return Harness(MEMORY, url="memory://{namespace}?tie_break=enqueued&" + LEASE)


def sqlite() -> Harness:
    return Harness(SQLITE, url="sqlite:///{tmp}/{namespace}.db?" + LEASE)


class Timed(Harness):
    """Notes whether the machine was too busy to keep the times of the plan."""

    pauses: list[float]

    @property
    def was_busy(self) -> bool:
        return min(self.pauses[:ROUNDS]) < UNIT - 0.4

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        super().sleep(seconds)


class Beanstalkd(Timed, ServerHarness):
    def __init__(self) -> None:
        command = ["beanstalkd", "-l", "127.0.0.1", "-p", "{port}"]
        super().__init__(BEANSTALK, "beanstalk://127.0.0.1:{port}?ttr=60s", command, variable="BEANSTALKD")
        self.pauses = []


class Postgresql(Timed):
    def __init__(self) -> None:
        super().__init__(POSTGRES, "postgresql://kessel@127.0.0.1:{port}/postgres?lease=60s")
        self.pauses = []
        self.server = Postgres()

    def start(self) -> None:
        self.server.start()
        self.server.install()
        self.values["port"] = str(self.server.port)

    def stop(self) -> None:
        self.server.close()


class RedisServer(Timed):
    def __init__(self) -> None:
        super().__init__(REDIS, "redis://127.0.0.1:{port}?namespace={namespace}&lease=60s")
        self.pauses = []
        self.server = Redis()

    def start(self) -> None:
        self.server.start()
        self.values["port"] = str(self.server.port)

    def stop(self) -> None:
        self.server.close()


def orders(harness: Harness, plans: Sequence[Plan], unit: float) -> list[list[str]]:
    """Run plans to their ends, while the model watches; return which jobs were committed in which order."""
    assert str(harness.capabilities.tie_break) == "enqueued"
    ends = play(harness, plans, unit)
    for end in ends:
        if not isinstance(end, Comparison):
            raise end
    return [end.settled for end in ends if isinstance(end, Comparison)]


def without_looks_at_time(plan: Plan) -> Plan:
    """Leave out what ends differently for a reason: closing returns a job at once or by its lease."""
    left_out = (Drop, GiveBack, PauseQueue, Remove)
    return [[step for step in steps if not isinstance(step, left_out)] for steps in plan]


@pytest.mark.parametrize("seed", range(4))
def test_same_plan_settles_the_same_jobs_in_the_same_order(seed: int) -> None:
    plans = [
        without_looks_at_time(random_plan(random.Random(f"{seed}/{number}"), rounds=15, unit=1.0))
        for number in range(10)
    ]
    found = []
    for harness in (memory(), sqlite()):
        harness.up()
        try:
            found.append(orders(harness, plans, 1.0))
        finally:
            harness.down()
    assert all(found[0]), "a plan settles nothing"
    assert found[1] == found[0]


def for_seconds(plan: Plan) -> Plan:
    """Give every delay and pause a span of `SPANS`; a rollback without a pause may be late by a second."""

    def changed(step: Step) -> Step:
        if isinstance(step, Put):
            return attrs.evolve(step, delay=SPANS[step.delay])
        if isinstance(step, Settle) and step.how in ("rollback", "snooze"):
            return attrs.evolve(step, pause=SPANS[step.pause or 0.4])
        return step

    return [[changed(step) for step in steps] for steps in plan]


@pytest.mark.parametrize("real", [Beanstalkd, Postgresql, RedisServer])
def test_same_plan_with_delays_on_a_real_server_settles_the_same_jobs_in_the_same_order(
    real: Callable[[], Timed],
) -> None:
    """S4, S6, S8: with delays, pauses, burials and kicks; forty queues wait together for the real seconds."""
    plans = [
        for_seconds(without_looks_at_time(random_plan(random.Random(f"s/{number}"), rounds=ROUNDS, unit=1.0)))
        for number in range(40)
    ]
    found = []
    for harness in (memory(), sqlite(), server := real()):
        harness.up()
        try:
            found.append(orders(harness, plans, UNIT))
            if harness is server and server.was_busy and found[-1] != found[0]:
                # Half a second late, and time has decided otherwise: that says nothing of the adapter.
                found[-1] = orders(harness, plans, UNIT)
        finally:
            harness.down()
    delayed = [s for plan in plans for steps in plan for s in steps if isinstance(s, Put) and s.delay]
    assert len(delayed) > 40, "hardly a job is delayed"
    assert sum(map(len, found[0])) > 100, "the plans settle hardly anything"
    assert found[1] == found[0]
    assert found[2] == found[0]
