"""Names of queues: whatever is legal is kept apart, listed whole, and taken back (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import SHARED_REACH
from kessel_core.contract import Find, JobState, Message

#: What becomes one name when somebody escapes, cuts, folds or resolves it.
_ENDS: Final = (
    *("a", "A", "b", "ab", "aB", "a_b", "a__b", "a-b", "a+b", "a.b", "a;b", "a$b", "a(b", "a)b", "a()"),
    *("a/b", "a//b", "a/", "a/.", "a/./b", "a/../b", "a/b/c", "../a", "a.job", "a.tmp", "a_2Fb", "a.2Fb"),
)
#: Characters of queue names that are not letters, digits, or what is plain everywhere.
_ODD: Final = "/;$+()"


def _queue_names(bench: Bench) -> list[str]:
    names = [bench.queue_named(end) for end in _ENDS]
    longest = bench.queue_named("x" * (199 - len(bench.queue_named(""))))
    names += [longest + "1", longest + "2", longest]
    # As long, of characters that a file, a key or a URL cannot have: escaped, each is two or three.
    odd = bench.queue_named((_ODD * 200)[: 199 - len(bench.queue_named(""))])
    names += [odd + "/", odd + ";", odd]
    names += [start + bench.namespace for start in ("/", "./", "../", "_", ";", "+", "$(")]
    # Names that cannot hold the namespace are tried only where the whole store is the case's own.
    all_odd = [(end + _ODD * 200)[:200] for end in _ODD]
    return [*names, ".", "..", *all_odd] if "{namespace}" in (bench.harness.url or "") else names


@case(
    "queues.kept_apart",
    "S9",
    why="A name that is escaped, folded or cut on its way into a key or a path becomes another queue's name.",
)
def kept_apart(bench: Bench) -> None:
    sent = {name: bench.put(queue=name) for name in _queue_names(bench)}
    listed = bench.call("queues", bench.adapter.queues)
    bench.equal(
        [name for name in sent if name not in listed], [], "queues that hold a job but are not listed"
    )
    bench.equal(sorted(set(listed)), listed, "queues, sorted, each once")
    purged = list(sent)[::4]
    for name in purged:
        bench.equal(bench.purge(name), 1, f"purged of {name}")
    for name, message in sent.items():
        if bench.capabilities.counts:
            total = bench.stats(name).total
            bench.equal(total, 0 if name in purged else 1, f"jobs in {name}")
        consumer = bench.consumer(name)
        if name in purged:
            bench.nothing(consumer, f"the queue {name} was purged")
        else:
            held = bench.gets(consumer, message, f"the job of {name}")
            bench.equal(held.queue, name, "the reservation's queue")
            bench.settle(consumer, held)
        consumer.close()


@case(
    "queues.told_by_another",
    "S9",
    "S14",
    needs=(SHARED_REACH,),
    why="A name that is escaped on its way into a path is not turned back by a process that finds it there.",
)
def told_by_another(bench: Bench) -> None:
    sent = {name: bench.put(queue=name) for name in _queue_names(bench)}
    with bench.sharing() as fresh:  # it knows no name before it reads one
        listed = fresh.call("queues", fresh.adapter.queues)
        fresh.equal([name for name in sent if name not in listed], [], "queues that are not listed")
        strange = [name for name in listed if fresh.namespace in name and name not in sent]
        fresh.equal(strange, [], "queues that are listed, and that nobody has")
    for looks in (_found, _refused, _delivered):
        with bench.sharing() as fresh:
            for message in sent.values():
                looks(fresh, message)


def _found(fresh: Bench, message: Message) -> None:
    if fresh.has(Find):
        found = fresh.find(message.id)
        seen = None if found is None else (found.queue, found.body)
        fresh.equal(seen, (message.queue, message.body), "queue and body of a job that is found")


def _refused(fresh: Bench, message: Message) -> None:
    if fresh.capabilities.dedupe:
        again = fresh.message(queue=fresh.queue_named("again"), job_id=message.id)
        fresh.is_held(again, JobState.READY)


def _delivered(fresh: Bench, message: Message) -> None:
    if fresh.capabilities.counts:
        fresh.equal(fresh.stats(message.queue).ready, 1, f"ready jobs of {message.queue}")
    consumer = fresh.consumer(message.queue)
    held = fresh.gets(consumer, message, f"the job of {message.queue}")
    fresh.equal(held.queue, message.queue, "the reservation's queue")
    fresh.settle(consumer, held)
    consumer.close()


@case(
    "queues.many_at_once",
    "S9",
    why="A consumer of many queues is code of its own, with a limit, or a look at the first few.",
)
def many_at_once(bench: Bench) -> None:
    names = _queue_names(bench)
    # The most urgent job is in the last of them.
    sent = {name: bench.put(queue=name, priority=1000 - number) for number, name in enumerate(names)}
    consumer = bench.consumer(*names)
    came: dict[str, str] = {}
    for held in bench.each(consumer):
        came[held.queue] = bench.label(held.body)
        bench.settle(consumer, held)
    bench.equal(came, {name: bench.label(m.body) for name, m in sent.items()}, "the jobs of many queues")
    if bench.capabilities.priorities is not None:
        bench.equal(list(came), names[::-1], "the order of many queues, the most urgent job first")
