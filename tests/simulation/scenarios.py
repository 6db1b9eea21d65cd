"""An application that uses what kessel has, run from seeds.

`python -m tests.simulation.scenarios [SEEDS [FIRST]]` runs many seeds on all cores, and prints what they came
to; `make simulate` does so.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import attrs

from kessel_core import (
    Config,
    Fatal,
    JobContext,
    JobRequest,
    JobsConfig,
    JsonValue,
    Outcome,
    ResultsConfig,
    Snooze,
    Transient,
    handler,
)
from kessel_core.contract import Buried, need
from kessel_core.testing import Seed, Simulation, Totals, for_each_seed

SECOND: Final = timedelta(seconds=1)
HOUR: Final = timedelta(hours=1)
#: What a run may bring; each seed has one of them, because what happens all the time hides what is rare.
WEATHERS: Final[tuple[dict[str, float], ...]] = (
    {},
    {"deaths": 0.01},
    {"faults": 0.05},
    {"deaths": 0.01, "faults": 0.03, "jumps": 0.01, "stops": 0.2},
    {"deaths": 0.04, "faults": 0.15, "jumps": 0.03},
    {"stops": 0.7},
)


class Shop:
    """The application: orders, of which some fail, some ask for mails, and most want it told."""

    def __init__(self) -> None:
        self.simulation: Simulation
        self.told: Counter[str] = Counter()
        self.mailed: Counter[JsonValue] = Counter()

    def handlers(self) -> list[object]:
        @handler("order", max_attempts=5)
        def order(number: int, job: JobContext) -> int:
            draw, spend = self.simulation.random, self.simulation.spend
            spend(draw() ** 4 * 200)
            luck = draw()
            if luck < 0.1:
                raise Transient("the warehouse does not answer", after=SECOND if luck < 0.05 else None)
            if luck < 0.15:
                raise Snooze(9 * SECOND)
            if luck < 0.2:
                raise Fatal("sold out")
            if number % 3 == 0:
                job.follow_up("mail", number, queue="mails", delay=5 * SECOND if number % 2 else None)
            return number

        @handler("mail")
        async def mail(number: int) -> None:
            self.mailed[number] += 1

        @handler("told")
        def told(outcome: Outcome) -> None:
            self.simulation.spend(1)
            self.told[outcome.id] += 1

        return [order, mail, told]

    def request(self, number: int) -> JobRequest:
        return JobRequest(
            type="order" if number % 13 else "unknown",
            payload=number,
            id=f"order-{number}",
            queue="default" if number % 5 else "mails",
            priority=None if number % 4 else number,
            delay=(None, SECOND, 40 * SECOND)[number % 3],
            expiration=300 * SECOND if number % 7 == 0 else None,
            callback="job:told" if number % 2 else None,
        )


@contextmanager
def shop(seed: Seed, **settings: Any) -> Iterator[tuple[Shop, Simulation]]:
    """Open the shop, and run it with twenty orders until nothing is left."""
    application = Shop()
    config = Config(
        queues=("default", "mails"),
        jobs=JobsConfig(max_attempts=4),
        results=ResultsConfig(keep=24 * HOUR),
    )
    weather = WEATHERS[seed.number % len(WEATHERS)]
    with Simulation(application.handlers(), seed=seed, config=config, **(weather | settings)) as simulation:
        application.simulation = simulation
        simulation.manager.request_many([application.request(number) for number in range(20)])
        simulation.run_until_idle()
        yield application, simulation


def orders(seed: Seed, **settings: Any) -> None:
    """Every order ends; whoever wants it told is told; what was buried runs again when it is kicked."""
    with shop(seed, **settings) as (application, simulation):
        expected = {f"order-{number}" for number in range(1, 20, 2)}
        assert set(application.told) == expected
        operator = need(simulation.manager.adapter, Buried)
        for queue in ("default", "mails"):
            for job in operator.buried(queue):
                operator.kick(queue, job.id)
        simulation.run_until_idle()
        assert set(application.told) == expected
        for number in range(20):
            simulation.manager.result(f"order-{number}", timedelta(0))


def orders_without_transactions(seed: Seed) -> None:
    """As on a queue that stores follow-ups before the settlement."""
    orders(seed, follow=False)


def orders_with_another_store(seed: Seed) -> None:
    """Results are in a store that is not the queue's own."""
    orders(seed, store="memory://")


def orders_in_a_file(seed: Seed) -> None:
    """On kessel-sqlite, which is another queue and another store."""
    with tempfile.TemporaryDirectory() as folder:
        orders(seed, adapter=f"sqlite:///{Path(folder) / 'jobs.db'}")


SCENARIOS: Final[tuple[Callable[[Seed], None], ...]] = (
    orders,
    orders_without_transactions,
    orders_with_another_store,
    orders_in_a_file,
)


@attrs.frozen
class Portion:
    """Every so many seeds from a first one on, for one process."""

    first: int
    end: int
    step: int

    def run(self) -> Totals:
        totals = Totals()
        for number in range(self.first, self.end, self.step):
            # Another scenario at each turn through the weathers.
            scenario = SCENARIOS[number // len(WEATHERS) % len(SCENARIOS)]
            totals += for_each_seed(scenario, [number])
        return totals


def main(seeds: int = 2000, first: int = 0) -> None:
    cores = os.cpu_count() or 1
    portions = [Portion(first + core, first + seeds, cores) for core in range(cores)]
    with ProcessPoolExecutor(cores) as pool:
        print(sum(pool.map(Portion.run, portions), Totals()))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
