"""What survives (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DURABILITY, RESTART
from kessel_core.contract import Attempts, Buried, Bury

NEEDS = (DURABILITY,)


@case(
    "durable.reopened",
    "S9",
    "S4",
    needs=NEEDS,
    why="A deployment closes and opens; no job may be lost or change.",
)
def reopened(bench: Bench) -> None:
    consumer = bench.consumer()
    bench.put()
    bench.settle(consumer, bench.taken(consumer), Bury("error", "broken"))
    late, urgent = bench.put(priority=70), bench.put(priority=7)
    if bench.capabilities.delay_granularity is not None:
        bench.put(delay=timedelta(hours=1))
    tried = None
    if bench.capabilities.attempts is Attempts.DURABLE:
        tried = bench.put(priority=1)
        bench.roll_back(consumer, bench.taken(consumer))
    bench.reopen()
    consumer = bench.consumer()
    if tried is not None:
        held = bench.taken(consumer)
        if bench.capabilities.priorities is not None:
            bench.equal(bench.attempt(consumer, held), 2, "attempt() after reopening", "S10")
        bench.settle(consumer, held)
    got = bench.labels(bench.drain(consumer))
    expected = bench.labels([urgent.body, late.body])
    if bench.capabilities.priorities is None:
        got, expected = sorted(got), sorted(expected)
    if tried is None or bench.capabilities.priorities is not None:
        bench.equal(got, expected, "jobs after reopening")
    if bench.has(Buried):
        found = bench.buried()
        bench.equal([job.reason for job in found], ["error"], "reasons of buried jobs after reopening")


@case(
    "durable.server_restart",
    "S9",
    needs=(*NEEDS, RESTART),
    waits=True,
    why="Servers are restarted while producers and workers live on.",
)
def server_restart(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    held = bench.taken(consumer)
    bench.roll_back(consumer, held)
    bench.harness.restart()
    bench.history.add("the server was restarted")
    again = bench.patiently("reserve", lambda: consumer.reserve(timedelta(0)))
    bench.check(again is not None and again.body == message.body, "the job did not survive the restart")
    assert again is not None
    bench.settle(consumer, again)
    after = bench.message()
    bench.patiently("enqueue", lambda: bench.adapter.enqueue(after))
    bench.gets(consumer, after, "a job enqueued after the restart")
