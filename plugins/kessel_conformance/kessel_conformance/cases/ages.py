"""How long the next ready job has been ready: since it was stored, or since its delay was over (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import datetime, timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import COUNTS, DELAYS, PRIORITIES
from kessel_core.contract import Rollback, Settlement, Snooze


@case(
    "stats.oldest_ready",
    "S9",
    needs=(COUNTS,),
    waits=True,
    why="A queue that nobody serves shows by its age; one that counts a delay alarms for nothing.",
)
def oldest_ready(bench: Bench) -> None:
    bench.equal(bench.stats().oldest_ready, None, "age of the next ready job where none is")
    hour = timedelta(hours=1) if bench.harness.virtual else bench.slack + timedelta(seconds=1)
    begun = bench.now()
    bench.put(priority=5)
    if bench.stats().oldest_ready is None:
        return  # the adapter cannot tell
    stored = bench.now()
    bench.let_pass(hour)
    later = bench.now()
    bench.put(priority=5)
    if bench.capabilities.delay_granularity is not None:
        bench.put(delay=timedelta(hours=9))
    _is_as_old(bench, begun, stored, "the first job")
    consumer, other = bench.consumer(), bench.consumer()
    bench.taken(other)
    if bench.capabilities.tie_break is not None:
        _is_as_old(bench, later, bench.now(), "the second job, the first one being held")
    bench.settle(consumer, bench.taken(consumer))
    bench.equal(
        bench.stats().oldest_ready, None, "age of the next ready job where others are held or delayed"
    )
    if bench.capabilities.delay_granularity is not None:
        sent = bench.now()
        past = bench.put(queue=bench.queue_named("past"), delay=timedelta(hours=-1))
        seen = bench.stats(past.queue).oldest_ready
        most = bench.now() - sent + bench.slack
        bench.check(
            seen is None or seen <= most, f"a job is ready since {seen}, which is before it was stored"
        )


@case(
    "stats.oldest_was_delayed",
    "S9",
    needs=(COUNTS, DELAYS),
    waits=True,
    why="A job that waited for its day has not waited for a worker.",
)
def oldest_was_delayed(bench: Bench) -> None:
    span = timedelta(hours=1) if bench.harness.virtual else bench.grain + timedelta(seconds=1)
    due = _delayed(bench, span)
    bench.equal(bench.stats().oldest_ready, None, "age of the next ready job where one is delayed")
    bench.until(due + bench.slack)
    if bench.stats().oldest_ready is not None:
        _is_as_old(bench, due, due + bench.slack, "the job whose delay is over")


@case(
    "stats.oldest_unlooked",
    "S9",
    needs=(COUNTS, DELAYS),
    waits=True,
    why="The age counts from the first look at a queue: in one that nobody serves the job is always new.",
)
def oldest_unlooked(bench: Bench) -> None:
    span = timedelta(hours=1) if bench.harness.virtual else bench.grain + timedelta(seconds=1)
    due = _delayed(bench, span)
    latest = bench.now() + span + bench.slack
    bench.until(latest + span)
    if bench.stats().oldest_ready is not None:
        _is_as_old(bench, due, latest, "the job at which nobody has looked")


@case(
    "stats.oldest_is_next",
    "S9",
    needs=(COUNTS, PRIORITIES),
    waits=True,
    why="The age is that of the job that was enqueued first, though another one is next.",
)
def oldest_is_next(bench: Bench) -> None:
    begun = bench.now()
    bench.put(priority=9)
    if bench.stats().oldest_ready is None:
        return  # the adapter cannot tell
    stored = bench.now()
    bench.let_pass(timedelta(hours=1) if bench.harness.virtual else bench.slack * 2 + timedelta(seconds=1))
    before = bench.now()
    bench.put(priority=2)
    _is_as_old(bench, before, bench.now(), "the more urgent job, which is next")
    bench.taken(bench.consumer())
    _is_as_old(bench, begun, stored, "the job that is next now")


@case(
    "stats.oldest_came_back",
    "S9",
    "S21",
    needs=(COUNTS,),
    waits=True,
    why="A job that came back keeps the end of its lease, and is told to be new until that is over.",
)
def oldest_came_back(bench: Bench) -> None:
    begun = bench.now()
    ways: dict[str, Settlement | None] = {"rolled-back": Rollback(), "snoozed": Snooze(), "given-back": None}
    for way in ways:
        bench.put(queue=bench.queue_named(way))
    if bench.stats(bench.queue_named("snoozed")).oldest_ready is None:
        return  # the adapter cannot tell
    for way, settlement in ways.items():
        consumer = bench.consumer(bench.queue_named(way))
        held = bench.taken(consumer)
        if settlement is None:
            bench.give_back(held)
        else:
            bench.settle(consumer, held, settlement)
    back = bench.now() + bench.slack
    bench.let_pass(bench.slack * 2 + timedelta(milliseconds=500))
    for way in ways:
        # One that does not keep when a job came back may count from when it was stored.
        _is_as_old(bench, begun, back, f"the job that was {way}", bench.queue_named(way))


def _delayed(bench: Bench, span: timedelta) -> datetime:
    """Enqueue a job whose body tells its delay, too, as those of the core do; return when that is over."""
    due, job_id = bench.now() + span, f"late-{bench.namespace}"
    body = f'{{"v":1,"id":"{job_id}","type":"t","delay":"{due.isoformat()}","payload":null}}'
    bench.put(body.encode(), delay=span, job_id=job_id)
    return due


def _is_as_old(bench: Bench, begun: datetime, stored: datetime, which: str, queue: str | None = None) -> None:
    """Check the age of a job that became ready between two moments."""
    asked = bench.now()
    age = bench.stats(queue).oldest_ready
    told = bench.now()
    bench.check(age is not None, f"the age of {which} is not told")
    assert age is not None
    least, most = asked - stored - bench.slack, told - begun + bench.slack
    bench.check(least <= age <= most, f"{which} is told to have been ready for {age}, not {least} to {most}")
