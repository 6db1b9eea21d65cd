"""An adapter and the model side by side: every step is done on both and compared.

Steps are total: one that does not apply now does nothing. So a plan stays valid when Hypothesis
shortens it, and the same plan runs on any adapter.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final, NoReturn, TypeVar

import attrs

from kessel_conformance.history import History, Violation, deed, seconds, shown
from kessel_conformance.model import Broken, Job, Model, Place, Span
from kessel_core import Clock, JobManager, LeaseLost, UnknownJob, build_plugins, handler
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Browse,
    Buried,
    Bury,
    Capabilities,
    Consumer,
    Delete,
    Facet,
    FacetKind,
    JobState,
    Message,
    Pause,
    QueueAdapter,
    Reservation,
    Rollback,
    Settlement,
    StoredJob,
)
from kessel_core.testing import run_delivery

__all__ = ["PRIORITIES", "TAILS", "Plan", "Step", "World"]

T = TypeVar("T")

#: Numbers that text order, truncation, 16 and 32 bits and signs get wrong; some of them twice likely.
PRIORITIES: Final = (65536, 65536, 65536, 0, 1, 2, 9, 10, 100, 65535, 4294967294, 4294967295)
#: Ends of bodies that careless code cuts or changes.
TAILS: Final = (b"", b" ", b"\0", b"\r\n", b"\xff\xfe", b"}", b'","priority":1,"')


#: So that what is due is surely past.
_A_LITTLE: Final = 1e-3


class _Core:
    """Runs a job as a worker does."""

    def __init__(self, adapter: QueueAdapter, clock: Clock) -> None:
        self.ran: list[object] = []
        # A job may come back as often as a plan wants it to.
        handles = handler("t", max_attempts=1_000_000)(lambda payload: self.ran.append(payload))
        self._manager = JobManager(
            adapter, handlers={"t": handles}, clock=clock, plugins=build_plugins(distributions=())
        )

    def run(self, reservation: Reservation, consumer: Consumer) -> str:
        """Run it and settle it; return how it ended."""
        with self._manager as manager:
            result = run_delivery(manager, reservation, consumer)
        return "nothing" if result is None else str(result.reason or result.status)


@attrs.define(eq=False)
class _Slot:
    name: str
    consumer: Consumer
    held: tuple[Reservation, Job] | None = None
    old: list[tuple[Reservation, Job]] = attrs.field(factory=list)


Step = tuple[str, dict[str, Any]]
#: Rounds of steps; between two rounds time passes.
Plan = list[list[Step]]


class World:
    """One queue of one adapter under a plan."""

    def __init__(
        self,
        adapter: QueueAdapter,
        clock: Clock,
        queue: str,
        declared: Capabilities,
        noise: float,
        reopen: Callable[[], QueueAdapter] | None = None,
    ) -> None:
        self.adapter = adapter
        self.clock = clock
        self._start = clock.now()
        self.queue = queue
        self.declared = declared
        self.history = History(clock)
        self.model = Model(declared, noise)
        self.slots = [_Slot(name, adapter.consumer([queue])) for name in ("worker A", "worker B")]
        self.settled: list[str] = []
        self._reopen = reopen
        # The same ids in every run of a plan, in an order that is not the order of enqueueing.
        self._ids = random.Random(7)  # noqa: S311

    @cached_property
    def _core(self) -> _Core:
        return _Core(self.adapter, self.clock)

    def has(self, kind: FacetKind[Facet]) -> bool:
        """Whether the adapter has a facet."""
        return self.adapter.facet(kind) is not None

    # --- doing and noting ---------------------------------------------------------------------

    def _broken(self, clause: str, why: str, cause: BaseException | None = None) -> NoReturn:
        raise Violation(clause, why, self.history.text()) from cause

    def _now(self) -> float:
        return self._seconds(self.clock.now())

    def _seconds(self, time: datetime) -> float:
        # Since the start, because floats of seconds since 1970 cannot tell microseconds apart.
        return (time - self._start).total_seconds()

    def _timed(self, call: Callable[[], T]) -> tuple[T, Span]:
        before = self._now()
        answer = call()
        return answer, Span(before, self._now())

    def step(self, step: Step) -> None:
        """Do one step on the adapter and on the model.

        Raises:
            Violation: They disagree; it shows all that was done.
        """
        name, arguments = step
        try:
            getattr(self, name)(**arguments)
        except Broken as exc:
            self._broken(exc.clause, exc.why, exc)
        except Violation:
            raise
        except Exception as exc:
            self.history.add(f"{name} -> {type(exc).__name__}: {exc}")
            self._broken("S9", f"{name} raised {type(exc).__name__}: {exc}", exc)

    def round(self, steps: Sequence[Step]) -> None:
        """Do the steps between which no time passes."""
        for step in steps:
            self.step(step)

    # --- steps -------------------------------------------------------------------------------

    def put(
        self,
        priority: int = 65536,
        delay: float | None = None,
        tail: bytes = b"",
        expires: float | None = None,
        again: bool = False,
    ) -> None:
        """Enqueue a new job, or a waiting one again where ids are told apart.

        Args:
            priority: As the adapter gets it.
            delay: Seconds from now.
            tail: How the body ends; a job that expires has a body that can be run instead.
            expires: Seconds from now, or after the delay.
            again: Enqueue the last job that is still held.
        """
        if again and self.declared.dedupe:
            job = next((job for job in reversed(self.model.jobs) if job.place is not Place.GONE), None)
            if job is not None:
                self.adapter.enqueue(job.message)
                self.history.add(f"enqueue {job.label} again: nothing new is stored")
                return
        label = f"job-{len(self.model.jobs) + 1}"
        job_id = f"{self._ids.getrandbits(48):012x}-{self.queue}-{label}"
        if self.declared.delay_granularity is None:
            delay = None
        now = self.clock.now()
        due = None if delay is None else now + timedelta(seconds=delay)
        expiration = None if expires is None else now + timedelta(seconds=(delay or 0.0) + expires)
        told = f"enqueue {label}, priority {priority}"
        told += f", delay {seconds(delay)}" if delay is not None else ""
        if expiration is None:
            body = b'{"v":1,"id":"%s","type":"t","priority":%d,"payload":"' % (job_id.encode(), priority)
            body += tail
        else:
            told += f", expires in {shown(expiration - now)}"
            fields = {"id": job_id, "type": "t", "queue": self.queue, "expiration": expiration.isoformat()}
            body = json.dumps(fields).encode()
        message = Message(job_id, self.queue, body, priority, due, expiration)
        _, at = self._timed(lambda: self.adapter.enqueue(message))
        self.history.add(told)
        self.model.enqueued(message, label, None if due is None else self._seconds(due), at)

    def reserve(self, slot: int = 0) -> None:
        """Reserve, if the slot holds nothing."""
        worker = self.slots[slot]
        if worker.held is not None:
            return
        reservation, at = self._timed(lambda: worker.consumer.reserve(NO_PAUSE))
        self._noted(worker, reservation, at, f"{worker.name} reserves")

    def _noted(self, worker: _Slot, reservation: Reservation | None, at: Span, told: str) -> None:
        if reservation is None:
            self.history.add(f"{told} -> nothing")
            self.model.nothing_came(at)
            return
        known = next((job for job in self.model.jobs if job.message.body == reservation.body), None)
        self.history.add(f"{told} -> {known.label if known else shown(reservation.body)}")
        job = self.model.came(reservation.body, worker.name, at)
        worker.held = (reservation, job)
        if reservation.queue != self.queue:
            self._broken("S9", f"the reservation names the queue {reservation.queue!r}")
        if self.declared.attempts is not None:
            exact = worker.consumer.attempt(reservation)
            if exact != job.attempts:
                self._broken("S10", f"attempt() of {job.label} is {exact}, expected {job.attempts}")

    def settle(self, slot: int = 0, how: str = "commit", pause: float = 0.0, reserve: bool = False) -> None:
        """Settle what the slot holds, and maybe reserve in the same call."""
        worker = self.slots[slot]
        if worker.held is None:
            return
        reservation, job = worker.held
        if self.declared.delay_granularity is None:
            pause = 0.0
        settlement: Settlement = COMMIT
        if how == "rollback":
            settlement = Rollback(timedelta(seconds=pause))
        elif how == "bury":
            settlement = Bury("error", f"{job.label} failed")
        told = f"{worker.name} {deed(settlement, job.label)}"
        worker.held = None
        worker.old.append((reservation, job))
        following: Reservation | None = None
        before = self._now()
        try:
            if reserve:
                following = worker.consumer.settle_and_reserve(reservation, settlement)
            else:
                worker.consumer.settle(reservation, settlement)
        except LeaseLost as exc:
            self.history.add(f"{told} -> LeaseLost")
            if self.model.holds(job, worker.name, Span(before, self._now())) is True:
                self._broken("S7", f"{told}: refused although its lease surely holds: {exc}", exc)
            return
        at = Span(before, self._now())
        self.history.add(told)
        if self.model.holds(job, worker.name, at) is False:
            self._broken("S7", f"{told}: accepted although the lease had ended")
        match settlement:
            case Rollback():
                self.model.rolled_back(job, pause, at)
            case Bury(reason=reason):
                self.model.buried(job, reason, at)
            case _:
                self.model.committed(job)
                self.settled.append(job.label)
        if reserve:
            self._noted(worker, following, at, f"{worker.name} reserves with it")

    def run(self, slot: int = 0) -> None:
        """Let the core run what the slot holds: no handler may start after the expiration (S5)."""
        worker = self.slots[slot]
        if worker.held is None or (expires_at := worker.held[1].message.expiration) is None:
            return
        reservation, job = worker.held
        expiration = self._seconds(expires_at)
        before = self._now()
        if self.model.holds(job, worker.name, Span(before, before)) is not True:
            return
        self._core.ran.clear()
        result = self._core.run(reservation, worker.consumer)
        at = Span(before, self._now())
        ran = bool(self._core.ran)
        self.history.add(f"{worker.name} runs {job.label}: {'handled' if ran else result}")
        if ran and expiration <= at.lo:
            self._broken("S5", f"{job.label} was run {seconds(at.lo - expiration)} after it had expired")
        if not ran and at.hi < expiration:
            self._broken("S5", f"{job.label} was not run, but ended as {result}")
        worker.held = None
        worker.old.append((reservation, job))
        self.model.committed(job)
        self.settled.append(job.label)

    def settle_old(self, slot: int = 0, how: str = "commit") -> None:
        """Settle again with a reservation that was settled or lost before: must be refused (S7)."""
        worker = self.slots[slot]
        if not worker.old:
            return
        reservation, job = worker.old[-1]
        if (
            self.model.holds(job, worker.name, Span(self._now(), self._now())) is not False
            and worker.held is None
        ):
            return  # refused while it was undecided; a second try may well succeed
        settlement = COMMIT if how == "commit" else Rollback()
        told = f"{worker.name} {deed(settlement, job.label)} with its old reservation"
        try:
            worker.consumer.settle(reservation, settlement)
        except LeaseLost:
            self.history.add(f"{told} -> LeaseLost")
            return
        self.history.add(told)
        self._broken("S7", f"{told}: accepted")

    def extend(self, slot: int = 0) -> None:
        """Extend what the slot holds."""
        worker = self.slots[slot]
        if worker.held is None:
            return
        reservation, job = worker.held
        before = self._now()
        try:
            worker.consumer.extend(reservation)
        except LeaseLost as exc:
            self.history.add(f"{worker.name} extends {job.label} -> LeaseLost")
            if self.model.holds(job, worker.name, Span(before, self._now())) is True:
                self._broken(
                    "S7", f"extend of {job.label} was refused although its lease surely holds: {exc}", exc
                )
            worker.held = None
            worker.old.append((reservation, job))
            return
        at = Span(before, self._now())
        self.history.add(f"{worker.name} extends {job.label}")
        if self.model.holds(job, worker.name, at) is False:
            self._broken("S7", f"extend of {job.label} was accepted although its lease had ended")
        self.model.extended(job, at)

    def close_worker(self, slot: int = 0) -> None:
        """Close a consumer, with what it holds, and make a new one."""
        worker = self.slots[slot]
        _, at = self._timed(worker.consumer.close)
        self.history.add(
            f"{worker.name} is closed" + (f" while it holds {worker.held[1].label}" if worker.held else "")
        )
        self._given_up(worker, at)
        worker.consumer = self.adapter.consumer([self.queue])

    def _given_up(self, worker: _Slot, at: Span) -> None:
        if worker.held is not None:
            _, job = worker.held
            if job.place is Place.RESERVED and job.holder == worker.name:
                self.model.holder_closed(job, at)
        worker.held = None
        worker.old.clear()

    def reopen(self) -> None:
        """Close the adapter and open it again, where jobs survive that."""
        if self._reopen is None or self.declared.durability == "none":
            return
        before = self._now()
        for worker in self.slots:
            worker.consumer.close()
        self.adapter.close()
        self.adapter = self._reopen()
        self.__dict__.pop("_core", None)
        at = Span(before, self._now())
        self.history.add("the adapter is closed and opened again")
        for worker in self.slots:
            self._given_up(worker, at)
            worker.consumer = self.adapter.consumer([self.queue])

    def kick(self, which: int = 0) -> None:
        """Kick a buried job; its reason must have been kept."""
        if (facet := self.adapter.facet(Buried)) is None:
            return
        listed, at = self._timed(lambda: facet.buried(self.queue))
        self._shown("list the buried", JobState.BURIED, listed, at)
        by_body = {stored.body: stored for stored in listed}
        expected = self.model.buried_jobs()
        for job in expected:
            stored = by_body[job.message.body]
            if stored.reason != job.reason or stored.message != f"{job.label} failed":
                self._broken("S8", f"buried() tells {stored.reason!r}, {stored.message!r} of {job.label}")
        if not expected:
            return
        job = expected[which % len(expected)]
        _, at = self._timed(lambda: facet.kick(self.queue, by_body[job.message.body].id))
        self.history.add(f"kick {job.label}")
        self.model.kicked(job, at)

    def delete(self, which: int = 0) -> None:
        """Delete a job by its id."""
        facet = self.adapter.facet(Delete)
        if facet is None or not self.model.jobs:
            return
        job = self.model.jobs[which % len(self.model.jobs)]
        before = self._now()
        try:
            facet.delete(self.queue, job.message.id)
        except UnknownJob:
            self.history.add(f"delete {job.label} -> UnknownJob")
            at = Span(before, self._now())
            if job.place is Place.BURIED or (
                job.place is Place.WAITING and job.holder is None and job.ready.hi <= at.lo
            ):
                self._broken("S9", f"delete of {job.label} was refused although nobody holds it")
            return
        at = Span(before, self._now())
        self.history.add(f"delete {job.label}")
        if job.place is Place.GONE or (job.place is Place.RESERVED and job.ready.lo > at.hi):
            self._broken("S9", f"delete of {job.label} was accepted, but it is {job.place.value}")
        job.place = Place.GONE

    def pause(self, span: float = 0.0) -> None:
        """Pause the queue; zero resumes."""
        if (facet := self.adapter.facet(Pause)) is None:
            return
        _, at = self._timed(lambda: facet.pause(self.queue, timedelta(seconds=span)))
        self.history.add(f"pause the queue for {seconds(span)}" if span else "resume the queue")
        self.model.pause_set(span, at)

    def look(self) -> None:
        """Compare the counts."""
        if self.declared.counts:
            seen, at = self._timed(lambda: self.adapter.stats(self.queue))
            self.history.add(f"stats -> {shown(seen)}")
            self.model.counted(seen, at)

    def peek(self, state: JobState) -> None:
        """Compare what is shown of one state: a job is shown exactly while it is in it."""
        if (facet := self.adapter.facet(Browse)) is None:
            return
        stored, at = self._timed(lambda: facet.peek(self.queue, state, 1000))
        self._shown(f"peek {state}", state, stored, at)

    def _shown(self, asked: str, state: JobState, stored: Sequence[StoredJob], at: Span) -> None:
        labels = {job.message.body: job.label for job in self.model.jobs}
        told = [labels.get(job.body) or shown(job.body) for job in stored]
        self.history.add(f"{asked} -> {', '.join(told) or 'nothing'}")
        self.model.shown(state, [job.body for job in stored], at)

    # --- the end -----------------------------------------------------------------------------

    def give_back(self) -> float:
        """Roll back what is held, kick what is buried, resume; return the seconds until all is ready."""
        for slot in range(len(self.slots)):
            self.step(("settle", {"slot": slot, "how": "rollback"}))
        while self.model.buried_jobs() and self.has(Buried):
            self.step(("kick", {}))
        if self.model.paused.hi > self._now():
            self.step(("pause", {}))
        latest = max((job.ready.hi for job in self.model.left()), default=self._now())
        return max(0.0, latest - self._now()) + _A_LITTLE

    def deliver_rest(self) -> None:
        """Deliver and commit everything, now that it is ready: no job may be lost (S9)."""
        for _ in range(len(self.model.left()) + 1):
            self.step(("reserve", {}))
            if self.slots[0].held is None:
                break
            self.step(("settle", {}))
        left = [job.label for job in self.model.left()]
        if left:
            self._broken("S9", f"never delivered at the end: {', '.join(left)}")
        self.step(("look", {}))

    def close(self) -> None:
        """Empty the queue and close the consumers, after a failure, too."""
        for worker in self.slots:
            try:
                worker.consumer.close()
            except Exception:  # noqa: S112 - what failed first is what counts
                continue
        self.adapter.purge(self.queue)
