"""The adapter: producer side, operations, and what all consumers of it share."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final, TypeVar, cast

from kessel_core import SystemClock
from kessel_core.contract import (
    NO_PAUSE,
    AdapterContext,
    AdapterError,
    AdapterUnavailable,
    Attempts,
    Capabilities,
    CapabilityMissing,
    Consumer,
    DoctorContext,
    Durability,
    EnqueueError,
    EnqueueRejected,
    EnqueueUnknown,
    Finding,
    JobState,
    LeaseReturn,
    Message,
    QueueAdapter,
    QueueStats,
    Reach,
    StoredJob,
    TieBreak,
    UnknownJob,
)
from kessel_sqlite import doctor, operations, schema
from kessel_sqlite.consumer import SqliteConsumer
from kessel_sqlite.edge import translated
from kessel_sqlite.file import DatabaseFile, Slot
from kessel_sqlite.hostclock import HostClock, microseconds, moment, span_microseconds
from kessel_sqlite.options import SqliteOptions, Survives
from kessel_sqlite.wake import Source

__all__ = ["SqliteAdapter"]

_T = TypeVar("_T")

#: Jobs and bytes that one transaction of `enqueue_many` stores at most.
_CHUNK: Final = 10_000
_CHUNK_BYTES: Final = 16 * 1024 * 1024

_Row = tuple[str, str, int, int, int | None, int, bytes]


class SqliteAdapter(QueueAdapter):
    """A queue in one SQLite file.

    Safe for any thread; a forked child may go on using it.

    Raises:
        AdapterUnavailable: The file cannot be opened.
        ProtocolError: It is not a SQLite database, or a newer kessel wrote it.
    """

    name: ClassVar[str] = "sqlite"

    def __init__(self, options: SqliteOptions, context: AdapterContext) -> None:
        self.options = options
        self.context = context
        self.is_real_time = type(context.clock) is SystemClock
        self.keeps_results = options.keep_results is not None
        self.host = HostClock(context.clock)
        synchronous = "FULL" if options.durability is Survives.POWER else "NORMAL"
        self.file = DatabaseFile(str(options.path.absolute()), synchronous, options.timeout)
        self._local = threading.local()
        self._is_closed = False
        #: Of all threads; a thread that ends takes its own along.
        self._slots: weakref.WeakSet[Slot] = weakref.WeakSet()
        self._results_swept = 0
        self.file.run(self.slot(), self.host.opened)
        self.file.shared.open()

    @property
    def capabilities(self) -> Capabilities:
        """What this file can do."""
        return Capabilities(
            reach=Reach.HOST,
            durability=Durability(self.options.durability.value),
            delay_granularity=timedelta(milliseconds=1),
            priorities=(0, 2**32 - 1),
            tie_break=TieBreak.ENQUEUED,
            max_body_bytes=self.options.max_body_bytes,
            lease=self.options.lease,
            lease_return=LeaseReturn.LEASE_END,
            fencing=True,
            attempts=Attempts.DURABLE,
            dedupe=True,
            buried=True,
            counts=True,
            peek=True,
            delete=True,
            pause=True,
            virtual_clock=True,
            blocking_reserve=True,
            results=self.keeps_results,
        )

    def slot(self) -> Slot:
        """Return the calling thread's own place for a connection."""
        if self._is_closed:
            raise AdapterUnavailable(f"{self.options.path}: the adapter is closed")
        try:
            return cast("Slot", self._local.slot)
        except AttributeError:
            slot = self._local.slot = Slot()
            self._slots.add(slot)
            return slot

    # producer side

    def enqueue(self, message: Message, *, connection: sqlite3.Connection | None = None) -> None:
        """Store one job.

        Args:
            message: The job.
            connection: The application's own connection to the same file: the job becomes part of its
                transaction, and is there exactly if that commits. Waiting workers then notice it as
                they notice another process's.

        Raises:
            EnqueueRejected: Surely not stored.
            EnqueueUnknown: May be stored: reading or writing the file failed.
            AdapterUnavailable: Surely not stored: the file is locked or cannot be opened.
            ValueError: `connection` has another file open.
        """
        if len(message.body) > self.options.max_body_bytes:
            raise self._too_large(message)
        row = _row(message, self.host.now())
        if connection is not None:
            self._enqueue_within(connection, row)
            return
        self.file.run(self.slot(), lambda c: c.execute(schema.INSERT, row), job_id=message.id)
        due = row[4]
        self.file.shared.announce(message.queue, 1 if due is None else 0, due)

    def _enqueue_within(self, connection: sqlite3.Connection, row: _Row) -> None:
        try:
            found = connection.execute("PRAGMA database_list").fetchall()
            main = next((str(one[2]) for one in found if one[1] == "main"), "")
            if not main or not Path(main).samefile(self.file.path):
                raise ValueError(
                    f"the connection has {main or 'no file'!r} open, not {str(self.options.path)!r}"
                )
            connection.execute(schema.INSERT, row)
        except sqlite3.Error as exc:
            raise translated(exc, str(self.options.path), NO_PAUSE, row[0]) from exc

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Store many jobs, ten thousand a transaction; each transaction is stored whole or not at all."""
        outcomes: list[AdapterError | None] = [None] * len(messages)
        now = self.host.now()
        down: AdapterError | None = None
        chunk: list[int] = []
        size = 0

        def store() -> None:
            nonlocal down, size
            if chunk and down is None:
                down = self._store_chunk(messages, chunk, now, outcomes)
            elif chunk:
                for index in chunk:
                    outcomes[index] = down
            chunk.clear()
            size = 0

        limit = self.options.max_body_bytes
        for index, message in enumerate(messages):
            length = len(message.body)
            if length > limit:
                outcomes[index] = self._too_large(message)
                continue
            chunk.append(index)
            size += length
            if len(chunk) >= _CHUNK or size >= _CHUNK_BYTES:
                store()
        store()
        return outcomes

    def _store_chunk(
        self,
        messages: Sequence[Message],
        chunk: list[int],
        now: int,
        outcomes: list[AdapterError | None],
    ) -> AdapterUnavailable | None:
        rows = [_row(messages[index], now) for index in chunk]

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(schema.INSERT, rows)
            connection.execute("COMMIT")

        try:
            self.file.run(self.slot(), insert, job_id=messages[chunk[0]].id)
        except EnqueueError as exc:
            for index in chunk:
                outcomes[index] = _same_for(messages[index].id, exc)
            return None
        except AdapterUnavailable as exc:
            for index in chunk:
                outcomes[index] = exc
            return exc
        if self.file.shared.has_waiters:
            self._announce(rows)
        return None

    def _announce(self, rows: Iterable[_Row]) -> None:
        ready: dict[str, int] = {}
        first_due: dict[str, int] = {}
        for _, queue, _, _, due, _, _ in rows:
            if due is None:
                ready[queue] = ready.get(queue, 0) + 1
            else:
                first_due[queue] = min(due, first_due.get(queue, due))
        for queue, count in ready.items():
            self.file.shared.announce(queue, count)
        for queue, due in first_due.items():
            self.file.shared.announce(queue, 0, due)

    def _too_large(self, message: Message) -> EnqueueRejected:
        why = f"its body has {len(message.body)} bytes, the limit is {self.options.max_body_bytes}"
        return EnqueueRejected(message.id, why, "too-large")

    # consuming side

    def consumer(self, queues: Sequence[str]) -> Consumer:
        """Make the consuming side for one slot, with a connection of its own."""
        return SqliteConsumer(self, queues)

    def source(self) -> Source:
        """Return where the watcher of this process looks for the work of others."""
        return _FileSource(self)

    def keep_result(self, connection: sqlite3.Connection, job_id: str, queue: str, body: bytes) -> None:
        """Store the result of a finished job in the open transaction, and now and then drop old ones."""
        if self.options.keep_results is None:
            return
        now = self.host.now()
        connection.execute(
            "INSERT OR REPLACE INTO kessel_results VALUES (?, ?, ?, ?)", (job_id, queue, now, body)
        )
        if now - self._results_swept >= 1_000_000:
            self._results_swept = now
            oldest = now - span_microseconds(self.options.keep_results)
            connection.execute(
                "DELETE FROM kessel_results WHERE id IN"
                " (SELECT id FROM kessel_results WHERE finished_at <= ? LIMIT 5000)",
                (oldest,),
            )

    def result(self, job_id: str) -> bytes | None:
        """Return the encoded result of a finished job; None if there is none (any more).

        Raises:
            CapabilityMissing: The option `keep_results` is not set.
        """
        if self.options.keep_results is None:
            raise CapabilityMissing("results", self.name, "set keep_results, for example to 7d")
        oldest = self.host.now() - span_microseconds(self.options.keep_results)
        row = self._read(
            lambda c: c.execute(
                "SELECT body FROM kessel_results WHERE id = ? AND finished_at > ?", (job_id, oldest)
            ).fetchone()
        )
        return None if row is None else bytes(row[0])

    # operations

    def queues(self) -> list[str]:
        """Return the queues that hold a job or are paused, sorted."""
        now = self.host.now()
        return self._read(lambda c: operations.queue_names(c, now))

    def stats(self, queue: str) -> QueueStats:
        """Count the jobs of a queue by state."""
        now = self.host.now()
        return self._read(lambda c: operations.stats(c, queue, now))

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Show up to `limit` jobs in that state, next one first."""
        now = self.host.now()
        return self._read(lambda c: operations.list_jobs(c, queue, state, limit, now))

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """List up to `limit` buried jobs, oldest burial first."""
        return self.peek(queue, JobState.BURIED, limit)

    def kick(self, queue: str, job_id: str) -> None:
        """Make one buried job ready again; its attempts start anew."""
        changed = self._write(
            "UPDATE kessel_jobs SET state = 0, attempts = 0, reason = NULL, message = NULL, buried_at = NULL"
            " WHERE id = ? AND queue = ? AND state = 3",
            (job_id, queue),
        )
        if not changed:
            raise UnknownJob(job_id, queue)
        self.file.shared.announce(queue, 1)

    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is ready, delayed or buried."""
        changed = self._write(
            "DELETE FROM kessel_jobs WHERE id = ? AND queue = ? AND (state <> 2 OR due <= ?)",
            (job_id, queue, self.host.now()),
        )
        if not changed:
            raise UnknownJob(job_id, queue)

    def purge(self, queue: str) -> int:
        """Remove every job that is not reserved, some thousand a transaction."""
        total = 0
        while True:
            now = self.host.now()
            removed = self.file.run(self.slot(), lambda c: operations.purge_some(c, queue, now))  # noqa: B023
            if not removed:
                return total
            total += removed

    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for `duration`; zero resumes at once."""
        if duration <= NO_PAUSE:
            self._write("DELETE FROM kessel_pauses WHERE queue = ?", (queue,))
        else:
            until = self.host.now() + span_microseconds(duration)
            self._write("INSERT OR REPLACE INTO kessel_pauses VALUES (?, ?)", (queue, until))
        self.file.shared.wake()

    def next_change(self, queues: Sequence[str]) -> datetime | None:
        """Return when time alone next makes a job ready, or None."""
        return moment(operations.next_change(row[1:] for row in self.outlook(self.slot(), queues)))

    def outlook(self, slot: Slot, queues: Sequence[str]) -> list[tuple[str, int | None, int, int | None]]:
        """Return of each queue: name, end of its pause, whether a job is ready, next one by time alone."""
        values = {"queues": schema.json_names(queues), "now": self.host.now()}
        rows = self.file.run(slot, lambda c: c.execute(schema.OUTLOOK, values).fetchall(), writes=False)
        return [(queue, *row) for queue, row in zip(queues, rows, strict=True)]

    def oldest_ready(self, queue: str) -> int | None:
        """Return since when the next ready job of a queue is there, in microseconds, or None."""
        first = self.peek(queue, JobState.READY)
        enqueued_at = first[0].enqueued_at if first else None
        return None if enqueued_at is None else microseconds(enqueued_at)

    def doctor(self, context: DoctorContext) -> list[Finding]:
        """Look at the file: integrity, durability, room on the disk, jobs that are stuck."""
        return doctor.examine(self, context)

    def close(self) -> None:
        """Close all connections but those of consumers; the threads' next calls are refused."""
        if self._is_closed:
            return
        self._is_closed = True
        self.file.shared.close()
        for slot in list(self._slots):
            slot.close()

    def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return self.file.run(self.slot(), work, writes=False)

    def _write(self, statement: str, values: tuple[object, ...]) -> int:
        return self.file.run(self.slot(), lambda c: c.execute(statement, values).rowcount)


class _FileSource(Source):
    def __init__(self, adapter: SqliteAdapter) -> None:
        self._adapter = adapter
        self._slot = Slot()
        self._seen: tuple[sqlite3.Connection, int] | None = None

    def has_changed(self) -> bool:
        # Tells of commits by other connections only, also those of this process: they cost one look.
        seen = self._adapter.file.run(self._slot, self._version, writes=False)
        if self._seen is not None and seen[0] is self._seen[0] and seen[1] == self._seen[1]:
            return False
        self._seen = seen
        return True

    @staticmethod
    def _version(connection: sqlite3.Connection) -> tuple[sqlite3.Connection, int]:
        return connection, connection.execute("PRAGMA data_version").fetchone()[0]

    def outlook(self, queues: Sequence[str]) -> Iterable[tuple[str, bool, int | None]]:
        for queue, until, is_ready, due in self._adapter.outlook(self._slot, queues):
            soonest = operations.next_change([(until, is_ready, due)])
            yield queue, until is None and bool(is_ready), soonest

    def close(self) -> None:
        self._slot.close()


def _row(message: Message, now: int) -> _Row:
    if message.delay is None or (due := microseconds(message.delay)) <= now:
        return message.id, message.queue, schema.READY, message.priority, None, now, message.body
    return message.id, message.queue, schema.DELAYED, message.priority, due, now, message.body


def _same_for(job_id: str, exc: EnqueueError) -> EnqueueError:
    # The error of a transaction names its first job; each job gets its own.
    if isinstance(exc, EnqueueRejected):
        copy: EnqueueError = EnqueueRejected(job_id, exc.why, exc.reason)
    else:
        copy = EnqueueUnknown(job_id, exc.why)
    copy.__cause__ = exc.__cause__
    return copy
