from __future__ import annotations

from datetime import timedelta

from kessel_conformance import AdapterConformance, StoreConformance
from kessel_postgres.plugin import SPEC, STORE

from .harnesses import URL, PostgresHarness, StoreOnPostgres


class TestPostgresStore(StoreConformance):
    harness = StoreOnPostgres(STORE, "postgresql://kessel@127.0.0.1:{port}/postgres?max_value_bytes=70000")


class TestPostgres(AdapterConformance):
    # A server of many processes is late more often than one process, on a machine that does something else.
    harness = PostgresHarness(SPEC, URL, tolerance=timedelta(seconds=0.5))
