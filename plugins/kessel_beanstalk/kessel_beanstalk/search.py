"""How a job is found on a server that lists nothing, and shown as operators see it.

A number may be known from names that were remembered and from records of burials; else all numbers that
may exist are looked at, newest first. Everything is checked against the job itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Final, NamedTuple

from kessel_beanstalk import commands
from kessel_beanstalk.commands import JobStats, Refused
from kessel_beanstalk.connection import Connection
from kessel_beanstalk.names import number_named
from kessel_beanstalk.options import MAX_NUMBER
from kessel_beanstalk.records import BURIED_PREFIX, Record, fingerprint, side_tube
from kessel_beanstalk.shared import Shared
from kessel_core.contract import JobState, StoredJob, UnknownJob

__all__ = ["BATCH", "Located", "Search"]

#: Jobs that are asked about in one write.
BATCH: Final = 256
#: A search looks at no more numbers than this, the newest.
_MOST_NUMBERS: Final = 2_000_000


class Located(NamedTuple):
    """A job that was found."""

    server_id: int
    body: bytes
    stats: JobStats


class Search:
    """Looks over the connection that it is given, which the caller has to itself.

    All methods raise errors of the contract as `Connection.ask` does.
    """

    def __init__(self, shared: Shared) -> None:
        self._clock = shared.clock
        self._names = shared.names
        self._side_tubes = shared.side_tubes

    def locate(
        self, connection: Connection, queue: str, job_id: str, states: tuple[JobState, ...]
    ) -> Located:
        """Find a job of that queue in one of the states.

        Raises:
            UnknownJob: There is none.
        """
        number = number_named(job_id)
        numbers = iter((number,)) if number is not None else self._candidates(connection, queue, job_id)
        for server_id in numbers:
            stats, found = commands.stats_job(server_id), commands.peek(server_id)
            connection.send(stats, found)
            told, stored = connection.reply(stats), connection.reply(found)
            if told is None or stored is None or told.tube != queue or told.state not in states:
                continue
            if number is not None or self._names.name(server_id, stored.body) == job_id:
                return Located(server_id, stored.body, told)
        raise UnknownJob(job_id, queue)

    def _candidates(self, connection: Connection, queue: str, job_id: str) -> Iterator[int]:
        """Yield numbers that the job may have; the ways that cost much come last."""
        yield from self._names.numbers(job_id)
        for record in self._side_tubes.burials(queue).values():
            if record.id == job_id:
                yield record.server_id
        needle = job_id.encode("utf-8", "replace")
        for numbers in self.numbers(connection):
            for stored in connection.ask_each([commands.peek(number) for number in numbers]):
                # The needle is quick, but no proof, and not there if the id is written with escapes.
                if stored is not None and (needle in stored.body or b"\\" in stored.body):
                    yield stored.server_id

    def numbers(self, connection: Connection) -> Iterator[list[int]]:
        """Yield the numbers that may exist, newest first, in batches."""
        # The next one is learnt by taking it, in a tube that nobody watches.
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
        """Return those of the jobs that exist and fit."""
        all_stats = connection.ask_each([commands.stats_job(number) for number in server_ids])
        fitting = [stats for stats in all_stats if stats is not None and fits(stats)]
        bodies = connection.ask_each([commands.peek(stats.server_id) for stats in fitting])
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
        """Return jobs as operators see them, with what records of burials say; and remember their names."""
        now = self._clock.now()
        jobs: list[StoredJob] = []
        for server_id, body, stats in found:
            record = (records or {}).get(server_id)
            if record is not None and record.body != fingerprint(body):
                record = None
            base = self._side_tubes.base(connection, body, stats)
            is_timed = stats.state in (JobState.DELAYED, JobState.RESERVED)
            job = StoredJob(
                id=self._names.name(server_id, body),
                queue=stats.tube,
                state=stats.state,
                body=body,
                priority=stats.pri,
                attempt=record.attempt if record is not None else max(0, stats.reserves - base.uncounted),
                snoozes=record.snoozes if record is not None else base.snoozes,
                enqueued_at=now - timedelta(seconds=stats.age),
                due=now + timedelta(seconds=stats.time_left) if is_timed else None,
                reason=record.reason if record is not None else None,
                message=record.message if record is not None else None,
                buried_at=record.at if record is not None else None,
            )
            self._names.was_shown(job.id, server_id)  # whoever looks at a job may want to act on it next
            jobs.append(job)
        return jobs
