"""The consuming side: reserving, settling and extending. The contract's base does waiting and cancelling."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, assert_never

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
    Message,
    Put,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
    new_token,
    told_delayed,
    told_entry,
    told_ready,
)
from kessel_redis import codec
from kessel_redis.database import Database
from kessel_redis.edge import may_be_done
from kessel_redis.scripts import OPERATIONS, STEP, Layout
from kessel_redis.telling import told_of

__all__ = ["Deliveries", "RedisReservation", "to_store"]

#: Most leases that one call renews: a script takes so many arguments.
_RENEWED_AT_ONCE: Final = 1_000

#: Nothing is settled; and of a commit, which has neither pause nor note.
_NO_SETTLEMENT: Final = (b"", b"0", b"", b"", b"0", b"")
_NO_RESERVE: Final = (b"0", b"0", b"")
_NOTHING_BROUGHT: Final[tuple[bytes, ...]] = (b"",)


@attrs.define(eq=False)
class RedisReservation(Reservation):
    """A reservation, with the member of the set of held jobs that fences it."""

    #: Number, priority and token, random for this delivery; in the set as long as the reservation holds.
    member: bytes = b""
    #: A settlement that was sent and not answered: it may be done.
    unsure: Settlement | None = None


class Deliveries:
    """Reserves the jobs of one namespace, and settles and extends their reservations. Thread-safe.

    Args:
        database: Where they are.
        lease: How long a reservation holds its job.
    """

    def __init__(self, database: Database, lease: timedelta) -> None:
        self._database = database
        self._clock = database.clock
        self._lease = lease
        self._lease_seconds = lease.total_seconds()
        self._lease_value = codec.micros(lease)
        self._local = threading.local()
        #: Reserves whose answers were lost; to be asked for before each take, and now and then.
        self.lost = LostReserves(self._clock, lease, self._given_back)

    # take

    def take(self, queues: tuple[str, ...]) -> RedisReservation | None:
        """Reserve the next job if one is ready; before that, give back what lost reserves have taken."""
        self.lost.ask()
        while True:
            # Before it is sent: the holder must see the end of its lease before the others do.
            monotonic = self._clock.monotonic()
            token = new_token()
            given = (*_NO_SETTLEMENT, *self._reserve(queues, token), *_NOTHING_BROUGHT)
            try:
                answer = self._database.call(STEP, Layout(queues), given)
                taken, is_complete = self._taken(answer, queues, monotonic)
            except BaseException as exc:  # a signal's handler may raise when the answer is here
                self._note(exc, token, queues)
                raise
            if is_complete:
                return taken

    def again(self) -> timedelta | None:
        """Return after which span this thread should look again, as it was told by its last look."""
        found: timedelta | None = getattr(self._local, "again", None)
        return found

    def _reserve(self, queues: Sequence[str], token: int) -> tuple[bytes, bytes, bytes]:
        return b"%d" % len(queues), self._lease_value, b"%x" % token

    def _note(self, exc: BaseException, token: int, queues: tuple[str, ...]) -> None:
        """Remember a reserve that ended with this, if it may have taken a job."""
        if may_be_done(exc):
            self.lost.add(token, queues)

    def _given_back(self, lost: Sequence[LostReserve]) -> set[int]:
        """Make ready again what is held under the tokens of lost reserves; return those of what was found."""
        database = self._database
        layout = Layout(tuple(dict.fromkeys(queue for one in lost for queue in one.queues)))
        told = ((layout.queue(queue), database.message(told_ready(queue))) for queue in layout.queues)
        given = (
            *(b"give_back", database.keys.channel, b"%d" % len(lost)),
            *(b"%x" % one.token for one in lost),
            *itertools.chain.from_iterable(told),
        )
        answer = database.call(OPERATIONS, layout, given)
        for number in answer[1::2]:
            database.line.announce(layout.queues[number])
        return {int(token, 16) for token in answer[::2]}

    def _taken(
        self, answer: bytes | list[Any], queues: Sequence[str], monotonic: float
    ) -> tuple[RedisReservation | None, bool]:
        """Read what was taken; returns False if more is due than one call makes ready."""
        if isinstance(answer, list):
            span = int(answer[0])
            self._local.again = None if span < 0 else codec.to_span(span)
            return None, span != 0
        index, member, counted, stored = answer.split(b" ", 3)
        job_id, _, body = codec.to_record(stored)
        counts = codec.to_counts(counted)
        return (
            RedisReservation(
                job_id,
                queues[int(index)],
                body,
                counts.attempts + 1,
                monotonic + self._lease_seconds,
                self._lease,
                counts.snoozes,
                member,
                kicks=counts.kicks,
            ),
            True,
        )

    # settle

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """Settle, with all that the settlement brings along; refused unless this delivery holds the job.

        Raises:
            LeaseLost: It does not.
        """
        self._sent(_own(reservation), settlement, (), _NO_RESERVE)

    def settle_and_take(
        self, reservation: Reservation, settlement: Settlement, queues: tuple[str, ...]
    ) -> RedisReservation | None:
        """Settle and reserve the next job in one call.

        Raises:
            LeaseLost: This delivery does not hold its job; nothing was reserved.
        """
        held = _own(reservation)
        monotonic = self._clock.monotonic()
        token = new_token()
        try:
            answer = self._sent(held, settlement, queues, self._reserve(queues, token))
            if answer is None:
                return None
            taken, is_complete = self._taken(answer, queues, monotonic)
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
        held: RedisReservation,
        settlement: Settlement,
        queues: tuple[str, ...],
        reserve: tuple[bytes, bytes, bytes],
    ) -> Any:
        """Send a settlement; None: an earlier try without an answer has done it, and nothing was reserved."""
        layout = _layout(queues, held.queue, settlement)
        settled = _settled(settlement, held, layout.queue(held.queue))
        brought = _NOTHING_BROUGHT
        if settlement != COMMIT:
            brought = self._brought(settlement, held.queue, layout)
        given = (*settled, *reserve, *brought)
        try:
            answer = self._database.call(STEP, layout, given)
        except AdapterUnavailable as exc:
            if may_be_done(exc):
                held.unsure = settlement
            raise
        if answer != 0:
            return answer
        # While its lease holds, nobody but its holder ends a delivery.
        is_over = held.deadline is not None and self._clock.monotonic() >= held.deadline
        if is_over or held.unsure != settlement:
            raise LeaseLost(held.id, "its lease has ended, or it was settled")
        return None

    def _brought(self, settlement: Settlement, queue: str, layout: Layout) -> tuple[bytes, ...]:
        """Return what a settlement brings along (S20), and what to tell others."""
        database = self._database
        if isinstance(settlement, (Rollback, Snooze)):
            pause = settlement.pause
            text = told_ready(queue) if pause <= NO_PAUSE else told_delayed(queue, pause)
            return database.keys.channel, b"0", b"0", database.message(text)
        if not (settlement.follow or settlement.puts):
            return _NOTHING_BROUGHT
        spans = [database.span_until(message.delay) for message in settlement.follow]
        follow = (
            to_store(message, span, layout) for message, span in zip(settlement.follow, spans, strict=True)
        )
        queues = (message.queue for message in settlement.follow)
        told = (
            *told_of(zip(queues, spans, strict=True)),
            *(told_entry(put.space, put.key) for put in settlement.puts),
        )
        return (
            database.keys.channel,
            b"%d" % len(settlement.follow),
            b"%d" % len(settlement.puts),
            *itertools.chain.from_iterable(follow),
            *itertools.chain.from_iterable(_put(put, layout) for put in settlement.puts),
            *map(database.message, told),
        )

    # extend

    def renew_many(self, reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        """Renew leases to their full length from now; returns what became of each.

        A thousand are one round trip.
        """
        outcomes: dict[int, AdapterError | None] = {}
        held = [one for one in reservations if isinstance(one, RedisReservation)]
        for first in range(0, len(held), _RENEWED_AT_ONCE):
            portion = held[first : first + _RENEWED_AT_ONCE]
            layout = Layout(tuple(dict.fromkeys(one.queue for one in portion)))
            pairs = ((layout.queue(one.queue), one.member) for one in portion)
            given = (b"renew", self._lease_value, *itertools.chain.from_iterable(pairs))
            try:
                renewed = self._database.call(OPERATIONS, layout, given)
            except AdapterError as exc:
                outcomes.update((id(one), exc) for one in portion)
            else:
                outcomes.update((id(one), None) for one, holds in zip(portion, renewed, strict=True) if holds)
        return [
            outcomes.get(id(one), LeaseLost(one.id, "it was settled, or its lease has ended"))
            for one in reservations
        ]


def to_store(message: Message, span: bytes, layout: Layout) -> tuple[bytes, ...]:
    """Return a job as the scripts store it: base and name of its queue, id, span, priority and body."""
    return (
        layout.queue(message.queue),
        message.queue.encode(),
        message.id.encode(),
        span,
        b"%d" % message.priority,
        message.body,
    )


def _put(put: Put, layout: Layout) -> tuple[bytes, ...]:
    """Return an entry as `step` writes it: base of its space, key, value, and time to live or nothing."""
    ttl = b"" if put.ttl is None else codec.micros(put.ttl)
    return layout.space(put.space), put.key.encode(), put.value, ttl


def _layout(queues: tuple[str, ...], settled: str, settlement: Settlement) -> Layout:
    """Return the queues of a call, those to take from first, and its spaces."""
    if not isinstance(settlement, (Commit, Bury)) or not (settlement.follow or settlement.puts):
        return Layout(queues if settled in queues else (*queues, settled))
    others = (settled, *(message.queue for message in settlement.follow))
    spaces = (put.space for put in settlement.puts)
    return Layout(tuple(dict.fromkeys((*queues, *others))), tuple(dict.fromkeys(spaces)))


def _settled(settlement: Settlement, held: RedisReservation, base: bytes) -> tuple[bytes, ...]:
    """Return what a settlement is to `step`: what, base, member, id, pause and note."""
    job_id = (held.id or "").encode()
    match settlement:
        case Commit():
            is_ordinary = held.attempt == 1 and not held.snoozes and not held.kicks
            return (b"commit" if is_ordinary else b"end"), base, held.member, job_id, b"0", b""
        case Rollback(pause):
            return b"rollback", base, held.member, job_id, codec.micros(pause), b""
        case Snooze(pause):
            return b"snooze", base, held.member, job_id, codec.micros(pause), b""
        case Bury(reason, message):
            note = codec.note(reason, message)
            return b"bury", base, held.member, job_id, b"0", note
        case _:
            assert_never(settlement)


def _own(reservation: Reservation) -> RedisReservation:
    if not isinstance(reservation, RedisReservation):
        raise LeaseLost(reservation.id, "it is not of this adapter")
    return reservation
