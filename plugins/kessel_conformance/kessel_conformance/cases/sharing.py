"""Several adapters on the same jobs, as producers, workers and operators: each sees what the others do."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import SHARED_REACH
from kessel_core import IdHeld
from kessel_core.contract import (
    NO_PAUSE,
    Browse,
    Buried,
    Bury,
    Commit,
    Delete,
    Find,
    JobState,
    Message,
    Pause,
    Rollback,
)

NEEDS = (SHARED_REACH,)
#: Jobs that pass while another one is held; together more than a log has before it is written anew.
_PORTIONS, _PORTION = 14, 50


@case(
    "reach.settles_are_shared",
    "S8",
    "S9",
    "S10",
    needs=NEEDS,
    waits=True,
    why="A job is tried, buried, kicked and committed by different processes, and each must find what is so.",
)
def settles_are_shared(bench: Bench) -> None:
    with bench.sharing() as other:
        mine, yours = bench.consumer(), other.consumer()
        message = bench.put(priority=9)
        other.settle(yours, other.gets(yours, message, "the other adapter's job"), Rollback())
        bench.let_pass(bench.slack)
        held = bench.gets(mine, message, "the job that another adapter rolled back")
        other.nothing(yours, "the job is held")
        if bench.capabilities.attempts is not None:
            bench.equal(bench.attempt(mine, held), 2, "attempt() over two adapters", "S10")
        bench.extend(mine, held)
        bench.settle(mine, held, Bury("error", "it failed"))
        other.nothing(yours, "the job is buried")
        if bench.has(Buried):
            (job,) = other.buried()
            other.equal(
                (job.body, job.reason, job.message), (message.body, "error", "it failed"), "the buried job"
            )
            other.kick(job.id)
            held = bench.gets(mine, message, "the job that another adapter kicked")
            bench.snooze(mine, held)
            held = other.gets(yours, message, "the job that another adapter snoozed")
            if bench.capabilities.attempts is not None:
                other.equal(
                    other.attempt(yours, held), 1, "attempt() after kick and snooze, over two adapters", "S10"
                )
            other.settle(yours, held)
        bench.nothing(mine, "the job is done")


@case(
    "reach.operations_are_shared",
    "S9",
    "S14",
    needs=NEEDS,
    waits=True,
    why="An operator's adapter is another one than those of producers and workers.",
)
def operations_are_shared(bench: Bench) -> None:
    declared = bench.capabilities
    with bench.sharing() as other:
        sent = [bench.put(), bench.put()]
        if declared.delay_granularity is not None:
            bench.put(delay=timedelta(hours=1))
        holder = bench.consumer()
        held = bench.taken(holder)
        listed = other.call("queues", other.adapter.queues)
        other.check(other.queue in listed, "another adapter's queue is not listed")
        mine, yours = bench.stats(), other.stats()
        other.equal(yours, mine, "stats of two adapters")
        if declared.counts:
            late = int(declared.delay_granularity is not None)
            other.equal(
                (yours.ready, yours.delayed, yours.reserved), (1, late, 1), "ready, delayed, reserved"
            )
        if declared.dedupe:
            for message in sent:
                other.refused(IdHeld, "enqueue it again", partial(other.adapter.enqueue, message))
        if bench.has(Browse):
            (shown,) = other.peek(JobState.RESERVED, 5)
            other.equal(shown.body, held.body, "the job that another adapter holds")
        ready = next(message for message in sent if message.body != held.body)
        if bench.has(Pause):
            other.pause(other.queue, timedelta(hours=1))
            bench.nothing(bench.consumer(), "another adapter has paused the queue")
            bench.check(bench.stats().paused is not None, "stats does not show the pause of another adapter")
            other.pause(other.queue, NO_PAUSE)
            bench.let_pass(bench.slack - bench.grain)
        if bench.has(Delete):
            if declared.lease is not None:
                bench.extend(holder, held)  # a busy machine may have used up most of the lease
            other.not_deleted(held.id or "", "which another adapter holds")
            other.delete(ready.id)
            bench.nothing(bench.consumer(), "another adapter has deleted the job")
        other.purge()
        bench.nothing(bench.consumer(), "another adapter has purged the queue")
        bench.settle(holder, held)


@case(
    "reach.race_for_jobs",
    "S7",
    "S9",
    needs=NEEDS,
    why="A lock keeps the threads of its process apart, and nobody else; or it ends when one of many closes.",
)
def race_for_jobs(bench: Bench) -> None:
    sent = [bench.message() for _ in range(80)]
    bench.send_many(sent)
    seen: list[bytes] = []
    lock = threading.Lock()
    with ExitStack() as stack:
        second = stack.enter_context(bench.sharing())
        with bench.sharing() as passing:  # what it leaves, or removes, keeps nobody apart from the others
            passing.nothing(passing.consumer(bench.queue_named("other")), "nothing was enqueued there")
        third = stack.enter_context(bench.sharing())
        benches = [bench, second, third]
        consumers = [one.consumer() for one in benches]

        def works(place: int, _: int) -> None:
            held = benches[place].reserve(consumers[place])
            if held is not None:
                with lock:
                    seen.append(held.body)
                benches[place].settle(consumers[place], held)

        bench.in_step(30, *(partial(works, place) for place in range(3)))
    seen += bench.drain(bench.consumer())
    counted = Counter(bench.labels(seen))
    bench.equal({label: times for label, times in counted.items() if times > 1}, {}, "jobs that came twice")
    bench.equal(len(counted), len(sent), "jobs that came", "S9")


@case(
    "reach.holds_through_many",
    "S7",
    "S9",
    needs=NEEDS,
    waits=True,
    why="What one process writes anew the others read anew, without who holds what, or what is paused.",
)
def holds_through_many(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")
    paused = bench.put(queue=bench.queue_named("paused"))
    if bench.has(Pause):
        bench.pause(paused.queue, timedelta(hours=1))
    with bench.sharing() as other:
        for _ in range(_PORTIONS):
            other.pass_through(_PORTION)
            if bench.capabilities.lease is not None:
                bench.extend(consumer, held)  # so that the lease of a slow backend is kept, too
    bench.nothing(bench.consumer(), "the only job is held")
    bench.settle(consumer, held)
    if bench.has(Pause):
        bench.nothing(bench.consumer(paused.queue), "the queue is paused")
        bench.pause(paused.queue, NO_PAUSE)
        bench.let_pass(bench.slack - bench.grain)
    bench.gets(bench.consumer(paused.queue), paused, "the job of the queue that goes on")


class _NewQueues:
    """Stores jobs in queues that another adapter has not seen, by each call that stores one."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def ways(self) -> Iterator[tuple[str, Callable[[Message], object]]]:
        """Return each way, as it is called in the names of queues."""
        yield "enqueue", self.bench.send
        yield "batch", lambda message: self.bench.send_many([self.bench.message(), message])
        if self.bench.capabilities.follow:
            yield "commit", lambda message: self._follows(message, Commit(follow=(message,)))
            yield "both", lambda message: self._follows(message, Commit(follow=(message,)), and_reserves=True)
            yield "bury", lambda message: self._follows(message, Bury("error", follow=(message,)))

    def _follows(self, message: Message, settlement: Commit | Bury, *, and_reserves: bool = False) -> None:
        bench, queue = self.bench, self.bench.queue_named("first")
        bench.put(queue=queue)
        consumer = bench.consumer(queue)
        held = bench.taken(consumer)
        if and_reserves:
            bench.settle_and_reserve(consumer, held, settlement)
        else:
            bench.settle(consumer, held, settlement)


@case(
    "reach.new_queues_are_seen",
    "S9",
    "S14",
    needs=NEEDS,
    why="A process that has long been there knows the queues of its first look: what is stored in a new one"
    " it does not list, find, or tell from a job that is stored again.",
)
def new_queues_are_seen(bench: Bench) -> None:
    with bench.sharing() as other, bench.sharing() as third:
        new = _NewQueues(bench)
        bench.put()
        for _ in ("a queue that is new", "one that was emptied since"):
            for way, stores in new.ways():
                message = bench.message(queue=bench.queue_named(f"new.{way}"))
                _is_not_there(other, message)
                third.stats(message.queue)  # another one names the queue before it is there
                stores(message)
                _is_seen(other, message)
                _is_seen(third, message)
                bench.equal(third.purge(message.queue), 1, "jobs that another adapter purges")


def _is_not_there(other: Bench, message: Message) -> None:
    """Look for a job that there is not yet, in every way."""
    other.call("queues", other.adapter.queues)
    other.stats()
    if other.has(Find):
        other.equal(other.find(message.id), None, "what is found under an id that is new")


def _is_seen(other: Bench, message: Message) -> None:
    """Check that a job which another adapter has stored is found, listed, counted and told from others."""
    if other.has(Find):
        found = other.find(message.id)
        other.check(
            found is not None, f"a job that another adapter has stored in {message.queue} is not found"
        )
    listed = other.call("queues", other.adapter.queues)
    other.check(message.queue in listed, f"{message.queue}, which another adapter has made, is not listed")
    if other.capabilities.dedupe:
        again = other.message(queue=other.queue_named("again"), job_id=message.id)
        other.is_held(again, JobState.READY)
        (outcome,) = other.call("enqueue_many with it", lambda: other.adapter.enqueue_many([again]))
        other.check(isinstance(outcome, IdHeld), f"its outcome in a batch is {outcome!r}, expected IdHeld")
    if other.capabilities.counts:
        other.equal(other.stats(message.queue).ready, 1, "ready jobs of that queue")


@case(
    "reach.namespaces_apart",
    "S9",
    "S14",
    why="What is not under the prefix or in the folder of its own store is shared with every other one.",
)
def namespaces_apart(bench: Bench) -> None:
    if "{namespace}" not in (bench.harness.url or ""):
        return  # the queues of a case are told apart by their names only
    other = bench.on_clock(bench.clock)
    with other:
        other.queue = bench.queue
        message = bench.put()
        there = other.send(message)
        bench.equal(there.id, message.id, "the same job in two stores")
        late = bench.put(queue=bench.queue_named("only-here"))
        listed = other.call("queues of the other store", other.adapter.queues)
        other.check(late.queue not in listed, "a queue of another store is listed")
        if bench.has(Pause):
            bench.pause(bench.queue, timedelta(hours=1))
            other.check(other.stats().paused is None, "a queue of the same name is paused in the other store")
        if bench.capabilities.counts:
            other.equal(other.stats().total, 1, "jobs in the other store")
        consumer = other.consumer()
        held = other.gets(consumer, message, "the other store's own job")
        other.nothing(other.consumer(), "the other store has one job only")
        other.settle(consumer, held)
        if bench.has(Pause):
            bench.pause(bench.queue, NO_PAUSE)
            bench.let_pass(bench.slack - bench.grain)
        mine = bench.consumer()
        bench.settle(mine, bench.gets(mine, message, "its own job"))


@case(
    "adapter.close_spares_others",
    "S9",
    "S7",
    needs=NEEDS,
    why="A process that ends takes others' jobs along: it empties what is shared, or releases all leases.",
)
def close_spares_others(bench: Bench) -> None:
    message, waiting = bench.put(), bench.message()
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")
    with bench.sharing() as other:
        other.nothing(other.consumer(), "the job is held")
        other.send(waiting)
    bench.extend(consumer, held)
    bench.gets(bench.consumer(), waiting, "the job of an adapter that was closed since")
    bench.nothing(bench.consumer(), "the job is held, the other adapter was closed")
    bench.settle(consumer, held)
