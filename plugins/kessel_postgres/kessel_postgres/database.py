"""What the adapter, its deliveries, operations, store and doctor share: options, clock, connections.

`Database.run` is the one place that borrows a connection, does again what met another transaction, and
translates errors. Nothing here knows what a job is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Final

from kessel_core import Clock
from kessel_core.contract import AdapterError, AdapterUnavailable, Pool, ProtocolError, Written
from kessel_postgres import codec
from kessel_postgres.connecting import OLDEST, SETTINGS, ServerFacts, connected, facts_of
from kessel_postgres.edge import (
    is_repeatable,
    leaves_connection_sound,
    not_installed,
    translated,
)
from kessel_postgres.link import Call, Link, Lost, Refused
from kessel_postgres.options import ServerOptions
from kessel_postgres.schema import readable
from kessel_postgres.sql import channel_of, statements_of
from kessel_postgres.waiting import PostgresLine

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["Database"]

#: How often a transaction is done that met another one.
_TRIES: Final = 4


class Database:
    """One schema of one database. Thread-safe; a forked child may keep using it.

    Raises:
        AdapterUnavailable: Nobody answers.
        ProtocolError: It is no PostgreSQL, or too old; it refuses; the tables are not there, or of a version
            that this release does not know.
        InvalidConfig: libpq does not know an option.
    """

    def __init__(self, options: ServerOptions, clock: Clock) -> None:
        self.options = options
        self.clock = clock
        self.statements = statements_of(options.schema)
        self.seconds = options.timeout.total_seconds()
        self.pool = Pool(lambda: connected(options), options.connections, self.seconds)
        self._settings = (Call(SETTINGS),) if options.pooler else ()
        #: The channel on which the processes of this schema notify each other.
        self.channel = channel_of(options.schema).encode()
        try:
            #: Tells this schema from those of other databases, also from copies of this one: its id, and
            #: what the server says in `INSTANCE`. Set when `meta` is read.
            self.identity = ("", "")
            #: What the server said when it was opened.
            self.facts = self._checked()
        except BaseException:
            self.pool.close()
            raise
        self.line = PostgresLine(self)

    def due(self, moment: datetime) -> bytes | None:
        """Return the span until a moment; None if that is over."""
        left = moment - self.clock.now()
        return codec.span(left) if left > _NOTHING else None

    def call(self, call: Call, written: Written = None, tell: Sequence[str] = ()) -> PGresult:
        """Run one call as its own transaction, then notify others; raises what `run` raises."""
        return self.run((call,), written, tell)[0]

    def tell(self, texts: Sequence[str]) -> None:
        """Notify others; raises what `run` raises."""
        self.run(self._told(texts))

    def run(self, calls: Sequence[Call], written: Written = None, tell: Sequence[str] = ()) -> list[PGresult]:
        """Run calls as one transaction, in one round trip; behind a pooler, what is told takes a second one.

        Args:
            calls: At least one.
            written: What it writes, for the errors.
            tell: Notifications for other processes. They have a transaction of their own, because
                PostgreSQL lets only one notifying transaction of a cluster commit at a time. One that is
                refused, as by a full queue of notifications, changes nothing: the others look for themselves.

        Raises:
            AdapterUnavailable: The server cannot be reached, or does not answer; where something is written,
                nothing was.
            EnqueueUnknown, StoreUnknown: It may be written.
            EnqueueRejected, StoreRejected: The server refused what was to be written.
            ProtocolError: It refused for another reason.
            Refused: Our own function raised `LEASE_LOST`.
        """
        transactions: list[Sequence[Call]] = [(*self._settings, *calls)]
        if tell and not self.options.pooler:
            transactions.append(self._told(tell))
        for tries_left in reversed(range(_TRIES)):
            try:
                answers = self._exchange(transactions)
            except Refused as exc:
                if exc.code.startswith("KS"):
                    raise
                if not tries_left or not is_repeatable(exc):
                    raise translated(exc, self.options.place, written) from exc
                time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - so that the two do not meet again
            except Lost as exc:
                raise translated(exc, self.options.place, written) from exc
            else:
                break
        if tell and self.options.pooler:
            # Not in one go with the first: PgBouncer before 1.22.1 hands an answer that is still to come to
            # its next client where this one dies after the first answer, and Supavisor drops it in any case.
            with suppress(AdapterError):
                self.tell(tell)
        return answers[0][len(self._settings) :]

    def _told(self, texts: Sequence[str]) -> list[Call]:
        return [Call(self.statements.notify, (self.channel, text.encode())) for text in texts]

    def alone(self, call: Call) -> None:
        """Run a call that may be in no transaction with others; raises what `run` raises."""
        try:
            self._exchange([[call]])
        except (Lost, Refused) as exc:
            raise translated(exc, self.options.place, None) from exc

    def _exchange(self, transactions: Sequence[Sequence[Call]]) -> list[list[PGresult]]:
        link = self.pool.borrow()
        try:
            answers = link.run(transactions, self.seconds)
        except Refused as exc:
            if leaves_connection_sound(exc):
                self.pool.give(link)
            else:
                self.pool.drop(link)
            raise
        except Lost as exc:
            self.pool.drop(link)
            self.pool.forget()  # the others may be as dead without a word
            if exc.was_sent:
                # It may have made a job ready; what it tells from now on is heard as another process's.
                self.line.wake_all()
            raise
        except BaseException:
            self.pool.drop(link)
            raise
        self.pool.give(link)
        return answers

    def _checked(self) -> ServerFacts:
        link = self.pool.borrow()
        try:
            facts = self._facts(link)
        except (Lost, Refused) as exc:
            self.pool.drop(link)
            raise translated(exc, self.options.place, None) from exc
        except BaseException:
            self.pool.drop(link)
            raise
        self.pool.give(link)
        return facts

    def _facts(self, link: Link) -> ServerFacts:
        place, schema = self.options.place, self.options.schema
        facts = facts_of(link, schema, self.seconds)
        if facts.version < OLDEST:
            raise ProtocolError(
                f"{place}: PostgreSQL {facts.version_name} is too old; kessel-postgres needs"
                f" {OLDEST // 10000} or newer"
            )
        if facts.encoding != "UTF8":
            raise ProtocolError(
                f"{place}: the database {facts.database!r} has the encoding {facts.encoding}, expected UTF8"
            )
        if not self.options.pooler and facts.plan_cache_mode != "force_generic_plan":
            raise ProtocolError(
                f"{place}: a pooler answers, which drops the options of a connection; if it pools"
                " transactions, add pooler=true to the address"
            )
        if not facts.has_meta:
            raise not_installed(place)
        if not facts.may_use:
            raise ProtocolError(
                f"{place}: the role {facts.role!r} may not use the schema; the rights that it needs:"
                f" {self.options.rights_command(facts.role)}"
            )
        if facts.is_replica or facts.is_read_only:
            what = "is a replica" if facts.is_replica else "is read-only"
            raise AdapterUnavailable(
                f"{place}: the server {what} and takes no jobs; name the primary, or several hosts with"
                " target_session_attrs=read-write"
            )
        meta = self._meta(link.run([[Call(self.statements.meta)]], self.seconds)[0][0])
        if (wrong := readable(meta, schema)) is not None:
            raise ProtocolError(f"{place}: {wrong}")
        return facts

    def identify(self) -> tuple[str, str]:
        """Ask for the identity again: the server may have been started anew, or another has taken over.

        Raises what `run` raises.
        """
        self._meta(self.call(Call(self.statements.meta)))
        return self.identity

    def _meta(self, rows: PGresult) -> dict[str, str]:
        """Return names and values of the table `meta`, and note the identity."""
        meta = {
            (rows.get_value(row, 0) or b"").decode(): (rows.get_value(row, 1) or b"").decode()
            for row in range(rows.ntuples)
        }
        self.identity = (meta.get("id", ""), meta["instance"])
        return meta

    @property
    def pids(self) -> set[int]:
        """The server's processes behind the connections."""
        return {link.pid for link in self.pool.links}

    def close(self) -> None:
        """Close all connections; later calls are refused. Idempotent."""
        # First, so that whoever is woken hears of it.
        self.pool.close()
        self.line.shut()


_NOTHING: Final = datetime.min - datetime.min
