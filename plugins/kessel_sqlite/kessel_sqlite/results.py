"""Results of finished jobs, kept beside them for as long as the option `keep_results` says."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Final

from kessel_sqlite import sql
from kessel_sqlite.engine import Engine
from kessel_sqlite.hostclock import span_microseconds

__all__ = ["KeptResults"]

#: Microseconds between two looks for results that are too old.
_SWEEP: Final = 1_000_000


class KeptResults:
    """The results in one file. Safe for any thread.

    Args:
        engine: The open file.
        keep_for: How long a result is kept.
    """

    def __init__(self, engine: Engine, keep_for: timedelta) -> None:
        self._engine = engine
        self._keep_for = span_microseconds(keep_for)
        self._swept = 0

    def keep(self, connection: sqlite3.Connection, job_id: str, queue: str, body: bytes) -> None:
        """Keep a result in the open transaction, and now and then drop old ones."""
        now = self._engine.host.now()
        connection.execute(sql.KEEP_RESULT, (job_id, queue, now, body))
        if now - self._swept >= _SWEEP:
            self._swept = now
            connection.execute(sql.SWEEP_RESULTS, (now - self._keep_for,))

    def get(self, job_id: str) -> bytes | None:
        """Return the latest result of a job; None if there is none, or no longer."""
        values = (job_id, self._engine.host.now() - self._keep_for)
        row = self._engine.read(lambda c: c.execute(sql.RESULT, values).fetchone())
        return None if row is None else bytes(row[0])
