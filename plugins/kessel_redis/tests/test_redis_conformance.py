from datetime import timedelta

from kessel_conformance import AdapterConformance
from kessel_redis.plugin import SPEC

from .harnesses import REFUSED, URL, RedisHarness


class TestRedis(AdapterConformance):
    # A server of another process is late more often than one process, on a machine that does something else.
    harness = RedisHarness(SPEC, URL, tolerance=timedelta(seconds=0.5), refused_url=REFUSED, forks=True)
