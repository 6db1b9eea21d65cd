"""Ids of jobs: whatever is legal is kept apart, shown whole, and taken back (S9, S14)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DEDUPE, DELAYS
from kessel_core import IdHeld
from kessel_core.contract import Browse, Buried, Bury, Commit, Delete, Find, JobState, Message

#: Ids of which one is a part of another, or which mean something to a shell, a file system or a server.
_IDS: Final = (
    *(
        "1",
        "11",
        "111",
        "01",
        "a",
        "A",
        "a/b",
        "a/./b",
        "a_b",
        "a.b",
        "../a",
        "..",
        ".",
        "/",
        "a b",
        " a",
        "a ",
        "-1",
    ),
    *(
        "a:b",
        "a:b:1",
        "*",
        "a*",
        "?",
        "[1]",
        "{1}",
        "a\\b",
        "a\\0b",
        "a\0b",
        "a'b",
        'a"b',
        "a%2Fb",
        "line\nbreak",
        "a.tmp",
    ),
    *("é", "e\u0301", "ü" * 200, "z" * 199 + "1", "z" * 199 + "2", "\U0001f680" * 50, "日本語のジョブ"),
)


def _named(bench: Bench, job_id: str) -> Message:
    """Make a job whose body tells its id, as the core's do."""
    body = json.dumps({"v": 1, "id": job_id, "type": "t", "payload": None}).encode()
    return bench.message(body, job_id=job_id)


@case(
    "ids.any_text",
    "S9",
    "S14",
    why="An id that goes into a key, a path or a pattern is cut, folded, or stands for other jobs as well.",
)
def any_text(bench: Bench) -> None:
    sent = {job_id: bench.send(_named(bench, job_id)) for job_id in _IDS}
    if bench.has(Browse):
        shown = bench.peek(JobState.READY, len(sent) + 1)
        if bench.capabilities.dedupe:  # then the adapter knows ids
            bench.equal(sorted(job.id for job in shown), sorted(sent), "ids that are shown")
    gone = list(sent)[::3] if bench.has(Delete) else []
    for job_id in gone:
        bench.delete(job_id)
        bench.not_deleted(job_id, "again")
    consumer = bench.consumer()
    came = []
    for held in bench.each(consumer):
        came.append(bench.label(held.body))
        if bench.capabilities.dedupe:
            bench.check(sent[held.id or ""].body == held.body, f"the reservation names the id {held.id!r}")
        bench.settle(consumer, held, Bury("error", f"of {held.id}") if bench.has(Buried) else Commit())
    left = {job_id: message for job_id, message in sent.items() if job_id not in gone}
    bench.equal(sorted(came), sorted(bench.labels([m.body for m in left.values()])), "jobs that were left")
    if bench.has(Buried):
        _kicked_by_id(bench, left)


def _kicked_by_id(bench: Bench, buried: dict[str, Message]) -> None:
    consumer = bench.consumer()
    listed = {job.body: job.id for job in bench.buried(len(buried) + 1)}
    bench.equal(len(listed), len(buried), "buried jobs")
    for message in list(buried.values())[::2]:
        bench.kick(listed[message.body])
        bench.settle(consumer, bench.gets(consumer, message, "the kicked job"))
        bench.nothing(consumer, "one job was kicked")


@case(
    "ids.unknown_ones",
    "S9",
    needs=(Delete,),
    why="An id that nobody has is typed wrong, or is a pattern, a path, or too long for a file's name.",
)
def unknown_ones(bench: Bench) -> None:
    waiting = bench.put()
    for odd in (
        "*",
        "?*",
        "..",
        "../*",
        "/",
        "a/b",
        "",
        " ",
        "x" * 5000,
        "ü" * 300,
        waiting.id[:-1],
        waiting.id + "1",
    ):
        bench.not_deleted(odd, "which nobody has")
        if bench.has(Buried):
            bench.not_kicked(odd, "which nobody has")
        if bench.has(Find):
            bench.equal(bench.find(odd), None, "what is found under an unknown id")
    bench.gets(bench.consumer(), waiting, "the job, which nobody deleted")


@case(
    "ids.free_again",
    "S14",
    needs=(DEDUPE,),
    waits=True,
    why="An id that outlives its job refuses a new one for ever; and what is left of the old job"
    " clings to the new one.",
)
def free_again(bench: Bench) -> None:
    consumer = bench.consumer()

    ways: dict[str, Callable[[Message], object]] = {
        "a commit": lambda m: bench.settle(consumer, bench.gets(consumer, m, "the job")),
        "a commit that reserves": lambda m: bench.settle_and_reserve(
            consumer, bench.gets(consumer, m, "the job"), Commit()
        ),
        "a purge": lambda m: bench.purge(),
    }
    if bench.has(Buried):

        def purge_buried(message: Message) -> None:
            bench.settle(consumer, bench.gets(consumer, message, "the job"), Bury("error", "it failed"))
            bench.purge()

        ways["a purge of buried jobs"] = purge_buried
    if bench.has(Delete):
        ways["a delete"] = lambda m: bench.delete(m.id)
    for what, end in ways.items():
        old = bench.put()
        bench.roll_back(consumer, bench.gets(consumer, old, "the job"))
        bench.snooze(consumer, bench.gets(consumer, old, "the job"))
        end(old)
        bench.nothing(consumer, f"the job ended with {what}")
        new = bench.put(b"another body", job_id=old.id)
        held = bench.gets(consumer, new, f"a job of the same id after {what}")
        if bench.capabilities.attempts is not None:
            bench.equal(bench.attempt(consumer, held), 1, f"attempt() of a job of the same id after {what}")
        bench.equal(held.snoozes, 0, "its snoozes")
        bench.settle(consumer, held)


@case(
    "ids.held_everywhere",
    "S14",
    needs=(DEDUPE,),
    waits=True,
    why="A look at one queue or one state only lets a repeated job through, or changes the first one.",
)
def held_everywhere(bench: Bench) -> None:
    queue = bench.queue_named("held")
    holds: dict[JobState, Message] = {JobState.READY: bench.put(queue=queue, priority=7)}
    if bench.capabilities.delay_granularity is not None:
        holds[JobState.DELAYED] = bench.put(queue=queue, delay=timedelta(days=400))
    consumer = bench.consumer()
    holds[JobState.RESERVED] = bench.put()
    held = bench.gets(consumer, holds[JobState.RESERVED], "the job")
    if bench.has(Buried):
        aside = bench.consumer()
        holds[JobState.BURIED] = bench.put()
        bench.settle(aside, bench.gets(aside, holds[JobState.BURIED], "the job"), Bury("error", "it failed"))
    if bench.harness.virtual:
        bench.let_pass((bench.capabilities.lease or timedelta(minutes=1)) * 0.9)
    elsewhere, batches = bench.queue_named("elsewhere"), bench.queue_named("batches")
    for state, message in holds.items():
        bench.is_held(message, state)
        for where in (message.queue, elsewhere):
            other = bench.message(b"other", queue=where, priority=1, job_id=message.id)
            bench.is_held(other, state)
            batch = [bench.message(queue=batches), other, bench.message(queue=batches)]
            outcomes = bench.call("enqueue_many with it", partial(bench.adapter.enqueue_many, batch))
            kinds = [type(outcome) for outcome in outcomes]
            bench.equal(kinds, [type(None), IdHeld, type(None)], "outcomes of a batch with it")
    bench.nothing(bench.consumer(elsewhere), "what was refused is not stored")
    bench.equal(len(bench.drain(bench.consumer(batches))), 4 * len(holds), "jobs stored around refused ones")
    bench.settle(consumer, held)
    bench.nothing(consumer, "what was refused is not stored")
    bench.gets(bench.consumer(queue), holds[JobState.READY], "the job, as it was first enqueued")


@case(
    "ids.twice_in_a_batch",
    "S14",
    needs=(DEDUPE,),
    why="A batch looks at what is stored, and not at itself, or takes all of itself for ready.",
)
def twice_in_a_batch(bench: Bench) -> None:
    first = bench.message(priority=5)
    again = bench.message(b"again", priority=1, job_id=first.id)
    batch = [first, bench.message(), again, bench.message()]
    outcomes = bench.call("enqueue_many", lambda: bench.adapter.enqueue_many(batch))
    kinds = [type(outcome) for outcome in outcomes]
    bench.equal(kinds, [type(None), type(None), IdHeld, type(None)], "outcomes of a batch with an id twice")
    wanted = [(first.id, JobState.READY)]
    if DELAYS.is_met(bench.harness):
        late = bench.message(queue=bench.queue_named("late"), delay=timedelta(hours=1))
        sooner = bench.message(b"sooner", queue=late.queue, job_id=late.id)
        what = "enqueue_many of a delayed job, and of one under its id that is not"
        outcomes = [*outcomes, *bench.call(what, lambda: bench.adapter.enqueue_many([late, sooner]))]
        wanted.append((late.id, JobState.DELAYED))
        over = bench.message(queue=late.queue, delay=timedelta(hours=-1))
        second = bench.message(b"over", queue=late.queue, job_id=over.id)
        what = "enqueue_many of a job whose delay is over, and of one under its id"
        outcomes += bench.call(what, lambda: bench.adapter.enqueue_many([over, second]))
        wanted.append((over.id, JobState.READY))
    held = [(one.job_id, one.state) for one in outcomes if isinstance(one, IdHeld)]
    bench.equal(held, wanted, "ids that are twice in a batch, and the states of the jobs that hold them")
    came = bench.drain(bench.consumer())
    bench.equal(sorted(came), sorted(m.body for m in batch if m is not again), "jobs of the batch")


@case(
    "ids.held_in_a_batch",
    "S14",
    needs=(DEDUPE,),
    why="A batch says ready of a job that a worker holds, so its requester waits for nothing.",
)
def held_in_a_batch(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")

    def says(state: JobState) -> None:
        batch = [bench.message(queue=bench.queue_named("other")), message]
        _, outcome = bench.call("enqueue_many with it", lambda: bench.adapter.enqueue_many(batch))
        bench.check(isinstance(outcome, IdHeld), f"its outcome in a batch is {outcome!r}, expected IdHeld")
        assert isinstance(outcome, IdHeld)
        bench.equal((outcome.job_id, outcome.state), (message.id, state), "id, and state of who holds it")

    says(JobState.RESERVED)
    if bench.has(Buried):
        bench.settle(consumer, held, Bury("error", "it failed"))
        says(JobState.BURIED)
