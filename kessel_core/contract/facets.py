"""What an adapter may offer beyond the core contract: one small class each, with its own promise.

An adapter gets a facet by deriving from it, or by overriding `QueueAdapter.facet`. A caller asks
`adapter.facet(Browse)` and gets None if the adapter does not have it. A third party may define further
facets: derive from `Facet`, and set `facet_name`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Final, TypeAlias, TypeVar

from kessel_core.contract.operations import StoredJob
from kessel_core.errors import UnknownJob
from kessel_core.model.states import JobState

__all__ = ["Browse", "Buried", "Delete", "Facet", "FacetKind", "Find", "Pause", "VirtualTime"]


class Facet(ABC):
    """The base of all facets; methods are thread-safe, and raise only the `AdapterError` tree."""

    #: Its name in errors, reports and listings.
    facet_name: ClassVar[str]


#: All jobs, where a listing needs a limit.
_ALL: Final = 2**31 - 1

F = TypeVar("F", bound=Facet)
#: The class of a facet. Not `type[F]`, because type checkers refuse abstract classes there.
FacetKind: TypeAlias = Callable[..., F]


class Browse(Facet):
    """Shows jobs without changing or reserving them."""

    facet_name = "browse"

    @abstractmethod
    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Return up to `limit` jobs in that state, next one first; none if the queue does not exist."""

    def each(self, queue: str, state: JobState) -> Iterator[StoredJob]:
        """Yield all jobs in that state, in the order of `peek`; none if the queue does not exist.

        One that moves meanwhile may be missed, or met twice. Override it where reading a few at a time needs
        less memory; the default reads them all at once.
        """
        return iter(self.peek(queue, state, _ALL))


class Buried(Facet):
    """Lists buried jobs with their reasons, and makes them ready again (S8)."""

    facet_name = "buried"

    @abstractmethod
    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """Return up to `limit` buried jobs with reason, message and time, oldest burial first."""

    def each_buried(self, queue: str) -> Iterator[StoredJob]:
        """Yield all buried jobs, as `buried`; one that moves meanwhile may be missed, or met twice.

        Override it for the same reason as `Browse.each`. What it yields may be kicked or deleted at once.
        """
        return iter(self.buried(queue, _ALL))

    @abstractmethod
    def kick(self, queue: str, job_id: str) -> None:
        """Make one *buried* job ready again, with its own priority; delayed jobs are not affected.

        Its attempts are counted from zero again.

        Raises:
            UnknownJob: The queue has no buried job with that id.
        """

    def kick_shown(self, job: StoredJob) -> None:
        """Kick a job that `buried` or `peek` has shown; as `kick`, and raises what that raises.

        Override it where finding a job by its id is a search, and put into `StoredJob.handle` what spares
        that: otherwise kicking thousands of jobs takes the square of the time. A handle may be older than
        what became of the job.
        """
        self.kick(job.queue, job.id)


class Delete(Facet):
    """Removes single jobs."""

    facet_name = "delete"

    @abstractmethod
    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is ready, delayed or buried; a reserved one belongs to its worker.

        Raises:
            UnknownJob: The queue has no such job, or it is reserved.
        """

    def delete_shown(self, job: StoredJob) -> None:
        """Remove a job that `peek` or `buried` has shown; as `delete`, and raises what that raises.

        One that was shown as buried, and was kicked since, is somebody's work again, and stays: it raises
        `UnknownJob`. The default looks right before it deletes, by `Find` or through all that are `Buried`,
        and only a kick between these two calls is lost. Override it where one call can do both, and for the
        same reason as `Buried.kick_shown`.
        """
        if job.state is JobState.BURIED and not self._is_still_buried(job):
            raise UnknownJob(job.id, job.queue)
        self.delete(job.queue, job.id)

    def _is_still_buried(self, job: StoredJob) -> bool:
        if isinstance(self, Find):
            found = self.find(job.id)
            # Where ids are not unique, it may be of another queue. What is gone, `delete` refuses.
            return found is None or found.queue != job.queue or found.state is JobState.BURIED
        return not isinstance(self, Buried) or any(one.id == job.id for one in self.each_buried(job.queue))


class Find(Facet):
    """Finds one job by its id, however many there are."""

    facet_name = "find"

    @abstractmethod
    def find(self, job_id: str) -> StoredJob | None:
        """Return the job with that id, in whatever queue and state; None if there is none."""


class Pause(Facet):
    """Stops deliveries from a queue for a while."""

    facet_name = "pause"

    @abstractmethod
    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for `duration`, rounded up; zero resumes at once.

        Jobs are enqueued as before, and those that are ready stay ready: they are counted and shown as such.
        Whoever holds one goes on. The newest call counts, also where the rest of an earlier one is longer.
        """


class VirtualTime(Facet):
    """Takes all time from the given clock and never sleeps in real time, so that tests can move it (S18)."""

    facet_name = "virtual_time"

    @abstractmethod
    def next_change(self, queues: Sequence[str]) -> datetime | None:
        """Return when time alone makes the next job ready (a delay, pause or lease ends), or None."""
