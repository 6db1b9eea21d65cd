"""What operators do, as a case does it: each call on the open adapter and in the history."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta

from kessel_conformance.history import shown
from kessel_conformance.opened import OpenAdapter
from kessel_core import UnknownJob
from kessel_core.contract import Browse, Buried, Delete, Find, JobState, Pause, QueueStats, StoredJob

__all__ = ["Operating"]


class Operating(OpenAdapter):
    """An open adapter and an operator's calls; of the case's queue where none is named. As `OpenAdapter`."""

    def stats(self, queue: str | None = None) -> QueueStats:
        """Count the jobs of a queue."""
        queue = queue or self.queue
        return self.call(f"stats{self._of(queue)}", lambda: self.adapter.stats(queue))

    def purge(self, queue: str | None = None) -> int:
        """Purge a queue."""
        queue = queue or self.queue
        return self.call(f"purge{self._of(queue)}", lambda: self.adapter.purge(queue))

    def buried(self, limit: int = 100, queue: str | None = None) -> list[StoredJob]:
        """List the buried jobs of a queue."""
        queue = queue or self.queue
        return self.call(f"list the buried{self._of(queue)}", lambda: self.facet(Buried).buried(queue, limit))

    def each_buried(self) -> Iterator[StoredJob]:
        """Go through the buried jobs of the case's queue."""
        begin = self.call("begin with the buried", lambda: self.facet(Buried).each_buried(self.queue))
        each = iter(begin)
        while (job := self.call("go on to the next", lambda: next(each, None), "the end")) is not None:
            yield job

    def go_through(self, state: JobState, most: int) -> list[StoredJob]:
        """Go through the jobs of the case's queue in a state, at most so many."""
        each = self.facet(Browse).each
        what = f"go through the {state} jobs"
        return self.call(what, lambda: list(itertools.islice(each(self.queue, state), most)))

    def peek(self, state: JobState, limit: int = 1, queue: str | None = None) -> list[StoredJob]:
        """Look at jobs of a queue."""
        queue = queue or self.queue
        what = f"peek {state}{self._of(queue)}"
        return self.call(what, lambda: self.facet(Browse).peek(queue, state, limit))

    def find(self, job_id: str) -> StoredJob | None:
        """Look for a job by its id."""
        return self.call(f"find {self._named(job_id)}", lambda: self.facet(Find).find(job_id), "none")

    def pause(self, queue: str, span: timedelta) -> None:
        """Pause a queue; no time resumes it."""
        what = f"pause {queue} for {shown(span)}" if span else f"resume {queue}"
        self.call(what, lambda: self.facet(Pause).pause(queue, span))

    def kick(self, job_id: str, queue: str | None = None) -> None:
        """Kick a job of a queue."""
        queue = queue or self.queue
        what = f"kick {self._named(job_id)}{self._of(queue)}"
        self.call(what, lambda: self.facet(Buried).kick(queue, job_id))

    def kick_shown(self, job: StoredJob) -> None:
        """Kick a job that was shown."""
        what = f"kick {self._named(job.id)}{self._of(job.queue)}, as it was shown"
        self.call(what, lambda: self.facet(Buried).kick_shown(job))

    def delete(self, job_id: str, queue: str | None = None) -> None:
        """Delete a job of a queue."""
        queue = queue or self.queue
        what = f"delete {self._named(job_id)}{self._of(queue)}"
        self.call(what, lambda: self.facet(Delete).delete(queue, job_id))

    def not_kicked(self, job_id: str, why: str, queue: str | None = None) -> None:
        """Check that a kick is refused, because the queue has no buried job of that id."""
        queue = queue or self.queue
        what = f"kick {self._named(job_id)}{self._of(queue)}, {why}"
        error = self.refused(UnknownJob, what, lambda: self.facet(Buried).kick(queue, job_id))
        self.equal((error.job_id, error.queue), (job_id, queue), "id and queue that the refusal names")

    def not_deleted(self, job_id: str, why: str, queue: str | None = None) -> None:
        """Check that a delete is refused, because the queue has no such job that waits."""
        queue = queue or self.queue
        what = f"delete {self._named(job_id)}{self._of(queue)}, {why}"
        error = self.refused(UnknownJob, what, lambda: self.facet(Delete).delete(queue, job_id))
        self.equal((error.job_id, error.queue), (job_id, queue), "id and queue that the refusal names")

    def _of(self, queue: str) -> str:
        return "" if queue == self.queue else f" of {queue}"

    def _named(self, job_id: str) -> str:
        return self._ids.get(job_id) or shown(job_id)
