"""Removes the rows of ended jobs from the tables that a claim looks into, before autovacuum would.

A claim walks over what no vacuum has removed from an index: fifty thousand entries double its cost.
Autovacuum comes once a minute at the soonest (`autovacuum_naptime`, which no table can have of its own), and
leaves an index as it is while less than a fiftieth of the pages of its table have dead rows: as where a
million jobs wait.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from kessel_core.contract import AdapterError
from kessel_postgres import codec
from kessel_postgres.link import Call
from kessel_postgres.sql import Statements

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["Maintained", "Vacuum"]

#: For how many times as long as the last vacuum took there is none: where rows cannot be removed, because an
#: old transaction may still see them, or where very many wait, it takes long and gains little.
_REST: Final = 20


class Maintained(Protocol):
    """The database of the tables, as far as this needs it; both calls raise the errors of the contract."""

    statements: Statements

    def call(self, call: Call) -> PGresult:
        """Run one call as its own transaction."""

    def alone(self, call: Call) -> None:
        """Run a call that may be in no transaction with others."""


class Vacuum:
    """Lets the server vacuum now and then, in a thread of its own. Thread-safe; a forked child may use it.

    Where the role may not (it is no owner, nor has it `MAINTAIN` of PostgreSQL 17) there is none.

    Args:
        database: Where the tables are.
    """

    #: After how many settlements of a process: a claim then walks over some 20 pages of the index, and the
    #: vacuum, of a few milliseconds, costs each job a microsecond or two.
    every: ClassVar[int] = 5_000

    def __init__(self, database: Maintained) -> None:
        self._database = database
        self._settled = itertools.count(1)
        #: Is not alive in a forked child.
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        self._may = True

    def count(self) -> None:
        """Count a settlement; raises nothing."""
        if next(self._settled) % self.every or not self._may:
            return
        if time.monotonic() < self._not_before or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._run, name="kessel-vacuum", daemon=True)
        with suppress(RuntimeError):  # no thread can be made: the process ends, or has too many
            self._thread.start()

    def _run(self) -> None:
        database, begun = self._database, time.monotonic()
        # Whoever settles meets the same error, and tells it; and the next time comes.
        with suppress(AdapterError):
            row = database.call(Call(database.statements.may_vacuum))
            self._may = codec.boolean(row.get_value(0, 0))
            if self._may:
                database.alone(Call(database.statements.vacuum))
        now = time.monotonic()
        self._not_before = now + _REST * (now - begun)
