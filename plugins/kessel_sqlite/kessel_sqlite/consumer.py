"""The consuming side of one slot: claim, settle, extend, and waiting in between."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, assert_never

import attrs

from kessel_core.contract import (
    NO_PAUSE,
    AdapterError,
    Bury,
    Commit,
    Consumer,
    LeaseLost,
    Reservation,
    Rollback,
    Settlement,
)
from kessel_sqlite import schema
from kessel_sqlite.file import Slot
from kessel_sqlite.hostclock import span_microseconds
from kessel_sqlite.operations import next_change

if TYPE_CHECKING:
    from kessel_sqlite.adapter import SqliteAdapter
    from kessel_sqlite.wake import Waiter

__all__ = ["SqliteConsumer", "SqliteReservation"]

_LONGEST_MESSAGE = 100_000


@attrs.define(eq=False)
class SqliteReservation(Reservation):
    """A delivery, with what fences it."""

    #: The job's row.
    seq: int = 0
    #: Drawn at random for this delivery; in the row as long as it holds.
    token: int = 0


class SqliteConsumer(Consumer):
    """One slot's connection and its place in the line of those that wait."""

    def __init__(self, adapter: SqliteAdapter, queues: Sequence[str]) -> None:
        if not queues:
            raise ValueError("a consumer needs at least one queue")
        self._adapter = adapter
        self._file = adapter.file
        self._clock = adapter.context.clock
        self._host = adapter.host
        self._slot = Slot()
        self._queues = tuple(dict.fromkeys(queues))
        self._queue_set = frozenset(self._queues)
        self._queues_json = schema.json_names(self._queues)
        self._lease = span_microseconds(adapter.options.lease)
        self._lease_seconds = adapter.options.lease.total_seconds()
        if len(self._queues) == 1:
            self._parameter = self._queues[0]
            self._of_claim: tuple[str, ...] = (self._parameter, self._parameter)
            self._claim, self._overdue, self._promote = (
                schema.CLAIM_ONE,
                schema.OVERDUE_ONE,
                schema.PROMOTE_ONE,
            )
        else:
            self._parameter = self._queues_json
            self._of_claim = (self._parameter,)
            self._claim, self._overdue, self._promote = (
                schema.CLAIM_MANY,
                schema.OVERDUE_MANY,
                schema.PROMOTE_MANY,
            )
        self._held: SqliteReservation | None = None
        self._waiter: Waiter | None = None
        self._is_cancelled = False
        self._is_closed = False

    # reserve

    def reserve(self, timeout: timedelta) -> Reservation | None:
        """Take the next ready job, waiting for one at most `timeout`."""
        if self._is_stopped():
            return None
        end = self._clock.monotonic() + timeout.total_seconds()
        reservation, planned = self._look()
        if reservation is not None or timeout <= NO_PAUSE:
            return reservation
        shared = self._file.shared
        if self._adapter.is_real_time:
            shared.watch(self._adapter.source)
        # In the line first and then looking once more: what comes after that look finds us waiting.
        waiter = self._waiter = shared.join(self._queue_set)
        try:
            while not self._is_stopped():
                with shared.lock:
                    waiter.woken = False
                reservation, planned = self._look()
                if reservation is not None:
                    return reservation
                left = end - self._clock.monotonic()
                if left <= 0:
                    return None
                if planned is not None:
                    # A microsecond more, so that the look after the wait finds the job due.
                    left = min(left, max(0.000_001, (planned - self._host.now() + 1) / 1_000_000))
                with shared.lock:
                    waiter.planned = planned
                    if not waiter.woken and not self._is_stopped():
                        self._clock.wait(waiter.condition, left)
            return None
        finally:
            self._waiter = None
            shared.leave(waiter)

    def _is_stopped(self) -> bool:
        return self._is_cancelled or self._is_closed

    def _look(self) -> tuple[Reservation | None, int | None]:
        """Take a job if one is ready; else say when time alone brings the next one.

        Looks before it asks for the lock, so that a hundred idle slots do not line up to write.
        """
        self._follow_clock()
        now = self._host.now()
        rows = self._outlook(now)
        if any(until is None and is_ready for until, is_ready, _ in rows):
            reservation = self._file.run(self._slot, self._take)
            if reservation is not None:
                self._held = reservation
                return reservation, None
            # Another consumer was faster.
            rows = self._outlook(self._host.now())
            if any(until is None and is_ready for until, is_ready, _ in rows):
                return None, now
        return None, next_change(rows)

    def _outlook(self, now: int) -> list[tuple[int | None, int, int | None]]:
        values = {"queues": self._queues_json, "now": now}
        return self._file.run(
            self._slot, lambda c: c.execute(schema.OUTLOOK, values).fetchall(), writes=False
        )

    def _take(self, connection: sqlite3.Connection) -> SqliteReservation | None:
        while True:
            connection.execute("BEGIN IMMEDIATE")
            taken, is_complete = self._claim_within(connection)
            connection.execute("COMMIT")
            if is_complete:
                return taken
            if self._host.jumped(self._host.now(), self._clock.monotonic()):
                self._host.follow(connection)

    def _claim_within(self, connection: sqlite3.Connection) -> tuple[SqliteReservation | None, bool]:
        """Claim in the open transaction; False if it must be done again.

        That is where more jobs became due than one transaction takes, and where the clock was set while
        we waited for the lock: by the new time the leases of all running jobs may look over.
        """
        # The monotonic clock first: the holder must take its lease for over before the others do.
        monotonic = self._clock.monotonic()
        now = self._host.now()
        if self._host.jumped(now, monotonic):
            return None, False
        deadline = monotonic + self._lease_seconds
        due = (self._parameter, now)
        if connection.execute(self._overdue, due).fetchone() is not None:
            promoted = connection.execute(self._promote, due).rowcount
            if promoted >= schema.PROMOTED_AT_ONCE:
                return None, False
        token = int.from_bytes(os.urandom(8), "big") >> 1
        values = (now + self._lease, token, *self._of_claim, now)
        rows = connection.execute(self._claim, values).fetchall()
        if not rows:
            return None, True
        seq, job_id, queue, body, attempts = rows[0]
        return SqliteReservation(job_id, queue, body, attempts, deadline, seq, token), True

    def _follow_clock(self) -> None:
        if self._host.jumped(self._host.now(), self._clock.monotonic()):
            self._file.run(self._slot, self._host.follow)

    # settle

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """End the reservation; the row changes only while it carries this delivery's token."""
        held = self._checked(reservation)
        statement, values = self._change(held, settlement)
        if isinstance(settlement, Commit) and settlement.result is not None and self._adapter.keeps_results:
            done = self._file.run(self._slot, lambda c: self._settle_only(c, held, settlement))
        else:
            # One statement is a transaction by itself.
            done = self._file.run(self._slot, lambda c: c.execute(statement, values).rowcount)
        self._settled(held, done)
        self._announce(held, settlement)

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        """Settle and take the next job in one transaction."""
        held = self._checked(reservation)
        if self._is_cancelled:
            self.settle(reservation, settlement)
            return None
        done, taken, is_complete = self._file.run(
            self._slot, lambda c: self._settle_and_take(c, held, settlement)
        )
        self._settled(held, done)
        if taken is None and not is_complete:
            try:
                taken = self._file.run(self._slot, self._take)
            except AdapterError:
                taken = None
        self._held = taken
        self._announce(held, settlement)
        return taken

    def _settle_only(
        self, connection: sqlite3.Connection, held: SqliteReservation, settlement: Settlement
    ) -> int:
        connection.execute("BEGIN IMMEDIATE")
        done = self._settle_within(connection, held, settlement)
        connection.execute("COMMIT")
        return done

    def _settle_and_take(
        self, connection: sqlite3.Connection, held: SqliteReservation, settlement: Settlement
    ) -> tuple[int, SqliteReservation | None, bool]:
        connection.execute("BEGIN IMMEDIATE")
        if not self._settle_within(connection, held, settlement):
            connection.execute("ROLLBACK")
            return 0, None, True
        taken, is_complete = self._claim_within(connection)
        connection.execute("COMMIT")
        return 1, taken, is_complete

    def _settle_within(
        self, connection: sqlite3.Connection, held: SqliteReservation, settlement: Settlement
    ) -> int:
        statement, values = self._change(held, settlement)
        done = connection.execute(statement, values).rowcount
        if done and isinstance(settlement, Commit) and settlement.result is not None:
            self._adapter.keep_result(connection, held.id or "", held.queue, settlement.result)
        return done

    def _change(self, held: SqliteReservation, settlement: Settlement) -> tuple[str, tuple[object, ...]]:
        match settlement:
            case Commit():
                return schema.COMMIT, (held.seq, held.token)
            case Rollback(pause):
                if pause <= NO_PAUSE:
                    return schema.ROLLBACK, (schema.READY, None, held.seq, held.token)
                due = self._host.now() + span_microseconds(pause)
                return schema.ROLLBACK, (schema.DELAYED, due, held.seq, held.token)
            case Bury(reason, message):
                # Lone surrogates cannot be stored, and a failure's text must never stop its burial.
                text = message[:_LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode("utf-8")
                return schema.BURY, (reason, text, self._host.now(), held.seq, held.token)
            case _:
                assert_never(settlement)

    def _checked(self, reservation: Reservation) -> SqliteReservation:
        if reservation is not self._held or not isinstance(reservation, SqliteReservation):
            raise LeaseLost(reservation.id, "this slot does not hold it (any more)")
        if reservation.deadline is not None and self._clock.monotonic() >= reservation.deadline:
            self._held = None
            raise LeaseLost(reservation.id, f"its {self._lease_seconds:g} s are over")
        return reservation

    def _settled(self, held: SqliteReservation, done: int) -> None:
        self._held = None
        if not done:
            raise LeaseLost(held.id, "the job was given to another slot, or its file was replaced")

    def _announce(self, held: SqliteReservation, settlement: Settlement) -> None:
        if isinstance(settlement, Rollback):
            if settlement.pause <= NO_PAUSE:
                self._file.shared.announce(held.queue, 1)
            else:
                due = self._host.now() + span_microseconds(settlement.pause)
                self._file.shared.announce(held.queue, 0, due)

    # from other threads

    def extend(self, reservation: Reservation) -> None:
        """Renew the lease, over the calling thread's own connection."""
        if not isinstance(reservation, SqliteReservation):
            raise LeaseLost(reservation.id, "it is not of this adapter")
        monotonic = self._clock.monotonic()
        if reservation.deadline is not None and monotonic >= reservation.deadline:
            raise LeaseLost(reservation.id, f"its {self._lease_seconds:g} s are over")
        if not self._file.run(self._adapter.slot(), lambda c: self._renew(c, reservation)):
            raise LeaseLost(reservation.id, "it was settled, or given to another slot")
        reservation.deadline = monotonic + self._lease_seconds

    def _renew(self, connection: sqlite3.Connection, held: SqliteReservation) -> int:
        while True:
            connection.execute("BEGIN IMMEDIATE")
            # Under the lock, as at a claim: a time from before a jump would end the lease of a living worker.
            now = self._host.now()
            if not self._host.jumped(now, self._clock.monotonic()):
                done = connection.execute(schema.EXTEND, (now + self._lease, held.seq, held.token)).rowcount
                connection.execute("COMMIT")
                return done
            connection.execute("ROLLBACK")
            self._host.follow(connection)

    def cancel(self) -> None:
        """End a waiting `reserve`, and all later ones."""
        self._is_cancelled = True
        waiter = self._waiter
        if waiter is not None:
            self._file.shared.wake([waiter])

    def close(self) -> None:
        """Give back what is held, and close the connection."""
        if self._is_closed:
            return
        self._is_closed = True
        held, self._held = self._held, None
        if held is not None:
            values = (schema.READY, None, held.seq, held.token)
            try:
                self._file.run(self._slot, lambda c: c.execute(schema.ROLLBACK, values).rowcount)
            except AdapterError:
                pass  # the end of its lease brings it back
            else:
                self._file.shared.announce(held.queue, 1)
        self._slot.close()
