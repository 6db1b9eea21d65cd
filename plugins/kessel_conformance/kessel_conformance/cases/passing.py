"""Many jobs pass through a queue, or are removed from it: whatever else is in it stays as it is (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DELAYS, DURABILITY, PRIORITIES, SHARED_REACH
from kessel_conformance.rest import Rest
from kessel_core.contract import NO_PAUSE, Browse, Delete, JobState, Pause

#: Jobs that pass through: more than a log has before it is written anew.
_MANY: Final = 1000
#: Jobs of which a tenth is left, and of a batch that is purged.
_BATCH: Final = 600
_HOUR: Final = timedelta(hours=1)


def _passes(bench: Bench, *, is_ready: bool) -> None:
    with ExitStack() as stack:
        views = [("the one through which they passed", bench)]
        is_shared = SHARED_REACH.is_met(bench.harness)
        if is_shared:
            early = stack.enter_context(bench.sharing())
            consumer = bench.consumer()
            first = bench.put()
            early.stats()  # it has seen the queue while it was small
            bench.settle(consumer, bench.gets(consumer, first, "the first job"))
            views.append(("another one, which had seen the queue while it was small", early))
        rest = Rest(bench, is_ready=is_ready)
        rest.make()
        if is_shared:
            late = stack.enter_context(bench.sharing())
            late.stats()
            views.append(("another one, which had seen all of it", late))
        rest.pass_through(_MANY)
        if is_shared:
            views.append(("another one, which was opened since", stack.enter_context(bench.sharing())))
        rest.check(views)
        if DURABILITY.is_met(bench.harness):
            rest.reopen()
        rest.ends()


@case(
    "passing.spares_the_rest",
    "S9",
    "S4",
    "S8",
    "S10",
    "S21",
    "S22",
    needs=(PRIORITIES,),
    waits=True,
    why="The log of a busy queue is written anew, and jobs that wait in it lose their past, or their place.",
)
def spares_the_rest(bench: Bench) -> None:
    _passes(bench, is_ready=True)


@case(
    "passing.leaves_none_ready",
    "S9",
    "S4",
    "S8",
    waits=True,
    why="A queue without a ready job looks empty, and is thrown away with what is delayed, held or buried.",
)
def leaves_none_ready(bench: Bench) -> None:
    _passes(bench, is_ready=False)


@case(
    "passing.deleted_leave_others",
    "S9",
    "S4",
    needs=(DELAYS, Browse, Delete),
    waits=True,
    why="An operator deletes most jobs of a long queue, and the queue is written anew without the others.",
)
def deleted_leave_others(bench: Bench) -> None:
    half, left = _BATCH // 2, _BATCH // 10
    ready = [bench.message() for _ in range(half)]
    late = [bench.message(delay=_HOUR) for _ in range(half)]
    bench.send_many([*ready, *late])
    delete = bench.facet(Delete).delete_shown
    for state, keeps in ((JobState.READY, 0), (JobState.DELAYED, left)):
        for job in bench.peek(state, half)[keeps:]:
            bench.call(f"delete {bench.label(job.body)}", partial(delete, job))
    kept = {job.body for job in bench.peek(JobState.DELAYED, _BATCH)}
    bench.check(kept <= {job.body for job in late}, "what is delayed was never enqueued with a delay")
    with bench.views() as views:
        for view in views:
            _are_left(view, kept, left)
    if DURABILITY.is_met(bench.harness):
        bench.reopen()
        _are_left(bench, kept, left)


def _are_left(view: Bench, kept: set[bytes], count: int) -> None:
    if view.capabilities.counts:
        stats = view.stats()
        view.equal((stats.ready, stats.delayed), (0, count), "ready and delayed jobs, after all others went")
    shown = [job.body for job in view.peek(JobState.DELAYED, _BATCH)]
    view.equal(len(shown), count, "delayed jobs that are shown, after all others were deleted")
    view.check(set(shown) == kept, "other jobs are shown than before")
    view.nothing(view.consumer(), "all jobs that are left are delayed", "S4")


@case(
    "passing.purged_stays_paused",
    "S9",
    needs=(Pause,),
    waits=True,
    why="A queue is paused and purged after an accident, and the next job runs, as it was empty once.",
)
def purged_stays_paused(bench: Bench) -> None:
    bench.pause(bench.queue, _HOUR)
    consumer = bench.consumer()
    bench.nothing(consumer, "the queue is empty, and paused")  # where a queue is, as long as somebody asks
    with bench.views() as views:
        for purging in reversed(views):
            bench.send_many([bench.message() for _ in range(_BATCH)])
            bench.equal(purging.purge(), _BATCH, "jobs purged")
            for view in views:
                _is_paused(view)
    message = bench.put()
    bench.nothing(consumer, "the queue was paused for an hour before it was purged")
    if DURABILITY.is_met(bench.harness):
        bench.reopen()
        _is_paused(bench)
    bench.pause(bench.queue, NO_PAUSE)
    bench.let_pass(bench.slack - bench.grain)
    consumer = bench.consumer()
    bench.settle(consumer, bench.gets(consumer, message, "the job of the queue that goes on"))


def _is_paused(view: Bench) -> None:
    view.check(view.stats().paused is not None, "the pause of an hour is not shown any more, after a purge")
