"""Pauses after which a job comes back, of every length (S8, S21)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DELAYS
from kessel_core.contract import Browse, JobState, Message, Rollback, Snooze, VirtualTime

NEEDS = (DELAYS,)
#: Below and above what fits into 32 bits of milliseconds or microseconds, and beyond one day, which
#: `timedelta.seconds` does not tell.
_PAUSES: Final = (timedelta(hours=1.5), timedelta(hours=25), timedelta(days=3), timedelta(days=40))
_YEAR: Final = timedelta(days=365)


@case(
    "settle.pauses_exactly",
    "S8",
    "S21",
    "S4",
    needs=NEEDS,
    waits=True,
    why="A pause is cut to whole units, or begins at a moment that was.",
)
def pauses_exactly(bench: Bench) -> None:
    for settlement in (Rollback, Snooze):
        # From late in a second on: an end that is cut or rounded to seconds is then far off.
        start = bench.now().replace(microsecond=700_000)
        bench.until(start if start >= bench.now() else start + timedelta(seconds=1))
        paused = {}
        for span in (timedelta(microseconds=199_999), timedelta(microseconds=390_009)):
            message = bench.put(queue=bench.queue_named(f"{settlement.__name__}{span.microseconds}"))
            consumer = bench.consumer(message.queue)
            held = bench.gets(consumer, message, "the job")
            due = bench.now() + span
            bench.settle(consumer, held, settlement(span))
            paused[due] = consumer, message
        for due, (consumer, message) in paused.items():
            bench.not_before(consumer, message, due)


@case(
    "settle.long_pauses_kept",
    "S8",
    "S21",
    needs=NEEDS,
    why="A pause loses its days, or wraps round.",
)
def long_pauses_kept(bench: Bench) -> None:
    consumer = bench.consumer()
    start = bench.now()
    paused: list[tuple[timedelta, Message]] = []
    for span in _PAUSES:
        for settlement in (Rollback(span), Snooze(span)):
            message = bench.put()
            bench.settle(consumer, bench.gets(consumer, message, "the job"), settlement)
            paused.append((span, message))
    bench.nothing(consumer, "all jobs pause for hours or days")
    if bench.capabilities.counts:
        found = bench.stats()
        seen = (found.ready, found.delayed, found.reserved)
        bench.equal(seen, (0, len(paused), 0), "ready, delayed, reserved during the pauses")
    if bench.has(Browse):
        for job, (span, _) in zip(bench.peek(JobState.DELAYED, 20), paused, strict=True):
            bench.check(
                job.due is None or abs(job.due - start - span) < timedelta(minutes=1),
                f"{bench.label(job.body)} is shown as due at {job.due}, {span} after {start}",
            )
    if bench.harness.virtual:
        for span in _PAUSES:
            bench.until(start + span - timedelta(seconds=1))
            bench.nothing(consumer, f"the next jobs pause for {span}")
            bench.until(start + span + bench.slack)
            bench.equal(len(bench.drain(consumer)), 2, f"jobs that come after a pause of {span}")


@case(
    "settle.pauses_beyond_time",
    "S8",
    "S21",
    needs=NEEDS,
    why="A pause that ends after the year 9999 fails somewhere later, in another call.",
)
def pauses_beyond_time(bench: Bench) -> None:
    if bench.capabilities.longest_delay is not None:
        return  # the core cuts pauses to it
    # Each is alone in its queue, so that nothing sooner hides it.
    for settlement in (Rollback(timedelta(days=365 * 9000)), Snooze(timedelta(days=365 * 9000))):
        queue = bench.queue_named(type(settlement).__name__)
        message = bench.put(queue=queue)
        consumer = bench.consumer(queue)
        bench.settle(consumer, bench.gets(consumer, message, "the job"), settlement)
        bench.nothing(consumer, "the job pauses for thousands of years")
        if bench.capabilities.counts:
            bench.equal(bench.stats(queue).delayed, 1, "delayed jobs")
        if bench.has(Browse):
            shown = [job.body for job in bench.peek(JobState.DELAYED, 5, queue)]
            bench.equal(shown, [message.body], "delayed jobs that are shown")
        if bench.has(VirtualTime):
            found = bench.call("next_change", partial(bench.facet(VirtualTime).next_change, [queue]))
            bench.check(found is None or found > bench.now() + _YEAR, f"next_change is {found}")
