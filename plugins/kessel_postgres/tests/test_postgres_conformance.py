from datetime import timedelta

from kessel_conformance import AdapterConformance
from kessel_postgres.plugin import SPEC

from .harnesses import REFUSED, URL, PostgresHarness


class TestPostgres(AdapterConformance):
    # A server of many processes is late more often than one process, on a machine that does something else.
    harness = PostgresHarness(SPEC, URL, tolerance=timedelta(seconds=0.5), refused_url=REFUSED, forks=True)
