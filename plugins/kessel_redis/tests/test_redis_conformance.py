from kessel_conformance import AdapterConformance
from kessel_redis.plugin import SPEC

from .harnesses import URL, RedisHarness


class TestRedis(AdapterConformance):
    harness = RedisHarness(SPEC, URL)
