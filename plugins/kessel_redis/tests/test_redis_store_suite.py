from kessel_conformance import StoreConformance
from kessel_redis.plugin import STORE

from .harnesses import StoreOnRedis


class TestRedisStore(StoreConformance):
    harness = StoreOnRedis(STORE, "redis://127.0.0.1:{port}?max_value_bytes=70000")
