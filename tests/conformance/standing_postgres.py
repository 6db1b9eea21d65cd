"""A PostgreSQL for the mutants of one process, each with a database of its own; see `standing`."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
from kessel_postgres.options import PostgresOptions
from kessel_postgres.testing import Postgres
from standing import kill_by_file

__all__ = ["SCHEMAS", "OneDatabase", "start"]

#: The schemas that a database has from the start: about as many as a run needs.
SCHEMAS: Final = tuple(f"kc{number}" for number in range(220))
#: What the schemas are made from; a mutant of these needs schemas of its own.
_MAKERS: Final = ("v1.sql", "schema.py", "installing.py")


class OneDatabase(Postgres):
    """One database of a server that another process may have started; `close` is not for it.

    Args:
        data: The folder with its data.
        port: Where it listens.
        database: The name of the database.
    """

    def __init__(self, data: Path, port: int, database: str) -> None:
        super().__init__()
        self._folder, self.port, self.database = data.parent, port, database

    def options(self, schema: str = "kessel", **more: object) -> PostgresOptions:
        return super().options(schema, **{"database": self.database, **more})

    def url(self, query: str = "") -> str:
        return super().url(query).replace("/postgres", f"/{self.database}")

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None and self.process.poll() is None:
            super().kill(number)
        else:
            kill_by_file(self.data / "postmaster.pid", number)


class StandingPostgres:
    """See `standing.Standing`."""

    def __init__(self) -> None:
        self._first = Postgres()
        self._first.start()
        process = self._first.process
        assert process is not None
        # Whoever kills it sees it end only when its parent has asked for its end.
        threading.Thread(target=process.wait, daemon=True).start()
        self._server = OneDatabase(self._first.data, self._first.port, "postgres")
        self._ask("CREATE DATABASE filled")
        OneDatabase(self._first.data, self._first.port, "filled").install_many(SCHEMAS)
        self._numbers = itertools.count(1)

    def _ask(self, statement: str) -> None:
        with psycopg.connect(self._server.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextlib.contextmanager
    def lent(self, file: str) -> Iterator[dict[str, Any]]:
        if not self._server._answers():
            self._server.kill()
            self._server.start()
        name, is_filled = f"m{next(self._numbers)}", file not in _MAKERS
        self._ask(f"CREATE DATABASE {name} TEMPLATE {'filled' if is_filled else 'template0'}")
        server = self._server
        try:
            yield {"data": str(server.data), "port": server.port, "database": name, "is_filled": is_filled}
        finally:
            with contextlib.suppress(psycopg.Error):  # a run may have left it dead
                self._ask(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        self._server.kill(signal.SIGQUIT)
        self._first.close()


def start() -> StandingPostgres:
    return StandingPostgres()
