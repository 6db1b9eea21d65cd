"""The consuming side: reserving, settling and extending. The contract's base does waiting and cancelling."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

import attrs

from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterError,
    AdapterUnavailable,
    Bury,
    Commit,
    LeaseLost,
    LostReserve,
    LostReserves,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
    new_token,
    told_ready,
)
from kessel_postgres import codec
from kessel_postgres.database import Database
from kessel_postgres.edge import may_be_done
from kessel_postgres.link import Call, Refused
from kessel_postgres.vacuum import Vacuum

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["NOTHING", "Brought", "Deliveries", "PostgresReservation"]


@attrs.define(eq=False)
class PostgresReservation(Reservation):
    """A reservation, with the token that fences it."""

    #: The number of the job.
    seq: int = 0
    #: Random, for this delivery only; in the table as long as the reservation holds the job.
    token: int = 0
    #: A settlement that was sent and not answered: it may be done.
    unsure: Settlement | None = None


class Brought(NamedTuple):
    """What a settlement brings along (S20): calls of the same transaction, and what to tell others."""

    calls: tuple[Call, ...] = ()
    tell: tuple[str, ...] = ()


NOTHING: Final = Brought()

_NO_SPAN: Final = codec.span(NO_PAUSE)
_COMMIT, _ROLLBACK, _SNOOZE, _BURY = (number.to_bytes(4, "big") for number in (1, 2, 3, 4))


class Deliveries:
    """Reserves the jobs of one schema, and settles and extends their reservations. Thread-safe.

    Args:
        database: Where they are.
        lease: How long a reservation holds its job.
    """

    def __init__(self, database: Database, lease: timedelta) -> None:
        self._database = database
        self._clock = database.clock
        self._lease = lease
        self._lease_seconds = lease.total_seconds()
        self._lease_value = codec.span(lease)
        self._local = threading.local()
        #: Reserves whose answers were lost; to be asked for before each take, and now and then.
        self.lost = LostReserves(self._clock, lease, self._given_back)
        self._vacuum = Vacuum(database)

    # take

    def take(self, queues: tuple[str, ...]) -> PostgresReservation | None:
        """Reserve the next job if one is ready; before that, give back what lost reserves have taken."""
        self.lost.ask()
        names = _names(queues)
        while True:
            monotonic = self._clock.monotonic()
            token = new_token()
            values = (names, self._lease_value, codec.integer(token))
            try:
                row = self._database.call(Call(self._database.statements.take, values))
                taken, is_complete = self._taken(row, 0, monotonic, token)
            except BaseException as exc:  # a signal's handler may raise when the answer is here
                self._note(exc, token, queues)
                raise
            if is_complete:
                return taken

    def again(self) -> timedelta | None:
        """Return after which span this thread should look again, as it was told by its last look."""
        found: timedelta | None = getattr(self._local, "again", None)
        return found

    def _note(self, exc: BaseException, token: int, queues: tuple[str, ...]) -> None:
        """Remember a reserve that ended with this, if it may have taken a job."""
        if may_be_done(exc):
            self.lost.add(token, queues)

    def _given_back(self, lost: Sequence[LostReserve]) -> set[int]:
        """Make ready again what is held under the tokens of lost reserves; return those of what was found."""
        database = self._database
        tokens = codec.numbers([one.token for one in lost])
        names = _names(tuple(dict.fromkeys(queue for one in lost for queue in one.queues)))
        rows = database.call(Call(database.statements.give_back, (tokens, names)))
        found = {
            codec.number(rows.get_value(row, 0) or b""): (rows.get_value(row, 1) or b"").decode()
            for row in range(rows.ntuples)
        }
        for queue in found.values():
            database.line.announce(queue)
        if found:
            with suppress(AdapterError):  # it is done; others look for themselves a little later
                database.tell([told_ready(queue) for queue in found.values()])
        return set(found)

    def _taken(
        self, row: PGresult, first: int, monotonic: float, token: int
    ) -> tuple[PostgresReservation | None, bool]:
        """Read what was taken; returns False if more is due than one transaction makes ready."""
        seq = row.get_value(0, first + 1)
        if seq is None:
            again = row.get_value(0, first)
            span = self._local.again = None if again is None else codec.to_span(again)
            return None, span is None or span > NO_PAUSE

        def value(column: int) -> bytes:
            return row.get_value(0, first + column) or b""

        return (
            PostgresReservation(
                codec.to_id(value(2)),
                value(3).decode(),
                value(4),
                codec.number(value(5)),
                monotonic + self._lease_seconds,
                self._lease,
                codec.number(value(6)),
                codec.number(seq),
                token,
                kicks=codec.number(value(7)),
            ),
            True,
        )

    # settle

    def settle(
        self,
        reservation: Reservation,
        settlement: Settlement,
        brought: Brought = NOTHING,
        tell: Sequence[str] = (),
    ) -> None:
        """Settle; refused unless the job still has the token of this delivery.

        Raises:
            LeaseLost: It does not.
        """
        held = _own(reservation)
        calls = (self._settle_call(held, settlement), *brought.calls)
        if self._sent(held, settlement, calls, (*tell, *brought.tell)) is None:
            self._refuse_if_lost(held, settlement)

    def settle_and_take(
        self,
        reservation: Reservation,
        settlement: Settlement,
        queues: tuple[str, ...],
        brought: Brought = NOTHING,
        tell: Sequence[str] = (),
    ) -> PostgresReservation | None:
        """Settle and reserve the next job in one transaction.

        Raises:
            LeaseLost: The job no longer has the token of this delivery; nothing was reserved.
        """
        held = _own(reservation)
        # Before it is sent: the holder must see the end of its lease before the others do.
        monotonic = self._clock.monotonic()
        token = new_token()
        new = codec.integer(token)
        calls: tuple[Call, ...]
        values: tuple[bytes, ...]
        if len(queues) == 1 and settlement == COMMIT and not self._database.options.pooler:
            # Its plan depends on what a connection keeps, and so on there being no pooler.
            values = (
                *(codec.integer(held.seq), codec.integer(held.token)),
                *(codec.text(queues[0]), self._lease_value, new),
            )
            calls, first = (Call(self._database.statements.fast, values),), 1
        elif brought is NOTHING:
            values = (*_ending(settlement, held), _names(queues), self._lease_value, new)
            calls, first = (Call(self._database.statements.step, values),), 1
        else:
            values = (_names(queues), self._lease_value, new)
            take = Call(self._database.statements.take, values)
            calls, first = (self._settle_call(held, settlement), *brought.calls, take), 0
        try:
            rows = self._sent(held, settlement, calls, (*tell, *brought.tell))
            if rows is None or (first and not codec.boolean(rows[-1].get_value(0, 0))):
                self._refuse_if_lost(held, settlement)
                return None
            taken, is_complete = self._taken(rows[-1], first, monotonic, token)
        except BaseException as exc:
            self._note(exc, token, queues)
            raise
        if is_complete:
            return taken
        try:
            return self.take(queues)
        except AdapterError:
            return None

    def _sent(
        self,
        held: PostgresReservation,
        settlement: Settlement,
        calls: Sequence[Call],
        tell: Sequence[str],
    ) -> list[PGresult] | None:
        """Run the calls of a settlement; None: it is refused, because the job is not held."""
        try:
            rows = self._database.run(calls, tell=tell)
        except Refused:
            return None
        except AdapterUnavailable as exc:
            if may_be_done(exc):
                held.unsure = settlement
            raise
        self._vacuum.count()
        return rows

    def _refuse_if_lost(self, held: PostgresReservation, settlement: Settlement) -> None:
        """Raise LeaseLost, unless an earlier try without an answer has done the same.

        While its lease holds, nobody but its holder ends a delivery.
        """
        is_over = held.deadline is not None and self._clock.monotonic() >= held.deadline
        if is_over or held.unsure != settlement:
            raise LeaseLost(held.id, "its lease has ended, or it was settled")

    def _settle_call(self, held: PostgresReservation, settlement: Settlement) -> Call:
        values = (*_ending(settlement, held), b"\1")
        return Call(self._database.statements.settle, values)

    # extend

    def renew_many(self, reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        """Renew leases to their full length from now, in one statement; returns what became of each."""
        held = [one for one in reservations if isinstance(one, PostgresReservation)]
        values = (
            codec.numbers([one.seq for one in held]),
            codec.numbers([one.token for one in held]),
            self._lease_value,
        )
        try:
            rows = self._database.call(Call(self._database.statements.renew, values))
        except AdapterError as exc:
            return [exc] * len(reservations)
        renewed = {codec.number(rows.get_value(row, 0) or b"") for row in range(rows.ntuples)}
        return [
            None
            if isinstance(one, PostgresReservation) and one.token in renewed
            else LeaseLost(one.id, "it was settled, or its lease has ended")
            for one in reservations
        ]


def _ending(settlement: Settlement, held: PostgresReservation) -> tuple[bytes, ...]:
    """Return what a settlement is to `settle` and `step`: number, seq, token, pause, reason and message."""
    delivery = codec.integer(held.seq), codec.integer(held.token)
    match settlement:
        case Commit():
            return _COMMIT, *delivery, _NO_SPAN, b"", b""
        case Rollback(pause):
            return _ROLLBACK, *delivery, codec.span(pause), b"", b""
        case Snooze(pause):
            return _SNOOZE, *delivery, codec.span(pause), b"", b""
        case Bury(reason, message):
            return _BURY, *delivery, _NO_SPAN, _without_nul(reason), _without_nul(message)
        case _:
            assert_never(settlement)


def _without_nul(text: str) -> bytes:
    """Return a text that PostgreSQL takes: it stores no U+0000."""
    return text.replace("\0", "\\x00").encode()


def _names(queues: Sequence[str]) -> bytes:
    return codec.array(codec.TEXTS, map(codec.text, queues))


def _own(reservation: Reservation) -> PostgresReservation:
    if not isinstance(reservation, PostgresReservation):
        raise LeaseLost(reservation.id, "it is not of this adapter")
    return reservation
