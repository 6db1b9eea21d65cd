"""Pauses of a queue: what they hold back, for how long, and what they leave alone (facet `Pause`)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import LEASE
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Browse,
    Buried,
    Bury,
    Delete,
    JobState,
    Message,
    Pause,
    Rollback,
    Snooze,
    VirtualTime,
)

NEEDS = (Pause,)
_HOUR: Final = timedelta(hours=1)
#: Beyond one day, which `timedelta.seconds` does not tell, and beyond 32 bits of milliseconds.
_SPANS: Final = (timedelta(seconds=0.5), timedelta(hours=1.5), timedelta(days=3), timedelta(days=40))


@case(
    "pause.others_go_on",
    "S9",
    needs=NEEDS,
    why="A worker of several queues stops at the first that is paused, or the pause holds for all.",
)
def others_go_on(bench: Bench) -> None:
    a, b, c = (bench.queue_named(name) for name in "abc")
    bench.put(queue=b, priority=1)
    bench.pause(b, _HOUR)
    bench.pause(bench.queue_named("empty"), _HOUR)
    for queues in ((b, a), (a, b), (a, b, c), (c, b, a)):
        consumer = bench.consumer(*queues)
        sent = [bench.put(queue=queue).body for queue in queues if queue != b]
        came = bench.settle_all(consumer, COMMIT)
        bench.equal(sorted(came), sorted(sent), "jobs of the queues that are not paused")
        bench.nothing(consumer, "its other queue is paused")
    bench.nothing(bench.consumer(b), "the queue is paused")
    bench.pause(b, NO_PAUSE)
    bench.taken(bench.consumer(b))


@case(
    "pause.shown_and_over",
    "S9",
    needs=NEEDS,
    waits=True,
    why="An operator reads when the queue goes on; hours are told as seconds, days are lost.",
)
def shown_and_over(bench: Bench) -> None:
    longest = bench.capabilities.longest_delay or timedelta.max
    for span in (span for span in _SPANS if span < longest):
        queue = bench.queue_named(f"for{int(span.total_seconds() * 10)}")
        message = bench.put(queue=queue)
        start = bench.now()
        bench.pause(queue, span)
        shown, told = bench.stats(queue).paused, bench.now()
        consumer = bench.consumer(queue)
        early = bench.reserve(consumer)
        if bench.now() >= start + span:
            continue  # so busy a machine, and so short a pause, that it may be over
        bench.check(shown is not None, f"stats does not show that the queue is paused for {span}")
        assert shown is not None
        least = span - (told - start) - bench.slack
        bench.check(least <= shown <= span + bench.slack, f"paused for {span}, shown as {shown}")
        bench.check(early is None, f"the queue is paused for {span}, but its job was delivered")
        if bench.harness.virtual:
            bench.until(start + span - timedelta(milliseconds=100))
            bench.nothing(consumer, f"the queue is paused for {span}")
        if bench.harness.virtual or span is _SPANS[0]:
            bench.until(start + span + bench.slack + MICRO)
            shown = bench.stats(queue).paused
            bench.equal(shown, None, f"the rest of a pause of {span} that is over")
        else:
            bench.pause(queue, NO_PAUSE)
            shown = bench.stats(queue).paused
            bench.equal(shown, None, "the rest of a pause that was ended")
            bench.let_pass(bench.slack - bench.grain)
        bench.gets(consumer, message, f"the job after the pause of {span}")


@case(
    "pause.set_anew",
    "S9",
    needs=NEEDS,
    waits=True,
    why="The longer of two pauses wins, or they add up; or what was never paused cannot be resumed.",
)
def set_anew(bench: Bench) -> None:
    bench.pause(bench.queue_named("never"), NO_PAUSE)
    message = bench.put()
    bench.equal(bench.stats().paused, None, "the rest of a pause that never was")
    bench.pause(bench.queue, NO_PAUSE)
    bench.equal(bench.stats().paused, None, "the rest of a pause of no time")
    consumer = bench.consumer()
    bench.roll_back(
        consumer, bench.gets(consumer, message, "a job of a queue that was resumed, and never paused")
    )
    bench.pause(bench.queue, _HOUR)
    due = bench.now() + timedelta(milliseconds=700)
    bench.pause(bench.queue, timedelta(milliseconds=700))
    bench.nothing(consumer, "the queue is paused")
    held = bench.comes_no_earlier(
        consumer, message, due, "from a queue that was paused anew, for 0.7 s", "S9"
    )
    bench.settle(consumer, held)
    bench.pause(bench.queue, timedelta(milliseconds=100))
    bench.pause(bench.queue, _HOUR)
    bench.let_pass(timedelta(milliseconds=100) + bench.slack)
    bench.put()
    bench.nothing(consumer, "the queue is paused anew, for an hour")


@case(
    "pause.beyond_time",
    "S9",
    needs=NEEDS,
    why="A queue is paused until somebody resumes it, for so long that the end is after the year 9999.",
)
def beyond_time(bench: Bench) -> None:
    if bench.capabilities.longest_delay is not None:
        return  # an adapter that has a limit for delays may have one for this
    message, consumer = bench.put(), bench.consumer()
    bench.pause(bench.queue, timedelta(days=365 * 9000))
    bench.nothing(consumer, "the queue is paused for thousands of years")
    shown = bench.stats().paused
    bench.check(shown is not None and shown > _HOUR, f"the rest of that pause is {shown}")
    if bench.has(VirtualTime):
        found = bench.call("next_change", partial(bench.facet(VirtualTime).next_change, [bench.queue]))
        bench.check(found is None or found > bench.now() + _HOUR, f"next_change is {found}")
    bench.pause(bench.queue, NO_PAUSE)
    bench.gets(consumer, message, "the job of a queue that was resumed")


@case(
    "pause.holds_back_all",
    "S9",
    needs=NEEDS,
    waits=True,
    why="A pause holds back what was ready when it began, and lets through what becomes ready meanwhile.",
)
def holds_back_all(bench: Bench) -> None:
    consumer = bench.consumer()
    ways = []
    buried = bench.put()
    held = bench.gets(consumer, buried, "the job")
    bench.settle(consumer, held, Bury("error", "it failed"))
    holders = [bench.consumer() for _ in range(2)]
    sent = [bench.put() for _ in holders]
    reservations = [bench.taken(holder) for holder in holders]
    ways += sent
    bench.pause(bench.queue, _HOUR)
    bench.settle(holders[0], reservations[0], Rollback())
    bench.settle(holders[1], reservations[1], Snooze())
    ways.append(bench.put())
    batch = [bench.message(), bench.message()]
    bench.send_many(batch)
    ways += batch
    if bench.capabilities.delay_granularity is not None:
        ways.append(bench.put(delay=timedelta(milliseconds=200)))
    if bench.has(Buried):
        bench.kick(bench.buried()[0].id)
        ways.append(buried)
    bench.let_pass(timedelta(milliseconds=200) + bench.slack)
    bench.nothing(consumer, "the queue is paused")
    bench.nothing(bench.consumer(bench.queue, bench.queue_named("other")), "the queue is paused")
    if bench.capabilities.counts:
        found = bench.stats()
        bench.equal((found.ready, found.delayed), (len(ways), 0), "ready and delayed jobs of a paused queue")
    if bench.has(Browse):
        bench.equal(
            len(bench.peek(JobState.READY, 20)), len(ways), "ready jobs of a paused queue that are shown"
        )
    bench.pause(bench.queue, NO_PAUSE)
    bench.let_pass(bench.slack - bench.grain)
    came = bench.drain(consumer)
    bench.equal(
        sorted(bench.labels(came)), sorted(bench.labels([m.body for m in ways])), "jobs after the pause"
    )


@case(
    "pause.spares_holders",
    "S9",
    "S7",
    needs=NEEDS,
    why="A pause stops what is about to begin; what runs must end as it would.",
)
def spares_holders(bench: Bench) -> None:
    holders = [bench.consumer() for _ in range(3)]
    sent = [bench.put() for _ in holders]
    held = [bench.taken(holder) for holder in holders]
    rest = bench.put()
    bench.pause(bench.queue, _HOUR)
    for holder, reservation in zip(holders, held, strict=True):
        bench.extend(holder, reservation)
    bench.settle(holders[0], held[0])
    following = bench.settle_and_reserve(holders[1], held[1], COMMIT)
    bench.check(following is None, "a job was taken from a paused queue")
    bench.settle(holders[2], held[2], Bury("error", "it failed"))
    if bench.has(Buried):
        bench.equal([job.body for job in bench.buried()], [held[2].body], "buried jobs of a paused queue")
    bench.pause(bench.queue, NO_PAUSE)
    consumer = bench.consumer()
    bench.settle(consumer, bench.gets(consumer, rest, "the job that was ready all the time"))
    bench.nothing(consumer, f"all {len(sent) + 1} jobs were settled")


@case(
    "pause.outlasts_leases",
    "S9",
    "S7",
    needs=(*NEEDS, LEASE),
    waits=True,
    why="A job whose lease ends in a paused queue is delivered, because only new ones are held back.",
)
def outlasts_leases(bench: Bench) -> None:
    message = bench.put()
    bench.taken(bench.consumer())
    bench.pause(bench.queue, _HOUR)
    bench.let_pass(bench.lease + bench.slack + MICRO)
    consumer = bench.consumer()
    bench.nothing(consumer, "the queue is paused")
    if bench.capabilities.counts:
        bench.equal(bench.stats().ready, 1, "ready jobs of a paused queue, after the lease")
    bench.pause(bench.queue, NO_PAUSE)
    bench.let_pass(bench.slack - bench.grain)
    bench.gets(consumer, message, "the job, after lease and pause")


@case(
    "pause.outlives_jobs",
    "S9",
    needs=NEEDS,
    why="A pause is forgotten with the last job of its queue, and the next one runs.",
)
def outlives_jobs(bench: Bench) -> None:
    def still(when: str) -> Message:
        bench.check(bench.stats().paused is not None, f"the pause is not shown {when}")
        message = bench.put()
        bench.nothing(bench.consumer(), f"the queue is paused, {when}")
        return message

    bench.pause(bench.queue, _HOUR)
    still("before its first job")
    bench.purge()
    last = still("after a purge")
    if bench.has(Delete):
        bench.delete(last.id)
        still("after its last job was deleted")
    bench.purge()
    bench.pause(bench.queue, NO_PAUSE)
    bench.let_pass(bench.slack - bench.grain)
    message, consumer = bench.put(), bench.consumer()
    held = bench.gets(consumer, message, "the job of a queue that goes on")
    bench.pause(bench.queue, _HOUR)
    bench.settle(consumer, held)
    still("after its last job was committed")
