"""An open queue: producer side, consumers, operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from kessel_core.contract.consumer import Consumer
from kessel_core.contract.doctor import DoctorContext, Finding, Level
from kessel_core.contract.messages import Message
from kessel_core.contract.operations import QueueStats, StoredJob
from kessel_core.contract.promises import Capabilities
from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    EnqueueError,
)
from kessel_core.model.states import JobState

__all__ = ["QueueAdapter"]


class QueueAdapter(ABC):
    """A queue: producer side, consumers, operations.

    Subclasses set `name` and give `capabilities`; methods whose capability is not declared need
    no code, the defaults refuse by name (S17).
    """

    #: As in `AdapterSpec.name`; used in every error.
    name: ClassVar[str]

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this open adapter can do; constant while it is open."""

    # producer side

    @abstractmethod
    def enqueue(self, message: Message) -> None:
        """Store one job; returning means stored, within the declared durability (S9, S14).

        Raises:
            EnqueueRejected: Surely not stored: too large, draining, full, out of range.
            EnqueueUnknown: May be stored: the connection was lost after sending.
            AdapterUnavailable: Surely not stored: nothing could be sent.
        """

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Store many jobs, in order; one outcome each, None for stored.

        Real adapters do better than this loop: one transaction, or pipelined. Once the backend
        cannot be reached the rest is not tried.

        Returns:
            One entry a message: None, or the error that `enqueue` would have raised.
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
            except EnqueueError as exc:
                outcomes.append(exc)
            else:
                outcomes.append(None)
        return outcomes

    # consuming side

    @abstractmethod
    def consumer(self, queues: Sequence[str]) -> Consumer:
        """Make the consuming side for one slot, over these queues (at least one).

        Connects late: an unreachable backend shows at the first `reserve`.
        """

    # operations

    @abstractmethod
    def queues(self) -> list[str]:
        """Return the names of the queues that exist, sorted."""

    @abstractmethod
    def stats(self, queue: str) -> QueueStats:
        """Count the jobs of a queue by state; a queue that does not exist counts zero."""

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Show up to `limit` jobs in that state, next one first, without reserving them."""
        raise CapabilityMissing("peek", self.name)

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """List up to `limit` buried jobs with their reasons, oldest burial first."""
        raise CapabilityMissing("buried", self.name)

    def kick(self, queue: str, job_id: str) -> None:
        """Make one *buried* job ready again, with its own priority; delayed jobs are not touched.

        Its attempts start anew, so that it gets its full number of tries.

        Raises:
            UnknownJob: No buried job of that id.
        """
        raise CapabilityMissing("buried", self.name)

    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is ready, delayed or buried; a reserved one is its worker's.

        Raises:
            UnknownJob: No such job, or it is reserved.
        """
        raise CapabilityMissing("delete", self.name)

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Remove every job that is ready, delayed or buried; return how many were removed."""

    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for `duration` (rounded up); zero resumes at once."""
        raise CapabilityMissing("pause", self.name)

    def next_change(self, queues: Sequence[str]) -> datetime | None:
        """Return when time alone next makes a job ready (delay, pause or lease over), or None."""
        raise CapabilityMissing("virtual_clock", self.name)

    def doctor(self, context: DoctorContext) -> list[Finding]:
        """Look at the backend and say what is wrong with it, and what to do.

        The default only checks that it answers. Raises nothing: what fails is a finding.
        """
        try:
            total = sum(self.stats(queue).total for queue in context.queues)
        except AdapterError as exc:
            return [Finding(Level.ERROR, "reachable", str(exc), "check the address, and that it runs")]
        return [Finding(Level.OK, "reachable", f"{total} jobs in {', '.join(context.queues)}")]

    @abstractmethod
    def close(self) -> None:
        """Give up all connections and threads. Idempotent; consumers are closed by their slots."""
