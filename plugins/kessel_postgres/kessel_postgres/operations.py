"""The operations for operators: the facets of one schema, and its counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from kessel_core.contract import (
    EVERY_WAITER,
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
    ready_for,
    told_ready,
)
from kessel_postgres import codec
from kessel_postgres.database import Database
from kessel_postgres.link import Call
from kessel_postgres.options import PostgresOptions

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["PostgresOperations"]

#: Most jobs of each state that one transaction of a purge removes.
_PURGED_AT_ONCE: Final = 5_000
#: How many jobs are read at once where all are wanted.
_PAGE: Final = 500
#: A listing of so many has them all.
_ALL: Final = 2**31 - 1
#: The time and the number of a burial before all others, which the server calls -infinity.
_BEFORE_ALL: Final = (codec.integer(-(2**63)), codec.integer(0))


class PostgresOperations(Browse, Buried, Delete, Find, Pause):
    """The operations and facets of the adapter. Thread-safe; all raise what `Database.run` raises."""

    #: Where the jobs are, and its options; set by the adapter.
    database: Database
    options: PostgresOptions

    def queues(self) -> list[str]:
        """Return the queues that hold a job or are paused, sorted."""
        rows = self.database.call(Call(self.database.statements.queues, ()))
        return [_text(rows, row, 0) or "" for row in range(rows.ntuples)]

    def stats(self, queue: str) -> QueueStats:
        """Count the jobs of a queue by state; all are read for it, and the next ready one is looked at."""
        values = (codec.text(queue),)
        row = self.database.call(Call(self.database.statements.stats, values))
        ready, delayed, reserved, buried = (
            codec.number(row.get_value(0, column) or b"") for column in range(4)
        )
        paused = row.get_value(0, 4)
        return QueueStats(
            queue=queue,
            ready=ready,
            delayed=delayed,
            reserved=reserved,
            buried=buried,
            paused=None if paused is None else codec.to_span(paused),
            oldest_ready=self._oldest_ready(queue) if ready else None,
        )

    def _oldest_ready(self, queue: str) -> timedelta | None:
        shown = self.peek(queue, JobState.READY)
        return ready_for(shown[0], self.database.clock.now()) if shown else None

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Return up to `limit` jobs in that state, next one first."""
        values = (codec.text(queue), codec.integer(min(max(0, limit), _ALL)))
        rows = self.database.call(Call(self.database.statements.lists[state], values))
        return [_stored(rows, row, state) for row in range(rows.ntuples)]

    def find(self, job_id: str) -> StoredJob | None:
        """Return the job with that id, in whatever queue and state."""
        values = (codec.job_id(job_id),)
        rows = self.database.call(Call(self.database.statements.find, values))
        return _stored(rows, 0, JobState(_text(rows, 0, 11) or "")) if rows.ntuples else None

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """Return up to `limit` buried jobs, oldest burial first."""
        return self.peek(queue, JobState.BURIED, limit)

    def each_buried(self, queue: str) -> Iterator[StoredJob]:
        """Yield the buried jobs, oldest burial first, a page at a time."""
        at, seq = _BEFORE_ALL
        while True:
            values = (codec.text(queue), codec.integer(_PAGE), at, seq)
            rows = self.database.call(Call(self.database.statements.buried_page, values))
            for row in range(rows.ntuples):
                yield _stored(rows, row, JobState.BURIED)
            if rows.ntuples < _PAGE:
                return
            last = rows.ntuples - 1
            at, seq = rows.get_value(last, 10) or b"", rows.get_value(last, 11) or b""

    def kick(self, queue: str, job_id: str) -> None:
        """Make one buried job ready again; its attempts are reset, its snoozes are kept.

        Raises:
            UnknownJob: The queue has no buried job with that id.
        """
        call = Call(self.database.statements.kick, (codec.text(queue), codec.job_id(job_id)))
        if not codec.boolean(self.database.call(call, tell=(told_ready(queue),)).get_value(0, 0)):
            raise UnknownJob(job_id, queue)
        self.database.line.announce(queue)

    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is ready, delayed or buried.

        Raises:
            UnknownJob: The queue has no such job, or it is reserved.
        """
        values = (codec.text(queue), codec.job_id(job_id))
        row = self.database.call(Call(self.database.statements.delete, values))
        if not codec.boolean(row.get_value(0, 0)):
            raise UnknownJob(job_id, queue)

    def delete_shown(self, job: StoredJob) -> None:
        """Remove a job that was shown; one that was shown as buried, only if it is so still.

        Raises:
            UnknownJob: The queue has no such job any more.
        """
        if job.state is not JobState.BURIED:
            self.delete(job.queue, job.id)
            return
        values = (codec.text(job.queue), codec.job_id(job.id))
        if not self.database.call(Call(self.database.statements.delete_buried, values)).ntuples:
            raise UnknownJob(job.id, job.queue)

    def purge(self, queue: str) -> int:
        """Remove every job that is not reserved, a few thousand per transaction."""
        total = 0
        while True:
            values = (codec.text(queue), _PURGED_AT_ONCE.to_bytes(4, "big"))
            row = self.database.call(Call(self.database.statements.purge, values))
            removed = codec.number(row.get_value(0, 0) or b"")
            if not removed:
                return total
            total += removed

    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for `duration`; zero resumes at once."""
        values = (codec.text(queue), codec.span(max(duration, NO_PAUSE)))
        self.database.call(
            Call(self.database.statements.pause, values), tell=(told_ready(queue, EVERY_WAITER),)
        )
        self.database.line.wake()


def _text(rows: PGresult, row: int, column: int) -> str | None:
    value = rows.get_value(row, column)
    return None if value is None else value.decode()


def _number(rows: PGresult, row: int, column: int) -> int | None:
    value = rows.get_value(row, column)
    return None if value is None else codec.number(value)


def _stored(rows: PGresult, row: int, state: JobState) -> StoredJob:
    return StoredJob(
        id=codec.to_id(rows.get_value(row, 0) or b""),
        queue=_text(rows, row, 1) or "",
        state=state,
        body=rows.get_value(row, 2) or b"",
        priority=_number(rows, row, 3),
        attempt=_number(rows, row, 4),
        snoozes=_number(rows, row, 5),
        enqueued_at=codec.to_moment(rows.get_value(row, 6)),
        due=codec.to_moment(rows.get_value(row, 7))
        if state in (JobState.DELAYED, JobState.RESERVED)
        else None,
        reason=_text(rows, row, 8),
        message=_text(rows, row, 9),
        buried_at=codec.to_moment(rows.get_value(row, 10)),
    )
