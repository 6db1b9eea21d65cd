"""Plans that are generated without Hypothesis, for clocks on which time cannot be turned back.

And how every plan ends, those of Hypothesis as well: all that is left is delivered.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from kessel_conformance.comparison import Comparison, Step
from kessel_conformance.operator_steps import Count, Kick, PauseQueue, Peek, Remove
from kessel_conformance.steps import (
    HOWS,
    PRIORITIES,
    TAILS,
    Drop,
    Extend,
    GiveBack,
    Put,
    Reserve,
    Run,
    Settle,
    SettleOld,
)
from kessel_core.contract import Buried, JobState

__all__ = ["Plan", "deliver_rest", "random_plan", "return_all"]

#: Rounds of steps; between two rounds time passes.
Plan: TypeAlias = list[list[Step]]

#: So that what is due is surely past.
_A_LITTLE: Final = 1e-3


def random_plan(generator: random.Random, rounds: int, unit: float, *, drops: bool = True) -> Plan:
    """Return a plan whose delays and pauses are of the size of `unit`, the seconds between rounds.

    Args:
        generator: Decides.
        rounds: How many rounds.
        unit: Seconds.
        drops: Whether consumers are closed with the jobs that they hold.
    """

    def put() -> Step:
        return Put(
            priority=generator.choice(PRIORITIES),
            delay=generator.choice((None, None, None, 0.4 * unit, unit, 2.5 * unit, 4 * unit)),
            tail=generator.choice(TAILS),
            expires=generator.choice((None, None, 0.0, unit, 4 * unit)),
        )

    def settle() -> Step:
        return Settle(
            worker(),
            generator.choice(("commit", "rollback", *HOWS)),
            pause=generator.choice((0.0, 0.0, unit, 2.5 * unit)),
            reserve=generator.random() < 0.3,
        )

    def worker() -> int:
        return generator.randrange(2)

    def which() -> int:
        return generator.randrange(8)

    weighted: Sequence[tuple[float, Callable[[], Step]]] = (
        (8, put),
        (9, lambda: Reserve(worker())),
        (7, settle),
        (1, lambda: Extend(worker())),
        (0.6, lambda: GiveBack(worker())),
        (0.7 if drops else 0.0, lambda: Drop(worker())),
        (1, lambda: Run(worker())),
        (0.6, lambda: SettleOld(worker())),
        (1.5, lambda: Kick(which())),
        (0.4, lambda: Remove(which())),
        (1, Count),
        (0.4, lambda: Peek(generator.choice(list(JobState)))),
        (0.15, lambda: PauseQueue(generator.choice((0.0, unit, 2 * unit)))),
    )
    makers = [make for _, make in weighted]
    weights = [weight for weight, _ in weighted]

    def step() -> Step:
        return generator.choices(makers, weights)[0]()

    return [[step() for _ in range(generator.randrange(1, 6))] for _ in range(rounds)]


def return_all(both: Comparison) -> float:
    """Roll back what is held, kick what is buried, resume; return the seconds until all is ready."""
    for number in range(len(both.workers)):
        both.step(Settle(number, "rollback"))
    while both.model.buried_jobs() and both.has(Buried):
        both.step(Kick())
    if both.model.paused.hi > both.now():
        both.step(PauseQueue())
    latest = max((job.ready.hi for job in both.model.left()), default=both.now())
    return max(0.0, latest - both.now()) + _A_LITTLE


def deliver_rest(both: Comparison) -> None:
    """Deliver and commit everything, now that it is ready: no job may be lost (S9)."""
    for _ in range(len(both.model.left()) + 1):
        both.step(Reserve())
        if both.workers[0].held is None:
            break
        both.step(Settle())
    left = [job.label for job in both.model.left()]
    if left:
        both.broken("S9", f"never delivered at the end: {', '.join(left)}")
    both.step(Count())
