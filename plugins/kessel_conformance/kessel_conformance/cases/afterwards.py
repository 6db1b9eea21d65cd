"""What holds at the first look after something has ended by itself: a job, a lease, or nothing at all."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import LEASE, VIRTUAL_CLOCK
from kessel_core.contract import (
    Browse,
    Bury,
    Delete,
    JobState,
    Pause,
    VirtualTime,
)


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
