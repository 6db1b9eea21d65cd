"""Hears what other processes tell by notifications, for all who wait in this one (E8).

Behind a pooler in transaction mode nothing can be heard: there it looks, soon after something was there,
later and later else.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from kessel_core.contract import AdapterError, Ear, Listener, Outlook, ServerLine, nap
from kessel_postgres import codec
from kessel_postgres.connecting import connected
from kessel_postgres.link import Call, Link, Lost, Refused
from kessel_postgres.options import ServerOptions
from kessel_postgres.sql import Statements

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["PostgresLine", "Source"]

#: Shortest and longest time between two looks where nothing is heard.
_POLL: Final = (0.05, 1.0)


class Source(Protocol):
    """Where to look, and how to reach it: the database that the line is of."""

    options: ServerOptions
    statements: Statements
    seconds: float
    channel: bytes

    @property
    def pids(self) -> set[int]:
        """The server's processes behind the connections of this process."""

    def call(self, call: Call) -> PGresult:
        """Run one call as its own transaction; raises the errors of the contract."""


class PostgresLine(ServerLine):
    """As `ServerLine`.

    Args:
        database: Where to look.
    """

    usual: ClassVar[tuple[type[Exception], ...]] = (AdapterError, Lost, Refused)

    def __init__(self, database: Source) -> None:
        self._database = database
        super().__init__("postgres")

    def ear(self, pipe: int) -> Ear:
        """See `ServerLine.ear`."""
        database = self._database
        return Poller(self, pipe) if database.options.pooler else PostgresListener(self, database, pipe)

    def outlooks(self, queues: Sequence[str]) -> Iterator[Outlook]:
        """See `ServerLine.outlooks`."""
        names = codec.array(codec.TEXTS, map(codec.text, queues))
        rows = self._database.call(Call(self._database.statements.outlook, (names,)))
        for row in range(rows.ntuples):
            queue, paused, is_ready, due = (rows.get_value(row, column) for column in range(4))
            yield Outlook((queue or b"").decode(), _span(paused), codec.boolean(is_ready), _span(due))


def _span(value: bytes | None) -> timedelta | None:
    return None if value is None else codec.to_span(value)


class Poller:
    """Looks again and again, where nothing is heard."""

    def __init__(self, line: ServerLine, pipe: int) -> None:
        self._line, self._pipe = line, pipe
        self._pause = _POLL[0]

    def turn(self) -> None:
        """See `Ear.turn`."""
        if self._line.is_idle:
            nap(self._pipe, 1.0)
            self._pause = _POLL[0]
            return
        found = self._line.look()
        self._pause = _POLL[0] if found else min(2 * self._pause, _POLL[1])
        planned = self._line.planned
        pause = self._pause * random.uniform(0.8, 1.0)  # noqa: S311 - so that not all come at once
        nap(self._pipe, pause if planned is None else min(pause, planned - time.monotonic()))

    def close(self) -> None:
        """See `Ear.close`."""
        self._pause = _POLL[0]


class PostgresListener(Listener):
    """Listens on the channel of a schema; the answer that it asks for is a notification to itself."""

    def __init__(self, line: ServerLine, database: Source, pipe: int) -> None:
        super().__init__(line, pipe)
        self._database = database
        self._link: Link | None = None
        self._name = f"h:{os.getpid()}.{random.getrandbits(62)}"

    def connect(self) -> int:
        """See `Listener.connect`."""
        database, statements = self._database, self._database.statements
        link = connected(database.options)
        try:
            link.run(
                [[Call(statements.listen)], [Call(statements.hear, (database.channel,))]], database.seconds
            )
        except BaseException:
            link.close()
            raise
        self._link = link
        return link.pgconn.socket

    def ask(self) -> None:
        """See `Listener.ask`."""
        assert self._link is not None
        beat = Call(self._database.statements.beat, (self._database.channel, self._name.encode()))
        self._link.run([[beat]], self._database.seconds)

    def hear(self, *, is_readable: bool) -> bool:
        """See `Listener.hear`."""
        assert self._link is not None
        is_answered = False
        for pid, told in self._link.notifications():
            if told == self._name:
                is_answered = True
            elif not told.startswith("h:") and pid not in self._database.pids:
                # What this process did itself, it has announced itself.
                self.line.hear(told)
        return is_answered

    def disconnect(self) -> None:
        """See `Listener.disconnect`."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
