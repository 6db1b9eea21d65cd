"""The operations for operators: the facets of one namespace, and its counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

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
from kessel_redis import codec
from kessel_redis.database import Database
from kessel_redis.options import RedisOptions
from kessel_redis.scripts import OPERATIONS, Layout, packed

__all__ = ["RedisOperations"]

#: All jobs, where a listing needs a limit.
_ALL: Final = 2**31 - 1
#: Most jobs that one call of a purge removes, and whose bodies one call shows: nobody else is served then.
_PURGED_AT_ONCE: Final = 250
_SHOWN_AT_ONCE: Final = 250
#: Most queues that one call looks at.
_QUEUES_AT_ONCE: Final = 250
#: The sets of jobs, by their numbers in `common.lua`.
_SETS: Final = {
    JobState.READY: 1,
    JobState.DELAYED: 2,
    JobState.RESERVED: 4,
    JobState.BURIED: 6,
}
_STATES: Final = {number: state for state, number in _SETS.items()}


class RedisOperations(Browse, Buried, Delete, Find, Pause):
    """The operations and facets of the adapter. Thread-safe; all raise what `Database.run` raises."""

    #: Where the jobs are, and its options; set by the adapter.
    database: Database
    options: RedisOptions

    def queues(self) -> list[str]:
        """Return the queues that hold a job or are paused, sorted; the others are forgotten."""
        names = sorted(
            name.decode() for name in self.database.run(packed(b"SMEMBERS", self.database.keys.names))
        )
        used: list[str] = []
        for first in range(0, len(names), _QUEUES_AT_ONCE):
            portion = tuple(names[first : first + _QUEUES_AT_ONCE])
            given = (b"used", *(name.encode() for name in portion))
            used += [name.decode() for name in self.database.call(OPERATIONS, Layout(portion), given)]
        return used

    def stats(self, queue: str) -> QueueStats:
        """Count the jobs of a queue by state, exactly and at once, however many there are."""
        ready, delayed, reserved, buried, paused = self.database.operate(b"stats", queue)
        shown = self.peek(queue, JobState.READY) if ready else None
        return QueueStats(
            queue=queue,
            ready=ready,
            delayed=delayed,
            reserved=reserved,
            buried=buried,
            paused=None if paused == b"0" else codec.to_span(paused),
            oldest_ready=ready_for(shown[0], self.database.clock.now()) if shown else None,
        )

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Return up to `limit` jobs in that state, next one first."""
        return list(self._shown(queue, state, min(limit, _ALL))) if limit > 0 else []

    def each(self, queue: str, state: JobState) -> Iterator[StoredJob]:
        """Yield the jobs in that state, next one first."""
        return self._shown(queue, state, _ALL)

    def _shown(self, queue: str, state: JobState, limit: int) -> Iterator[StoredJob]:
        """Yield jobs; their bodies come a few hundred at a time, and what is gone by then is left out.

        So is a buried job that was kicked by then: it has a record still, and no reason any more.
        """
        found = self.database.operate(b"list", queue, b"%d" % _SETS[state], b"%d" % limit)
        members, scores = found[::2], found[1::2]
        for first in range(0, len(members), _SHOWN_AT_ONCE):
            portion = slice(first, first + _SHOWN_AT_ONCE)
            numbers = (member[:16] for member in members[portion])
            records = self.database.operate(b"records", queue, *numbers)
            for member, score, record in zip(members[portion], scores[portion], records, strict=True):
                if record is None or (state is JobState.BURIED and not record[2]):
                    continue
                priority = score if state is JobState.READY else member[17:27]
                yield _stored(queue, state, priority, score, *record)

    def find(self, job_id: str) -> StoredJob | None:
        """Return the job with that id, in whatever queue and state."""
        while True:
            command = packed(b"HGET", self.database.keys.ids, job_id.encode())
            if (place := self.database.run(command)) is None:
                return None
            queue = place[28:].decode()
            found = self.database.operate(b"find", queue, job_id.encode(), place[:27])
            if found is not None:  # else it has just ended, and perhaps there is another one by now
                number, score, *record = found
                return _stored(queue, _STATES[number], place[17:27], score, *record)

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """Return up to `limit` buried jobs, oldest burial first."""
        return self.peek(queue, JobState.BURIED, limit)

    def each_buried(self, queue: str) -> Iterator[StoredJob]:
        """Yield the buried jobs, oldest burial first."""
        return self._shown(queue, JobState.BURIED, _ALL)

    def kick(self, queue: str, job_id: str) -> None:
        """Make one buried job ready again; its attempts are reset, its snoozes are kept.

        Raises:
            UnknownJob: The queue has no buried job with that id.
        """
        told = self.database.message(told_ready(queue))
        given = (self.database.keys.channel, told, queue.encode(), job_id.encode())
        if not self.database.operate(b"kick", queue, *given):
            raise UnknownJob(job_id, queue)
        self.database.line.announce(queue)

    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is ready, delayed or buried.

        Raises:
            UnknownJob: The queue has no such job, or it is reserved.
        """
        if not self.database.operate(b"delete", queue, queue.encode(), job_id.encode()):
            raise UnknownJob(job_id, queue)

    def delete_shown(self, job: StoredJob) -> None:
        """Remove a job that was shown; one that was shown as buried, only if it is so still.

        Raises:
            UnknownJob: The queue has no such job any more.
        """
        operation = b"delete_buried" if job.state is JobState.BURIED else b"delete"
        if not self.database.operate(operation, job.queue, job.queue.encode(), job.id.encode()):
            raise UnknownJob(job.id, job.queue)

    def purge(self, queue: str) -> int:
        """Remove every job that is not reserved, a few hundred per call."""
        total = 0
        while removed := self.database.operate(b"purge", queue, b"%d" % _PURGED_AT_ONCE):
            total += removed
        return total

    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for `duration`; zero resumes at once."""
        told = self.database.message(told_ready(queue, EVERY_WAITER))
        span = codec.micros(max(duration, NO_PAUSE))
        self.database.operate(b"pause", queue, self.database.keys.channel, told, queue.encode(), span)
        self.database.line.wake()


def _stored(
    queue: str, state: JobState, priority: bytes, score: bytes, record: bytes, counted: bytes, noted: bytes
) -> StoredJob:
    job_id, enqueued, body = codec.to_record(record)
    counts = codec.to_counts(counted)
    is_buried = state is JobState.BURIED
    reason, message = codec.to_note(noted) if is_buried else (None, None)
    moment = codec.to_moment(score)
    return StoredJob(
        id=job_id,
        queue=queue,
        state=state,
        body=body,
        priority=int(priority),
        # A delivery is counted when it ends; that of a reserved job counts all the same.
        attempt=counts.attempts + (state is JobState.RESERVED),
        snoozes=counts.snoozes,
        enqueued_at=codec.to_moment(enqueued),
        due=moment if state in (JobState.DELAYED, JobState.RESERVED) else None,
        reason=reason,
        message=message,
        buried_at=moment if is_buried else None,
    )
