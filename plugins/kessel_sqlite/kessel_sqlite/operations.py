"""The operations for operators: the facets of one open file, and its counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from kessel_core.contract import (
    NO_PAUSE,
    Browse,
    Buried,
    Delete,
    Find,
    JobState,
    Pause,
    QueueStats,
    StoredJob,
    UnknownJob,
    VirtualTime,
    ready_for,
)
from kessel_sqlite import sql
from kessel_sqlite.engine import Engine, next_change
from kessel_sqlite.hostclock import after, moment
from kessel_sqlite.options import SqliteOptions
from kessel_sqlite.schema import STATES

__all__ = ["SqliteOperations"]

#: How many jobs are read at once where all are wanted.
_PAGE: Final = 500
#: A listing of so many has them all.
_ALL: Final = 2**31 - 1


class SqliteOperations(Browse, Buried, Delete, Find, Pause, VirtualTime):
    """The operations and facets of the adapter. Thread-safe; all raise what `DatabaseFile.run` raises."""

    #: The open file, and its options; set by the adapter.
    engine: Engine
    options: SqliteOptions

    def queues(self) -> list[str]:
        """Return the queues that hold a job or are paused, sorted."""
        now = self.engine.host.now()
        rows = self.engine.read(lambda c: c.execute(sql.QUEUES, {"now": now}).fetchall())
        return [row[0] for row in rows]

    def stats(self, queue: str) -> QueueStats:
        """Count the jobs of a queue by state."""
        now = self.engine.host.now()
        values = {"queue": queue, "now": now}
        row = self.engine.read(lambda c: c.execute(sql.STATS, values).fetchone())
        ready, delayed, reserved, buried, until = row
        return QueueStats(
            queue=queue,
            ready=ready,
            delayed=delayed,
            reserved=reserved,
            buried=buried,
            paused=None if until is None else timedelta(microseconds=until - now),
            oldest_ready=self._oldest_ready(queue) if ready else None,
        )

    def _oldest_ready(self, queue: str) -> timedelta | None:
        shown = self.peek(queue, JobState.READY)
        return ready_for(shown[0], self.engine.host.clock.now()) if shown else None

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Return up to `limit` jobs in that state, next one first."""
        return [job for job, _ in self._listed(queue, state, min(max(0, limit), _ALL), sql.FROM_THE_START)]

    def each(self, queue: str, state: JobState) -> Iterator[StoredJob]:
        """Yield the jobs in that state, next one first, a page at a time."""
        place = sql.FROM_THE_START
        while page := self._listed(queue, state, _PAGE, place):
            for job, _ in page:
                yield job
            _, place = page[-1]

    def _listed(
        self, queue: str, state: JobState, limit: int, place: tuple[int, int]
    ) -> list[tuple[StoredJob, tuple[int, int]]]:
        """Return jobs behind a place, each with its own."""
        after, after_seq = place
        values = {
            "queue": queue,
            "limit": limit,
            "now": self.engine.host.now(),
            "after": after,
            "after_seq": after_seq,
        }
        rows = self.engine.read(lambda c: c.execute(sql.LISTS[state], values).fetchall())
        return [(_stored(row[:-2], state), row[-2:]) for row in rows]

    def find(self, job_id: str) -> StoredJob | None:
        """Return the job with that id, in whatever queue and state."""
        row = self.engine.read(lambda c: c.execute(sql.FIND, (job_id,)).fetchone())
        if row is None:
            return None
        *shown, state, due = row
        is_over = due is not None and due <= self.engine.host.now()
        return _stored(tuple(shown), JobState.READY if is_over else STATES[state])

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """Return up to `limit` buried jobs, oldest burial first."""
        return self.peek(queue, JobState.BURIED, limit)

    def each_buried(self, queue: str) -> Iterator[StoredJob]:
        """Yield the buried jobs, oldest burial first, a page at a time."""
        return self.each(queue, JobState.BURIED)

    def kick(self, queue: str, job_id: str) -> None:
        """Make one buried job ready again; its attempts are reset, its snoozes are kept.

        Raises:
            UnknownJob: The queue has no buried job with that id.
        """
        if not self.engine.change(sql.KICK, (job_id, queue)):
            raise UnknownJob(job_id, queue)
        self.engine.line.announce(queue)

    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is ready, delayed or buried.

        Raises:
            UnknownJob: The queue has no such job, or it is reserved.
        """
        if not self.engine.change(sql.DELETE, (job_id, queue, self.engine.host.now())):
            raise UnknownJob(job_id, queue)

    def delete_shown(self, job: StoredJob) -> None:
        """Remove a job that was shown; one that was shown as buried, only if it is so still.

        Raises:
            UnknownJob: The queue has no such job any more.
        """
        if job.state is not JobState.BURIED:
            self.delete(job.queue, job.id)
        elif not self.engine.change(sql.DELETE_BURIED, (job.id, job.queue)):
            raise UnknownJob(job.id, job.queue)

    def purge(self, queue: str) -> int:
        """Remove every job that is not reserved, a few thousand per transaction."""
        total = 0
        while removed := self.engine.write(lambda c: self._purge_some(c, queue)):
            total += removed
        return total

    def _purge_some(self, connection: sqlite3.Connection, queue: str) -> int:
        connection.execute(sql.BEGIN)
        values = {"queue": queue, "now": self.engine.host.now(), "limit": sql.PURGED_AT_ONCE}
        removed = sum(connection.execute(statement, values).rowcount for statement in sql.PURGES)
        connection.execute(sql.END)
        return removed

    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for `duration`; zero resumes at once."""
        if duration <= NO_PAUSE:
            self.engine.change(sql.RESUME, (queue,))
        else:
            until = after(self.engine.host.now(), duration)
            self.engine.change(sql.PAUSE, (queue, until))
        self.engine.line.wake()

    def next_change(self, queues: Sequence[str]) -> datetime | None:
        """Return when time alone next makes a job ready, or None."""
        return moment(next_change(self.engine.outlook(sql.json_names(queues), self.engine.host.now())))


def _stored(row: tuple[Any, ...], state: JobState) -> StoredJob:
    job_id, queue, priority, due, attempts, snoozes, enqueued_at, reason, message, buried_at, body = row
    return StoredJob(
        id=job_id,
        queue=queue,
        state=state,
        body=body,
        priority=priority,
        attempt=attempts,
        snoozes=snoozes,
        enqueued_at=moment(enqueued_at),
        due=moment(due) if state in (JobState.DELAYED, JobState.RESERVED) else None,
        reason=reason,
        message=message,
        buried_at=moment(buried_at),
    )
