from kessel_conformance import AdapterConformance, Harness
from kessel_sqlite.plugin import SPEC


class TestSqlite(AdapterConformance):
    harness = Harness(SPEC, url="sqlite:///{tmp}/{namespace}.db?max_body_bytes=70000&lease=20s", forks=True)
