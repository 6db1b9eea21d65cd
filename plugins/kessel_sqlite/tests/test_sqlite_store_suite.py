from kessel_conformance import StoreConformance, StoreHarness
from kessel_sqlite.plugin import SPEC, STORE


class TestSqliteStore(StoreConformance):
    harness = StoreHarness(STORE, url="sqlite:///{tmp}/{namespace}.db?max_value_bytes=70000")


class TestStoreOfTheSqliteAdapter(StoreConformance):
    harness = StoreHarness(
        SPEC, url="sqlite:///{tmp}/{namespace}.db?durability=process-crash&max_body_bytes=70000"
    )


class TestSqliteStoreInRealTime(StoreConformance):
    harness = StoreHarness(
        STORE,
        url="sqlite:///{tmp}/one.db?durability=process-crash&max_value_bytes=70000",
        real_clock=True,
    )
