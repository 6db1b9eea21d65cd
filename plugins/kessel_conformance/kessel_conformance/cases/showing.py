"""What is shown of a job: every field is right, or not known, and nothing is lost on the job's way."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import datetime, timedelta
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.cases.burying import REASON, STORY
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import DELAYS, PRIORITIES, TIE_BREAK
from kessel_core.contract import (
    Browse,
    Buried,
    Bury,
    Consumer,
    Find,
    JobState,
    Message,
    Reservation,
    Rollback,
    Snooze,
    StoredJob,
)

_BODY: Final = b' {"id":"x"}\r\n\0\xff\xfe '
#: As far as backends that count in whole seconds may be off; and so long that what is told anew shows.
_SECOND: Final = timedelta(seconds=1)
_VISIBLE: Final = timedelta(seconds=1.1)
_DAY: Final = timedelta(days=1)


def is_near(
    bench: Bench,
    seen: datetime | None,
    first: datetime,
    last: datetime,
    what: str,
    most: timedelta | None = None,
) -> None:
    """Check that a moment is not known, or aware and between two others, as far as the backend can tell.

    Args:
        bench: The case.
        seen: What is shown.
        first: What it may be at the earliest.
        last: What it may be at the latest.
        what: Of what it is the moment, for people.
        most: By how much it may be off; None: the slack and a second.
    """
    if seen is None:
        return
    is_aware = isinstance(seen, datetime) and seen.tzinfo is not None
    bench.check(is_aware, f"{what} is no moment with a time zone, but {seen!r}")
    off = bench.slack + _SECOND if most is None else most
    bench.check(first - off <= seen <= last + off, f"{what} is shown as {seen}, not {first} to {last}")


class _Shown:
    """One job that is looked at after each step of its way."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.before = bench.now()
        declared = bench.capabilities.priorities
        #: With as many digits as there can be.
        self.priority = 7 if declared is None else declared[1]
        self.message: Message = bench.put(_BODY, priority=self.priority)
        self.after = bench.now()
        self.attempts = self.snoozes = 0
        #: Whether snoozes may be counted from zero, as attempts are: the contract leaves that open.
        self.was_kicked = False

    def look(self, state: JobState) -> StoredJob:
        """Look at it in that state, in which it is alone, in every listing."""
        bench = self.bench
        listings = [bench.peek(state, 5)]
        if state is JobState.BURIED:
            listings.append(bench.buried(5))
        if bench.has(Find) and (found := bench.find(self.message.id)) is not None:
            listings.append([found])
        for listed in listings:
            bench.equal([job.body for job in listed], [self.message.body], f"bodies of the {state} jobs")
            self._is_right(listed[0], state)
        for other in JobState:
            if other is not state and (other is not JobState.BURIED or bench.has(Buried)):
                bench.equal(bench.peek(other, 5), [], f"{other} jobs, while the only one is {state}")
        return listings[-1][0]

    def _is_right(self, job: StoredJob, state: JobState) -> None:
        bench = self.bench
        bench.equal((job.state, job.queue), (state, bench.queue), "its state and queue")
        if bench.capabilities.dedupe:
            bench.equal(job.id, self.message.id, "its id")
        bench.check(
            job.priority in (None, self.priority),
            f"its priority is shown as {job.priority}, not {self.priority}",
        )
        what = f"after {self.attempts} deliveries that count and {self.snoozes} that do not"
        if bench.capabilities.attempts is not None:
            bench.check(job.attempt in (None, self.attempts), f"attempt is shown as {job.attempt} {what}")
            right = (None, self.snoozes, *((0,) if self.was_kicked else ()))
            bench.check(job.snoozes in right, f"snoozes are shown as {job.snoozes} {what}")
        is_near(bench, job.enqueued_at, self.before, self.after, "enqueued_at")
        if state not in (JobState.DELAYED, JobState.RESERVED):
            is_near(bench, job.due, self.before - _DAY, bench.now(), f"due of a {state} job")
        if state is not JobState.BURIED and not self.was_kicked:
            found = (job.reason or None, job.message or None, job.buried_at)
            bench.equal(found, (None, None, None), f"reason, message, buried_at of a {state} job")

    def taken(self, consumer: Consumer) -> Reservation:
        """Reserve it, and look at it while it is held."""
        bench = self.bench
        before = bench.now()
        held = bench.gets(consumer, self.message, "the job")
        self.attempts += 1
        job = self.look(JobState.RESERVED)
        if bench.capabilities.lease is not None:
            is_near(bench, job.due, before + bench.lease, bench.now() + bench.lease, "the end of its lease")
        bench.check(held.snoozes <= self.snoozes, f"the reservation counts {held.snoozes} snoozes")
        return held


@case(
    "peek.shows_all_fields",
    "S9",
    "S10",
    "S21",
    needs=(Browse,),
    waits=True,
    why="Each step of a job writes it anew, and forgets its priority, its counts, or when it was enqueued.",
)
def shows_all_fields(bench: Bench) -> None:
    shown, consumer = _Shown(bench), bench.consumer()
    shown.look(JobState.READY)
    bench.let_pass(_VISIBLE + bench.slack)
    held = shown.taken(consumer)
    bench.settle(consumer, held, Rollback())
    bench.let_pass(bench.slack)
    shown.look(JobState.READY)
    held = shown.taken(consumer)
    bench.settle(consumer, held, Snooze())
    shown.attempts, shown.snoozes = shown.attempts - 1, shown.snoozes + 1
    bench.let_pass(bench.slack)
    shown.look(JobState.READY)
    held = shown.taken(consumer)
    bench.extend(consumer, held)
    shown.look(JobState.RESERVED)
    bench.give_back(held)
    shown.attempts, shown.snoozes = shown.attempts - 1, shown.snoozes + 1
    bench.let_pass(bench.slack)
    held = shown.taken(consumer)
    if bench.has(Buried):
        _is_shown_buried(bench, shown, consumer, held)
    else:
        bench.settle(consumer, held)


def _is_shown_buried(bench: Bench, shown: _Shown, consumer: Consumer, held: Reservation) -> None:
    for reason, story in ((REASON, STORY), ("error", "another story")):
        before = bench.now()
        bench.settle(consumer, held, Bury(reason, story))
        job = shown.look(JobState.BURIED)
        bench.equal((job.reason, job.message), (reason, story), "reason and message of a burial")
        is_near(bench, job.buried_at, before, bench.now(), "buried_at")
        if reason == REASON:
            bench.let_pass(_VISIBLE + bench.slack)
        bench.kick(job.id)
        shown.attempts, shown.was_kicked = 0, True
        shown.look(JobState.READY)
        held = shown.taken(consumer)
    bench.settle(consumer, held)


@case(
    "peek.shows_when_due",
    "S9",
    "S4",
    needs=(Browse, DELAYS),
    waits=True,
    why="An operator asks when a job will run, and reads the wrong hour, or the old one.",
)
def shows_when_due(bench: Bench) -> None:
    consumer = bench.consumer()
    start = bench.now()
    late = bench.put(delay=timedelta(hours=2), priority=3)
    soon = bench.put(delay=timedelta(hours=1), priority=4)
    retried, snoozed = bench.put(), bench.put()
    for message, settlement in (
        (retried, Rollback(timedelta(hours=3))),
        (snoozed, Snooze(timedelta(hours=4))),
    ):
        bench.settle(consumer, bench.gets(consumer, message, "the job"), settlement)
    seen = bench.peek(JobState.DELAYED, 10)
    wanted = [soon, late, retried, snoozed]
    bench.equal(
        bench.labels([job.body for job in seen]), bench.labels([m.body for m in wanted]), "delayed jobs"
    )
    for hours, job, message in zip((1, 2, 3, 4), seen, wanted, strict=True):
        due = start + timedelta(hours=hours)
        is_near(bench, job.due, due, due + (bench.now() - start), f"the end of a delay of {hours} h")
        bench.check(job.priority in (None, message.priority), f"its priority is shown as {job.priority}")
        is_near(bench, job.enqueued_at, start, bench.now(), "enqueued_at")
    for limit in (1, 2, 4):
        listed = bench.labels([job.body for job in bench.peek(JobState.DELAYED, limit)])
        bench.equal(listed, bench.labels([m.body for m in wanted[:limit]]), f"the first {limit} delayed jobs")


@case(
    "peek.shows_in_order",
    "S9",
    "S6",
    needs=(Browse, PRIORITIES, TIE_BREAK),
    why="A listing sorts as text, or in the order of the backend's own keys, and not as jobs are delivered.",
)
def shows_in_order(bench: Bench) -> None:
    numbers = (100, 9, 2**31, 20, 9, 100, 65536, 9)
    low, high = bench.capabilities.priorities or (0, 0)
    sent = [bench.put(priority=number) for number in numbers if low <= number <= high]
    wanted = bench.labels([m.body for m in sorted(sent, key=lambda message: message.priority)])
    for limit in (len(sent), 3, 1):
        shown = bench.labels([job.body for job in bench.peek(JobState.READY, limit)])
        bench.equal(shown, wanted[:limit], f"the first {limit} ready jobs")
    bench.equal(bench.labels(bench.drain(bench.consumer())), wanted, "the order of delivery")


@case(
    "peek.of_nothing",
    "S9",
    needs=(Browse,),
    why="A dashboard asks for queues and states in which there is nothing.",
)
def of_nothing(bench: Bench) -> None:
    bench.put()
    for queue in (bench.queue_named("never"), bench.queue):
        for state in JobState:
            if state is JobState.BURIED and not bench.has(Buried):
                continue
            found = bench.peek(state, 10, queue)
            there = queue == bench.queue and state is JobState.READY
            bench.equal(len(found), int(there), f"{state} jobs of {queue}")
    bench.put()
    shown = bench.call(
        "peek ready, without a limit", lambda: bench.facet(Browse).peek(bench.queue, JobState.READY)
    )
    bench.equal(len(shown), 1, "jobs that are shown without a limit")
    bench.equal(bench.purge(bench.queue_named("never")), 0, "jobs purged")


@case(
    "delivery.body_always_untouched",
    "S16",
    "S13",
    waits=True,
    why="A body is read and written anew by each step, and one of them takes it for text, or for lines.",
)
def body_always_untouched(bench: Bench) -> None:
    other = bench.queue_named("other")
    awkward = (b"", b"\0", b" {} ", b"\xff\xfe\r\n\x1a", b"END\r\n\x80\n\n", bytes(range(256)))
    messages = [bench.message(body, queue=bench.queue_named(str(n))) for n, body in enumerate(awkward)]
    bench.send_many(messages, " with awkward bodies")
    consumers = {message.queue: bench.consumer(other, message.queue) for message in messages}
    for settlement in (Rollback(), Snooze(), Bury("error", "it failed")):
        if isinstance(settlement, Bury) and not bench.has(Buried):
            break
        for message in messages:
            consumer = consumers[message.queue]
            held = bench.taken(consumer)
            bench.equal(held.body, message.body, "the body")
            bench.settle(consumer, held, settlement)
        bench.let_pass(bench.slack)
        for message in messages:
            if isinstance(settlement, Bury):
                (job,) = bench.buried(queue=message.queue)
                bench.equal(job.body, message.body, "the body of a buried job")
                bench.kick(job.id, message.queue)
            elif bench.has(Browse):
                (job,) = bench.peek(JobState.READY, 5, message.queue)
                bench.equal(job.body, message.body, "the body of a job that is shown")
    for message in messages:
        bench.equal(bench.taken(consumers[message.queue]).body, message.body, "the body")
    bench.nothing(bench.consumer(other), "nothing was enqueued there")
