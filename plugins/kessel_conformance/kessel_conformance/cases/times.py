"""Moments and spans of every kind: zones, years, microseconds, and what is seen once they are over (S4)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import datetime, timedelta, timezone
from typing import Final

import attrs

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DELAYS, LEASE, TIE_BREAK, VIRTUAL_CLOCK
from kessel_core.contract import (
    Browse,
    Buried,
    Bury,
    Delete,
    Find,
    JobState,
    Pause,
    TieBreak,
    VirtualTime,
)
from kessel_core.testing import VirtualClock

NEEDS = (DELAYS,)
#: Below and above what fits into 32 bits of milliseconds or microseconds, and beyond one day, which
#: `timedelta.seconds` does not tell.
_PAUSES: Final = (timedelta(hours=1.5), timedelta(hours=25), timedelta(days=3), timedelta(days=40))
_YEAR: Final = timedelta(days=365)


@case(
    "delay.in_any_zone",
    "S4",
    needs=NEEDS,
    waits=True,
    why="A moment in another zone is the same moment, but not as text, and not without its zone.",
)
def in_any_zone(bench: Bench) -> None:
    due = bench.now() + timedelta(milliseconds=800)
    sent, past = {}, {}
    for hours in (-11, -5.5, 0, 5.75, 13):
        zone = timezone(timedelta(hours=hours))
        queue = bench.queue_named(f"zone{hours}")
        sent[queue] = bench.send(
            attrs.evolve(bench.message(queue=queue), delay=due.astimezone(zone)), f", in {zone}"
        )
        queue += "past"
        ago = (due - timedelta(minutes=1)).astimezone(zone)
        past[queue] = bench.send(
            attrs.evolve(bench.message(queue=queue), delay=ago), f", a minute ago in {zone}"
        )
    bench.let_pass(bench.slack - bench.grain)
    for queue, message in past.items():
        bench.gets(bench.consumer(queue), message, "a job whose delay is past")
    early = bench.reserve(bench.consumer(*sent))
    bench.check(early is None or bench.now() >= due, "a job in another zone came early")
    if early is not None:
        return  # the machine was so busy that they are due
    bench.until(due + bench.slack)
    for queue, message in sent.items():
        bench.gets(bench.consumer(queue), message, "a job that is due, in another zone")


@case(
    "delay.of_years",
    "S4",
    needs=NEEDS,
    why="Milliseconds of a month do not fit into 32 bits, seconds of some decades neither, and wrap round.",
)
def of_years(bench: Bench) -> None:
    longest = bench.capabilities.longest_delay or timedelta.max
    spans = [timedelta(days=25), timedelta(days=50), *(_YEAR * years for years in (1, 2, 5, 10, 30, 60))]
    start = bench.now()
    sent = [bench.put(delay=span) for span in spans if span + bench.grain < longest]
    if bench.has(Browse):
        shown = bench.peek(JobState.DELAYED, 20)
        bench.equal(
            bench.labels([job.body for job in shown]), bench.labels([m.body for m in sent]), "delayed jobs"
        )
    if bench.capabilities.counts:
        found = bench.stats()
        bench.equal((found.ready, found.delayed), (0, len(sent)), "ready and delayed jobs")
    consumer = bench.consumer()
    bench.nothing(consumer, "all jobs are delayed by weeks or years")
    for message, span in zip(sent, spans, strict=False):
        if bench.harness.virtual:
            bench.until(start + span - timedelta(seconds=1))
            bench.nothing(consumer, f"the next job is delayed by {span.days} days")
            bench.until(start + span + bench.slack)
            bench.settle(consumer, bench.gets(consumer, message, f"the job delayed by {span.days} days"))


@case(
    "delay.to_the_microsecond",
    "S4",
    needs=NEEDS,
    waits=True,
    why="A moment that is cut to the unit of the backend lies before the one that was asked for.",
)
def to_the_microsecond(bench: Bench) -> None:
    # The last microsecond of a second, of a tenth, and so on: cut to any of these units, each is early.
    start = (bench.now() + timedelta(seconds=1.2)).replace(microsecond=0)
    sent = {}
    for rest in (199_999, 309_999, 420_999, 530_099, 640_009, 999_999):
        due = start.replace(microsecond=rest)
        message = attrs.evolve(bench.message(queue=bench.queue_named(str(rest))), delay=due)
        sent[due] = bench.send(message, f", due at {due:%S.%f}")
    for due, message in sent.items():
        bench.not_before(bench.consumer(message.queue), message, due)


@case(
    "delay.expired_always_comes",
    "S5",
    "S9",
    waits=True,
    why="What has expired is dropped where it is stored, made ready, returned or kicked; nobody is told.",
)
def expired_always_comes(bench: Bench) -> None:
    gone = timedelta(milliseconds=-500)
    consumer = bench.consumer()
    old = bench.put(expiration=gone)
    held = bench.gets(consumer, old, "a job that had expired before it was enqueued")
    bench.roll_back(consumer, held)
    held = bench.gets(consumer, old, "an expired job after its rollback")
    if bench.has(Buried):
        bench.settle(consumer, held, Bury("error", "it failed"))
        bench.kick(bench.buried()[0].id)
        held = bench.gets(consumer, old, "an expired job after its kick")
    bench.settle(consumer, held)
    batch = [bench.message(expiration=gone), bench.message(expiration=timedelta(milliseconds=50))]
    if bench.capabilities.delay_granularity is not None:
        batch.append(bench.message(delay=timedelta(milliseconds=300), expiration=timedelta(milliseconds=100)))
    bench.send_many(batch, ", which expire soon")
    bench.let_pass(timedelta(milliseconds=300) + bench.slack)
    came = bench.drain(consumer)
    bench.equal(
        sorted(bench.labels(came)), sorted(bench.labels([m.body for m in batch])), "expired jobs of a batch"
    )


@case(
    "delay.due_is_ready",
    "S4",
    "S9",
    needs=NEEDS,
    waits=True,
    why="Only a reserve looks for what has become due: counts, listings, purge and delete miss it.",
)
def due_is_ready(bench: Bench) -> None:
    sent = [bench.put(delay=timedelta(milliseconds=500), priority=priority) for priority in (30, 20, 10)]
    due = sent[-1].delay or bench.now()
    late = bench.put(delay=timedelta(hours=1))
    bench.until(due + bench.slack)
    if bench.capabilities.counts:
        found = bench.stats()
        bench.equal(
            (found.ready, found.delayed, found.total), (3, 1, 4), "ready, delayed, total of what is due"
        )
    if bench.has(Browse):
        shown = bench.labels([job.body for job in bench.peek(JobState.READY, 10)])
        wanted = bench.labels([message.body for message in sent])
        bench.equal(sorted(shown), sorted(wanted), "ready jobs")
        if bench.capabilities.priorities is not None:
            bench.equal(shown, wanted[::-1], "their order")
        found_late = [job.body for job in bench.peek(JobState.DELAYED, 10)]
        bench.equal(bench.labels(found_late), bench.labels([late.body]), "delayed jobs")
    if bench.has(Find):
        found_one = bench.find(sent[0].id)
        bench.equal(found_one and found_one.state, JobState.READY, "the state of a job that is found")
    if bench.capabilities.dedupe:
        bench.is_held(sent[0], JobState.READY)
    left = 4
    if bench.has(Delete):
        bench.delete(sent[0].id)
        bench.delete(late.id)
        bench.not_deleted(late.id, "again")
        left = 2
    bench.equal(bench.purge(), left, "jobs purged")
    bench.nothing(bench.consumer(), "the queue was purged")


@case(
    "order.tie_by_due",
    "S6",
    "S4",
    needs=(TIE_BREAK, *NEEDS),
    waits=True,
    why="Several delays end before anybody looks; whether their order counts, tie_break says.",
)
def tie_by_due(bench: Bench) -> None:
    step = max(bench.grain, timedelta(milliseconds=100))
    sent = [bench.put(delay=step * number) for number in (3, 1, 2)]
    due = {message.body: message.delay or bench.now() for message in sent}  # each counts from its enqueue
    bench.until(max(due.values()) + bench.slack)
    if bench.capabilities.tie_break is not TieBreak.ENQUEUED:
        sent.sort(key=lambda message: due[message.body])
    came = bench.drain(bench.consumer())
    bench.equal(
        bench.labels(came), bench.labels([m.body for m in sent]), "order of equals whose delays have ended"
    )


@case(
    "time.next_change_of_all",
    "S18",
    needs=(VirtualTime, VIRTUAL_CLOCK, LEASE, DELAYS),
    why="A test waits for a wrong moment: of the first queue only, or of what a pause holds back.",
)
def next_change_of_all(bench: Bench) -> None:
    a, b, c = (bench.queue_named(name) for name in "abc")

    def due(*queues: str) -> datetime | None:
        return bench.call(
            f"next_change of {len(queues)}", lambda: bench.facet(VirtualTime).next_change(queues)
        )

    def soon(queues: tuple[str, ...], moment: datetime | None, what: str) -> None:
        found = due(*queues)
        limit = None if moment is None else moment + bench.grain + timedelta(milliseconds=1)
        right = (
            found is None
            if moment is None or limit is None
            else found is not None and moment <= found <= limit
        )
        bench.check(right, f"{what}: next_change is {found}, expected {moment}")

    start, lease = bench.now(), bench.lease
    bench.put(queue=a)
    bench.taken(bench.consumer(a))
    soon((a,), start + lease, "a job is held")
    ready = bench.put(queue=b)
    soon((b,), None, "a job is ready, so nothing changes by time alone")
    holder = bench.consumer(b)
    bench.settle(holder, bench.gets(holder, ready, "the ready job"))
    bench.put(queue=b, delay=lease / 2)
    soon((a, b), start + lease / 2, "a delay is sooner than a lease")
    soon((b, a), start + lease / 2, "in the other order")
    soon((a,), start + lease, "of the held job's queue alone")
    bench.put(queue=b, delay=lease * 2)
    bench.put(queue=c, delay=lease * 3)
    soon((a, c), start + lease, "a lease is sooner than a delay")
    d = bench.queue_named("d")
    if bench.has(Buried):
        bench.put(queue=d)
        consumer = bench.consumer(d)
        bench.settle(consumer, bench.taken(consumer), Bury("error"))
        soon((d,), None, "a buried job")
    if bench.has(Pause):
        bench.pause(b, lease)
        soon((b,), start + lease, "a delay ends within a pause")
        bench.pause(c, lease)
        soon((c,), start + lease * 3, "a pause ends before a delay")
        bench.pause(b, timedelta(0))
        soon((b,), start + lease / 2, "after the pause was ended")
        e = bench.queue_named("e")
        waiting = bench.put(queue=e)
        bench.pause(e, lease / 10)
        soon((e,), start + lease / 10, "a job is ready, and its queue is paused")
        bench.pause(d, lease)
        soon((d,), None, "a buried job in a paused queue")
        bench.until(due(e) or start)
        bench.gets(bench.consumer(e), waiting, "the job at the time that next_change returned")
    bench.until(start + lease / 2 + bench.slack)
    other = bench.consumer(b)
    bench.settle(other, bench.taken(other))
    soon((b,), start + lease * 2, "after the first delay")


@case(
    "delay.none_is_at_once",
    "S4",
    "S9",
    needs=(VirtualTime, VIRTUAL_CLOCK),
    alone=True,
    why="A clock is set back, and what was to start at once waits until the hour has come again.",
)
def none_is_at_once(bench: Bench) -> None:
    message = bench.put()
    assert isinstance(bench.clock, VirtualClock)
    bench.clock.jump_wall(timedelta(hours=-1))
    bench.history.add("the wall clock is set back by an hour")
    bench.gets(bench.consumer(), message, "a job without a delay")
