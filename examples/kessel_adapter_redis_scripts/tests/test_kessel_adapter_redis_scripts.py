"""The adapter keeps kessel's contract, on a Redis of the tests' own."""

from __future__ import annotations

from kessel_conformance import AdapterConformance, ServerHarness
from kessel_core.contract import Browse, Buried, Delete, Pause

from kessel_adapter_redis_scripts.plugin import SPEC

# In a folder of its own, which is removed afterwards, and durable, so that it can be restarted.
COMMAND = [
    *("redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--dir", "{tmp}"),
    *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
]


class TestRedisScripts(AdapterConformance):
    harness = ServerHarness(
        SPEC,
        # A short lease: on a real clock the suite waits for its end.
        "redis-scripts://127.0.0.1:{port}?namespace={namespace}&lease=2s",
        COMMAND,
        variable="REDIS_SERVER",
        version_option="--version",
        facets=[Browse, Buried, Delete, Pause],
    )
