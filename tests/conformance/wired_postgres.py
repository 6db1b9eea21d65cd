"""The suite of kessel-postgres on a server that stands already; `standing_postgres` lends it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from harnesses import URL, PostgresHarness
from kessel_conformance import AdapterConformance
from kessel_postgres.plugin import SPEC
from standing import given
from standing_postgres import SCHEMAS, OneDatabase


class StandingHarness(PostgresHarness):
    def start(self) -> None:
        if self.server is not None:
            return  # again, after `stop`
        told = given()
        self.server = OneDatabase(Path(told["data"]), told["port"], told["database"])
        self.version = "as it is"
        self._ready = list(SCHEMAS)
        if not told["is_filled"]:
            self.server.install_many(self._ready)
        self.made.update(self._ready)
        self.values.update(port=f"{self.server.port}", database=self.server.database)

    def stop(self) -> None:
        """It stands."""

    def another(self, *, still: bool = False) -> None:
        """None: a case that restarts the server runs when the others are done."""


class TestPostgres(AdapterConformance):
    harness = StandingHarness(SPEC, URL.replace("/postgres", "/{database}"), tolerance=timedelta(seconds=0.5))
