"""An open queue: producer side, consumers, operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, cast

from kessel_core.contract.consumer import Consumer
from kessel_core.contract.doctor import DoctorContext, Finding, Level
from kessel_core.contract.facets import F, Facet, FacetKind
from kessel_core.contract.messages import Reservation
from kessel_core.contract.operations import QueueStats
from kessel_core.contract.promises import Capabilities
from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    EnqueueUnknown,
    InvalidConfig,
    Problem,
)
from kessel_core.model.message import Message
from kessel_core.model.names import queue_name_problem
from kessel_core.values.secrets import quoted

__all__ = ["QueueAdapter", "checked_queues", "facets_of", "need"]


class QueueAdapter(ABC):
    """A queue: producer side, consumers, operations. Thread-safe.

    The core contract is here; what some backends can do beyond it is a facet. `BaseAdapter` implements
    most of this class, and is the shorter way for an author.
    """

    #: The same as `AdapterSpec.name`; used in every error.
    name: ClassVar[str]

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this open adapter promises; constant while it is open."""

    def facet(self, kind: FacetKind[F]) -> F | None:
        """Return this adapter as a facet, or None if it does not have it; constant while it is open.

        The default looks at the base classes. Override it where a facet depends on an option.
        """
        return cast("F", self) if isinstance(self, cast("type[F]", kind)) else None

    # producer side

    @abstractmethod
    def enqueue(self, message: Message) -> None:
        """Store one job; returning means stored, within the declared durability (S9, S14).

        Raises:
            EnqueueRejected: Definitely not stored: too large, draining, full, out of range.
            IdHeld: Where `dedupe` is declared: a job with this id is there already, and was not changed.
            EnqueueUnknown: May be stored: the connection was lost after sending.
            AdapterUnavailable: Definitely not stored: nothing could be sent.
        """

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Store many jobs, in order, each with its own outcome.

        An adapter should do better than this loop: in one transaction, or pipelined. Once the backend
        cannot be reached, or has not answered, the rest is not tried: a thousand jobs must not wait for
        a thousand time-outs.

        Returns:
            One entry per message: None if it was stored, else the error that `enqueue` would have raised.
            It raises none of them: a closed adapter returns `AdapterUnavailable` for each message, too.
        """
        outcomes: list[AdapterError | None] = []
        down: AdapterUnavailable | None = None
        for message in messages:
            if down is not None:
                outcomes.append(down)
                continue
            try:
                self.enqueue(message)
            except AdapterUnavailable as exc:
                down = exc
                outcomes.append(exc)
            except AdapterError as exc:
                if isinstance(exc, EnqueueUnknown):
                    down = AdapterUnavailable(f"not tried, because job {exc.job_id} had no answer: {exc.why}")
                outcomes.append(exc)
            else:
                outcomes.append(None)
        return outcomes

    # consuming side

    def consumer(self, queues: Sequence[str]) -> Consumer:
        """Create the consuming side for one slot, over these queues; duplicate names count once.

        Connects lazily: an unreachable backend shows at the first `reserve`.

        Raises:
            InvalidConfig: No queue, or names that no adapter accepts; every one is listed.
            AdapterUnavailable: The adapter is closed.
        """
        return self.make_consumer(checked_queues(queues))

    @abstractmethod
    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        """Create what `consumer` returns; the names are checked: at least one, each once."""

    @abstractmethod
    def give_back(self, reservation: Reservation) -> None:
        """Settle with `Snooze()` on behalf of a slot whose thread is still in its handler (S21).

        The only settlement that another thread may ask for; the worker does so at the end of its grace
        period. Afterwards the slot's own settle and extend are refused with `LeaseLost`.

        Raises:
            LeaseLost: The reservation no longer holds its job.
            AdapterUnavailable: The backend cannot be reached; the job comes back when its lease ends.
            AdapterError: The backend refused.
        """

    def extend_many(self, held: Sequence[tuple[Consumer, Reservation]]) -> list[Exception | None]:
        """Renew the leases of several slots, as `Consumer.extend` of each does; called by the heartbeat.

        An adapter over a network or with one writer should do better than this loop: in one call, whatever
        the number of jobs. Thread-safe.

        Args:
            held: Each reservation with the consumer that made it.

        Returns:
            One entry per reservation: None if it was renewed, else what `extend` would have raised. One that
            is lost does not keep the others from being renewed.
        """
        outcomes: list[Exception | None] = []
        for consumer, reservation in held:
            try:
                consumer.extend(reservation)
            except Exception as exc:  # any: the leases of the others must be renewed, too
                outcomes.append(exc)
            else:
                outcomes.append(None)
        return outcomes

    # operations

    @abstractmethod
    def queues(self) -> list[str]:
        """Return the names of the queues that hold a job, in whatever state, sorted.

        One that holds none, or none any more, may be listed or not.
        """

    @abstractmethod
    def stats(self, queue: str) -> QueueStats:
        """Count the jobs of a queue by state; a queue that does not exist counts zero.

        A pause of the queue changes no state: its ready jobs are counted as ready.
        """

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Remove every job that is ready, delayed or buried; return how many were removed."""

    def doctor(self, context: DoctorContext) -> list[Finding]:
        """Check the backend; report what is wrong with it and what to do about it.

        The default only checks that it responds. Raises nothing: a failure is a finding.
        """
        try:
            queues = context.queues or self.queues()  # it must be asked for something
            total = sum(self.stats(queue).total for queue in queues)
        except AdapterError as exc:
            return [Finding(Level.ERROR, "reachable", str(exc), "check the address, and that it runs")]
        return [Finding(Level.OK, "reachable", f"{total} jobs in {', '.join(queues) or 'no queue'}")]

    @abstractmethod
    def close(self) -> None:
        """Close all connections and end all threads. Idempotent; consumers are closed by their slots."""


def checked_queues(names: Sequence[str]) -> tuple[str, ...]:
    """Return queue names without duplicates, in their order.

    Raises:
        InvalidConfig: No name, or names that no adapter accepts; every one is listed.
    """
    if isinstance(names, str):
        # A string would be taken for a sequence of one-letter names.
        raise InvalidConfig([Problem(("queues",), f"expected a list of names, got {quoted(names)}")])
    problems = [
        Problem(("queues", index), text)
        for index, name in enumerate(names)
        if (text := queue_name_problem(name)) is not None
    ]
    if not names:
        problems.append(Problem(("queues",), "expected at least one name"))
    if problems:
        raise InvalidConfig(problems, "invalid queues")
    return tuple(dict.fromkeys(names))


def need(adapter: QueueAdapter, kind: FacetKind[F], why: str = "") -> F:
    """Return a facet of an adapter.

    Raises:
        CapabilityMissing: The adapter does not have it (S17); `why` says what cannot be done.
    """
    found = adapter.facet(kind)
    if found is None:
        raise CapabilityMissing(cast("type[F]", kind).facet_name, adapter.name, why)
    return found


def facets_of(adapter: QueueAdapter) -> Iterator[type[Facet]]:
    """Yield the facets that an adapter has, including those of third parties, sorted by name."""
    kinds = {kind.facet_name: kind for kind in Facet.__subclasses__()}
    yield from (kinds[name] for name in sorted(kinds) if adapter.facet(kinds[name]) is not None)
