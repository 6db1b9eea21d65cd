"""What operators do: list, peek, kick, delete, purge. One connection, one caller at a time.

beanstalkd lists nothing and knows jobs by its own ids only. A job's own id is looked up among
those put by or shown to this process lately, then in the records of buried jobs, then by looking
at every job of the server, newest first; `@<server id>` names a job directly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import greenstalk

from kessel_beanstalk.connection import CLEAN, Connection
from kessel_beanstalk.options import MAX_NUMBER, whole_seconds
from kessel_beanstalk.records import SIDE_PREFIX, Record, body_id, fingerprint, side_tube
from kessel_core.contract import AdapterError, AdapterUnavailable, JobState, QueueStats, StoredJob, UnknownJob

if TYPE_CHECKING:
    from kessel_beanstalk.adapter import BeanstalkAdapter

__all__ = ["Operations"]

_BATCH: Final = 256
#: A search looks at no more ids than this, the newest.
_MOST_IDS: Final = 2_000_000
_T = TypeVar("_T")
#: The server's id of a job, and what it says of the job.
_Located = tuple[int, greenstalk.StatsJob]


class Operations:
    """For any thread."""

    def __init__(self, adapter: BeanstalkAdapter) -> None:
        self._adapter = adapter
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        # Watches paused queues: the server forgets a tube, and its pause, that nobody uses.
        self._keeper: Connection | None = None
        self._is_closed = False

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
                    raise AdapterUnavailable(f"{self._adapter.server.address}: this adapter is closed")
                connection = self._connection = self._adapter.server.connect()
            try:
                result = work(connection)
                connection.use(greenstalk.DEFAULT_TUBE)  # so that no tube lives on for our sake
                return result
            except CLEAN as exc:
                connection.broken(exc)
                raise AdapterError(f"the server refused: {type(exc).__name__}") from exc

    def queues(self) -> list[str]:
        """See `QueueAdapter.queues`."""
        tubes = self._run(lambda connection: connection.call(connection.client.tubes))
        return sorted(tube for tube in tubes if not tube.startswith(SIDE_PREFIX))

    def stats(self, queue: str) -> QueueStats:
        """See `QueueAdapter.stats`."""
        return self._run(lambda connection: self._stats(connection, queue))

    @staticmethod
    def _stats(connection: Connection, queue: str) -> QueueStats:
        try:
            found = connection.call(connection.client.stats_tube, queue)
        except greenstalk.NotFoundError:
            return QueueStats(queue=queue)
        # The server cuts the rest to whole seconds, so the last second of a pause shows as 0.
        rest = max(1, found["pause-time-left"]) if found["pause"] else 0
        return QueueStats(
            queue=queue,
            ready=found["current-jobs-ready"],
            delayed=found["current-jobs-delayed"],
            reserved=found["current-jobs-reserved"],
            buried=found["current-jobs-buried"],
            paused=timedelta(seconds=rest) if rest else None,
        )

    def pause(self, queue: str, duration: timedelta) -> None:
        """See `QueueAdapter.pause`."""
        seconds = min(max(0, whole_seconds(duration)), MAX_NUMBER)

        def work(_: Connection) -> None:
            keeper = self._keeper
            if keeper is None or not keeper.is_usable:
                keeper = self._keeper = self._adapter.server.connect()
            keeper.call(keeper.client.watch, queue)
            keeper.call(keeper.client.pause_tube, queue, seconds)

        self._run(work)

    # --- looking -------------------------------------------------------------------------------

    def peek(self, queue: str, state: JobState, limit: int) -> list[StoredJob]:
        """See `QueueAdapter.peek`."""
        if limit <= 0:
            return []
        if state is JobState.BURIED:
            return self.buried(queue, limit)

        def fits(stats: dict[str, str]) -> bool:
            return stats["tube"] == queue and stats["state"] == state

        def work(connection: Connection) -> list[StoredJob]:
            found = [job for ids in self._ids(connection) for job in self._stored(connection, ids, fits)]
            if state is JobState.READY:
                found.sort(key=lambda pair: (pair[1].priority or 0, pair[0]))
            else:
                found.sort(key=lambda pair: (str(pair[1].due), pair[0]))
            return self._shown(found[:limit])

        return self._run(work)

    def buried(self, queue: str, limit: int) -> list[StoredJob]:
        """See `QueueAdapter.buried`."""
        if limit <= 0:
            return []
        records: dict[int, Record] = {}
        for record in self._adapter.records.walk(queue):
            records.pop(record.server_id, None)
            records[record.server_id] = record

        def fits(stats: dict[str, str]) -> bool:
            return stats["tube"] == queue and stats["state"] == JobState.BURIED

        def work(connection: Connection) -> list[StoredJob]:
            found = self._stored(connection, list(records), fits, records)
            if len(found) < min(limit, self._stats(connection, queue).buried):
                # Buried by somebody else, or while the server took no records.
                for ids in self._ids(connection):
                    fresh = [server_id for server_id in ids if server_id not in records]
                    found += self._stored(connection, fresh, fits)
            return self._shown(found[:limit])

        return self._run(work)

    def sample(self, queues: Sequence[str], most_ids: int) -> list[StoredJob]:
        """Return the next job of each queue and state, and all jobs among so many ids given last."""

        def fits(stats: dict[str, str]) -> bool:
            return not stats["tube"].startswith(SIDE_PREFIX)

        def work(connection: Connection) -> list[StoredJob]:
            heads = [server_id for queue in queues for server_id in self._heads(connection, queue)]
            found = dict(self._stored(connection, heads, fits))
            for ids in islice(self._ids(connection), -(-most_ids // _BATCH)):
                found.update(self._stored(connection, ids, fits))
            return list(found.values())

        return self._run(work)

    @staticmethod
    def _heads(connection: Connection, queue: str) -> Iterator[int]:
        connection.use(queue)
        client = connection.client
        for peek in (client.peek_ready, client.peek_delayed, client.peek_buried):
            try:
                yield connection.call(peek).id
            except greenstalk.NotFoundError:
                continue

    def _shown(self, found: list[tuple[int, StoredJob]]) -> list[StoredJob]:
        for server_id, job in found:  # whoever looks at a job may want to act on it next
            self._adapter.remember(job.id, server_id)
        return [job for _, job in found]

    def _stored(
        self,
        connection: Connection,
        server_ids: list[int],
        fits: Callable[[dict[str, str]], bool],
        records: dict[int, Record] | None = None,
    ) -> list[tuple[int, StoredJob]]:
        found: list[tuple[int, StoredJob]] = []
        now = self._adapter.clock.now()
        for start in range(0, len(server_ids), _BATCH):
            ids = server_ids[start : start + _BATCH]
            for_each = connection.pipeline(connection.jobs_stats, ids)
            fitting = [
                (server_id, stats)
                for server_id, stats in zip(ids, for_each, strict=True)
                if stats is not None and fits(stats)
            ]
            bodies = connection.pipeline(connection.jobs_bodies, [server_id for server_id, _ in fitting])
            for (server_id, stats), body in zip(fitting, bodies, strict=True):
                if body is None:
                    continue
                record = (records or {}).get(server_id)
                if record is not None and record.body != fingerprint(body):
                    record = None
                state = JobState(stats["state"])
                job = StoredJob(
                    id=self._adapter.id_of(server_id, body),
                    queue=stats["tube"],
                    state=state,
                    body=body,
                    priority=int(stats["pri"]),
                    attempt=record.attempt if record is not None else int(stats["reserves"]),
                    enqueued_at=now - timedelta(seconds=int(stats["age"])),
                    due=now + timedelta(seconds=int(stats["time-left"]))
                    if state in (JobState.DELAYED, JobState.RESERVED)
                    else None,
                    reason=record.reason if record is not None else None,
                    message=record.message if record is not None else None,
                    buried_at=record.at if record is not None else None,
                )
                found.append((server_id, job))
        return found

    def _ids(self, connection: Connection) -> Iterator[list[int]]:
        """Yield the ids that may exist, newest first, in batches, until all jobs were seen."""
        # The next id is learnt by taking it, in a tube that nobody watches.
        connection.use(side_tube("-"))
        try:
            newest = connection.call(connection.client.put, b"", MAX_NUMBER, 0, 1)
            connection.call(connection.client.delete, newest)
        except (greenstalk.DrainingError, greenstalk.OutOfMemoryError):
            newest = int(connection.call(connection.client.stats)["total-jobs"]) + 1
        for high in range(newest - 1, max(0, newest - _MOST_IDS), -_BATCH):
            yield list(range(high, max(0, high - _BATCH), -1))

    # --- changing ------------------------------------------------------------------------------

    def _located(self, queue: str, job_id: str, states: tuple[JobState, ...]) -> _Located:
        """Find a job of that queue in one of the states.

        Raises:
            UnknownJob: There is none.
        """

        def fits(connection: Connection, server_id: int, *, any_body: bool) -> greenstalk.StatsJob | None:
            try:
                stats = connection.call(connection.client.stats_job, server_id)
                body = connection.call(connection.client.peek, server_id).body
            except greenstalk.NotFoundError:
                return None
            own = self._adapter.id_of(server_id, body)
            if stats["tube"] != queue or stats["state"] not in states or not (any_body or own == job_id):
                return None
            return stats

        def among(server_ids: Iterable[int], *, any_body: bool = False) -> _Located | None:
            def work(connection: Connection) -> _Located | None:
                for server_id in server_ids:
                    stats = fits(connection, server_id, any_body=any_body)
                    if stats is not None:
                        return server_id, stats
                return None

            return self._run(work)

        def anywhere(connection: Connection) -> _Located | None:
            needle = job_id.encode("utf-8", "replace")
            for ids in self._ids(connection):
                bodies = connection.pipeline(connection.jobs_bodies, ids)
                for server_id, body in zip(ids, bodies, strict=True):
                    if body is not None and needle in body and body_id(body) == job_id:
                        stats = fits(connection, server_id, any_body=False)
                        if stats is not None:
                            return server_id, stats
            return None

        if job_id.startswith("@"):  # the server's own number
            number = job_id[1:]
            is_number = number.isascii() and number.isdigit() and int(number) < 2**64
            found = among([int(number)] if is_number else [], any_body=True)
        else:
            known = self._adapter.server_id_of(job_id)
            records = self._adapter.records
            # The dear ways last: a look at all records, a look at all jobs.
            found = (
                among([known] if known is not None else [])
                or among([r.server_id for r in records.walk(queue) if r.id == job_id])
                or self._run(anywhere)
            )
        if found is None:
            raise UnknownJob(job_id, queue)
        return found

    def kick(self, queue: str, job_id: str) -> None:
        """See `QueueAdapter.kick`; `kick-job`, never `kick`, which may take delayed jobs."""
        server_id, stats = self._located(queue, job_id, (JobState.BURIED,))
        known = any(
            record.server_id == server_id and record.kicks == stats["kicks"]
            for record in self._adapter.records.walk(queue)
        )

        def work(connection: Connection) -> None:
            try:
                if not known:
                    body = connection.call(connection.client.peek, server_id).body
                    plain = self._adapter.records.plain(server_id, body, stats["reserves"], stats["kicks"])
                    self._adapter.records.write(connection, queue, plain)
                self._adapter.suspects.add(server_id)
                connection.call(connection.client.kick_job, server_id)
            except greenstalk.NotFoundError as exc:
                raise UnknownJob(job_id, queue) from exc

        self._run(work)

    def delete(self, queue: str, job_id: str) -> None:
        """See `QueueAdapter.delete`; the one delete over a connection that did not reserve (rule 4)."""
        server_id, _ = self._located(queue, job_id, (JobState.READY, JobState.DELAYED, JobState.BURIED))

        def work(connection: Connection) -> None:
            try:
                connection.call(connection.client.delete, server_id)
            except greenstalk.NotFoundError as exc:
                raise UnknownJob(job_id, queue) from exc

        self._run(work)

    def purge(self, queue: str) -> int:
        """See `QueueAdapter.purge`."""

        def work(connection: Connection) -> int:
            connection.use(queue)
            client = connection.client
            removed = 0
            for peek in (client.peek_delayed, client.peek_ready, client.peek_buried):
                while True:
                    try:
                        job = connection.call(peek)
                    except greenstalk.NotFoundError:
                        break
                    try:
                        connection.call(client.delete, job)
                    except greenstalk.NotFoundError:
                        continue  # a worker was faster
                    removed += 1
            return removed

        removed = self._run(work)
        self._adapter.records.walk(queue)  # removes the records of what is gone
        return removed
