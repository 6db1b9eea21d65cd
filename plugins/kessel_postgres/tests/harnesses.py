"""How the suites get hold of a PostgreSQL: a server of each run's own."""

from __future__ import annotations

import copy
from typing import Any, Final, Self

from kessel_conformance import Harness, ServerMissing, StoreHarness
from kessel_postgres.testing import Postgres, PostgresMissing

from kessel_core import Clock
from kessel_core.contract import QueueAdapter

__all__ = ["REFUSED", "URL", "PostgresHarness", "StoreOnPostgres"]

URL: Final = (
    "postgresql://kessel@127.0.0.1:{port}/postgres"
    "?schema={namespace}&max_body_bytes=70000&timeout=3s&connect_timeout=3s&lease=5s"
)
#: Of a role that nobody has made.
REFUSED: Final = URL.replace("kessel@", "guard:sesame-street@")
#: How many schemas are made ahead: about as many as a run needs, and as many as one case may.
_AHEAD: Final = 220
_OF_ONE_CASE: Final = 4


class PostgresHarness(Harness):
    """Brings a PostgreSQL; each namespace is a schema."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.server: Postgres | None = None
        self.made: set[str] = set()
        self._ready: list[str] = []
        self._ahead = _AHEAD

    def start(self) -> None:
        try:
            self.server = Postgres()
            self.server.start()
        except PostgresMissing as exc:
            raise ServerMissing(str(exc)) from exc
        self.version = self.version or self.server.version
        # Ahead, because all cases of real time begin at once, and each has its own.
        self._ready = [f"kc{number}" for number in range(self._ahead)]
        self.server.install_many(self._ready)
        self.made.update(self._ready)
        self.values["port"] = str(self.server.port)

    def open(self, clock: Clock, namespace: str) -> QueueAdapter:
        """Each namespace has a schema, because the ids of the suite are the same in every case."""
        if self.server is not None and namespace not in self.made:
            self.server.install(namespace)
            self.made.add(namespace)
        return super().open(clock, namespace)

    def namespace(self) -> str:
        return self._ready.pop() if self._ready else super().namespace()

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()

    def restart(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.start()

    def ended(self) -> str | None:
        process = self.server.process if self.server is not None else None
        return None if process is None or process.poll() is None else "postgres has ended"

    def another(self, *, still: bool = False) -> Self:
        twin = copy.copy(self)
        twin.values, twin._tmp, twin.server = dict(self.values), None, None
        twin.made, twin._ready, twin._ahead = set(), [], _OF_ONE_CASE
        return twin

    def portable(self) -> Self:
        twin = super().portable()
        twin.server = None
        return twin


class StoreOnPostgres(StoreHarness):
    """Brings a PostgreSQL with one schema; each case has spaces of its own."""

    server: Postgres

    def start(self) -> None:
        try:
            self.server = Postgres()
            self.server.start()
        except PostgresMissing as exc:
            raise ServerMissing(str(exc)) from exc
        self.server.install()
        self.values["port"] = str(self.server.port)

    def stop(self) -> None:
        self.server.close()

    def restart(self) -> None:
        self.server.kill()
        self.server.start()
