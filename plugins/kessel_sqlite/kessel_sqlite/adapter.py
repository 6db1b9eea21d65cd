"""The adapter: what it promises, and its producer side; the rest is in the modules that it imports."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final, TypeVar, cast

from kessel_core.contract import (
    NO_PAUSE,
    AdapterContext,
    AdapterError,
    AdapterUnavailable,
    Attempts,
    Bury,
    Capabilities,
    Commit,
    DoctorContext,
    EnqueueRejected,
    Facet,
    FacetKind,
    Finding,
    IdHeld,
    JobState,
    LeaseReturn,
    Message,
    Reach,
    Reservation,
    Settlement,
    Store,
    TieBreak,
    WaitingAdapter,
    error_for,
    in_portions,
    refuse_large,
)
from kessel_sqlite import doctor, sql
from kessel_sqlite.consumer import NOTHING, Brought, Deliveries, Row
from kessel_sqlite.edge import translated
from kessel_sqlite.engine import Engine, next_change
from kessel_sqlite.entries import SqliteStore
from kessel_sqlite.hostclock import microseconds, moment
from kessel_sqlite.operations import SqliteOperations
from kessel_sqlite.options import SqliteOptions
from kessel_sqlite.schema import DELAYED, READY, STATES

__all__ = ["SqliteAdapter"]

_F = TypeVar("_F", bound=Facet)

#: Most jobs, and about how many bytes, that one transaction of `enqueue_many` stores.
_CHUNK: Final = 10_000
_CHUNK_BYTES: Final = 16 * 1024 * 1024

#: State and due time of the job that holds an id.
_Holder = tuple[int, int | None]


class SqliteAdapter(SqliteOperations, WaitingAdapter):
    """A queue in one SQLite file.

    Thread-safe; a forked child may keep using it.

    Raises:
        AdapterUnavailable: The file cannot be opened.
        ProtocolError: It is not a SQLite database, or a newer kessel wrote it.
    """

    name: ClassVar[str] = "sqlite"

    def __init__(self, options: SqliteOptions, context: AdapterContext) -> None:
        super().__init__(context)
        self.options = options
        self.engine = Engine(options, context.clock)
        self.line = self.engine.line
        #: Small facts beside the jobs, in the same file.
        self.store = SqliteStore(self.engine, options.max_body_bytes, owns_file=False)
        self._deliveries = Deliveries(self.engine, options.lease, self.store.entries)

    @property
    def capabilities(self) -> Capabilities:
        """What the adapter promises with these options."""
        return Capabilities(
            reach=Reach.HOST,
            durability=self.options.durability,
            delay_granularity=timedelta(milliseconds=1),
            priorities=(0, 2**32 - 1),
            tie_break=TieBreak.ENQUEUED,
            max_body_bytes=self.options.max_body_bytes,
            lease=self.options.lease,
            lease_return=LeaseReturn.LEASE_END,
            fencing=True,
            attempts=Attempts.DURABLE,
            dedupe=True,
            follow=True,
            kicks=True,
            counts=True,
            blocking_reserve=True,
        )

    def facet(self, kind: FacetKind[_F]) -> _F | None:
        """Return a facet: the store, or this adapter."""
        if kind is Store:
            return cast("_F", self.store)
        return super().facet(kind)

    # producer side

    def enqueue(self, message: Message, *, connection: sqlite3.Connection | None = None) -> None:
        """Store one job.

        Args:
            message: The job.
            connection: The application's own connection to the same file: the job becomes part of its
                transaction, and is stored only if that commits. Waiting workers then notice it as if
                another process had stored it.

        Raises:
            EnqueueRejected: Definitely not stored.
            EnqueueUnknown: May be stored: reading or writing the file failed.
            AdapterUnavailable: Definitely not stored: the file is locked or cannot be opened.
            ValueError: `connection` has another file open, or one that is not at the path any more.
        """
        if connection is not None:
            self._put_within(connection, self._row(message))
            return
        self.put(message)
        if not self.line.is_empty:
            self.announce(message.queue, message.delay)

    def put(self, message: Message) -> None:
        """Store one job, and wake nobody."""
        row = self._row(message)
        holder = self.engine.file.share(
            self.engine.link(), lambda c: _inserted(c, row), is_statement=True, written=message.id
        )
        if holder is not None:
            raise self._held(message.id, holder)

    def _held(self, job_id: str, holder: _Holder) -> IdHeld:
        state, due = holder
        is_over = due is not None and due <= self.engine.host.now()
        return IdHeld(job_id, str(JobState.READY if is_over else STATES[state]))

    def _put_within(self, connection: sqlite3.Connection, row: Row) -> None:
        try:
            cursor = connection.cursor()
            cursor.row_factory = None  # the application may want other rows than tuples
            self._refuse_other_file(cursor)
            holder = _inserted(cursor, row)
        except sqlite3.Error as exc:
            raise translated(exc, str(self.options.path), NO_PAUSE, row[0]) from exc
        if holder is not None:
            raise self._held(row[0], holder)

    def _refuse_other_file(self, cursor: sqlite3.Cursor) -> None:
        """Raise ValueError if the connection has not the file open that is at our path now."""
        found = cursor.execute("SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'")
        main = next((os.fsdecode(file) for (file,) in found if file is not None), "")
        file, path = self.engine.file, str(self.options.path)
        if not main or not _is_same(main, file.path):
            raise ValueError(
                f"the connection has {main or 'no file'!r} open, not the file that is at {path!r} now"
            )
        if not file.is_open_in(cursor):
            # Perhaps a copy that was put there just now, and that only the application has opened so far.
            self.engine.read(lambda _: None)
            if not file.is_open_in(cursor):
                raise ValueError(
                    f"the connection has a file open that is not at {path!r} any more: it was replaced, so"
                    " what is written there is lost; connect anew"
                )

    def _row(self, message: Message) -> Row:
        refuse_large(message, self.options.max_body_bytes)
        now = self.engine.host.now()
        if message.delay is None or (due := microseconds(message.delay)) <= now:
            return message.id, message.queue, READY, message.priority, None, now, message.body
        return message.id, message.queue, DELAYED, message.priority, due, now, message.body

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Store many jobs, up to ten thousand per transaction; each transaction is atomic."""
        outcomes: list[AdapterError | None] = [None] * len(messages)
        rows: list[tuple[int, Row]] = []
        for index, message in enumerate(messages):
            try:
                rows.append((index, self._row(message)))
            except EnqueueRejected as exc:
                outcomes[index] = exc
        down: AdapterError | None = None
        for chunk in in_portions(rows, lambda one: len(one[1][-1]), most=_CHUNK, most_bytes=_CHUNK_BYTES):
            error = down or self._store(chunk, outcomes)
            if error is None:
                continue
            for index, row in chunk:
                outcomes[index] = error_for(row[0], error)
            if isinstance(error, AdapterUnavailable):
                down = error
        return outcomes

    def _store(
        self, chunk: list[tuple[int, Row]], outcomes: list[AdapterError | None]
    ) -> AdapterError | None:
        """Store jobs in one transaction; note ids that are held, return the error if the whole failed."""
        rows = [row for _, row in chunk]

        def insert(connection: sqlite3.Connection) -> dict[int, _Holder]:
            connection.execute(sql.BEGIN)
            if connection.executemany(sql.INSERT, rows).rowcount == len(rows):
                connection.execute(sql.END)
                return {}
            # Rare: now one by one, to see which of them.
            connection.execute(sql.UNDO)
            connection.execute(sql.BEGIN)
            found = {index: _inserted(connection, row) for index, row in chunk}
            connection.execute(sql.END)
            return {index: holder for index, holder in found.items() if holder is not None}

        try:
            held = self.engine.file.run(self.engine.link(), insert, written=rows[0][0])
        except AdapterError as exc:
            return exc
        for index, row in chunk:
            if index in held:
                outcomes[index] = self._held(row[0], held[index])
        if not self.line.is_empty:
            self._announce_all(row for index, row in chunk if index not in held)
        return None

    def _announce_all(self, rows: Iterable[Row]) -> None:
        ready: dict[str, int] = {}
        first_due: dict[str, int] = {}
        for _, queue, _, _, due, _, _ in rows:
            if due is None:
                ready[queue] = ready.get(queue, 0) + 1
            else:
                first_due[queue] = min(due, first_due.get(queue, due))
        for queue, count in ready.items():
            self.line.announce(queue, count)
        for queue, due in first_due.items():
            self.line.announce(queue, 0, moment(due))

    # consuming side: what the consumers of the contract call

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        """Reserve the next job if one is ready."""
        return self._deliveries.take(queues)

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        """Settle; from any thread, because the token in the row fences."""
        brought = self._brought(settlement)
        self._deliveries.settle(reservation, settlement, brought)
        self._announce_brought(brought)

    def settle_and_take(
        self, reservation: Reservation, settlement: Settlement, queues: tuple[str, ...]
    ) -> Reservation | None:
        """Settle and take the next job in one transaction."""
        brought = self._brought(settlement)
        taken = self._deliveries.settle_and_take(reservation, settlement, queues, brought)
        self.announce_return(reservation.queue, settlement)
        self._announce_brought(brought)
        return taken

    def _brought(self, settlement: Settlement) -> Brought:
        """Return what a settlement brings along; raises EnqueueRejected before anything is written (S20)."""
        if not isinstance(settlement, (Commit, Bury)) or not (settlement.follow or settlement.puts):
            return NOTHING
        return Brought(tuple(map(self._row, settlement.follow)), settlement.puts)

    def _announce_brought(self, brought: Brought) -> None:
        if brought is NOTHING:
            return
        if not self.line.is_empty:
            self._announce_all(brought.rows)
        for put in brought.puts:
            self.engine.line.entries.announce(put.space, put.key)

    def renew_many(self, reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        """Extend leases, in one transaction, using the calling thread's own connection."""
        return self._deliveries.renew_many(reservations)

    def looks_again(self, queues: tuple[str, ...]) -> datetime | None:
        """Return when time alone makes a job ready; the watcher reports what other processes do."""
        now = self.engine.host.now()
        rows = self.engine.outlook(sql.claim_of(queues).json, now)
        # A job has become ready since the consumer looked.
        if any(until is None and is_ready for until, is_ready, _ in rows):
            return moment(now)
        return moment(next_change(rows))

    # the file

    def doctor(self, context: DoctorContext) -> list[Finding]:
        """Check the file: integrity, durability, free disk space, jobs that are stuck."""
        return doctor.examine(self, context)

    def shut(self) -> None:
        """Close all connections; later calls are refused."""
        self.engine.close()


def _inserted(on: sqlite3.Connection | sqlite3.Cursor, row: Row) -> _Holder | None:
    """Insert one job; return state and due time of the job that holds its id, if one does."""
    while not on.execute(sql.INSERT, row).rowcount:
        holder: _Holder | None = on.execute(sql.HOLDER, (row[0],)).fetchone()
        if holder is not None:  # else it has just ended
            return holder
    return None


def _is_same(path: str, other: str) -> bool:
    try:
        return Path(path).samefile(other)
    except OSError:
        return False
