"""Results of finished jobs, kept in the same file for as long as the option `keep_results` says."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Final

from kessel_sqlite import sql
from kessel_sqlite.engine import Engine
from kessel_sqlite.hostclock import span_microseconds

__all__ = ["KeptResults"]

#: Interval between two deletions of old results, in microseconds.
_SWEEP: Final = 1_000_000


class KeptResults:
    """The results in one file. Thread-safe.

    Args:
        engine: The open file.
        keep_for: How long a result is kept.
    """

    def __init__(self, engine: Engine, keep_for: timedelta) -> None:
        self._engine = engine
        self._keep_for = span_microseconds(keep_for)
        self._swept = 0

    def keep(self, connection: sqlite3.Connection, job_id: str, queue: str, body: bytes) -> None:
        """Store a result in the open transaction, and from time to time delete old ones."""
        now = self._engine.host.now()
        connection.execute(sql.KEEP_RESULT, (job_id, queue, now, body))
        if now - self._swept >= _SWEEP:
            self._swept = now
            connection.execute(sql.SWEEP_RESULTS, (now - self._keep_for,))

    def get(self, job_id: str) -> bytes | None:
        """Return the latest encoded result of a job, or None if none is kept (any more)."""
        values = (job_id, self._engine.host.now() - self._keep_for)
        row = self._engine.read(lambda c: c.execute(sql.RESULT, values).fetchone())
        return None if row is None else bytes(row[0])
