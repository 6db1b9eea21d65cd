"""What survives (S9): every state of a job, with all its values."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.kills import kill_at_any_point
from kessel_conformance.places import OUTLIVES_A_PROCESS
from kessel_conformance.requirements import DURABILITY, RESTART
from kessel_conformance.states import States

NEEDS = (DURABILITY,)
CLAUSES = ("S9", "S4", "S6", "S8", "S10", "S21", "S22")
#: Jobs; more than a log has before it is written anew.
_MANY = 700


@case(
    "durable.reopened",
    *CLAUSES,
    needs=NEEDS,
    waits=True,
    why="A deployment closes and opens; no job may be lost or change.",
)
def reopened(bench: Bench) -> None:
    states = States(bench)
    states.make()
    bench.reopen()
    states.check(process_ended=False)


@case(
    "durable.reopened_after_many",
    *CLAUSES,
    needs=NEEDS,
    waits=True,
    why="A log that has grown long is written anew, and what is left in it is not the whole job.",
)
def reopened_after_many(bench: Bench) -> None:
    states = States(bench)
    states.make()
    bench.pass_through(_MANY)
    bench.reopen()
    states.check(process_ended=False)


@case(
    "durable.server_restart",
    *CLAUSES,
    needs=(*NEEDS, RESTART),
    waits=True,
    alone=True,
    why="Servers crash and are restarted while producers and workers live on.",
)
def server_restart(bench: Bench) -> None:
    states = States(bench)
    states.make()
    consumer = bench.consumer()
    bench.nothing(consumer, "nothing was enqueued there")
    bench.harness.restart()
    bench.history.add("the server was killed and started again")
    after = bench.message()
    bench.patiently("enqueue", lambda: bench.adapter.enqueue(after))
    held = bench.patiently("reserve", lambda: consumer.reserve(bench.slack))
    bench.check(held is not None and held.body == after.body, "a job enqueued after the restart did not come")
    assert held is not None
    bench.settle(consumer, held)
    states.check(process_ended=True)


@case(
    "durable.killed_process",
    *CLAUSES,
    needs=(OUTLIVES_A_PROCESS,),
    looks_at=("reach",),
    real_time=True,
    why="Workers and producers are killed at any point of a call; what was acknowledged is there, and whole.",
)
def killed_process(bench: Bench) -> None:
    kill_at_any_point(bench)
