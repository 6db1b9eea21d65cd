"""The adapter: what it promises, and its producer side; the rest is in the modules that it imports."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Final

from kessel_core.contract import (
    AdapterContext,
    AdapterError,
    AdapterUnavailable,
    Attempts,
    Bury,
    Capabilities,
    Commit,
    DoctorContext,
    Durability,
    EnqueueRejected,
    EnqueueUnknown,
    Finding,
    IdHeld,
    InvalidConfig,
    LeaseReturn,
    Message,
    Problem,
    Reach,
    Reservation,
    ServerAdapter,
    Settlement,
    TieBreak,
    error_for,
    in_portions,
    kinds_of,
    later,
    refuse_large,
)
from kessel_redis import doctor
from kessel_redis.consumer import Deliveries, to_store
from kessel_redis.database import Database
from kessel_redis.entries import RedisStore
from kessel_redis.operations import RedisOperations
from kessel_redis.options import RedisOptions
from kessel_redis.scripts import PUT, Layout
from kessel_redis.telling import told_of

__all__ = ["RedisAdapter"]

#: Most jobs, and about how many bytes, that one call of `enqueue_many` stores: nobody else is served then.
_CHUNK: Final = 200
_CHUNK_BYTES: Final = 1024 * 1024


class RedisAdapter(RedisOperations, ServerAdapter):
    """A queue in one namespace of a Redis or Valkey.

    Thread-safe; a forked child may keep using it, with connections of its own.

    Raises:
        AdapterUnavailable: Nobody answers, or a server that takes no writes.
        ProtocolError: It is no Redis, or too old, or refuses, or removes keys when its memory is full.
        InvalidConfig: The server is less durable than the options ask for.
    """

    name: ClassVar[str] = "redis"

    def __init__(self, options: RedisOptions, context: AdapterContext) -> None:
        super().__init__(context)
        self.options = options
        self.database = Database(options, context.clock)
        self.line = self.database.line
        durability = self.database.durability
        if options.require_durable and durability is not Durability.POWER:
            self.database.close()
            why = (
                f"the server may lose acknowledged jobs: its setting {self.database.facts.setting} counts as"
                f" {durability}"
            )
            raise InvalidConfig([Problem(("require_durable",), why)])
        #: Small facts beside the jobs, in the same namespace.
        self.store = RedisStore(self.database, options.max_body_bytes, owns_database=False)
        self._deliveries = Deliveries(self.database, options.lease)
        self._capabilities = Capabilities(
            reach=Reach.NETWORK,
            durability=durability,
            delay_granularity=timedelta(microseconds=1),
            priorities=(0, 2**32 - 1),
            tie_break=TieBreak.ENQUEUED,
            max_body_bytes=options.max_body_bytes,
            lease=options.lease,
            lease_return=LeaseReturn.LEASE_END,
            lost_reserves=True,
            fencing=True,
            attempts=Attempts.SERVER if durability is Durability.NONE else Attempts.DURABLE,
            dedupe=True,
            follow=True,
            kicks=True,
            counts=True,
            blocking_reserve=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the adapter promises with these options, on this server."""
        return self._capabilities

    # producer side

    def put(self, message: Message) -> None:
        """Store one job in one call."""
        refuse_large(message, self.options.max_body_bytes)
        while True:
            holder = self._store([message], [self.database.span_until(message.delay)])[0]
            if not holder:
                return
            if (job := self.find(message.id)) is not None:  # else that one has just ended
                raise IdHeld(message.id, job.state.value)

    def _store(self, messages: Sequence[Message], spans: Sequence[bytes]) -> list[bytes]:
        """Store jobs in one call; return for each who holds its id, or nothing."""
        layout = Layout(tuple(dict.fromkeys(message.queue for message in messages)))
        database = self.database
        queues = (message.queue for message in messages)
        texts = [database.message(text) for text in told_of(zip(queues, spans, strict=True))]
        jobs = (to_store(message, span, layout) for message, span in zip(messages, spans, strict=True))
        given = (
            *(database.keys.channel, b"%d" % len(texts), *texts),
            *itertools.chain.from_iterable(jobs),
        )
        answer: list[bytes] = database.call(PUT, layout, given, messages[0].id)
        return answer

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Store many jobs, up to two hundred per call; each call is atomic."""
        outcomes: list[AdapterError | None] = [None] * len(messages)
        rows: list[int] = []
        for index, message in enumerate(messages):
            try:
                refuse_large(message, self.options.max_body_bytes)
            except EnqueueRejected as exc:
                outcomes[index] = exc
            else:
                rows.append(index)
        down: AdapterUnavailable | None = None
        for chunk in in_portions(
            rows, lambda index: len(messages[index].body), most=_CHUNK, most_bytes=_CHUNK_BYTES
        ):
            error = down or self._store_chunk(chunk, messages, outcomes)
            if error is None:
                continue
            for index in chunk:
                outcomes[index] = error_for(messages[index].id, error)
            if isinstance(error, AdapterUnavailable):
                down = error
            elif isinstance(error, EnqueueUnknown):
                down = AdapterUnavailable(f"not tried: {error.why}")
        return outcomes

    def _store_chunk(
        self, chunk: list[int], messages: Sequence[Message], outcomes: list[AdapterError | None]
    ) -> AdapterError | None:
        """Store jobs in one call; note ids that are held, return the error if the whole failed."""
        portion = [messages[index] for index in chunk]
        try:
            holders = self._store(portion, [self.database.span_until(message.delay) for message in portion])
        except AdapterError as exc:
            return exc
        stored = [message for message, holder in zip(portion, holders, strict=True) if not holder]
        self.announce_stored(*kinds_of(stored, self.clock.now()))
        for index, holder in zip(chunk, holders, strict=True):
            if holder:
                try:
                    self.enqueue(messages[index])  # says in which state that one is
                except AdapterError as exc:
                    outcomes[index] = exc
        return None

    # consuming side: what the consumers of the contract call

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        """Reserve the next job if one is ready."""
        self.refuse_if_closed()
        return self._deliveries.take(queues)

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        """Settle; from any thread, because the token in the set fences."""
        self._refuse_brought(settlement)
        self._deliveries.settle(reservation, settlement)
        self.announce_brought(settlement)

    def settle_and_take(
        self, reservation: Reservation, settlement: Settlement, queues: tuple[str, ...]
    ) -> Reservation | None:
        """Settle and take the next job in one call."""
        self._refuse_brought(settlement)
        taken = self._deliveries.settle_and_take(reservation, settlement, queues)
        self.announce_return(reservation.queue, settlement)
        self.announce_brought(settlement)
        self._deliveries.lost.ask_quietly()  # a slot that is always busy comes by nowhere else
        return taken

    def _refuse_brought(self, settlement: Settlement) -> None:
        """Raise EnqueueRejected for a follow-up that is too large, before anything is sent (S20)."""
        if isinstance(settlement, (Commit, Bury)):
            for message in settlement.follow:
                refuse_large(message, self.options.max_body_bytes)

    def renew_many(self, reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        """Extend leases, a thousand in one round trip."""
        return self._deliveries.renew_many(reservations)

    def looks_again(self, queues: tuple[str, ...]) -> datetime | None:
        """Let the line look when time alone makes a job ready, once for all slots.

        A slot itself looks only for what a reserve without an answer has taken (see `LostReserves`).
        """
        if (again := self._deliveries.again()) is not None:
            self.database.line.plan(again)
        ask = self._deliveries.lost.next_ask
        return None if ask is None else later(self.clock.now(), ask)

    # the server

    def doctor(self, context: DoctorContext) -> list[Finding]:
        """Check the server: version, durability, memory, eviction, replication, clock, stuck jobs."""
        return doctor.examine(self, context)

    def shut(self) -> None:
        """Give back what lost reserves have taken, and close all connections; later calls are refused."""
        try:
            self._deliveries.lost.ask_quietly(every=True)
        finally:
            self.database.close()
