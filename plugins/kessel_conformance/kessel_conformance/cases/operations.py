"""What operators use."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import COUNTS, VIRTUAL_CLOCK
from kessel_core.contract import (
    NO_PAUSE,
    Browse,
    Buried,
    Bury,
    Delete,
    DoctorContext,
    JobState,
    Message,
    Pause,
    Rollback,
    VirtualTime,
)

#: Real seconds in which a call does nothing: one that takes longer in each of so many tries sleeps.
_REST: Final = 0.008
_TRIES: Final = 10


@case("stats.count_states", "S9", needs=(COUNTS,), why="Alarms are set on these numbers.")
def count_states(bench: Bench) -> None:
    consumer, other = bench.consumer(), bench.consumer()
    bench.put()
    bench.settle(consumer, bench.taken(consumer), Bury("error"))
    bench.put()
    bench.taken(other)
    for _ in range(3):
        bench.put()
    delayed = 0
    if bench.capabilities.delay_granularity is not None:
        bench.put(delay=timedelta(hours=1))
        bench.put(delay=timedelta(hours=2))
        delayed = 2
    found = bench.stats()
    seen = (found.ready, found.delayed, found.reserved, found.buried)
    bench.equal(seen, (3, delayed, 1, 1), "ready, delayed, reserved, buried")


@case("stats.unknown_queue", "S9", why="A dashboard asks for queues that nobody has used yet.")
def unknown_queue(bench: Bench) -> None:
    found = bench.stats(bench.queue_named("never"))
    bench.equal(found.total, 0, "jobs in a queue that does not exist")


@case("queues.listed", "S9", why="An operator starts by asking which queues there are.")
def queues_listed(bench: Bench) -> None:
    names = ["q2", "q1", "reserved"]
    for name in names:
        bench.put(queue=bench.queue_named(name))
    holder = bench.consumer(bench.queue_named("reserved"))
    held = bench.taken(holder)
    if bench.capabilities.delay_granularity is not None:
        names.append("delayed")
        bench.put(queue=bench.queue_named("delayed"), delay=timedelta(hours=1))
    if bench.has(Buried):
        names.append("buried")
        bench.put(queue=bench.queue_named("buried"))
        consumer = bench.consumer(bench.queue_named("buried"))
        bench.settle(consumer, bench.taken(consumer), Bury("error"))
    for when in ("", ", after a rollback"):
        found = bench.call("queues", bench.adapter.queues)
        bench.equal(found, sorted(found), "queues, sorted")
        for name in map(bench.queue_named, names):
            bench.check(name in found, f"{name} holds a job but is not listed{when}")
        if not when:
            bench.settle(holder, held, Rollback())  # what is forgotten meanwhile is not listed later, either


@case(
    "purge.spares_reserved",
    "S9",
    why="A purge must empty the queue, and not pull a running job from under its worker.",
)
def spares_reserved(bench: Bench) -> None:
    consumer, other = bench.consumer(), bench.consumer()
    bench.put()
    bench.settle(consumer, bench.taken(consumer), Bury("error"))
    kept = bench.put()
    held = bench.gets(other, kept, "the job")
    expected = 3
    bench.put()
    bench.put()
    if bench.capabilities.delay_granularity is not None:
        bench.put(delay=timedelta(hours=1))
        expected = 4
    bench.equal(bench.purge(), expected, "jobs purged")
    bench.nothing(consumer, "the queue was purged")
    names = bench.call("queues", bench.adapter.queues)
    bench.check(kept.queue in names, "queues() leaves out a purged queue, of which a job is still held")
    bench.settle(other, held)
    if bench.capabilities.counts:
        found = bench.stats()
        bench.equal(found.total, 0, "jobs left")


@case("peek.shows_next", "S9", needs=(Browse,), why="A look must not change what it looks at.")
def peek_shows_next(bench: Bench) -> None:
    bench.put(priority=9)
    second = bench.put(priority=8)
    first = second if bench.capabilities.priorities is not None else None
    for _ in range(2):
        seen = bench.peek(JobState.READY)
        bench.equal(len(seen), 1, "jobs shown")
        if first is not None:
            bench.equal(seen[0].body, first.body, "the next job")
        bench.equal(seen[0].state, JobState.READY, "its state")
    bench.equal(
        bench.peek(JobState.BURIED),
        [],
        "buried jobs",
    )
    bench.equal(len(bench.drain(bench.consumer())), 2, "jobs delivered after looking")


@case(
    "peek.shows_each_state",
    "S9",
    needs=(Browse,),
    why="Who looks for a job must find it where it is, and must not find what is gone.",
)
def shows_each_state(bench: Bench) -> None:
    declared = bench.capabilities
    expected: dict[JobState, list[Message]] = {state: [] for state in JobState}
    consumer, other = bench.consumer(), bench.consumer()
    if bench.has(Buried):
        expected[JobState.BURIED].append(bench.put())
        bench.settle(consumer, bench.taken(consumer), Bury("error"))
    expected[JobState.RESERVED].append(bench.put())
    bench.taken(other)
    bench.put()
    bench.settle(consumer, bench.taken(consumer))
    if declared.delay_granularity is not None:
        late = bench.put(delay=timedelta(hours=2), priority=1)
        expected[JobState.DELAYED] += [bench.put(delay=timedelta(hours=1), priority=2), late]
    for _ in range(3):
        expected[JobState.READY].append(bench.put())
    if bench.has(Delete):
        bench.delete(expected[JobState.READY].pop(1).id)
    for state in JobState:
        if state is JobState.BURIED and not bench.has(Buried):
            continue
        seen = bench.peek(state, 10)
        listed, wanted = [job.body for job in seen], [message.body for message in expected[state]]
        if state is JobState.READY and declared.tie_break is None:
            listed, wanted = sorted(listed), sorted(wanted)
        bench.equal(bench.labels(listed), bench.labels(wanted), f"{state} jobs")


@case("delete.only_waiting", "S9", needs=(Delete,), why="A running job is its worker's.")
def only_waiting(bench: Bench) -> None:
    kept = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, kept, "the job")
    gone = bench.put()
    bench.not_deleted(kept.id, "which is held")
    bench.not_deleted("no-such-id", "which nobody has")
    bench.delete(gone.id)
    bench.settle(consumer, held)
    bench.nothing(consumer, "one job was deleted, the other committed")


@case(
    "pause.stops_delivery",
    "S9",
    needs=(Pause,),
    waits=True,
    why="A pause that ends early sends work to what is being mended.",
)
def stops_delivery(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    span = timedelta(seconds=1)
    due = bench.now() + span
    bench.pause(bench.queue, span)
    found = bench.stats()
    bench.check(found.paused is not None, "stats does not show that the queue is paused")
    held = bench.comes_no_earlier(consumer, message, due, "from a paused queue", "S9")
    bench.settle(consumer, held)
    bench.pause(bench.queue, timedelta(hours=1))
    another = bench.put()
    bench.nothing(consumer, "the queue is paused")
    bench.pause(bench.queue, timedelta(0))
    bench.let_pass(bench.slack - bench.grain)
    bench.gets(consumer, another, "the job after the pause was ended")


@case(
    "time.next_change",
    "S18",
    needs=(VirtualTime, VIRTUAL_CLOCK),
    why="A test on a virtual clock moves the time to this moment.",
)
def next_change(bench: Bench) -> None:
    ask = lambda: bench.facet(VirtualTime).next_change([bench.queue])  # noqa: E731
    bench.equal(bench.call("next_change", ask), None, "next_change of an empty queue")
    span = timedelta(seconds=5, microseconds=789)  # which a coarse adapter rounds up
    message = bench.put(delay=span)
    moment = bench.call("next_change", ask)
    bench.check(
        moment is not None and moment >= bench.now() + span,
        "next_change lies before the delay",
    )
    assert moment is not None
    bench.until(moment)
    bench.gets(bench.consumer(), message, "the job at the time that next_change returned")


@case(
    "time.never_sleeps_really",
    "S18",
    needs=(VirtualTime, VIRTUAL_CLOCK),
    why="It rests a moment in real time where it finds nothing: ten thousand simulated hours never end.",
)
def never_sleeps_really(bench: Bench) -> None:
    consumer = bench.consumer()
    calls: dict[str, Callable[[], object]] = {
        "a reserve that finds nothing": lambda: consumer.reserve(NO_PAUSE),
        "stats": lambda: bench.adapter.stats(bench.queue),
        "queues": bench.adapter.queues,
        "next_change": lambda: bench.facet(VirtualTime).next_change([bench.queue]),
    }
    for what, call in calls.items():
        # Once is enough, for a machine may be busy; who sleeps does so each time.
        rests = all(bench.call(what, partial(_rest, call)) >= _REST for _ in range(_TRIES))
        bench.check(
            not rests, f"{what} takes more than {_REST * 1000:g} ms in which it does nothing: it sleeps"
        )


def _rest(call: Callable[[], object]) -> float:
    """Return the real seconds of a call in which its thread did not run."""
    begun, ran = time.monotonic(), time.thread_time()
    call()
    return time.monotonic() - begun - (time.thread_time() - ran)


@case("doctor.raises_nothing", "S9", why="The doctor is called when things are broken.")
def doctor_raises_nothing(bench: Bench) -> None:
    context = DoctorContext(queues=(bench.queue,), types=frozenset({"t"}), grace=timedelta(seconds=5))
    found = bench.call("doctor", lambda: bench.adapter.doctor(context))
    bench.check(bool(found), "the doctor returned no finding")
