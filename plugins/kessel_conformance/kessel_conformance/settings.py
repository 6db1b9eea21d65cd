"""What the person who runs the suite chooses, and how much is generated for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

__all__ = ["BUDGETS", "Budget", "Settings"]


@attrs.frozen(kw_only=True)
class Budget:
    """How much is generated."""

    #: Examples and steps of the state machine on a virtual clock.
    examples: int
    steps: int
    #: Plans that run in lock-step on a real clock, rounds a plan, and how often that is repeated.
    queues: int
    rounds: int
    batches: int
    #: At how many places a request, and an answer, is cut.
    cuts: int
    #: At how many steps of one call a process is killed; at several times as many where all depends on it.
    kills: int
    #: At how many places of one call another one is made.
    places: int
    #: How many buried jobs are listed and gone through, 104 or more: some adapters show pages of hundreds.
    burials: int
    #: How often each of eight writers of a store adds one.
    adds: int
    #: How often two who wait for each other's entries answer.
    turns: int
    #: For how many seconds an operator looks while others work.
    looking: float


BUDGETS: Final[Mapping[str, Budget]] = {
    "quick": Budget(
        examples=40,
        steps=30,
        queues=48,
        rounds=12,
        batches=1,
        cuts=3,
        kills=4,
        places=10,
        burials=104,
        adds=100,
        turns=300,
        looking=0.8,
    ),
    "ci": Budget(
        examples=400,
        steps=40,
        queues=64,
        rounds=16,
        batches=4,
        cuts=100,
        kills=30,
        places=200,
        burials=1010,
        adds=1000,
        turns=3000,
        looking=2.0,
    ),
    "thorough": Budget(
        examples=2500,
        steps=60,
        queues=96,
        rounds=24,
        batches=12,
        cuts=10_000,
        kills=1_000,
        places=10_000,
        burials=3000,
        adds=1000,
        turns=20_000,
        looking=10.0,
    ),
}


@attrs.frozen(kw_only=True)
class Settings:
    """What the person who runs the suite chooses."""

    #: How much is generated: `quick`, `ci` or `thorough`.
    budget: str = "quick"
    #: Pins the catalogue: newer cases cannot fail the build.
    suite: str | None = None
    #: Of what is generated.
    seed: int = 0
    #: Let Hypothesis shorten a failing plan; on a virtual clock.
    shrink: bool = True
    #: Shorten a failing plan on a real clock, which takes a minute or more.
    shrink_real: bool = False

    #: How often a case is repeated that failed in real time while the machine kept it from the processor.
    repeats: int = 2

    @property
    def amounts(self) -> Budget:
        """The budget's numbers."""
        return BUDGETS[self.budget]
