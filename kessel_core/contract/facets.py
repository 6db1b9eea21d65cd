"""What an adapter may offer beyond the core contract: one small class each, with its own promise.

An adapter gets a facet by deriving from it, or by overriding `QueueAdapter.facet`. A caller asks
`adapter.facet(Browse)` and gets None if the adapter does not have it. A third party may define further
facets: derive from `Facet`, and set `facet_name`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, TypeAlias, TypeVar

from kessel_core.contract.operations import StoredJob
from kessel_core.model.states import JobState

__all__ = ["Browse", "Buried", "Delete", "Facet", "FacetKind", "Pause", "Results", "VirtualTime"]


class Facet(ABC):
    """The base of all facets; methods are thread-safe, and raise only the `AdapterError` tree."""

    #: Its name in errors, reports and listings.
    facet_name: ClassVar[str]


F = TypeVar("F", bound=Facet)
#: The class of a facet. Not `type[F]`, because type checkers refuse abstract classes there.
FacetKind: TypeAlias = Callable[..., F]


class Browse(Facet):
    """Shows jobs without changing or reserving them."""

    facet_name = "browse"

    @abstractmethod
    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Return up to `limit` jobs in that state, next one first; none if the queue does not exist."""


class Buried(Facet):
    """Lists buried jobs with their reasons, and makes them ready again (S8)."""

    facet_name = "buried"

    @abstractmethod
    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """Return up to `limit` buried jobs with reason, message and time, oldest burial first."""

    @abstractmethod
    def kick(self, queue: str, job_id: str) -> None:
        """Make one *buried* job ready again, with its own priority; delayed jobs are not affected.

        Its attempts are counted from zero again.

        Raises:
            UnknownJob: The queue has no buried job with that id.
        """


class Delete(Facet):
    """Removes single jobs."""

    facet_name = "delete"

    @abstractmethod
    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is ready, delayed or buried; a reserved one belongs to its worker.

        Raises:
            UnknownJob: The queue has no such job, or it is reserved.
        """


class Pause(Facet):
    """Stops deliveries from a queue for a while."""

    facet_name = "pause"

    @abstractmethod
    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for `duration`, rounded up; zero resumes at once."""


class VirtualTime(Facet):
    """Takes all time from the given clock and never sleeps in real time, so that tests can move it (S18)."""

    facet_name = "virtual_time"

    @abstractmethod
    def next_change(self, queues: Sequence[str]) -> datetime | None:
        """Return when time alone makes the next job ready (a delay, pause or lease ends), or None."""


class Results(Facet):
    """Keeps the encoded result that a `Commit` or `Bury` carries, for failures as well."""

    facet_name = "results"

    @abstractmethod
    def result(self, job_id: str) -> bytes | None:
        """Return the latest encoded result of a job, or None if none is kept (any more)."""
