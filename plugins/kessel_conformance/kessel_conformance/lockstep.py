"""Plans without a state machine: many queues move together, so that on a real clock all wait only once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from itertools import zip_longest
from typing import Final, TypeVar

from kessel_conformance.comparison import Comparison
from kessel_conformance.harness import Harness
from kessel_conformance.history import Violation
from kessel_conformance.opencase import move
from kessel_conformance.plans import Plan, deliver_rest, random_plan, return_all
from kessel_conformance.requirements import LEASE, RETURNS_AT_ONCE

__all__ = ["play", "run_lockstep", "shortened"]

T = TypeVar("T")

#: Rounds of shortening; each takes as long as the plan.
_SHORTENINGS: Final = 14


def run_lockstep(harness: Harness, *, queues: int, rounds: int, seed: int, shrink: bool = False) -> None:
    """Run a plan on each of many queues, a round at a time.

    Raises:
        Violation: With the history of the queue that failed soonest, and whether it failed again alone.
    """
    grain = harness.capabilities.delay_granularity
    # Half a granularity: delays then end inside and between rounds.
    unit = min(1.0, max(0.1, grain.total_seconds() / 2)) if grain is not None else 0.1
    # What is dropped may take its whole lease to come back.
    drops = RETURNS_AT_ONCE.is_met(harness) or LEASE.is_met(harness)
    plans = [random_plan(_generator(seed, number), rounds, unit, drops=drops) for number in range(queues)]
    failed = _failures(play(harness, plans, unit))
    if not failed:
        return
    number, shown = min(failed.items(), key=lambda item: len(item[1].history))
    again = _failures(play(harness, [plans[number]], unit))
    if not again:
        again_text = _why_not_alone(number in _failures(play(harness, plans, unit)), len(plans))
    else:
        shown, again_text = again[0], "it failed again when replayed alone"
        shorter = shortened(harness, plans[number], shown.clause, unit) if shrink else None
        if shorter is not None:
            shown, again_text = shorter, "shortened"
    others = f", as {len(failed) - 1} others" if len(failed) > 1 else ""
    raise Violation(
        shown.clause, f"{shown.why} (plan {number} of seed {seed}{others}; {again_text})", shown.history
    )


def _why_not_alone(fails_again: bool, plans: int) -> str:
    """Say what a plan that passes alone may have met; it is seldom what one thinks of first."""
    if fails_again:
        return (
            f"alone it passes, beside the {plans - 1} other plans it failed again: look at what depends on "
            "other queues, and on how many jobs the store holds"
        )
    return (
        f"it passed when replayed alone, and once more beside the {plans - 1} others: load, timing, other "
        "queues and the number of jobs in the store may each be the cause"
    )


def _generator(seed: int, number: int) -> random.Random:
    return random.Random(f"{seed}/{number}")  # noqa: S311  # to be repeated, not to be secret


def _failures(ends: Sequence[Comparison | Violation]) -> dict[int, Violation]:
    return {number: end for number, end in enumerate(ends) if isinstance(end, Violation)}


def play(harness: Harness, plans: Sequence[Plan], unit: float) -> list[Comparison | Violation]:
    """Run plans together, each on a queue of its own, with `unit` seconds between rounds.

    Returns:
        Of each plan the comparison at its end, where everything is settled, or how it failed.
    """
    clock, namespace = harness.clock(), harness.namespace()
    if harness.plans_url is not None and not harness.virtual:
        adapter = harness.open_url(harness.plans_url, clock, namespace)
    else:
        adapter = harness.open(clock, namespace)
    noise = 2e-6 if harness.virtual else harness.tolerance.total_seconds()
    compared: list[Comparison] = []
    failed: dict[Comparison, Violation] = {}

    def each(act: Callable[..., T], *columns: Sequence[object]) -> list[T]:
        """Do something to every comparison that has not failed, with its arguments from the columns."""
        answers = []
        for one, *arguments in zip(compared, *columns, strict=True):
            if one not in failed:
                try:
                    answers.append(act(one, *arguments))
                except Violation as exc:
                    failed[one] = exc
        return answers

    with ExitStack() as stack:  # whichever of what ends it fails, the rest is done
        stack.callback(harness.purge, namespace)
        stack.callback(adapter.close)
        for number in range(len(plans)):
            compared.append(Comparison(adapter, clock, f"{namespace}.{number}", noise))
            stack.callback(compared[-1].close)
        start = clock.monotonic()
        for number, steps in enumerate(zip_longest(*plans, fillvalue=()), start=1):
            each(Comparison.round, steps)
            # Until the time by the plan, so that what the rounds take does not add up.
            move(harness, clock, timedelta(seconds=start + number * unit - clock.monotonic()))
        move(harness, clock, timedelta(seconds=max(each(return_all), default=0.0)))
        each(deliver_rest)
    return [failed.get(one, one) for one in compared]


def shortened(harness: Harness, plan: Plan, clause: str, unit: float) -> Violation | None:
    """Look for a shorter plan that breaks the same clause; tries many at once, for as long as one takes.

    Returns:
        How the shortest one found failed; None if none that is shorter did.
    """
    best: Violation | None = None
    parts = 2
    for _ in range(_SHORTENINGS):
        places = [(number, index) for number, steps in enumerate(plan) for index in range(len(steps))]
        size = max(1, len(places) // parts)
        chunks = [set(places[start : start + size]) for start in range(0, len(places), size)]
        tries = [
            [
                [step for index, step in enumerate(steps) if (number, index) not in chunk]
                for number, steps in enumerate(plan)
            ]
            for chunk in chunks
        ]
        failed = _failures(play(harness, tries, unit))
        good = [number for number, violation in failed.items() if violation.clause == clause]
        if good:
            number = min(good, key=lambda number: sum(map(len, tries[number])))
            plan, best = tries[number], failed[number]
        elif size == 1:
            break
        else:
            parts *= 2
    return best
