"""The adapter: what it promises, and its producer side; the rest is in the modules that it imports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

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
    Rollback,
    ServerAdapter,
    Settlement,
    Snooze,
    TieBreak,
    error_for,
    in_portions,
    kinds_of,
    later,
    refuse_large,
    told_delayed,
    told_entry,
    told_ready,
)
from kessel_postgres import codec, doctor
from kessel_postgres.consumer import NOTHING, Brought, Deliveries
from kessel_postgres.database import Database
from kessel_postgres.entries import PostgresStore
from kessel_postgres.link import Call
from kessel_postgres.operations import PostgresOperations
from kessel_postgres.options import PostgresOptions
from kessel_postgres.within import put_within

__all__ = ["PostgresAdapter"]

#: Most jobs, and about how many bytes, that one transaction of `enqueue_many` stores.
_CHUNK: Final = 5_000
_CHUNK_BYTES: Final = 16 * 1024 * 1024


class PostgresAdapter(PostgresOperations, ServerAdapter):
    """A queue in one schema of a PostgreSQL database.

    Thread-safe; a forked child may keep using it, with connections of its own.

    Raises:
        AdapterUnavailable: Nobody answers, or a server that takes no writes.
        ProtocolError: It is no PostgreSQL, or refuses, or the schema is not installed or not of this version.
        InvalidConfig: An option that libpq does not know, or a server that is not durable where that is
            required.
    """

    name: ClassVar[str] = "postgres"
    store: PostgresStore

    def __init__(self, options: PostgresOptions, context: AdapterContext) -> None:
        super().__init__(context)
        self.options = options
        self.database = Database(options, context.clock)
        self.line = self.database.line
        durability = self.database.facts.durability
        if options.require_durable and durability is not Durability.POWER:
            self.database.close()
            facts = self.database.facts
            why = (
                f"the server may lose acknowledged jobs: fsync={facts.fsync},"
                f" full_page_writes={facts.full_page_writes}, synchronous_commit={facts.synchronous_commit}"
            )
            raise InvalidConfig([Problem(("require_durable",), why)])
        #: Small facts beside the jobs, in the same schema.
        self.store = PostgresStore(self.database, options.max_body_bytes, owns_database=False)
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
            attempts=Attempts.DURABLE,
            dedupe=True,
            follow=True,
            kicks=True,
            counts=True,
            blocking_reserve=not options.pooler,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the adapter promises with these options, on this server."""
        return self._capabilities

    # producer side

    def enqueue(self, message: Message, *, connection: Any = None) -> None:
        """Store one job; see `QueueAdapter.enqueue`.

        Args:
            message: The job.
            connection: The application's own connection to the same database, of psycopg, psycopg2,
                SQLAlchemy (or a Session) or Django: the job becomes part of its transaction, and is stored
                only if that commits. Waiting workers then notice it within five seconds, or when `wake` is
                called after the commit.

        Raises:
            TypeError: `connection` is no such thing, or one for asyncio.
            ValueError: It is connected to another database, such as a copy; nothing is stored there.
        """
        self.refuse_if_closed()
        if connection is not None:
            self._values(message)  # refuses what is too large
            left = NO_PAUSE if message.delay is None else message.delay - self.clock.now()
            put_within(self.database, message, left if left > NO_PAUSE else None, connection)
            return
        span = self._put(message)
        if not self.line.is_empty:
            self.announce(message.queue, None if span is None else message.delay)

    def wake(self, queue: str) -> None:
        """Tell workers to look into a queue; for what was stored in the application's own transaction.

        Call it after the commit, for example from a hook. Nothing is lost without it: they look themselves.

        Raises:
            AdapterUnavailable: The server cannot be reached.
        """
        self.refuse_if_closed()
        self.database.tell([told_ready(queue)])
        self.line.announce(queue)

    def put(self, message: Message) -> None:
        """Store one job in a transaction of its own."""
        self._put(message)

    def _put(self, message: Message) -> bytes | None:
        call, tell = self._put_call(message)
        row = self.database.call(call, message.id, tell)
        if (holder := row.get_value(0, 0)) is not None:
            raise IdHeld(message.id, holder.decode())
        return call.values[3]

    def _put_call(self, message: Message) -> tuple[Call, tuple[str, ...]]:
        """Return the call that stores a job, and what to tell others; raises EnqueueRejected."""
        values = self._values(message)
        return Call(self.database.statements.put_one, values), (self._told(message),)

    def _values(self, message: Message) -> tuple[bytes, bytes, bytes, bytes | None, bytes]:
        """Return id, queue, priority, span and body; raises EnqueueRejected."""
        refuse_large(message, self.options.max_body_bytes)
        span = None if message.delay is None else self.database.due(message.delay)
        return (
            codec.job_id(message.id),
            codec.text(message.queue),
            codec.integer(message.priority),
            span,
            message.body,
        )

    def _told(self, message: Message) -> str:
        left = NO_PAUSE if message.delay is None else message.delay - self.clock.now()
        return told_ready(message.queue) if left <= NO_PAUSE else told_delayed(message.queue, left)

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Store many jobs, up to five thousand per transaction; each transaction is atomic."""
        outcomes: list[AdapterError | None] = [None] * len(messages)
        rows: list[tuple[int, tuple[Any, ...]]] = []
        again: list[int] = []
        seen: set[str] = set()
        for index, message in enumerate(messages):
            if message.id in seen:
                again.append(index)  # the first of them counts; so it is found held
                continue
            seen.add(message.id)
            try:
                rows.append((index, self._values(message)))
            except EnqueueRejected as exc:
                outcomes[index] = exc
        down: AdapterUnavailable | None = None
        for chunk in in_portions(rows, lambda one: len(one[1][-1]), most=_CHUNK, most_bytes=_CHUNK_BYTES):
            error = down or self._store(chunk, messages, outcomes)
            if error is None:
                continue
            for index, _ in chunk:
                outcomes[index] = error_for(messages[index].id, error)
            if isinstance(error, AdapterUnavailable):
                down = error
            elif isinstance(error, EnqueueUnknown):
                down = AdapterUnavailable(f"not tried: {error.why}")
        for index in again:
            try:
                if down is not None:
                    raise down
                self.enqueue(messages[index])
            except AdapterError as exc:
                outcomes[index] = exc
        return outcomes

    def _store(
        self,
        chunk: list[tuple[int, tuple[Any, ...]]],
        messages: Sequence[Message],
        outcomes: list[AdapterError | None],
    ) -> AdapterError | None:
        """Store jobs in one transaction; note ids that are held, return the error if the whole failed."""
        ids, queues, priorities, spans, bodies = zip(*(values for _, values in chunk), strict=True)
        values = (
            codec.array(codec.TEXTS, ids),
            codec.array(codec.TEXTS, queues),
            codec.array(codec.LONGS, priorities),
            codec.array(codec.SPANS, spans),
            codec.array(codec.MANY_BYTES, bodies),
        )
        now = self.clock.now()
        ready, first_due = kinds_of((messages[index] for index, _ in chunk), now)
        tell = [told_ready(queue, count) for queue, count in ready.items()]
        tell += [told_delayed(queue, max(due - now, NO_PAUSE)) for queue, due in first_due.items()]
        call = Call(self.database.statements.put_many, values)
        try:
            rows = self.database.call(call, messages[chunk[0][0]].id, tell)
        except AdapterError as exc:
            return exc
        for row in range(rows.ntuples):
            index = chunk[codec.number(rows.get_value(row, 0) or b"") - 1][0]
            outcomes[index] = IdHeld(messages[index].id, (rows.get_value(row, 1) or b"").decode())
        self.announce_stored(ready, first_due)
        return None

    # consuming side: what the consumers of the contract call

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        """Reserve the next job if one is ready."""
        self.refuse_if_closed()
        return self._deliveries.take(queues)

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        """Settle; from any thread, because the token in the table fences."""
        brought = self._brought(settlement)
        self._deliveries.settle(reservation, settlement, brought, self._told_return(reservation, settlement))
        self.announce_brought(settlement)

    def settle_and_take(
        self, reservation: Reservation, settlement: Settlement, queues: tuple[str, ...]
    ) -> Reservation | None:
        """Settle and take the next job in one round trip and one transaction."""
        brought = self._brought(settlement)
        tell = self._told_return(reservation, settlement)
        taken = self._deliveries.settle_and_take(reservation, settlement, queues, brought, tell)
        self.announce_return(reservation.queue, settlement)
        self.announce_brought(settlement)
        self._deliveries.lost.ask_quietly()  # a slot that is always busy comes by nowhere else
        return taken

    def _told_return(self, reservation: Reservation, settlement: Settlement) -> tuple[str, ...]:
        if not isinstance(settlement, (Rollback, Snooze)):
            return ()
        if settlement.pause <= NO_PAUSE:
            return (told_ready(reservation.queue),)
        return (told_delayed(reservation.queue, settlement.pause),)

    def _brought(self, settlement: Settlement) -> Brought:
        """Return what a settlement brings along; raises EnqueueRejected before anything is sent (S20)."""
        if not isinstance(settlement, (Commit, Bury)) or not (settlement.follow or settlement.puts):
            return NOTHING
        made = [self._put_call(message) for message in settlement.follow]
        calls = (*(call for call, _ in made), *map(self.store.put_call, settlement.puts))
        told = (*(text for _, tell in made for text in tell),)
        return Brought(calls, told + tuple(told_entry(put.space, put.key) for put in settlement.puts))

    def announce_brought(self, settlement: Settlement) -> None:
        """See `ServerAdapter.announce_brought`; entries that have ended are removed with later ones."""
        super().announce_brought(settlement)
        if isinstance(settlement, (Commit, Bury)) and settlement.puts:
            self.store.sweep()

    def renew_many(self, reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        """Extend leases, in one statement."""
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
        """Check the server: version, rights, durability, dead rows, who keeps them, stuck jobs."""
        return doctor.examine(self, context)

    def shut(self) -> None:
        """Give back what lost reserves have taken, and close all connections; later calls are refused."""
        try:
            self._deliveries.lost.ask_quietly(every=True)
        finally:
            self.database.close()
