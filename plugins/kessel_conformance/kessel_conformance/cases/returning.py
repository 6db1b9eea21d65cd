"""Pauses after which a job comes back, of every length (S8, S21)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import attrs

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DELAYS
from kessel_core.contract import (
    Browse,
    Consumer,
    JobState,
    Message,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
    VirtualTime,
)

NEEDS = (DELAYS,)
#: Below and above what fits into 32 bits of milliseconds or microseconds, and beyond one day, which
#: `timedelta.seconds` does not tell.
_PAUSES: Final = (timedelta(hours=1.5), timedelta(hours=25), timedelta(days=3), timedelta(days=40))
_YEAR: Final = timedelta(days=365)
#: How long a job is held at most before each thing that is done with it, and its pause.
_HELD: Final = timedelta(milliseconds=500)
_PAUSE: Final = timedelta(milliseconds=600)


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


def _settle(bench: Bench, consumer: Consumer, held: Reservation, settlement: Settlement) -> None:
    bench.settle(consumer, held, settlement)


def _settle_and_reserve(bench: Bench, consumer: Consumer, held: Reservation, settlement: Settlement) -> None:
    due = bench.now() + _PAUSE
    following = bench.settle_and_reserve(consumer, held, settlement)
    bench.check(following is None or bench.now() >= due, "a job came back in the call that put it off")


#: The calls that put a job off.
_WAYS: Final[Mapping[str, Callable[[Bench, Consumer, Reservation, Settlement], None]]] = {
    "settle": _settle,
    "both": _settle_and_reserve,
}


@attrs.frozen
class _PutOff:
    """A job that is held for a while, and is then put off."""

    message: Message
    consumer: Consumer
    held: Reservation
    settlement: Settlement
    settles: Callable[[Bench, Consumer, Reservation, Settlement], None]
    is_extended: bool

    def look(self, bench: Bench, due: datetime) -> bool:
        """Ask for it; whether it came, which it must not before it is due."""
        came = bench.reserve(bench.consumer(self.message.queue))
        if came is None:
            return False
        early = (due - bench.now()).total_seconds()
        what = f"{bench.label(self.message.body)}, which pauses from its settle on"
        bench.check(early <= 0, f"{what}: it came {early:.3f} s early")
        return True


@case(
    "settle.pauses_from_the_settle",
    "S8",
    "S21",
    "S4",
    needs=NEEDS,
    waits=True,
    why="A pause counts from when the job was taken: one whose handler ran for long is tried again at once.",
)
def pauses_from_the_settle(bench: Bench) -> None:
    lease = bench.capabilities.lease
    held_for = _HELD if lease is None else min(_HELD, lease / 4)
    taken_at = bench.now()
    put_off: dict[str, _PutOff] = {}
    for settlement in (Rollback(_PAUSE), Snooze(_PAUSE)):
        for way, settles in _WAYS.items():
            for is_extended in (False, True):
                queue = bench.queue_named(
                    f"{type(settlement).__name__}.{way}{'.extended' if is_extended else ''}"
                )
                message, consumer = bench.put(queue=queue), bench.consumer(queue)
                held = bench.gets(consumer, message, "the job")
                put_off[queue] = _PutOff(message, consumer, held, settlement, settles, is_extended)
    bench.let_pass(held_for)
    for one in put_off.values():
        if one.is_extended:
            bench.extend(one.consumer, one.held)
    bench.let_pass(held_for)
    if lease is not None and bench.now() - taken_at > lease * 0.8:
        return  # the machine was too busy
    due: dict[str, datetime] = {}
    for one in put_off.values():
        due[one.message.queue] = bench.now() + _PAUSE
        one.settles(bench, one.consumer, one.held, one.settlement)
    last = bench.now() + _PAUSE
    there: set[str] = set()
    for part in (0.9, 0.5, 0.2):
        bench.until(min(due.values()) - _PAUSE * part)
        there |= {
            queue for queue, one in put_off.items() if queue not in there and one.look(bench, due[queue])
        }
    bench.until(last + bench.slack)
    for queue, one in put_off.items():
        if queue not in there:
            bench.gets(bench.consumer(queue), one.message, "the job after its pause")
