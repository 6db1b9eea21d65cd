"""Moments in full: nothing comes a part of a millisecond early, and what is shown is not cut (S4)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.cases.showing import is_near
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO, move
from kessel_conformance.requirements import DELAYS
from kessel_core.contract import (
    NO_PAUSE,
    Browse,
    Buried,
    Bury,
    Consumer,
    Find,
    JobState,
    Message,
    Pause,
    Reservation,
    Rollback,
    Snooze,
    StoredJob,
)

NEEDS = (DELAYS,)
_HOUR: Final = timedelta(hours=1)
#: How many spans are tried, and for how many seconds: a backend that counts in seconds has time for one.
_VIRTUAL, _REAL = 5, 30
_FOR: Final = 0.5
#: Is cut by whoever counts in milliseconds; so is its end on a virtual clock, at the begin of a second.
_SPAN: Final = timedelta(microseconds=6_999)
_SHORTEST: Final = timedelta(milliseconds=1)
#: Seconds that something may come early because the clocks of two machines do not run at the same speed; and
#: where numbers of seconds are compared that cannot hold every microsecond.
_DRIFT, _ROUNDED = 50e-6, 0.5e-6
#: How far the clocks of two machines may be apart, where a moment is shown by the other one.
_APART: Final = timedelta(milliseconds=350)


class _Short:
    """Spans, one after the other: nothing comes before its end.

    They end just before a millisecond does, or are as short as one, which is easily taken for no time at all.
    Each takes one job; on a busy machine a look may miss the moment in which a job that is early comes.
    """

    def __init__(self, bench: Bench, consumer: Consumer, what: str) -> None:
        self.bench = bench
        self._consumer = consumer
        self._what = what
        if bench.harness.virtual:  # else there is no telling
            bench.until(bench.now().replace(microsecond=0) + timedelta(seconds=1))

    def spans(self) -> Iterator[timedelta]:
        """Yield the spans to wait, as many as there is time for."""
        end = time.monotonic() + _FOR
        for number in range(_VIRTUAL if self.bench.harness.virtual else _REAL):
            yield _SPAN + timedelta(milliseconds=number % 5) if number % 3 else _SHORTEST
            if time.monotonic() > end:
                return

    def comes(self, act: Callable[[], object], span: timedelta) -> Reservation | None:
        """Let a job wait for a span, and ask again and again until it comes; None: it is late."""
        bench, clock = self.bench, self.bench.clock
        due, end = clock.now() + span, clock.monotonic() + span.total_seconds()
        act()
        last = clock.now() + span + bench.slack
        if bench.harness.virtual:
            bench.until(due - MICRO)
        while (held := self._consumer.reserve(NO_PAUSE)) is None:
            if clock.now() > last:
                return None  # which others check
            if bench.harness.virtual:
                move(bench.harness, clock, bench.slack)
            elif clock.now() > due + _SPAN:
                move(bench.harness, clock, _SPAN)  # it counts in more than milliseconds
        # A clock that was set a little meanwhile shows too much, the other one does not.
        early = min((due - clock.now()).total_seconds(), end - clock.monotonic())
        bench.history.add(f"the job comes {-early:.6f} s after the end of {self._what}")
        is_early = early > (_ROUNDED if bench.harness.virtual else _DRIFT)
        bench.check(not is_early, f"a job came {early:.6f} s before the end of {self._what}")
        return held


@case(
    "delay.never_a_moment_early",
    "S4",
    needs=NEEDS,
    waits=True,
    why="A delay is cut to whole milliseconds, and a job finds that what it waits for is not there yet.",
)
def never_a_moment_early(bench: Bench) -> None:
    consumer = bench.consumer()
    bench.nothing(consumer, "nothing was enqueued")  # so that it is connected
    short = _Short(bench, consumer, "its delay")
    for span in short.spans():
        held = short.comes(partial(bench.put, delay=span), span)
        if held is None:
            return
        bench.settle(consumer, held)


@case(
    "settle.never_a_moment_early",
    "S4",
    "S8",
    "S21",
    needs=NEEDS,
    waits=True,
    why="A pause is cut to whole milliseconds, and the next try finds what the last one found.",
)
def settled_never_early(bench: Bench) -> None:
    for kind in (Rollback, Snooze):
        what = kind.__name__.lower()
        message = bench.put(queue=bench.queue_named(what))
        consumer = bench.consumer(message.queue)
        held: Reservation | None = bench.gets(consumer, message, "the job")
        short = _Short(bench, consumer, f"the pause of its {what}")
        for span in short.spans():
            if held is None:
                return
            held = short.comes(partial(bench.settle, consumer, held, kind(span)), span)


@case(
    "pause.never_a_moment_early",
    "S4",
    "S9",
    needs=(*NEEDS, Pause),
    waits=True,
    why="The pause of a queue is cut to whole milliseconds, and its jobs run into what it was to spare.",
)
def paused_never_early(bench: Bench) -> None:
    consumer = bench.consumer()
    bench.nothing(consumer, "nothing was enqueued")  # so that it is connected
    bench.put()
    short = _Short(bench, consumer, "the pause of its queue")
    for span in short.spans():
        held = short.comes(partial(bench.pause, bench.queue, span), span)
        if held is None:
            return
        bench.settle(consumer, held, Rollback())


class _Exact:
    """Checks the moments that are shown of jobs, as far as delays are told apart."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        #: Beyond what a delay may be late: what is shown may be cut to the granularity, or rounded.
        self._most = bench.grain + bench.slack + (NO_PAUSE if bench.harness.virtual else _APART)

    def shows(self, message: Message, state: JobState) -> list[StoredJob]:
        """Return what each listing shows of a job that is alone in its queue."""
        bench = self.bench
        found = bench.peek(state, 5, message.queue)
        if bench.has(Find) and (one := bench.find(message.id)) is not None:
            found.append(one)
        if state is JobState.BURIED:
            found += bench.buried(queue=message.queue)
        return found

    def is_within(self, seen: datetime | None, first: datetime, last: datetime, what: str) -> None:
        """Check that a moment is not known, or between two others."""
        is_near(self.bench, seen, first, last, what, self._most)


@case(
    "peek.shows_moments_in_full",
    "S9",
    "S4",
    needs=(Browse, *NEEDS),
    waits=True,
    why="Moments are shown in whole seconds: a job is said to be due, or to be enqueued, before it was.",
)
def shows_moments_in_full(bench: Bench) -> None:
    exact = _Exact(bench)
    # From late in a second on: what is cut to seconds is then far off.
    late = bench.now().replace(microsecond=820_000)
    bench.until(late if late >= bench.now() else late + timedelta(seconds=1))

    def sent(name: str, delay: timedelta | None = None) -> tuple[Message, datetime, datetime]:
        begun = bench.now()
        message = bench.put(queue=bench.queue_named(name), delay=delay)
        for job in exact.shows(message, JobState.READY if delay is None else JobState.DELAYED):
            exact.is_within(job.enqueued_at, begun, bench.now(), "the enqueue of a job")
        return message, begun, bench.now()

    message, begun, ended = sent("delay", _HOUR)
    for job in exact.shows(message, JobState.DELAYED):
        exact.is_within(job.due, begun + _HOUR, ended + _HOUR, "the end of a delay")
    for settlement in (Rollback(_HOUR), Snooze(_HOUR)):
        what = type(settlement).__name__.lower()
        message, first, last = sent(what)
        consumer = bench.consumer(message.queue)
        held = bench.gets(consumer, message, "the job")
        begun = bench.now()
        bench.settle(consumer, held, settlement)
        ended = bench.now()
        for job in exact.shows(message, JobState.DELAYED):
            exact.is_within(job.due, begun + _HOUR, ended + _HOUR, f"the end of the pause of a {what}")
            exact.is_within(job.enqueued_at, first, last, f"the enqueue of a job after a {what}")
    message, first, last = sent("held")
    consumer = bench.consumer(message.queue)
    begun = bench.now()
    held = bench.gets(consumer, message, "the job")
    ended = bench.now()
    for job in exact.shows(message, JobState.RESERVED):
        exact.is_within(job.enqueued_at, first, last, "the enqueue of a job that is held")
        if bench.capabilities.lease is not None:
            exact.is_within(job.due, begun + bench.lease, ended + bench.lease, "the end of a lease")
    if bench.has(Buried):
        begun = bench.now()
        bench.settle(consumer, held, Bury("error", "it failed"))
        ended = bench.now()
        for job in exact.shows(message, JobState.BURIED):
            exact.is_within(job.enqueued_at, first, last, "the enqueue of a job that was buried")
            exact.is_within(job.buried_at, begun, ended, "the burial of a job")
