"""The calls of producers and workers, each with what its outcomes mean when the connection breaks.

Those that settle a job are in `settle_calls`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Final, cast

from kessel_conformance.call import Call
from kessel_conformance.faults import Answer
from kessel_conformance.ledger import GONE, MAYBE, READY
from kessel_conformance.requirements import ATTEMPTS, KEEPS_LEASES, LEASE
from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    EnqueueRejected,
    EnqueueUnknown,
    LeaseLost,
)
from kessel_core.contract import (
    NO_PAUSE,
    Message,
    Reservation,
)

__all__ = ["ENQUEUES", "EXTENDS", "OF_ENQUEUE", "RESERVES", "WAIT", "Slot"]

#: How an enqueue may end, apart from returning (S14).
OF_ENQUEUE: Final = (EnqueueRejected, EnqueueUnknown, AdapterUnavailable)
_HOUR: Final = timedelta(hours=1)
#: How long a reserve after a fault may take to see a job that is ready.
WAIT: Final = timedelta(seconds=2)


# --- producers -------------------------------------------------------------------------------------------


class Enqueue(Call):
    name = "enqueue"
    errors: ClassVar[tuple[type[AdapterError], ...]] = OF_ENQUEUE

    def prepare(self) -> None:
        self._enqueues(self.job())  # so that there is a connection
        self.message, self.later_one = self.job(), self.job()

    def act(self) -> object:
        return self.adapter.enqueue(self.message)

    def returned(self, value: object) -> None:
        self.ends(self.message, READY, "enqueue returned, so it is stored", soon=True)

    def failed(self, error: AdapterError) -> None:
        self.judged(self.message, error)

    def judged(self, message: Message, error: AdapterError | None) -> None:
        """Say where a job has to be after this outcome (S14)."""
        if error is None:
            self.ends(message, READY, "its enqueue was acknowledged, so it is stored", soon=True)
        elif isinstance(error, EnqueueUnknown):
            self.ends(message, MAYBE, "nobody knows whether it is stored")
        else:
            self.ends(message, GONE, f"{type(error).__name__} says that it is surely not stored")
        named = getattr(error, "job_id", message.id)
        if named != message.id:
            self.broken(f"{type(error).__name__} names the job {named!r}, expected {message.id!r}")

    def again(self) -> None:
        self._enqueues(self.later_one)

    def _enqueues(self, message: Message) -> None:
        self.works(f"enqueue {self.label(message)}", lambda: self.adapter.enqueue(message))
        self.ends(message, READY, "its enqueue was acknowledged, so it is stored", soon=True)


class EnqueueMany(Enqueue):
    name = "enqueue_many of 3"
    errors = ()

    def prepare(self) -> None:
        super().prepare()
        self.batch = [self.message, self.job(), self.job()]

    def act(self) -> object:
        return self.adapter.enqueue_many(self.batch)

    def returned(self, value: object) -> None:
        outcomes = cast("list[AdapterError | None]", value)
        if len(outcomes) != len(self.batch):
            self.broken(f"{len(outcomes)} outcomes for {len(self.batch)} jobs")
        for message, outcome in zip(self.batch, outcomes, strict=True):
            if outcome is not None and not isinstance(outcome, OF_ENQUEUE):
                self.broken(f"the outcome of {self.label(message)} is {type(outcome).__name__}: {outcome}")
            self.judged(message, outcome)

    def again(self) -> None:
        outcomes = self.works(
            f"enqueue_many of {self.label(self.later_one)}",
            lambda: self.adapter.enqueue_many([self.later_one]),
        )
        if outcomes != [None]:
            self.broken(f"enqueue_many must work when nothing is broken any more, but it answered {outcomes}")
        self.judged(self.later_one, None)


# --- consumers -------------------------------------------------------------------------------------------


class Slot(Call):
    """A consumer, connected; with one job that it holds, or none."""

    holds = True
    #: Whether it may also take `next`, under a lease of which nobody is told when its answer is lost.
    takes_next: ClassVar[bool] = False

    def connected(self) -> None:
        """Reserve and commit a job, so that there is a connection."""
        self.stored()
        self.commits(self.takes(self.jobs[-1].message, wait=WAIT))

    def held_one(self) -> Reservation:
        """Take a job that the call is about; another one becomes ready for what follows."""
        self.message = self.stored()
        held = self.takes(self.message)
        self.next = self.stored()
        return held

    def goes_on(self) -> None:
        """Reserve and commit another job."""
        self.commits(self.takes(self.message, self.next, wait=WAIT))

    def is_lost(self, what: str) -> None:
        """Check that the job is under no lease, as its holder was told."""
        if not KEEPS_LEASES.is_met(self.bench.harness):
            return
        stats = self.bench.stats(self.queue)
        if stats.reserved and (stats.ready or not self.takes_next):  # else it is the next that is held
            self.broken(f"{what} was told that the lease is lost, and the job is under it still")


class Reserve(Slot):
    name = "reserve with two jobs ready"
    errors = (AdapterUnavailable,)

    def prepare(self) -> None:
        self.connected()
        self.message, self.next = self.stored(), self.stored()
        self.held: Reservation | None = None

    def act(self) -> object:
        return self.consumer.reserve(NO_PAUSE)

    def returned(self, value: object) -> None:
        if value is None:
            self.broken("reserve says that nothing is ready")
        self.held = cast("Reservation", value)
        if self.held.body not in (self.message.body, self.next.body):
            self.broken(f"reserve brought {self.bench.label(self.held.body)}")

    def failed(self, error: AdapterError) -> None:
        """The jobs stay, one of them perhaps under a lease that nobody knows of."""

    def again(self) -> None:
        if self.held is not None:
            self.commits(self.held)
        self.goes_on()


class Attempt(Slot):
    name = "attempt"
    needs = (ATTEMPTS,)
    errors = (AdapterError,)

    def prepare(self) -> None:
        self.held = self.held_one()

    def act(self) -> object:
        return self.consumer.attempt(self.held)

    def returned(self, value: object) -> None:
        if value != 1:
            self.broken(f"attempt says {value}, expected 1")

    def failed(self, error: AdapterError) -> None:
        """The caller uses the count that it has."""

    def again(self) -> None:
        """What a consumer does after a loss is shown by the other calls."""


class Extend(Slot):
    name = "extend"
    needs = (LEASE,)
    errors = (LeaseLost, AdapterUnavailable)
    lease_passes = 0.5

    def prepare(self) -> None:
        self.held = self.held_one()
        self.is_held = True
        self.begun = self.bench.clock.monotonic()

    def act(self) -> object:
        return self.consumer.extend(self.held)

    def returned(self, value: object) -> None:
        deadline = self.held.deadline
        if deadline is None or deadline <= self.begun + self.bench.lease.total_seconds():
            self.broken("extend returned, but did not move the deadline")

    def failed(self, error: AdapterError) -> None:
        if isinstance(error, AdapterUnavailable):
            self.commits(self.held)  # "The lease holds until its deadline."
        elif isinstance(error, LeaseLost):
            self.is_lost("extend")
        self.is_held = False

    def again(self) -> None:
        if not self.is_held:
            self.goes_on()

    def later(self) -> None:
        if not self.is_held:
            return
        over = self.begun + (self.bench.lease + self.bench.slack).total_seconds()
        self.bench.let_pass(timedelta(seconds=over - self.bench.clock.monotonic()))
        other = self.bench.consumer(self.queue)
        self.bench.settle(other, self.bench.gets(other, self.next, "the job that nobody holds"))
        self.ends(self.next, GONE, "it was committed")
        found = self.bench.reserve(other)
        if found is not None and self.bench.clock.monotonic() < (self.held.deadline or 0.0):
            self.broken("extend returned, but the job was delivered to another when its first lease was over")
        self.bench.call("close the worker", other.close)


class ExtendMany(Extend):
    """As the heartbeat does it, which learns what became of each slot, whatever happens (S7)."""

    name = "extend_many of 1"

    def act(self) -> object:
        return self.adapter.extend_many([(self.consumer, self.held)])

    def judge(self, answer: Answer) -> None:
        if answer.error is not None:
            text = f"{type(answer.error).__name__}: {answer.error}"
            self.broken(f"extend_many raised, instead of returning an outcome for each: {text}", answer.error)
        outcomes = cast("list[Exception | None]", answer.value)
        if len(outcomes) != 1:
            self.broken(f"{len(outcomes)} outcomes for 1 lease")
        super().judge(Answer(error=outcomes[0]))


ENQUEUES: Final[tuple[type[Call], ...]] = (Enqueue, EnqueueMany)
RESERVES: Final[tuple[type[Call], ...]] = (Reserve,)
EXTENDS: Final[tuple[type[Call], ...]] = (Extend, ExtendMany, Attempt)
