from kessel_conformance import StoreConformance, StoreServerHarness
from kessel_redis.plugin import STORE

#: A server whose log of all writes is synced before it answers, and nothing else is written.
COMMAND = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--dir", "{tmp}", "--save", ""]
COMMAND += ["--appendonly", "yes", "--appendfsync", "always"]


class TestRedisStore(StoreConformance):
    harness = StoreServerHarness(
        STORE,
        "redis://127.0.0.1:{port}?max_value_bytes=70000",
        COMMAND,
        variable="REDIS_SERVER",
        version_option="--version",
    )
