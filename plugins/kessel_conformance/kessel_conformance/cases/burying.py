"""Burials: what is told of them, their order, and what kick and delete do to which job (S8)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from datetime import timedelta
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import PRIORITIES
from kessel_core.contract import Buried, Bury, Delete, Message, Rollback

#: A code of some plugin, and a traceback as handlers make them: long, of several lines, not ASCII.
REASON: Final = "shop.closed-today"
STORY: Final = 'Fehler: "größer als \\ 10 %"\r\n\tat line 3\n\n  \u2028 日本語 \U0001f680 {}' * 40


@case(
    "buried.tells_it_all",
    "S8",
    needs=(Buried,),
    why="The story of a failure is cut, or loses its lines or letters; or the first is told of the second.",
)
def tells_it_all(bench: Bench) -> None:
    consumer = bench.consumer()
    message = bench.put()
    for reason, story in (
        (REASON, STORY),
        ("error", "another"),
        ("retries-exhausted", ""),
        ("x", "'; \\ {0} %s"),
    ):
        bench.settle(consumer, bench.gets(consumer, message, "the job"), Bury(reason, story))
        (job,) = bench.buried()
        bench.equal(
            (job.reason, job.message or ""), (reason, story), "reason and message of the latest burial"
        )
        bench.equal(
            (job.body, job.queue, str(job.state)), (message.body, bench.queue, "buried"), "the buried job"
        )
        bench.kick(job.id)
        bench.equal(bench.buried(), [], "buried jobs after a kick")


@case(
    "buried.oldest_first",
    "S8",
    needs=(Buried,),
    why="Burials are sorted by whole seconds, by id, by priority, or by when the job was enqueued.",
)
def oldest_first(bench: Bench) -> None:
    sent = [bench.put(priority=priority) for priority in (50, 10, 40, 20, 30, 60)]
    held = {}
    for _ in sent:
        consumer = bench.consumer()
        reservation = bench.taken(consumer)
        held[reservation.body] = consumer, reservation
    order = [sent[number] for number in (3, 0, 5, 1, 4, 2)]
    for message in order:
        consumer, reservation = held[message.body]
        _buried_now(bench)
        bench.settle(consumer, reservation, Bury("error", bench.label(message.body)))
    _is_listed(bench, order)
    # Once more: then it is the latest.
    first = bench.buried(1)[0]
    bench.kick(first.id)
    _is_listed(bench, order[1:])
    _buried_now(bench)
    consumer = bench.consumer()
    bench.settle(consumer, bench.gets(consumer, order[0], "the kicked job"), Bury("error", "again"))
    _is_listed(bench, [*order[1:], order[0]])


def _buried_now(bench: Bench) -> None:
    """Let a few milliseconds pass, so that one burial is later than the other."""
    if bench.harness.virtual:
        bench.let_pass(max(bench.grain, timedelta(milliseconds=3)))
    else:
        time.sleep(0.003)


def _is_listed(bench: Bench, order: list[Message]) -> None:
    for limit in (100, 2):
        listed = bench.labels([job.body for job in bench.buried(limit)])
        bench.equal(listed, bench.labels([m.body for m in order[:limit]]), "buried jobs, oldest burial first")


@case(
    "buried.kick_one_only",
    "S8",
    needs=(Buried,),
    waits=True,
    why="A kick takes the first, all, or another queue's; or works a second time, on a job that runs.",
)
def kick_one_only(bench: Bench) -> None:
    other = bench.queue_named("other")
    consumer = bench.consumer()
    sent = [bench.put() for _ in range(3)]
    for message in sent:
        bench.settle(consumer, bench.gets(consumer, message, "the job"), Bury("error", "it failed"))
    ids = {job.body: job.id for job in bench.buried()}
    for queue in (other, bench.queue_named("never"), bench.queue[:-1], bench.queue + "2"):
        bench.not_kicked(ids[sent[1].body], "which is in another queue", queue)
    bench.put(queue=other)
    bench.equal(len(bench.buried()), 3, "buried jobs, after kicks that were refused")
    bench.nothing(consumer, "no job was kicked")
    bench.kick(ids[sent[1].body])
    bench.not_kicked(ids[sent[1].body], "again, while it is ready")
    bench.equal(
        [job.body for job in bench.buried()], [sent[0].body, sent[2].body], "buried jobs after one kick"
    )
    held = bench.gets(consumer, sent[1], "the kicked job")
    bench.not_kicked(ids[sent[1].body], "again, while it is held")
    bench.nothing(bench.consumer(), "one job was kicked, and it is held")
    bench.settle(consumer, held, Rollback())
    bench.let_pass(bench.slack)
    bench.settle(consumer, bench.gets(consumer, sent[1], "the kicked job, after its rollback"))
    bench.not_kicked(ids[sent[1].body], "again, after its commit")
    bench.nothing(consumer, "the other jobs are buried")


@case(
    "delete.one_only",
    "S9",
    "S4",
    needs=(Delete, PRIORITIES),
    why="A delete takes another queue's job, all jobs, or leaves it in one of the places where it is.",
)
def delete_one_only(bench: Bench) -> None:
    consumer, holder = bench.consumer(), bench.consumer()
    other = bench.queue_named("other")
    there = bench.put(queue=other)
    buried = [bench.put(), bench.put()]
    for message in buried:
        bench.settle(consumer, bench.gets(consumer, message, "the job"), Bury("error", "it failed"))
    retried = bench.put()
    bench.settle(consumer, bench.gets(consumer, retried, "the job"), Rollback(_pause(bench)))
    ready = [bench.put(), bench.put()]
    delayed = [bench.put(delay=timedelta(hours=1)) for _ in range(2)] if _pause(bench) else []
    waiting = [*buried, *delayed, *ready]
    for message in waiting:
        for queue in (other, bench.queue + "2"):
            bench.not_deleted(message.id, "which is in another queue", queue)
    # Only now, so that its lease outlasts what follows, on a loaded machine, too.
    running = bench.put(priority=0)
    held = bench.gets(holder, running, "the running job")
    _counted(bench, len(ready), len(delayed) + 1, len(buried), "after deletes that were refused")
    gone = [buried[0], ready[0], *delayed[:1], retried]
    for message in gone:
        bench.delete(message.id)
        bench.not_deleted(message.id, "again")
    bench.not_deleted(running.id, "which is held")
    bench.extend(holder, held)
    _counted(bench, 1, len(delayed[1:]), 1, "after one of each was deleted")
    if bench.has(Buried):
        bench.equal([job.body for job in bench.buried()], [buried[1].body], "buried jobs")
    bench.gets(consumer, ready[1], "the job that was not deleted")
    if bench.harness.virtual:
        bench.let_pass(timedelta(hours=2))
        others = {message.body for message in (ready[1], running)}
        came = [body for body in bench.drain(bench.consumer()) if body not in others]
        bench.equal(bench.labels(came), bench.labels([m.body for m in delayed[1:]]), "delayed jobs that came")
    bench.gets(bench.consumer(other), there, "the job of the other queue")


def _pause(bench: Bench) -> timedelta:
    return timedelta(0) if bench.capabilities.delay_granularity is None else timedelta(hours=1)


def _counted(bench: Bench, ready: int, delayed: int, buried: int, when: str) -> None:
    if bench.capabilities.counts and _pause(bench):
        found = bench.stats()
        seen = (found.ready, found.delayed, found.buried, found.reserved)
        bench.equal(seen, (ready, delayed, buried, 1), f"ready, delayed, buried, reserved {when}")
