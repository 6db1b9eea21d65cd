"""Lost connections: for every call the outcome is one that the contract allows, and the next call works.

A proxy before the server drops requests and answers, cuts them at a byte, answers never, late, or slowly.
"""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product

from kessel_conformance.bench import Bench
from kessel_conformance.call import Call
from kessel_conformance.catalogue import case
from kessel_conformance.faults import ANSWER_WITHIN, HALF_OPEN, LATE, LATE_REQUEST, SLOW, Fault
from kessel_conformance.job_calls import ENQUEUES, EXTENDS, RESERVES, SETTLES
from kessel_conformance.lost_calls import DONE_LATE, TAKES
from kessel_conformance.operation_calls import CHANGES, LOOKS
from kessel_conformance.requirements import CONNECTION, LEASE, LOST_RESERVES
from kessel_conformance.trials import Trials

NEEDS = (CONNECTION,)
#: So that all calls that wait for the end of the first lease are made before the second is over.
_MOST_EXTENDS = 60
#: A listing has long answers, and on some servers a cost that grows with the jobs of all trials.
_MOST_LOOKS = 30
#: Seconds; a call may wait for its time-out more than once, on one connection after another.
_SIDE_BY_SIDE = 3 * ANSWER_WITHIN


def _broken(bench: Bench, kinds: Sequence[type[Call]], most: int | None = None) -> None:
    cuts = bench.settings.amounts.cuts
    with Trials(bench) as trials:
        trials.run(kinds, cuts if most is None else min(cuts, most))
        trials.finish()


@case(
    "lost.enqueue",
    "S14",
    needs=NEEDS,
    waits=True,
    why="A job that is lost, or stored twice, is never noticed unless the enqueue says so.",
)
def lost_enqueue(bench: Bench) -> None:
    _broken(bench, ENQUEUES)


@case(
    "lost.reserve",
    "S9",
    needs=NEEDS,
    waits=True,
    why="A dead server looks like an empty queue, and the worker like an idle one.",
)
def lost_reserve(bench: Bench) -> None:
    _broken(bench, RESERVES)


@case(
    "lost.settle",
    "S8",
    "S7",
    "S21",
    needs=NEEDS,
    waits=True,
    why="A settle that is swallowed does the work twice; one that is sent twice settles another's delivery.",
)
def lost_settle(bench: Bench) -> None:
    _broken(bench, SETTLES)


@case(
    "lost.extend",
    "S7",
    needs=NEEDS,
    waits=True,
    why="A worker that believes in a lease which nobody extended runs the job beside its next holder.",
)
def lost_extend(bench: Bench) -> None:
    _broken(bench, EXTENDS, _MOST_EXTENDS)


@case(
    "lost.look",
    "S9",
    needs=NEEDS,
    waits=True,
    why="Nothing is there, says a listing of a server that nobody reached.",
)
def lost_look(bench: Bench) -> None:
    _broken(bench, LOOKS, _MOST_LOOKS)


@case(
    "lost.change",
    "S9",
    "S8",
    needs=NEEDS,
    waits=True,
    why="An operator believes done what never arrived, or does it again to what is new.",
)
def lost_change(bench: Bench) -> None:
    _broken(bench, CHANGES, _MOST_LOOKS)


def _under(bench: Bench, faults: Sequence[Fault], kinds: Sequence[type[Call]]) -> None:
    """Try calls side by side, each over a connection of its own, because each may wait for its time-out."""
    pairs = list(product(faults, kinds))
    with ExitStack() as stack:
        alone = [stack.enter_context(Trials(stack.enter_context(bench.beside()))) for _ in pairs]
        calls = [partial(trials.run_under, *pair) for trials, pair in zip(alone, pairs, strict=True)]
        bench.side_by_side(calls, _SIDE_BY_SIDE)
        for trials in alone:
            trials.finish()


@case(
    "lost.half_open",
    "S9",
    "S14",
    needs=NEEDS,
    waits=True,
    why="A peer that hangs answers never, or too late, when the answer is taken for that of the next call.",
)
def half_open(bench: Bench) -> None:
    _under(bench, (HALF_OPEN, LATE), (*ENQUEUES, *RESERVES, *SETTLES, *LOOKS, *CHANGES))


@case(
    "lost.slow",
    "S9",
    needs=NEEDS,
    waits=True,
    why="Answers arrive in pieces; who reads as much as is there reads half a job.",
)
def slow(bench: Bench) -> None:
    _under(bench, (SLOW,), (*ENQUEUES, *RESERVES, *SETTLES, *CHANGES))


@case(
    "lost.reserve_comes_back",
    "S7",
    "S9",
    needs=(*NEEDS, LEASE, LOST_RESERVES),
    waits=True,
    why="An answer is lost, and an urgent job waits a whole lease for somebody who never heard of it.",
)
def reserve_comes_back(bench: Bench) -> None:
    _broken(bench, TAKES)


@case(
    "lost.reserve_done_late",
    "S7",
    "S9",
    needs=(*NEEDS, LEASE, LOST_RESERVES),
    waits=True,
    why="A server does what it was asked after it was asked once what became of it, and nobody asks again.",
)
def reserve_done_late(bench: Bench) -> None:
    _under(bench, (LATE_REQUEST,), DONE_LATE)
