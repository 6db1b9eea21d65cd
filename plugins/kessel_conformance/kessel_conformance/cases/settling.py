"""Commit, rollback, bury, kick (S8)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DELAYS, PRIORITIES
from kessel_core.contract import COMMIT, Buried, Bury, Delete, Rollback


@case("settle.commit_removes", "S8", why="A committed job that comes back does its work twice.")
def commit_removes(bench: Bench) -> None:
    bench.put()
    consumer = bench.consumer()
    bench.settle(consumer, bench.taken(consumer))
    bench.nothing(consumer, "the job was committed")
    if bench.harness.virtual:
        bench.let_pass((bench.capabilities.lease or timedelta(hours=1)) * 2)
        bench.nothing(consumer, "the job was committed, long ago")


@case(
    "settle.rollback_returns",
    "S8",
    "S9",
    waits=True,
    why="A retry that is lost looks like a job that was done.",
)
def rollback_returns(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    bench.roll_back(consumer, bench.gets(consumer, message, "the job"))
    again = bench.gets(bench.consumer(), message, "the job after its rollback")
    bench.equal(again.queue, bench.queue, "its queue")


@case(
    "settle.rollback_pauses",
    "S8",
    "S11",
    needs=(DELAYS,),
    waits=True,
    why="A pause that is cut short hammers what just failed.",
)
def rollback_pauses(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")
    due = bench.now() + timedelta(milliseconds=1400)
    bench.settle(consumer, held, Rollback(timedelta(milliseconds=1400)))
    bench.comes_no_earlier(consumer, message, due, "rolled back with a pause of 1.4 s")


@case(
    "settle.rollback_keeps_priority",
    "S8",
    needs=(PRIORITIES,),
    waits=True,
    why="Client libraries reset the priority on release when none is given.",
)
def rollback_keeps_priority(bench: Bench) -> None:
    urgent = bench.put(priority=5)
    consumer = bench.consumer()
    held = bench.gets(consumer, urgent, "the urgent job")
    bench.put(priority=100)
    bench.put(priority=1)
    bench.roll_back(consumer, held)
    order = bench.drain(consumer)
    bench.equal(bench.labels(order), ["job-3", "job-1", "job-2"], "order after a rollback")


@case("settle.bury_sets_aside", "S8", why="A poison job that comes back at once stops everything behind it.")
def bury_sets_aside(bench: Bench) -> None:
    poison = bench.put(priority=1)
    other = bench.put(priority=9)
    consumer = bench.consumer()
    held = bench.taken(consumer)
    bench.settle(consumer, held, Bury("error", "it failed"))
    rest = other if held.body == poison.body else poison
    bench.settle(consumer, bench.gets(consumer, rest, "the other job"))
    if bench.harness.virtual:
        bench.let_pass((bench.capabilities.lease or timedelta(hours=1)) * 2)
    bench.nothing(consumer, "the job is buried")


@case(
    "settle.old_reservation",
    "S7",
    waits=True,
    why="An old reservation that settles somebody else's delivery loses a job.",
)
def old_reservation(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    old = bench.gets(first, message, "the job")
    bench.roll_back(first, old)
    held = bench.gets(second, message, "the job after its rollback")
    bench.not_settled(first, old, COMMIT, "with its settled reservation")
    bench.not_extended(first, old, "with its settled reservation")
    bench.roll_back(second, held)
    bench.gets(second, message, "the job, which nobody committed")


@case(
    "settle.and_reserve",
    "S8",
    "S6",
    waits=True,
    why="The usual path of a busy worker; it must be the sum of its parts.",
)
def settle_and_reserve(bench: Bench) -> None:
    one, two = bench.put(priority=1), bench.put(priority=2)
    consumer = bench.consumer()
    held = bench.taken(consumer)
    rest = two if held.body == one.body else one
    following = bench.settle_and_reserve(consumer, held, COMMIT)
    bench.check(following is not None and following.body == rest.body, "the next job did not come")
    assert following is not None
    back = bench.settle_and_reserve(consumer, following, Rollback())
    if back is None and not bench.harness.virtual:
        bench.let_pass(bench.slack)  # a coarse backend may round nothing up to its granularity
        back = bench.reserve(consumer)
    bench.check(back is not None and back.body == rest.body, "the rolled back job did not come")
    assert back is not None
    last = bench.settle_and_reserve(consumer, back, Bury("error"))
    bench.check(last is None, "a job came out of an empty queue")


@case(
    "buried.listed",
    "S8",
    needs=(Buried,),
    why="An operator needs to see what failed, why, and which one failed first.",
)
def buried_listed(bench: Bench) -> None:
    consumer = bench.consumer()
    sent = []
    for number in range(3):
        message = bench.put()
        sent.append(message)
        bench.settle(
            consumer, bench.gets(consumer, message, "the job"), Bury("bad-payload", f"failure {number}")
        )
        if bench.harness.virtual:
            bench.let_pass(timedelta(seconds=1))
    found = bench.buried()
    bench.equal(
        bench.labels([job.body for job in found]),
        bench.labels([m.body for m in sent]),
        "buried jobs, oldest first",
    )
    bench.equal([job.reason for job in found], ["bad-payload"] * 3, "their reasons")
    bench.equal([job.message for job in found], ["failure 0", "failure 1", "failure 2"], "their messages")
    bench.equal([str(job.state) for job in found], ["buried"] * 3, "their states")
    some = bench.buried(2)
    bench.equal([job.id for job in some], [job.id for job in found[:2]], "the listing with a limit")


@case(
    "buried.kick_returns",
    "S8",
    "S10",
    needs=(Buried,),
    waits=True,
    why="A kicked job gets its full number of tries, and runs.",
)
def kick_returns(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    for _ in range(2):
        bench.roll_back(consumer, bench.gets(consumer, message, "the job"))
    bench.settle(consumer, bench.gets(consumer, message, "the job"), Bury("error"))
    (stored,) = bench.buried()
    bench.kick(stored.id)
    bench.equal(bench.buried(), [], "buried jobs after the kick")
    again = bench.gets(consumer, message, "the kicked job")
    if bench.capabilities.attempts is not None:
        bench.equal(bench.attempt(consumer, again), 1, "attempt() after a kick")


@case(
    "buried.kick_keeps_priority",
    "S8",
    needs=(Buried, PRIORITIES),
    why="Bury takes a priority in some protocols and resets it.",
)
def kick_keeps_priority(bench: Bench) -> None:
    urgent = bench.put(priority=3)
    consumer = bench.consumer()
    bench.settle(consumer, bench.gets(consumer, urgent, "the urgent job"), Bury("error"))
    bench.put(priority=50)
    bench.put(priority=1)
    (stored,) = bench.buried()
    bench.kick(stored.id)
    bench.equal(bench.labels(bench.drain(consumer)), ["job-3", "job-1", "job-2"], "order after a kick")


@case(
    "buried.kick_only_buried",
    "S8",
    "S4",
    needs=(Buried, DELAYS),
    why="Some servers kick delayed jobs when none is buried.",
)
def kick_only_buried(bench: Bench) -> None:
    waiting = bench.put(delay=timedelta(hours=1))
    ready = bench.put()
    for message in (waiting, ready):
        bench.not_kicked(message.id, "which is not buried")
    bench.not_kicked("no-such-id", "which nobody has")
    consumer = bench.consumer()
    bench.settle(consumer, bench.gets(consumer, ready, "the ready job"))
    bench.nothing(consumer, "the other job is delayed by an hour")


@case("buried.delete_removes", "S8", needs=(Buried, Delete), why="What cannot be mended has to go.")
def delete_removes(bench: Bench) -> None:
    consumer = bench.consumer()
    for _ in range(2):
        bench.put()
        bench.settle(consumer, bench.taken(consumer), Bury("error"))
    first, second = bench.buried()
    bench.delete(first.id)
    left = bench.buried()
    bench.equal([job.id for job in left], [second.id], "buried jobs after one was deleted")
    bench.not_deleted(first.id, "again")
