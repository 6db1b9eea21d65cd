"""What holds at the first look after something has ended by itself: a job, a lease, or nothing at all."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import COUNTS, DEDUPE, DELAYS, LEASE, PRIORITIES, VIRTUAL_CLOCK
from kessel_core.contract import (
    COMMIT,
    Browse,
    Buried,
    Bury,
    Delete,
    Find,
    JobState,
    Message,
    Pause,
    Rollback,
    Snooze,
    VirtualTime,
)

_PAUSE: Final = timedelta(milliseconds=500)


@case(
    "queues.emptied_not_listed",
    "S9",
    waits=True,
    why="Names of queues that are never forgotten fill every listing, and a bill of what is asked for each.",
)
def emptied_not_listed(bench: Bench) -> None:
    names = [bench.queue_named(name) for name in ("committed", "purged", "deleted", "kept")]
    for name in names:
        bench.put(queue=name)
    consumer = bench.consumer(names[0])
    bench.settle(consumer, bench.taken(consumer))
    consumer.close()
    bench.equal(bench.purge(names[1]), 1, "jobs purged")
    if bench.has(Delete):
        bench.delete(bench.put(queue=names[2]).id, names[2])
    bench.equal(bench.purge(names[2]), 1, "jobs purged")
    listed = bench.call("queues", bench.adapter.queues)
    bench.equal([name for name in names if name in listed], names[3:], "those of the queues that are listed")


@case(
    "queues.listed_while_buried",
    "S9",
    why="A queue is forgotten with the last job that is ready, though others are held, buried or delayed.",
)
def listed_while_buried(bench: Bench) -> None:
    def is_listed(queue: str, what: str) -> None:
        """Commit the job that is ready, and look whether the other one still counts."""
        consumer = bench.consumer(queue)
        bench.settle(consumer, bench.taken(consumer))
        listed = bench.call("queues", bench.adapter.queues)
        bench.check(queue in listed, f"a queue whose only job is {what} is not listed, after another ended")

    buried, held, late = (bench.queue_named(name) for name in ("buried", "held", "delayed"))
    for queue in (buried, buried, held, held, late):
        bench.put(queue=queue)
    consumer = bench.consumer(buried)
    bench.settle(consumer, bench.taken(consumer), Bury("error"))
    bench.taken(bench.consumer(held))
    if bench.has(Buried):
        is_listed(buried, "buried")
    is_listed(held, "held")
    if bench.capabilities.delay_granularity is not None:
        bench.put(queue=late, delay=timedelta(hours=1))
        is_listed(late, "delayed")


@case(
    "lease.ended_at_first_look",
    "S7",
    "S9",
    "S14",
    needs=(LEASE,),
    waits=True,
    why="Each operation has to look for leases that have ended, and not rely on another that did.",
)
def ended_at_first_look(bench: Bench) -> None:
    purged, deleted, shown, again = (bench.queue_named(name) for name in "abcd")
    sent = {queue: bench.put(queue=queue) for queue in (purged, deleted, shown, again)}
    for queue in sent:
        bench.taken(bench.consumer(queue))
    bench.let_pass(bench.lease + bench.slack + MICRO)
    bench.equal(bench.purge(purged), 1, "jobs purged, after the lease of the only one")
    if bench.has(Delete):
        bench.delete(sent[deleted].id, deleted)
    if bench.has(Browse):
        bodies = [job.body for job in bench.peek(JobState.READY, 5, shown)]
        bench.equal(bodies, [sent[shown].body], "ready jobs, after the lease of the only one")
    if bench.capabilities.dedupe:
        bench.is_held(sent[again], JobState.READY)


def _ready_by_time(bench: Bench, *looks: str) -> dict[str, list[tuple[str, Message]]]:
    """Let jobs become ready by time alone, for each look some; each alone in its queue.

    Nobody has looked at any queue since, so that the next look is the first.
    """
    found: dict[str, list[tuple[str, Message]]] = {look: [] for look in looks}
    waits = _PAUSE
    for look, jobs in found.items():
        queues = (bench.queue_named(f"{look}{number}") for number in count())
        if bench.capabilities.delay_granularity is not None:
            jobs.append(("a delay", bench.put(queue=next(queues), delay=_PAUSE)))
            for settlement in (Rollback(_PAUSE), Snooze(_PAUSE)):
                message = bench.put(queue=next(queues))
                consumer = bench.consumer(message.queue)
                bench.settle(consumer, bench.gets(consumer, message, "the job"), settlement)
                jobs.append((f"the pause of a {type(settlement).__name__.lower()}", message))
        if LEASE.is_met(bench.harness):  # else it is too long to wait for its end
            message = bench.put(queue=next(queues))
            bench.gets(bench.consumer(message.queue), message, "the job")
            jobs.append(("a lease", message))
            waits = max(waits, bench.lease)
    bench.let_pass(waits + bench.slack + MICRO)
    return found


def _due_together(bench: Bench) -> str | None:
    """Put a job that is delayed and one that is held into one queue; time alone makes both ready."""
    if bench.capabilities.delay_granularity is None or not LEASE.is_met(bench.harness):
        return None
    message = bench.put(queue=bench.queue_named("together"))
    bench.gets(bench.consumer(message.queue), message, "the job")
    return bench.put(queue=message.queue, delay=_PAUSE).queue


@case(
    "find.at_first_look",
    "S9",
    "S4",
    "S7",
    needs=(Find,),
    waits=True,
    why="Who asks for one job is told that it waits or runs, because nobody has looked since that was over.",
)
def find_at_first_look(bench: Bench) -> None:
    for what, message in _ready_by_time(bench, "find")["find"]:
        found = bench.find(message.id)
        state = None if found is None else found.state
        bench.equal(state, JobState.READY, f"the state of a job, first looked at after the end of {what}")


@case(
    "peek.at_first_look",
    "S9",
    "S4",
    "S7",
    needs=(Browse,),
    waits=True,
    why="A listing shows what was true when somebody last took a job.",
)
def peek_at_first_look(bench: Bench) -> None:
    together = _due_together(bench)
    jobs = _ready_by_time(bench, "ready", "others")
    for what, message in jobs["ready"]:
        shown = [job.body for job in bench.peek(JobState.READY, 5, message.queue)]
        bench.equal(bench.labels(shown), bench.labels([message.body]), f"ready jobs after the end of {what}")
    for what, message in jobs["others"]:
        state = JobState.RESERVED if what == "a lease" else JobState.DELAYED
        shown = [job.body for job in bench.peek(state, 5, message.queue)]
        bench.equal(bench.labels(shown), [], f"{state} jobs after the end of {what}")
    if together is not None:
        shown = [job.body for job in bench.peek(JobState.READY, 5, together)]
        bench.equal(len(shown), 2, "ready jobs after the end of a delay and of a lease")


@case(
    "stats.at_first_look",
    "S9",
    "S4",
    "S7",
    needs=(COUNTS,),
    waits=True,
    why="An alarm counts jobs that wait, and misses all that became ready since a worker last came by.",
)
def stats_at_first_look(bench: Bench) -> None:
    together = _due_together(bench)
    for what, message in _ready_by_time(bench, "stats")["stats"]:
        seen = bench.stats(message.queue)
        counted = (seen.ready, seen.delayed, seen.reserved)
        bench.equal(counted, (1, 0, 0), f"ready, delayed, reserved jobs after the end of {what}")
    if together is not None:
        seen = bench.stats(together)
        counted = (seen.ready, seen.delayed, seen.reserved)
        bench.equal(counted, (2, 0, 0), "ready, delayed, reserved jobs after the end of a delay and a lease")


@case(
    "purge.at_first_look",
    "S9",
    "S7",
    waits=True,
    why="A queue is purged, and the job of a worker that died long ago is left.",
)
def purge_at_first_look(bench: Bench) -> None:
    jobs = _ready_by_time(bench, "purge")["purge"]
    for what, message in jobs:
        bench.equal(bench.purge(message.queue), 1, f"jobs purged after the end of {what}")
    for _, message in jobs:  # not before, because these are looks as well
        bench.nothing(bench.consumer(message.queue), "the queue was purged")


@case(
    "enqueue.held_at_first_look",
    "S14",
    "S4",
    "S7",
    needs=(DEDUPE,),
    waits=True,
    why="Who repeats a request is told that a worker has the job, long after that worker has died.",
)
def held_at_first_look(bench: Bench) -> None:
    for what, message in _ready_by_time(bench, "enqueue")["enqueue"]:
        bench.history.add(f"{bench.label(message.body)} is ready since the end of {what}")
        bench.is_held(message, JobState.READY)


@case(
    "time.next_change_of_none",
    "S18",
    needs=(VirtualTime, VIRTUAL_CLOCK),
    why="A clock that is moved to a moment at which nothing happens is moved again and again.",
)
def next_change_of_none(bench: Bench) -> None:
    ready, buried = bench.queue_named("ready"), bench.queue_named("buried")
    bench.put(queue=ready)
    bench.let_pass(timedelta(seconds=1))

    def ask(queue: str, what: str) -> None:
        found = bench.call("next_change", lambda: bench.facet(VirtualTime).next_change([queue]), "none")
        bench.equal(found, None, f"next_change of a queue with {what}")

    ask(ready, "nothing but a ready job")
    bench.put(queue=buried)
    consumer = bench.consumer(buried)
    bench.settle(consumer, bench.taken(consumer), Bury("error"))
    ask(buried, "nothing but a buried job")
    if bench.has(Pause):
        bench.pause(buried, timedelta(hours=1))
        ask(buried, "nothing but a buried job, while it is paused")


@case(
    "settle.and_reserve_what_is_due",
    "S4",
    "S6",
    needs=(DELAYS, PRIORITIES),
    waits=True,
    why="A busy worker, who gets a next job with each settle, never looks for what has become due meanwhile.",
)
def and_reserve_what_is_due(bench: Bench) -> None:
    late = timedelta(seconds=1)
    urgent = [bench.put(queue=queues[-1], priority=0, delay=late) for queues in _served(bench)]
    _put_less_urgent(bench)
    _next_is(bench, urgent, urgent[-1].delay, "the most urgent job, which has become due")


@case(
    "settle.and_reserve_what_was_lost",
    "S7",
    "S9",
    needs=(LEASE, PRIORITIES),
    waits=True,
    why="A busy worker, who gets a next job with each settle, leaves the jobs of those that have died.",
)
def and_reserve_what_was_lost(bench: Bench) -> None:
    urgent = [bench.put(queue=queues[-1], priority=0) for queues in _served(bench)]
    for message in urgent:
        bench.gets(bench.consumer(message.queue), message, "the job")
    ends = bench.now() + bench.lease
    bench.let_pass(bench.lease * 0.6)
    _put_less_urgent(bench)
    _next_is(bench, urgent, ends, "the most urgent job, whose lease has ended")


def _served(bench: Bench) -> list[tuple[str, ...]]:
    """Return the queues of three consumers: the urgent job of each is in its last one, others in its first.

    Who looks through one queue after the other may stop at the first that has something.
    """
    name = bench.queue_named
    return [(bench.queue,), (name("first"), name("second")), (name("third"), name("fourth"))]


def _put_less_urgent(bench: Bench) -> None:
    queues = [served[0] for served in _served(bench) for _ in range(2)]
    bench.send_many([bench.message(queue=queue, priority=5) for queue in queues])


def _next_is(bench: Bench, urgent: Sequence[Message], ready: datetime | None, what: str) -> None:
    """Hold other jobs until all are ready: each comes with the settle of one, or with a reserve."""
    assert ready is not None
    consumers = [bench.consumer(*queues) for queues in _served(bench)]
    held = [bench.taken(consumer) for consumer in consumers[:2]]  # the last consumer holds nothing
    bench.until(ready + bench.slack + MICRO)
    for consumer, wanted, one in zip(consumers, urgent, [*held, None], strict=True):
        if one is None:
            following, how = bench.reserve(consumer), "a reserve"
        elif one.body == wanted.body or (
            one.deadline is not None and bench.clock.monotonic() >= one.deadline
        ):
            continue  # the machine was too busy
        else:
            following, how = bench.settle_and_reserve(consumer, one, COMMIT), "a settle"
        bench.check(following is not None, f"{what}, did not come with {how}, nor did another")
        assert following is not None
        bench.equal(bench.label(following.body), bench.label(wanted.body), f"{what}, with {how}")
