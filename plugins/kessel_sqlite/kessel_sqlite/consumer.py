"""The consuming side: reserving, settling and extending. The contract's base does waiting and cancelling."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple, TypeAlias, assert_never

import attrs

from kessel_core.contract import (
    NO_PAUSE,
    AdapterError,
    Bury,
    Commit,
    LeaseLost,
    Put,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
    new_token,
)
from kessel_sqlite import sql
from kessel_sqlite.engine import Engine
from kessel_sqlite.entries import FileEntries
from kessel_sqlite.hostclock import after, span_microseconds
from kessel_sqlite.schema import DELAYED, READY

__all__ = ["NOTHING", "Brought", "Deliveries", "Row", "SqliteReservation"]


@attrs.define(eq=False)
class SqliteReservation(Reservation):
    """A reservation, with the token that fences it."""

    #: The key of the job's row.
    seq: int = 0
    #: Random, for this delivery only; in the row as long as the reservation holds the job.
    token: int = 0


#: The values of `sql.INSERT`: id, queue, state, priority, due, enqueued at, body.
Row: TypeAlias = tuple[str, str, int, int, int | None, int, bytes]


class Brought(NamedTuple):
    """What a settlement brings along, ready to be written (S20)."""

    #: Values for `sql.INSERT`.
    rows: tuple[Row, ...] = ()
    #: Entries.
    puts: tuple[Put, ...] = ()


NOTHING: Final = Brought()


class Deliveries:
    """Reserves the jobs of one file, and settles and extends their reservations. Thread-safe.

    Args:
        engine: The open file.
        lease: How long a reservation holds its job.
        entries: Writes the entries of settlements.
    """

    def __init__(self, engine: Engine, lease: timedelta, entries: FileEntries) -> None:
        self._engine = engine
        self._entries = entries
        self._host = engine.host
        self._clock = engine.clock
        self._lease = lease
        self._lease_seconds = self._lease.total_seconds()
        self._lease_microseconds = span_microseconds(self._lease)

    # take

    def take(self, queues: tuple[str, ...]) -> SqliteReservation | None:
        """Reserve the next job if one is ready.

        Looks before it takes the write lock, so that a hundred idle slots do not queue for it.
        """
        if self._jumped():
            self._engine.write(self._host.follow)
        claim = sql.claim_of(queues)
        rows = self._engine.outlook(claim.json, self._host.now())
        if any(until is None and is_ready for until, is_ready, _ in rows):
            return self._taken(claim)
        return None

    def _jumped(self) -> bool:
        return self._host.jumped(self._host.now(), self._clock.monotonic())

    def _taken(self, claim: sql.Claim) -> SqliteReservation | None:
        while True:
            taken, is_complete = self._engine.share(lambda c: self._claim_within(c, claim))
            if is_complete:
                return taken
            if self._jumped():
                self._engine.write(self._host.follow)

    def _claim_within(
        self, connection: sqlite3.Connection, claim: sql.Claim
    ) -> tuple[SqliteReservation | None, bool]:
        """Reserve a job in the open transaction; returns False if that must be repeated.

        It must, if more jobs became due than one transaction handles, or if the clock was set during the
        wait for the lock: by the new time the leases of all running jobs may seem to be over.
        """
        # Read the monotonic clock first: the holder must see the end of its lease before the others do.
        monotonic = self._clock.monotonic()
        now = self._host.now()
        if self._host.jumped(now, monotonic):
            return None, False
        due = (claim.name, now)
        if connection.execute(claim.overdue, due).fetchone() is not None:
            promoted = connection.execute(claim.promote, due).rowcount
            if promoted >= sql.PROMOTED_AT_ONCE:
                return None, False
        token = new_token()
        values = (now + self._lease_microseconds, token, *claim.names, now)
        rows = connection.execute(claim.take, values).fetchall()
        if not rows:
            return None, True
        seq, job_id, queue, body, attempts, snoozes, kicks = rows[0]
        deadline = monotonic + self._lease_seconds
        lease = self._lease
        return (
            SqliteReservation(
                job_id, queue, body, attempts, deadline, lease, snoozes, seq, token, kicks=kicks
            ),
            True,
        )

    # settle

    def settle(self, reservation: Reservation, settlement: Settlement, brought: Brought = NOTHING) -> None:
        """Settle; the row is changed only if it still has the token of this delivery.

        What the settlement brings along is written in the same transaction.

        Raises:
            LeaseLost: It does not.
        """
        held = _own(reservation)
        if brought is NOTHING:
            done = self._engine.change(*self._ending(held, settlement))
        else:
            done = self._engine.share(lambda c: self._settle_within(c, held, settlement, brought))
        _refuse_if_lost(held, done)

    def settle_and_take(
        self,
        reservation: Reservation,
        settlement: Settlement,
        queues: tuple[str, ...],
        brought: Brought = NOTHING,
    ) -> SqliteReservation | None:
        """Settle and reserve the next job in one transaction.

        Raises:
            LeaseLost: The row no longer has the token of this delivery; nothing was reserved.
        """
        held = _own(reservation)
        claim = sql.claim_of(queues)
        done, taken, is_complete = self._engine.share(
            lambda c: self._settle_and_claim(c, held, settlement, brought, claim)
        )
        _refuse_if_lost(held, done)
        if is_complete:
            return taken
        try:
            return self._taken(claim)
        except AdapterError:
            return None

    def _settle_and_claim(
        self,
        connection: sqlite3.Connection,
        held: SqliteReservation,
        settlement: Settlement,
        brought: Brought,
        claim: sql.Claim,
    ) -> tuple[int, SqliteReservation | None, bool]:
        if not self._settle_within(connection, held, settlement, brought):
            return 0, None, True
        taken, is_complete = self._claim_within(connection, claim)
        return 1, taken, is_complete

    def _settle_within(
        self,
        connection: sqlite3.Connection,
        held: SqliteReservation,
        settlement: Settlement,
        brought: Brought,
    ) -> int:
        done = connection.execute(*self._ending(held, settlement)).rowcount
        if done and brought is not NOTHING:
            # One whose id is held is left out by the statement: it counts as stored.
            connection.executemany(sql.INSERT, brought.rows)
            for put in brought.puts:
                self._entries.put(connection, put.space, put.key, put.value, None, put.ttl)
        return done

    def _ending(self, held: SqliteReservation, settlement: Settlement) -> tuple[str, tuple[object, ...]]:
        """Return the statement of a settlement, and its values."""
        match settlement:
            case Commit():
                return sql.COMMIT_JOB, (held.seq, held.token)
            case Rollback(pause):
                return sql.ROLLBACK_JOB, (*self._ready_after(pause), held.seq, held.token)
            case Snooze(pause):
                return sql.SNOOZE_JOB, (*self._ready_after(pause), held.seq, held.token)
            case Bury(reason, message):
                return sql.BURY_JOB, (reason, message, self._host.now(), held.seq, held.token)
            case _:
                assert_never(settlement)

    def _ready_after(self, pause: timedelta) -> tuple[int, int | None]:
        """Return the state and due time of a job that comes back after a pause."""
        if pause <= NO_PAUSE:
            return READY, None
        return DELAYED, after(self._host.now(), pause)

    # extend

    def renew_many(self, reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        """Renew leases to their full length from now, in one transaction; returns what became of each."""
        held = [one for one in reservations if isinstance(one, SqliteReservation)]
        try:
            while (renewed := self._engine.share(lambda c: self._renew(c, held))) is None:
                self._engine.write(self._host.follow)
        except AdapterError as exc:
            return [exc] * len(reservations)
        return [
            None
            if isinstance(one, SqliteReservation) and one.token in renewed
            else LeaseLost(one.id, "it was settled, or given to another slot")
            for one in reservations
        ]

    def _renew(self, connection: sqlite3.Connection, held: Sequence[SqliteReservation]) -> set[int] | None:
        """Return the tokens of the leases that are renewed; None: not now, the clock was set."""
        # Under the lock, as in a claim: a time from before a jump would end the lease of a live worker.
        now = self._host.now()
        if self._host.jumped(now, self._clock.monotonic()):
            return None
        end = now + self._lease_microseconds
        return {
            one.token
            for one in held
            if connection.execute(sql.EXTEND_JOB, (end, one.seq, one.token)).rowcount
        }


def _own(reservation: Reservation) -> SqliteReservation:
    if not isinstance(reservation, SqliteReservation):
        raise LeaseLost(reservation.id, "it is not of this adapter")
    return reservation


def _refuse_if_lost(held: SqliteReservation, done: int) -> None:
    if not done:
        raise LeaseLost(held.id, "the job was given to another slot, or its file was replaced")
