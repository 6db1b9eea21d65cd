"""One call of the contract under trial, and what it may say about its jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, cast

from kessel_conformance.faults import GARBLED, Answer, Fault
from kessel_conformance.history import History, Violation
from kessel_conformance.ledger import GONE, MAYBE, Entry, Ledger
from kessel_conformance.near import Near
from kessel_conformance.requirements import Need
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterError,
    AdapterUnavailable,
    Consumer,
    EnqueueUnknown,
    LeaseLost,
    Message,
    ProtocolError,
    QueueAdapter,
    Reservation,
)

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["Call"]

#: Calls that may meet another connection that was broken; an adapter has several.
_STALE: Final = 3


class Call(ABC):
    """One call of the contract under one fault; subclasses say what is called, and what its outcomes mean."""

    #: As in "commit".
    name: ClassVar[str]
    #: What the adapter must have for it.
    needs: ClassVar[tuple[Need, ...]] = ()
    #: The errors by which it may report a lost connection.
    errors: ClassVar[tuple[type[AdapterError], ...]] = (AdapterUnavailable,)
    #: The faults under which it is tried; none: every one that its traffic gives.
    faults: ClassVar[tuple[Fault, ...]] = ()
    #: Part of the lease that passes between `prepare` and `act`.
    lease_passes: ClassVar[float] = 0.0
    #: Whether it may leave a job reserved, so that the job comes back when its lease is over.
    holds: ClassVar[bool] = False

    def __init__(self, near: Near[Bench, QueueAdapter], ledger: Ledger, number: int, fault: Fault) -> None:
        self.near = near
        self.bench = near.bench
        self.fault = fault
        self.history = History(self.bench.clock)
        self.queue = self.bench.queue_named(f"{type(self).__name__.lower()}{number}")
        self.ledger = ledger
        #: The entries of its jobs.
        self.jobs: list[Entry] = []
        #: Whether the adapter may still have broken connections that it does not know of.
        self.is_unnoticed = fault.breaks_all
        self._consumer: Consumer | None = None

    # --- what a subclass says --------------------------------------------------------------------------

    @abstractmethod
    def prepare(self) -> None:
        """Make jobs and connections, while nothing is broken."""

    @abstractmethod
    def act(self) -> object:
        """Make the call; this alone happens under the fault."""

    @abstractmethod
    def returned(self, value: object) -> None:
        """Check what it returned, and say where the jobs have to be."""

    @abstractmethod
    def failed(self, error: AdapterError) -> None:
        """Say where the jobs have to be after an error of a kind that is allowed."""

    @abstractmethod
    def again(self) -> None:
        """Make another call, which must work, because nothing is broken any more."""

    # --- what it says it with --------------------------------------------------------------------------

    @property
    def adapter(self) -> QueueAdapter:
        """The adapter behind the proxy."""
        return self.near.opened

    @property
    def consumer(self) -> Consumer:
        """The trial's consumer, behind the proxy."""
        if self._consumer is None:
            self._consumer = self.adapter.consumer([self.queue])
        return self._consumer

    def broken(self, why: str, cause: Exception | None = None) -> NoReturn:
        """Say that a promise was broken."""
        why = f"{why} ({self.name}, while {self.fault.label})"
        raise Violation(self.bench.clause, why, self.history.text()) from cause

    def job(self, priority: int = 65536, job_id: str | None = None) -> Message:
        """Make a job that is looked for in the end; under an id of its own, if none is given."""
        message = self.bench.message(queue=self.queue, priority=priority, job_id=job_id)
        entry = Entry(message=message, broken=self.broken, holds=self.holds)
        self.jobs.append(entry)
        self.ledger.entries.append(entry)
        return message

    def stored(self, priority: int = 65536) -> Message:
        """Make a job and enqueue it past the proxy."""
        return self.bench.send(self.job(priority))

    def label(self, message: Message) -> str:
        """Return the short name of a job."""
        return self.bench.label(message.body)

    def ends(
        self,
        message: Message,
        places: frozenset[str],
        why: str,
        *,
        soon: bool = False,
        attempt: int | None = None,
    ) -> None:
        """Say where a job has to be in the end, and why.

        Args:
            message: The job.
            places: `READY`, `BURIED`, `GONE`, or several of them.
            why: Why it must be there, after "although" or a colon.
            soon: It must be ready at once, and not only when a lease is over.
            attempt: What its next delivery must count as.
        """
        job = next(job for job in self.jobs if job.message is message)
        job.places, job.why, job.soon, job.attempt = places, why, soon, attempt

    def asked(self, what: str, call: Callable[[], object]) -> Answer:
        """Make a call behind the proxy, and note what became of it."""
        return self.near.asked(self.history, what, call)

    def works(self, what: str, call: Callable[[], object]) -> object:
        """Make a call behind the proxy that must work, because nothing is broken."""
        for tries_left in reversed(range(_STALE if self.is_unnoticed else 1)):
            answer = self.asked(what, call)
            if answer.error is None:
                break
            if not tries_left or not isinstance(answer.error, AdapterUnavailable):
                text = f"{type(answer.error).__name__}: {answer.error}"
                self.broken(f"{what} must work, nothing is broken any more; it raised {text}", answer.error)
        return answer.value

    def takes(self, *wanted: Message, wait: timedelta = NO_PAUSE) -> Reservation:
        """Reserve behind the proxy one of the jobs that are ready."""
        found = self.works("reserve", lambda: self.consumer.reserve(wait))
        names = " or ".join(map(self.label, wanted))
        if found is None:
            self.broken(f"reserve brought nothing, although {names} is ready")
        held = cast("Reservation", found)
        if held.body not in [message.body for message in wanted]:
            self.broken(f"reserve brought {self.bench.label(held.body)}, expected {names}")
        if held.attempt < 1:
            self.broken(f"{names} came as attempt {held.attempt}: more was taken back than was counted")
        return held

    def commits(self, held: Reservation) -> None:
        """Commit behind the proxy; on a busy machine the lease may have ended before."""

        def commit() -> str | None:
            try:
                self.consumer.settle(held, COMMIT)
            except LeaseLost:
                if held.deadline is None or self.bench.clock.monotonic() < held.deadline:
                    raise
                return "its lease had ended"
            return None

        late = self.works(f"commit {self.bench.label(held.body)}", commit)
        for job in self.jobs:
            if job.message.body == held.body:
                self.ends(job.message, MAYBE if late else GONE, str(late or "it was committed"))

    # --- its course ------------------------------------------------------------------------------------

    def judge(self, answer: Answer) -> None:
        """Check an outcome of `act`."""
        error, errors = answer.error, self.errors
        if self.fault is GARBLED and errors and EnqueueUnknown not in errors:
            errors = (*errors, ProtocolError)  # it is not the expected server that answers
        if error is None:
            self.returned(answer.value)
        elif isinstance(error, errors):
            self.failed(error)
        else:
            rule = (
                "" if isinstance(error, AdapterError) else ", which is not an error of the contract (rule 1)"
            )
            kinds = " or ".join(kind.__name__ for kind in errors)
            self.broken(f"expected {kinds}, got {type(error).__name__}{rule}: {error}", error)

    def later(self) -> None:  # noqa: B027  # most calls show all at once
        """Check what only shows once the calls under all faults were made."""

    def close(self) -> None:
        """Close what the trial opened."""
        if self._consumer is not None:
            self.works("close the consumer", self._consumer.close)
