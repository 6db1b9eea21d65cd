from kessel_conformance import StoreConformance
from kessel_postgres.plugin import STORE

from .harnesses import StoreOnPostgres


class TestPostgresStore(StoreConformance):
    harness = StoreOnPostgres(STORE, "postgresql://kessel@127.0.0.1:{port}/postgres?max_value_bytes=70000")
