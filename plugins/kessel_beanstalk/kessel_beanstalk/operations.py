"""The operations for operators: list, peek, kick, delete, purge, pause. One connection, one caller at a time.

beanstalkd has no listing, and identifies jobs only by its own numbers; see `search`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Final, TypeVar

import attrs

from kessel_beanstalk import commands
from kessel_beanstalk.commands import JobStats
from kessel_beanstalk.connection import DEFAULT_TUBE, Connection
from kessel_beanstalk.names import number_named
from kessel_beanstalk.options import MAX_NUMBER, whole_seconds
from kessel_beanstalk.records import BURIED_PREFIX, SNOOZED_PREFIX, Record, side_tube
from kessel_beanstalk.search import BATCH, Located, Search
from kessel_beanstalk.shared import Shared
from kessel_core.contract import (
    AdapterError,
    AdapterUnavailable,
    JobState,
    QueueStats,
    StoredJob,
    UnknownJob,
    get_logger,
    queue_name_problem,
    ready_for,
)

__all__ = ["Operations"]

_T = TypeVar("_T")
log = get_logger("kessel.beanstalk")

#: The states of a job that no worker holds.
_FREE: Final = (JobState.READY, JobState.DELAYED, JobState.BURIED)


class Operations:
    """The operations on one server. Thread-safe; every method raises the errors of `Connection.ask`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._search = Search(shared)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        # Watches paused queues, because the server forgets an unused tube together with its pause.
        self._keeper: Connection | None = None
        self._is_closed = False
        #: Tubes that cannot be queues, and were logged already.
        self._strange: set[str] = set()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._is_closed = True
            for connection in (self._connection, self._keeper):
                if connection is not None:
                    connection.close()

    def _run(self, work: Callable[[Connection], _T]) -> _T:
        with self._lock:
            connection = self._connection
            if connection is None or not connection.is_usable:
                if self._is_closed:
                    raise AdapterUnavailable(f"{self._shared.server.address}: this adapter is closed")
                connection = self._connection = self._shared.server.connect()
            try:
                return work(connection)
            finally:
                if connection.is_usable:
                    connection.use(DEFAULT_TUBE)  # so that this connection keeps no tube alive

    def queues(self) -> list[str]:
        """See `QueueAdapter.queues`; tubes of others that cannot be queues are logged."""
        return sorted(self._run(self._queues))

    def _queues(self, connection: Connection) -> list[str]:
        queues = []
        for tube in connection.ask(commands.list_tubes):
            problem = queue_name_problem(tube)
            if problem is None:
                # The server lists a tube also for as long as any connection uses or watches it.
                if self._stats(connection, tube).total:
                    queues.append(tube)
            elif not tube.startswith((BURIED_PREFIX, SNOOZED_PREFIX)) and tube not in self._strange:
                self._strange.add(tube)
                log.warning("tube %r is passed over: a queue's name %s", tube, problem)
        return queues

    def stats(self, queue: str) -> QueueStats:
        """See `QueueAdapter.stats`."""

        def work(connection: Connection) -> QueueStats:
            found = self._stats(connection, queue)
            if not found.ready:
                return found
            return attrs.evolve(found, oldest_ready=self._oldest_ready(connection, queue))

        return self._run(work)

    def _oldest_ready(self, connection: Connection, queue: str) -> timedelta | None:
        connection.use(queue)
        stored = connection.ask(commands.peek_ready)
        if stored is None:
            return None
        stats = connection.ask(commands.stats_job(stored.server_id))
        if stats is None or stats.state is not JobState.READY:
            return None
        shown = self._search.shown(connection, [Located(stored.server_id, stored.body, stats)])
        return ready_for(shown[0], self._shared.clock.now()) if shown else None

    @staticmethod
    def _stats(connection: Connection, queue: str) -> QueueStats:
        found = connection.ask(commands.stats_tube(queue))
        if found is None:
            return QueueStats(queue=queue)
        return QueueStats(
            queue=queue,
            ready=found.ready,
            delayed=found.delayed,
            reserved=found.reserved,
            buried=found.buried,
            # The server rounds the rest down, so the last second of a pause shows as 0.
            paused=max(found.pause_left, timedelta(seconds=1)) if found.pause is not None else None,
        )

    def pause(self, queue: str, duration: timedelta) -> None:
        """See `Pause.pause`."""
        seconds = min(max(0, whole_seconds(duration)), MAX_NUMBER)

        def work(_: Connection) -> None:
            keeper = self._keeper
            if keeper is None or not keeper.is_usable:
                keeper = self._keeper = self._shared.server.connect()
            keeper.ask(commands.watch(queue))
            keeper.ask(commands.pause_tube(queue, seconds))

        self._run(work)

    # --- looking -------------------------------------------------------------------------------

    def peek(self, queue: str, state: JobState, limit: int) -> list[StoredJob]:
        """See `Browse.peek`."""
        if limit <= 0:
            return []
        if state is JobState.BURIED:
            return self.buried(queue, limit)

        def work(connection: Connection) -> list[StoredJob]:
            if not self._search.count(connection, queue, (state,)):
                return []
            found = self._search.all_jobs(
                connection, lambda stats: stats.tube == queue and stats.state is state
            )
            if state is JobState.READY:
                found.sort(key=lambda job: (job.stats.pri, job.server_id))
            else:
                found.sort(key=lambda job: (job.stats.time_left, job.server_id))
            return self._search.shown(connection, found[:limit])

        return self._run(work)

    def buried(self, queue: str, limit: int) -> list[StoredJob]:
        """See `Buried.buried`."""
        if limit <= 0:
            return []

        def fits(stats: JobStats) -> bool:
            return stats.tube == queue and stats.state is JobState.BURIED

        def work(connection: Connection) -> list[StoredJob]:
            records: dict[int, Record] = {}
            for record in self._shared.side_tubes.burials(queue).values():
                records.pop(record.server_id, None)  # so that the latest burial determines the order
                records[record.server_id] = record
            found = self._search.jobs(connection, list(records), fits)
            if len(found) < min(limit, self._stats(connection, queue).buried):
                # Some were buried by other clients, or while the server accepted no records.
                found += self._search.all_jobs(
                    connection, lambda stats: stats.server_id not in records and fits(stats)
                )
            return self._search.shown(connection, found[:limit], records)

        return self._run(work)

    def sample(self, queues: Sequence[str], most: int) -> list[StoredJob]:
        """Return the next job of each queue and state, and all jobs among about the `most` latest ids."""

        def fits(stats: JobStats) -> bool:
            return not stats.tube.startswith((BURIED_PREFIX, SNOOZED_PREFIX))

        def work(connection: Connection) -> list[StoredJob]:
            batches = [[number for queue in queues for number in self._heads(connection, queue)]]
            batches += islice(self._search.numbers(connection), -(-most // BATCH))
            found = {
                job.server_id: job
                for numbers in batches
                for job in self._search.jobs(connection, numbers, fits)
            }
            return self._search.shown(connection, list(found.values()))

        return self._run(work)

    @staticmethod
    def _heads(connection: Connection, queue: str) -> Iterator[int]:
        connection.use(queue)
        for peek in (commands.peek_ready, commands.peek_delayed, commands.peek_buried):
            if (stored := connection.ask(peek)) is not None:
                yield stored.server_id

    # --- changing ------------------------------------------------------------------------------

    def kick(self, queue: str, job_id: str) -> None:
        """See `Buried.kick`."""
        self._kick(queue, job_id)

    def kick_shown(self, job: StoredJob) -> None:
        """See `Buried.kick_shown`; of several jobs with its id it is this one."""
        self._kick(job.queue, job.id, job)

    def _kick(self, queue: str, job_id: str, shown: StoredJob | None = None) -> None:
        """Kick by `kick-job`, never by `kick`, which may take delayed jobs."""
        side_tubes = self._shared.side_tubes

        def work(connection: Connection) -> None:
            server_id, body, stats = self._search.locate(connection, queue, job_id, (JobState.BURIED,), shown)
            told_at = side_tubes.readings.buried_by(stats, body)
            if not side_tubes.knows_burial(stats, body) and not side_tubes.readings.is_later(
                side_tube(BURIED_PREFIX, queue), told_at
            ):
                side_tubes.burials(queue)
            if not side_tubes.knows_burial(stats, body):  # buried by another client
                name = None if number_named(job_id) is not None else job_id
                base = side_tubes.base(connection, body, stats, told_at=told_at)
                plain = Record.of_burial(stats, body, base, id=name)
                record_id = side_tubes.write(connection, BURIED_PREFIX, queue, plain)
                if record_id is not None:
                    side_tubes.was_buried(plain, record_id)
            self._shared.suspects.add(server_id)
            if not connection.ask(commands.kick_job(server_id)):
                raise UnknownJob(job_id, queue)

        self._run(work)

    def delete(self, queue: str, job_id: str) -> None:
        """See `Delete.delete`; the one delete over a connection that did not reserve (rule 4)."""
        self._delete(queue, job_id, _FREE)

    def delete_shown(self, job: StoredJob) -> None:
        """See `Delete.delete_shown`; a kick between looking and deleting is lost, for want of a command.

        Of several jobs with its id it is this one that goes.
        """
        self._delete(job.queue, job.id, (job.state,) if job.state is JobState.BURIED else _FREE, job)

    def _delete(
        self, queue: str, job_id: str, states: tuple[JobState, ...], shown: StoredJob | None = None
    ) -> None:
        def work(connection: Connection) -> None:
            job = self._search.locate(connection, queue, job_id, states, shown)
            if not connection.ask(commands.delete(job.server_id)):
                raise UnknownJob(job_id, queue)

        self._run(work)

    def purge(self, queue: str) -> int:
        """See `QueueAdapter.purge`."""

        def work(connection: Connection) -> int:
            connection.use(queue)
            removed = 0
            for state in (JobState.DELAYED, JobState.READY, JobState.BURIED):
                while (job := self._search.next(connection, queue, state)) is not None:
                    removed += connection.ask(commands.delete(job.server_id))  # 0 if a worker was faster
            return removed

        removed = self._run(work)
        try:
            self._shared.side_tubes.prune(queue)  # removes the records of the removed jobs
        except AdapterError:
            log.debug("the records of queue %s are not removed", queue, exc_info=True)
        return removed
