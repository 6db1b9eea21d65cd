"""Finds jobs on a server that has no listing, and returns them as operators see them.

The number of a job may be known from remembered names or records of burials; otherwise all numbers that may
exist are tried, newest first. Every result is checked against the job itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Final, NamedTuple

from kessel_beanstalk import commands
from kessel_beanstalk.commands import JobStats, Refused, StoredBody
from kessel_beanstalk.connection import Connection
from kessel_beanstalk.names import number_named
from kessel_beanstalk.options import MAX_NUMBER
from kessel_beanstalk.records import BURIED_PREFIX, Record, fingerprint, side_tube
from kessel_beanstalk.shared import Shared
from kessel_core.contract import AdapterUnavailable, JobState, StoredJob, UnknownJob

__all__ = ["BATCH", "Located", "Search"]

#: Most jobs that are asked about in one write.
BATCH: Final = 256
#: How often the counts of a queue are compared with what it shows; each time something else was done there.
_LOOKS: Final = 20
_PEEKS: Final = {
    JobState.READY: commands.peek_ready,
    JobState.DELAYED: commands.peek_delayed,
    JobState.BURIED: commands.peek_buried,
}
#: Most numbers that a search tries, the newest ones.
_MOST_NUMBERS: Final = 2_000_000


class Located(NamedTuple):
    """A job that was found."""

    server_id: int
    body: bytes
    stats: JobStats


class Search:
    """Searches over a connection that the caller must not share meanwhile.

    All methods raise the errors of `Connection.ask`, and AdapterUnavailable for a job that is there and that
    the server does not send: it sends a copy, and where it has no memory for one it answers as if there were
    no such job.
    """

    def __init__(self, shared: Shared) -> None:
        self._clock = shared.clock
        self._names = shared.names
        self._side_tubes = shared.side_tubes

    def locate(
        self,
        connection: Connection,
        queue: str,
        job_id: str,
        states: tuple[JobState, ...],
        shown: StoredJob | None = None,
    ) -> Located:
        """Find a job in one of the states.

        Args:
            connection: Where to ask.
            queue: Its queue.
            job_id: Its id; several jobs may have it.
            states: In one of these it is.
            shown: It is the one that was shown so, and no other of the same id; its handle is a number.

        Raises:
            UnknownJob: The queue has no such job in one of these states.
        """
        number = number_named(job_id)
        numbers = (
            iter((number,)) if number is not None else self._candidates(connection, queue, job_id, states)
        )
        if shown is not None and isinstance(shown.handle, int):
            numbers = chain((shown.handle,), numbers)  # the server may have been started anew since
        for server_id in numbers:
            stats, found = commands.stats_job(server_id), commands.peek(server_id)
            connection.send(stats, found)
            job_stats, stored = connection.reply(stats), connection.reply(found)
            if job_stats is None or job_stats.tube != queue or job_stats.state not in states:
                continue
            if stored is None:
                _refuse_hidden(connection, [server_id])
                continue
            if shown is not None and stored.body != shown.body:
                continue
            if number is not None or self._names.name(server_id, stored.body) == job_id:
                return Located(server_id, stored.body, job_stats)
        if number is None:
            connection.use(queue)
            for state in states:
                self.next(connection, queue, state)  # raises if the job may only be hidden
        raise UnknownJob(job_id, queue)

    def next(self, connection: Connection, queue: str, state: JobState) -> StoredBody | None:
        """Return the next job in that state of a queue, whose tube is in use; None if there is none."""
        counted: tuple[int, ...] = ()
        for _ in range(_LOOKS):
            if (stored := connection.ask(_PEEKS[state])) is not None:
                return stored
            tube = connection.ask(commands.stats_tube(queue))
            if tube is None or not getattr(tube, state.value):
                return None
            before, counted = counted, (tube.total, tube.ready, tube.reserved, tube.delayed, tube.buried)
            if counted == before:
                raise _hidden(connection, f"a {state} job of queue {queue}")
        return None  # so much is done there that each was gone again

    def count(self, connection: Connection, queue: str, states: Sequence[JobState]) -> int:
        """Return how many jobs of a queue are in one of the states."""
        tube = connection.ask(commands.stats_tube(queue))
        return 0 if tube is None else sum(getattr(tube, state.value) for state in states)

    def _candidates(
        self, connection: Connection, queue: str, job_id: str, states: tuple[JobState, ...]
    ) -> Iterator[int]:
        """Yield numbers that the job may have; expensive searches come last."""
        yield from self._names.numbers(job_id)
        for record in self._side_tubes.burials(queue).values():
            if record.id == job_id:
                yield record.server_id
        if not self.count(connection, queue, states):
            return
        needle = job_id.encode("utf-8", "replace")
        for numbers in self.numbers(connection):
            for stored in connection.ask_each([commands.peek(number) for number in numbers]):
                # A quick filter, which does not prove anything; the id may also be written with escapes.
                if stored is not None and (needle in stored.body or b"\\" in stored.body):
                    yield stored.server_id

    def numbers(self, connection: Connection) -> Iterator[list[int]]:
        """Yield the numbers that may exist, newest first, in batches."""
        # Putting a job into a tube that nobody watches shows the next number.
        connection.use(side_tube(BURIED_PREFIX, "-"))
        newest = connection.ask(commands.put(b"", MAX_NUMBER, 0, 1))
        if isinstance(newest, Refused):
            newest = newest.server_id or connection.ask(commands.stats).total_jobs + 1
        connection.ask(commands.delete(newest))
        for high in range(newest - 1, max(0, newest - _MOST_NUMBERS), -BATCH):
            yield list(range(high, max(0, high - BATCH), -1))

    def jobs(
        self, connection: Connection, server_ids: Sequence[int], fits: Callable[[JobStats], bool]
    ) -> list[Located]:
        """Return the jobs that exist and fit."""
        all_stats = connection.ask_each([commands.stats_job(number) for number in server_ids])
        fitting = [stats for stats in all_stats if stats is not None and fits(stats)]
        bodies = connection.ask_each([commands.peek(stats.server_id) for stats in fitting])
        _refuse_hidden(
            connection,
            [stats.server_id for stats, stored in zip(fitting, bodies, strict=True) if stored is None],
        )
        return [
            Located(stats.server_id, stored.body, stats)
            for stats, stored in zip(fitting, bodies, strict=True)
            if stored is not None
        ]

    def all_jobs(self, connection: Connection, fits: Callable[[JobStats], bool]) -> list[Located]:
        """Return all jobs of the server that fit."""
        return list(
            chain.from_iterable(self.jobs(connection, numbers, fits) for numbers in self.numbers(connection))
        )

    def shown(
        self, connection: Connection, found: Sequence[Located], records: Mapping[int, Record] | None = None
    ) -> list[StoredJob]:
        """Return jobs as operators see them, with their records of burials; remembers their names."""
        now = self._clock.now()
        told_at = time.monotonic()
        jobs: list[StoredJob] = []
        for server_id, body, stats in found:
            record = (records or {}).get(server_id)
            if record is not None and record.body != fingerprint(body):
                record = None
            if stats.state is JobState.BURIED:
                self._side_tubes.readings.saw_buried(stats, body, told_at)
            base = self._side_tubes.base(connection, body, stats, told_at=told_at)
            job = StoredJob(
                id=self._names.name(server_id, body),
                queue=stats.tube,
                state=stats.state,
                body=body,
                priority=stats.pri,
                attempt=record.attempt if record is not None else max(0, stats.reserves - base.uncounted),
                snoozes=record.snoozes if record is not None else base.snoozes,
                enqueued_at=now - timedelta(seconds=stats.age),
                due=_due(stats, now),
                reason=record.reason if record is not None else None,
                message=record.message if record is not None else None,
                buried_at=record.at if record is not None else None,
                handle=server_id,
            )
            self._names.was_shown(job.id, server_id)  # because a listed job may be acted on next
            jobs.append(job)
        return jobs


def _refuse_hidden(connection: Connection, server_ids: Sequence[int]) -> None:
    """Raise AdapterUnavailable if one of the jobs that the server did not send is there still."""
    for stats in connection.ask_each([commands.stats_job(number) for number in server_ids]):
        if stats is not None:
            raise _hidden(connection, f"job {stats.server_id} of queue {stats.tube}")


def _hidden(connection: Connection, what: str) -> AdapterUnavailable:
    return AdapterUnavailable(
        f"{connection.address}: the server counts {what} and does not send it, as if it had no memory left;"
        " workers can take jobs all the same, and with a binlog it can be started again with more memory"
    )


def _due(stats: JobStats, now: datetime) -> datetime | None:
    if stats.state is JobState.DELAYED:
        # The server cuts the rest off to whole seconds. A delay must not end early where a job is moved (S4).
        return now + timedelta(seconds=stats.time_left + 1)
    return now + timedelta(seconds=stats.time_left) if stats.state is JobState.RESERVED else None
