"""Plans that are generated without Hypothesis, for clocks on which time cannot be turned back."""

from __future__ import annotations

import random

from kessel_conformance.world import PRIORITIES, TAILS, Plan, Step
from kessel_core.contract import JobState

__all__ = ["random_plan"]


def random_plan(generator: random.Random, rounds: int, unit: float) -> Plan:
    """Return a plan whose delays and pauses are of the size of `unit`, the seconds between rounds."""

    def step() -> Step:
        slot = generator.randrange(2)
        kind = generator.choices(
            (
                "put",
                "reserve",
                "settle",
                "extend",
                "close_worker",
                "kick",
                "delete",
                "look",
                "peek",
                "run",
                "settle_old",
                "pause",
            ),
            (8, 9, 7, 1, 0.7, 1.5, 0.4, 1, 0.4, 1, 0.6, 0.15),
        )[0]
        match kind:
            case "put":
                delay = generator.choice((None, None, None, 0.4 * unit, unit, 2.5 * unit, 4 * unit))
                return kind, {
                    "priority": generator.choice(PRIORITIES),
                    "delay": delay,
                    "tail": generator.choice(TAILS),
                    "expires": generator.choice((None, None, 0.0, unit, 4 * unit)),
                }
            case "settle":
                how = generator.choice(("commit", "commit", "rollback", "rollback", "bury"))
                pause = generator.choice((0.0, 0.0, unit, 2.5 * unit))
                return kind, {"slot": slot, "how": how, "pause": pause, "reserve": generator.random() < 0.3}
            case "kick" | "delete":
                return kind, {"which": generator.randrange(8)}
            case "pause":
                return kind, {"span": generator.choice((0.0, unit, 2 * unit))}
            case "look":
                return kind, {}
            case "peek":
                return kind, {"state": generator.choice(list(JobState))}
            case _:
                return kind, {"slot": slot}

    return [[step() for _ in range(generator.randrange(1, 6))] for _ in range(rounds)]
