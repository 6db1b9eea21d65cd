"""Many jobs at once: numbers that grow a digit, limits of one call, and what is done in portions."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import itertools
from datetime import timedelta

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import DELAYS, LEASE, PRIORITIES
from kessel_core.contract import COMMIT, Browse, Buried, Bury, JobState

#: Above a thousand, a usual limit of one call; and around it the jobs that are taken.
_MANY, _FROM, _TO = 1030, 990, 1010


@case(
    "enqueue.many_at_once",
    "S14",
    "S6",
    "S9",
    why="Large batches are cut, a call removes or shows a thousand at most, and as text 1000 is before 991.",
)
def many_at_once(bench: Bench) -> None:
    declared = bench.capabilities
    urgent, lazy = (10, 20) if declared.priorities is not None else (65536, 65536)
    messages = [bench.message(priority=urgent if _FROM <= n < _TO else lazy) for n in range(_MANY)]
    if declared.dedupe:  # whatever is refused in one portion is no matter of the others
        bench.send_behind_held(messages)
    else:
        bench.send_many(messages)
    first = messages[_FROM:_TO] if declared.priorities is not None else messages[:20]
    rest = [message for message in messages if message not in first]
    if declared.counts:
        bench.equal(bench.stats().ready, _MANY, "ready jobs")
    consumer = bench.consumer()
    came: list[bytes] = []
    held = bench.taken(consumer)
    while len(came) < len(first) - 1:
        came.append(held.body)
        following = bench.settle_and_reserve(consumer, held, COMMIT)
        bench.check(following is not None, "the next job did not come")
        assert following is not None
        held = following
    bench.settle(consumer, held)
    came.append(held.body)
    if declared.tie_break is not None:
        bench.equal(bench.labels(came), bench.labels([m.body for m in first]), "the first of many equals")
    if bench.has(Browse):
        shown = [job.body for job in bench.peek(JobState.READY, 2 * _MANY)]
        bench.equal(len(shown), _MANY - len(first), "jobs shown")
        if declared.tie_break is not None:
            bench.check(shown == [m.body for m in rest], "the jobs are not shown in their order")
        bench.equal(len(bench.peek(JobState.READY, 7)), 7, "jobs shown of many, with a limit")
        each = [job.body for job in bench.go_through(JobState.READY, 2 * _MANY)]
        bench.check(each == shown, f"{len(each)} jobs are met one after the other, {len(shown)} are shown")
    if declared.dedupe:
        bench.is_held(rest[0], JobState.READY)
    removed = bench.purge()
    bench.equal(removed, _MANY - len(first), "jobs purged")
    bench.nothing(consumer, "the queue was purged")


@case(
    "delay.many_due_together",
    "S4",
    "S6",
    needs=(DELAYS, PRIORITIES),
    waits=True,
    why="What is due is made ready in portions, and the most urgent of all is in the last one.",
)
def many_due_together(bench: Bench) -> None:
    for seconds in (1, 3, 9):
        delay = timedelta(seconds=seconds)
        many = [bench.message(priority=50, delay=delay) for _ in range(260)]
        # Later than all others on any backend, which has taken them at different moments.
        after = delay + timedelta(milliseconds=200)
        last = [bench.message(priority=priority, delay=after) for priority in (40, 9)]
        bench.send_many([*many, *last], f", each delayed by {seconds} s")
        # A backend that is told spans counts each from when it took the job.
        due = bench.now() + after
        if bench.now() < (last[-1].delay or due) - timedelta(seconds=seconds / 4):
            break
        bench.purge()  # so slow a backend, or so busy a machine, that they were due before all were there
    bench.until(due + bench.slack)
    consumer = bench.consumer()
    # Nothing has looked before, which might have made the first portion ready.
    bench.settle(consumer, bench.gets(consumer, last[1], "the most urgent of all that are due"))
    if bench.capabilities.counts:
        found = bench.stats()
        bench.equal((found.ready, found.delayed), (261, 0), "ready and delayed, now that all are due")
    bench.settle(consumer, bench.gets(consumer, last[0], "the next one"))
    bench.equal(bench.purge(), 260, "jobs purged")


@case(
    "lease.many_end_together",
    "S7",
    needs=(LEASE, PRIORITIES),
    waits=True,
    why="The jobs of a machine that died come back one by one, or the first few only.",
)
def many_end_together(bench: Bench) -> None:
    numbers = [50] * 11 + [9]
    messages = [bench.put(priority=number) for number in numbers]
    # Every job with a consumer of its own, which never settles it.
    for _ in messages:
        bench.taken(bench.consumer())
    bench.let_pass(bench.lease + bench.slack + MICRO)
    came = bench.drain(bench.consumer())
    bench.equal(
        sorted(bench.labels(came)), sorted(bench.labels([m.body for m in messages])), "jobs that came"
    )
    bench.equal(came[0], messages[-1].body, "the first to come")


@case(
    "buried.many_listed",
    "S8",
    needs=(Buried,),
    why="A listing that ends too early hides what failed; one without a limit floods an operator.",
)
def many_listed(bench: Bench) -> None:
    messages = [bench.message() for _ in range(bench.settings.amounts.burials)]
    bench.send_many(messages)
    consumer = bench.consumer()
    order = []
    for _ in messages:
        held = bench.taken(consumer)
        order.append(bench.label(held.body))
        bench.settle(consumer, held, Bury("error", f"of {bench.label(held.body)}"))
        if bench.harness.virtual:
            bench.let_pass(max(bench.grain, MICRO))
    for limit in (1, 3, 100, 104, 10_000):
        found = bench.buried(limit)
        listed = [(bench.label(job.body), job.message) for job in found]
        bench.equal(listed, [(label, f"of {label}") for label in order[:limit]], f"the first {limit} burials")
    default = bench.call("list the buried", lambda: bench.facet(Buried).buried(bench.queue))
    bench.equal(len(default), 100, "buried jobs shown without a limit")
    met = []
    for number, job in enumerate(itertools.islice(bench.each_buried(), 2 * len(order))):
        met.append(bench.label(job.body))
        if number % 2:  # as an operator does who goes through all of them
            bench.kick(job.id)
    bench.equal(met, order, "burials met one after the other, while every second was kicked")
    bench.equal(
        [bench.label(job.body) for job in bench.buried(10_000)], order[::2], "burials left after that"
    )
