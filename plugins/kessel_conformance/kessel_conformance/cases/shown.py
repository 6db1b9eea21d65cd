"""Acting on a job that was just shown, which an adapter may find without a search (S8, S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DELAYS
from kessel_core.contract import (
    Browse,
    Buried,
    Bury,
    Delete,
    Find,
    JobState,
    Message,
    Rollback,
    Settlement,
    StoredJob,
    UnknownJob,
)

#: More than fits into a page, a packet or a buffer; where a backend takes less, as much as it takes.
_LARGE: Final = 100_000


@case(
    "delete.of_shown",
    "S9",
    needs=(Browse, Delete),
    why="What was shown may have changed since: a worker has it, or it came back, or it is gone.",
)
def delete_of_shown(bench: Bench) -> None:
    facet = bench.facet(Delete)
    kept, gone = bench.put(), bench.put()
    shown = _by_body(bench.peek(JobState.READY, 10))
    consumer = bench.consumer()
    held = bench.taken(consumer)
    if held.body == gone.body:  # where no order is promised
        kept, gone = gone, kept
    under_worker, free = shown[kept.body], shown[gone.body]
    (reserved,) = bench.peek(JobState.RESERVED, 10)
    bench.refused(UnknownJob, "delete what was shown as reserved", lambda: facet.delete_shown(reserved))
    bench.refused(
        UnknownJob, "delete what was shown, and is reserved", lambda: facet.delete_shown(under_worker)
    )
    bench.call("delete what was shown", lambda: facet.delete_shown(free))
    bench.refused(UnknownJob, "delete what was shown once more", lambda: facet.delete_shown(free))
    bench.roll_back(consumer, held)
    bench.call("delete what was shown, and came back since", lambda: facet.delete_shown(under_worker))
    bench.nothing(consumer, "both jobs were deleted")
    others: dict[str, Settlement] = {}
    if DELAYS.is_met(bench.harness):
        others["is delayed"] = Rollback(timedelta(hours=1))
    if bench.has(Buried):
        others["is buried"] = Bury("error", "broken")
    for since, settlement in others.items():
        message = bench.put()
        (ready,) = bench.peek(JobState.READY, 10)
        bench.settle(consumer, bench.gets(consumer, message, "the job"), settlement)
        bench.call(f"delete what was shown as ready, and {since}", partial(facet.delete_shown, ready))
    bench.equal(bench.purge(), 0, "jobs that were left by deletes of what was shown")


@case(
    "delete.of_shown_buried",
    "S8",
    needs=(Buried, Delete),
    why="What was kicked since it was shown is somebody's work again, and is deleted with what is buried.",
)
def delete_of_shown_buried(bench: Bench) -> None:
    facet = bench.facet(Delete)
    consumer = bench.consumer()
    ready, taken, still = bench.put(), bench.put(), bench.put()
    for _ in range(3):
        bench.settle(consumer, bench.taken(consumer), Bury("error", "broken"))
    shown = _by_body(bench.buried())

    def spared(message: Message, when: str) -> None:
        what = f"delete what was shown as buried, {when}"
        bench.refused(UnknownJob, what, lambda: facet.delete_shown(shown[message.body]))

    bench.kick(taken.id)
    spared(taken, "and was kicked since")
    held = bench.gets(consumer, taken, "the job that was kicked")
    spared(taken, "and was kicked since, and is reserved")
    bench.kick(ready.id)
    spared(ready, "and was kicked since another one was")
    bench.call("delete what was shown as buried, and is", lambda: facet.delete_shown(shown[still.body]))
    spared(still, "once more")
    bench.equal(bench.labels([job.body for job in bench.buried()]), [], "the buried")
    if bench.capabilities.delay_granularity is not None:
        bench.settle(consumer, held, Rollback(timedelta(hours=1)))
        spared(taken, "and was kicked since, and waits for its next try")
        bench.delete(taken.id)
    else:
        bench.settle(consumer, held)
    bench.gets(bench.consumer(), ready, "the job that was kicked")


@case(
    "buried.kick_of_shown",
    "S8",
    needs=(Buried,),
    why="Thousands of buried jobs are listed once, and then kicked one by one.",
)
def kick_of_shown(bench: Bench) -> None:
    facet = bench.facet(Buried)
    consumer = bench.consumer()
    first, second = bench.put(), bench.put()
    for _ in range(2):
        bench.settle(consumer, bench.taken(consumer), Bury("error", "broken"))
    shown = _by_body(bench.buried())
    bench.call("kick the second that was shown", lambda: facet.kick_shown(shown[second.body]))
    bench.gets(consumer, second, "the job that was kicked")
    bench.refused(UnknownJob, "kick it once more", lambda: facet.kick_shown(shown[second.body]))
    bench.equal(bench.labels([job.body for job in bench.buried()]), bench.labels([first.body]), "the buried")
    if bench.has(Browse):
        (reserved,) = bench.peek(JobState.RESERVED, 10)
        bench.refused(UnknownJob, "kick what was shown as reserved", lambda: facet.kick_shown(reserved))


@case(
    "find.by_id",
    "S9",
    "S10",
    needs=(Find,),
    why="Who asks what became of a job must not hear that it is gone while it waits, runs or is buried.",
)
def find_by_id(bench: Bench) -> None:
    facet = bench.facet(Find)
    consumer, gone = bench.consumer(), bench.put()
    bench.settle(consumer, bench.gets(consumer, gone, "the job"))
    buried, reserved = bench.put(), bench.put(queue=bench.queue_named("other"))
    bench.settle(consumer, bench.taken(consumer), Bury("error", "broken"))
    bench.taken(bench.consumer(reserved.queue))
    expected = {JobState.BURIED: buried, JobState.RESERVED: reserved, JobState.READY: bench.put()}
    if bench.capabilities.delay_granularity is not None:
        expected[JobState.DELAYED] = bench.put(delay=timedelta(hours=1))
    for state, message in expected.items():
        found = bench.call(f"find the {state} job", partial(facet.find, message.id), "nothing")
        bench.check(found is not None, f"the {state} job was not found")
        assert found is not None
        seen = (found.id, found.queue, found.state, found.body)
        wanted = (message.id, message.queue, state, message.body)
        bench.equal(seen, wanted, f"what was found of the {state} job")
        # Beside one that is ready in its queue, whose counts it might be shown with.
        counted = int(state in (JobState.BURIED, JobState.RESERVED))
        bench.check(
            bench.capabilities.attempts is None or found.attempt in (None, counted),
            f"the {state} job was found with attempt {found.attempt}, not {counted}",
        )
        reason = "error" if state is JobState.BURIED else None
        bench.equal(found.reason or None, reason, f"reason of the {state} job that was found")
    for what, job_id in (("a job that is gone", gone.id), ("the beginning of an id", buried.id[:-1])):
        bench.equal(bench.call(f"find {what}", partial(facet.find, job_id), "nothing"), None, what)


def _by_body(jobs: list[StoredJob]) -> dict[bytes, StoredJob]:
    return {job.body: job for job in jobs}


@case(
    "peek.shows_whole_body",
    "S9",
    "S13",
    needs=(Browse,),
    why="A listing cuts what is long, or ends at a zero or a line: what is copied from it is not the job.",
)
def shows_whole_body(bench: Bench) -> None:
    consumer = bench.consumer()
    message = _large(bench, bench.queue)
    _is_whole(bench, message, JobState.READY)
    held = bench.gets(consumer, message, "the job")
    _is_whole(bench, message, JobState.RESERVED)
    if bench.has(Buried):
        bench.settle(consumer, held, Bury("error", "it failed"))
        _is_whole(bench, message, JobState.BURIED)
    if bench.capabilities.delay_granularity is not None:
        late = _large(bench, bench.queue_named("late"), delay=timedelta(hours=1))
        _is_whole(bench, late, JobState.DELAYED)


def _large(bench: Bench, queue: str, delay: timedelta | None = None) -> Message:
    """Enqueue a job with a large body in which there is everything at which somebody may cut it."""
    size = min(bench.capabilities.max_body_bytes or _LARGE, _LARGE)
    body = (b"\n\0 " + bench.random.randbytes(max(size, 12)) + b"\0\r\n\x1a")[:size]
    message = bench.message(body[:-6] + b"\0END\r\n", queue=queue, delay=delay)
    return bench.send(message, f", {len(message.body)} bytes in {queue}")


def _is_whole(bench: Bench, message: Message, state: JobState) -> None:
    """Look at the only job of a queue in that state in every way."""
    queue = message.queue
    listings = {
        "peek": bench.peek(state, 5, queue),
        "each": bench.call(f"go through {state}", lambda: list(bench.facet(Browse).each(queue, state))),
    }
    if bench.has(Find) and (found := bench.find(message.id)) is not None:
        listings["find"] = [found]
    if state is JobState.BURIED:
        listings["buried"] = bench.buried(5, queue)
        facet = bench.facet(Buried)
        listings["each_buried"] = bench.call("go through the buried", lambda: list(facet.each_buried(queue)))
    for what, jobs in listings.items():
        bench.equal(len(jobs), 1, f"{state} jobs, by {what}")
        body = jobs[0].body
        bench.check(
            body == message.body,
            f"{what} shows {len(body)} bytes of a {state} job, which are not its {len(message.body)}",
        )
