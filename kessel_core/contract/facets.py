"""What an adapter may offer beside the core contract: one small class each, with its own promise.

An adapter has a facet by deriving from it, or by overriding `QueueAdapter.facet`; whoever needs one asks
`adapter.facet(Browse)` and gets None where it is missing. A third party may add facets of its own: derive
from `Facet`, and give it a name.
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
    """The base of all facets; methods are safe for any thread, and raise only the `AdapterError` tree."""

    #: How it is called in errors, reports and listings.
    facet_name: ClassVar[str]


F = TypeVar("F", bound=Facet)
#: A class of facets. Not `type[F]`, because type checkers refuse abstract classes there.
FacetKind: TypeAlias = Callable[..., F]


class Browse(Facet):
    """Shows jobs without changing or reserving them."""

    facet_name = "browse"

    @abstractmethod
    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Return up to `limit` jobs in that state, next one first; none of a queue that does not exist."""


class Buried(Facet):
    """Lists buried jobs with their reasons, and makes them ready again (S8)."""

    facet_name = "buried"

    @abstractmethod
    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """Return up to `limit` buried jobs with reason, message and time, oldest burial first."""

    @abstractmethod
    def kick(self, queue: str, job_id: str) -> None:
        """Make one *buried* job ready again, with its own priority; delayed jobs are not touched.

        Its attempts start anew, so that it gets its full number of tries.

        Raises:
            UnknownJob: No buried job of that id is in the queue.
        """


class Delete(Facet):
    """Removes single jobs."""

    facet_name = "delete"

    @abstractmethod
    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is ready, delayed or buried; a reserved one is its worker's.

        Raises:
            UnknownJob: No such job is in the queue, or it is reserved.
        """


class Pause(Facet):
    """Stops the delivery from a queue for a while."""

    facet_name = "pause"

    @abstractmethod
    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for `duration` (rounded up); zero resumes at once."""


class VirtualTime(Facet):
    """Takes all time from the given clock and never sleeps for real, so that tests move it (S18)."""

    facet_name = "virtual_time"

    @abstractmethod
    def next_change(self, queues: Sequence[str]) -> datetime | None:
        """Return when time alone next makes a job ready (delay, pause or lease over), or None."""


class Results(Facet):
    """Keeps the encoded result that a `Commit` or `Bury` carries, of failures as well."""

    facet_name = "results"

    @abstractmethod
    def result(self, job_id: str) -> bytes | None:
        """Return the latest result of a job as it was given; None: none was kept, or no longer."""
