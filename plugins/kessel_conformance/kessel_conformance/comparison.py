"""An adapter and the model side by side: what every step needs to act on both and to compare them.

The steps themselves are values, in `steps.py`. Between steps only the caller lets time pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final, NoReturn, Protocol, TypeVar

import attrs

from kessel_conformance.history import History, Violation, shown
from kessel_conformance.model import Broken, Job, Model, Span
from kessel_core import Clock, JobManager, LeaseLost, build_plugins, handler
from kessel_core.contract import (
    NO_PAUSE,
    Capabilities,
    Consumer,
    Facet,
    FacetKind,
    JobState,
    QueueAdapter,
    Reservation,
    StoredJob,
)
from kessel_core.testing import run_delivery

__all__ = ["Comparison", "Step", "Worker"]

T = TypeVar("T")


class Step(Protocol):
    """One call to the adapter, compared with the model.

    Steps are total: one that does not apply now does nothing. So a plan stays valid when it is
    shortened, and the same plan runs on any adapter.
    """

    def run(self, both: Comparison) -> None:
        """Do it.

        Raises:
            Broken: The model says something else.
            Violation: The adapter broke a promise that needs no model.
        """


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
class Worker:
    """A consumer with what it holds, and what it held."""

    #: As the history calls it.
    name: str
    consumer: Consumer
    held: tuple[Reservation, Job] | None = None
    old: list[tuple[Reservation, Job]] = attrs.field(factory=list)

    def let_go(self) -> None:
        """Hold nothing any more; the reservation becomes an old one."""
        if self.held is not None:
            self.old.append(self.held)
            self.held = None


class Comparison:
    """One queue of one adapter under a plan.

    Args:
        adapter: Open; closed by the caller, who finds it as `adapter`, which may be another one by then.
        clock: The adapter's.
        queue: Name of the queue.
        noise: Scheduling noise in seconds that is granted.
        reopen: Opens the same jobs again; None where that cannot be done.
    """

    def __init__(
        self,
        adapter: QueueAdapter,
        clock: Clock,
        queue: str,
        noise: float,
        reopen: Callable[[], QueueAdapter] | None = None,
    ) -> None:
        self.adapter = adapter
        self.clock = clock
        self.queue = queue
        self.declared: Final[Capabilities] = adapter.capabilities
        self.history = History(clock)
        self.model = Model(self.declared, noise)
        self.workers = [Worker(name, adapter.consumer([queue])) for name in ("worker A", "worker B")]
        #: Labels of jobs that were settled for good, in order.
        self.settled: list[str] = []
        # The same ids in every run of a plan, in an order that is not the order of enqueueing.
        self.ids = random.Random(7)  # noqa: S311
        self._start = clock.now()
        self._reopen = reopen

    @cached_property
    def core(self) -> _Core:
        """Runs jobs through the whole core."""
        return _Core(self.adapter, self.clock)

    def has(self, kind: FacetKind[Facet]) -> bool:
        """Whether the adapter has a facet."""
        return self.adapter.facet(kind) is not None

    # --- acting and comparing ----------------------------------------------------------------

    def broken(self, clause: str, why: str, cause: BaseException | None = None) -> NoReturn:
        """Say that a promise was broken."""
        raise Violation(clause, why, self.history.text()) from cause

    def now(self) -> float:
        """Return the seconds since the start."""
        return self.seconds(self.clock.now())

    def seconds(self, time: datetime) -> float:
        """Turn a time into seconds since the start."""
        # Since the start, because floats of seconds since 1970 cannot tell microseconds apart.
        return (time - self._start).total_seconds()

    def timed(self, call: Callable[[], T]) -> tuple[T, Span]:
        """Return what a call answers, and when it was made."""
        before = self.now()
        answer = call()
        return answer, Span(before, self.now())

    def judged(self, worker: Worker, job: Job, what: str, call: Callable[[], T]) -> tuple[T, Span] | None:
        """Make a call that only the holder of a job may make, and compare whether it was accepted (S7).

        Returns:
            What it answers, and when it was made; None if it was refused, rightly.
        """
        before = self.now()
        try:
            answer = call()
        except LeaseLost as exc:
            self.history.add(f"{what} -> LeaseLost")
            if self.model.holds(job, worker.name, Span(before, self.now())) is True:
                self.broken("S7", f"{what}: refused although its lease surely holds: {exc}", exc)
            return None
        at = Span(before, self.now())
        self.history.add(what)
        if self.model.holds(job, worker.name, at) is False:
            self.broken("S7", f"{what}: accepted although the lease had ended")
        return answer, at

    def step(self, step: Step) -> None:
        """Do one step on the adapter and on the model.

        Raises:
            Violation: They disagree; it shows all that was done.
        """
        name = type(step).__name__
        try:
            step.run(self)
        except Broken as exc:
            self.broken(exc.clause, exc.why, exc)
        except Violation:
            raise
        except Exception as exc:
            self.history.add(f"{name} -> {type(exc).__name__}: {exc}")
            self.broken("S9", f"{name} raised {type(exc).__name__}: {exc}", exc)

    def round(self, steps: Sequence[Step]) -> None:
        """Do the steps between which no time passes."""
        for step in steps:
            self.step(step)

    def delivered(self, worker: Worker, reservation: Reservation | None, at: Span, what: str) -> None:
        """Compare the answer of a reserve; from then on the worker holds what came."""
        if reservation is None:
            self.history.add(f"{what} -> nothing")
            self.model.nothing_came(at)
            return
        known = next((job for job in self.model.jobs if job.message.body == reservation.body), None)
        self.history.add(f"{what} -> {known.label if known else shown(reservation.body)}")
        job = self.model.came(reservation.body, worker.name, at)
        worker.held = (reservation, job)
        if reservation.queue != self.queue:
            self.broken("S9", f"the reservation names the queue {reservation.queue!r}")
        if self.declared.attempts is not None:
            exact = worker.consumer.attempt(reservation)
            if exact != job.attempts:
                self.broken("S10", f"attempt() of {job.label} is {exact}, expected {job.attempts}")
            if reservation.snoozes > job.snoozes:
                self.broken("S21", f"{job.label} was snoozed {job.snoozes} times, not {reservation.snoozes}")

    def listed(self, call: str, state: JobState, stored: Sequence[StoredJob], at: Span) -> None:
        """Compare a listing of the jobs in one state."""
        labels = {job.message.body: job.label for job in self.model.jobs}
        names = [labels.get(job.body) or shown(job.body) for job in stored]
        self.history.add(f"{call} -> {', '.join(names) or 'nothing'}")
        self.model.shown(state, [job.body for job in stored], at)

    # --- consumers come and go ---------------------------------------------------------------

    def replace_consumer(self, worker: Worker) -> None:
        """Close a worker's consumer, with what it holds, and make a new one."""
        _, at = self.timed(worker.consumer.close)
        self.history.add(
            f"{worker.name} is closed" + (f" while it holds {worker.held[1].label}" if worker.held else "")
        )
        self._has_lost_all(worker, at)
        worker.consumer = self.adapter.consumer([self.queue])

    def reopen(self) -> None:
        """Close the adapter and open it again, where jobs survive that."""
        if self._reopen is None or self.declared.durability == "none":
            return
        before = self.now()
        for worker in self.workers:
            worker.consumer.close()
        self.adapter.close()
        self.adapter = self._reopen()
        self.__dict__.pop("core", None)
        at = Span(before, self.now())
        self.history.add("the adapter is closed and opened again")
        for worker in self.workers:
            self._has_lost_all(worker, at)
            worker.consumer = self.adapter.consumer([self.queue])

    def _has_lost_all(self, worker: Worker, at: Span) -> None:
        if worker.held is not None:
            _, job = worker.held
            if job.state is JobState.RESERVED and job.holder == worker.name:
                self.model.holder_closed(job, at)
        worker.held = None
        worker.old.clear()

    def close(self) -> None:
        """Empty the queue and close the consumers, after a failure, too."""
        for worker in self.workers:
            try:
                worker.consumer.close()
            except Exception:  # noqa: S112 - what failed first is what counts
                continue
        self.adapter.purge(self.queue)


def pause_of(both: Comparison, seconds: float) -> timedelta:
    """Return a pause; none where the adapter keeps no delays."""
    return NO_PAUSE if both.declared.delay_granularity is None else timedelta(seconds=seconds)
