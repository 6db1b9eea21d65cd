"""The adapter keeps kessel's contract, on a Redis of the tests' own."""

from __future__ import annotations

from datetime import timedelta

import pytest
from kessel_conformance import AdapterConformance, ServerHarness
from kessel_core import SystemClock
from kessel_core.contract import (
    Attempts,
    Browse,
    Buried,
    Capabilities,
    Delete,
    Durability,
    LeaseReturn,
    Pause,
    ProtocolError,
    Reach,
    TieBreak,
)

from kessel_adapter_redis_scripts.plugin import SPEC

# In a folder of its own, which is removed afterwards, and durable, so that it can be restarted.
COMMAND = [
    *("redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--dir", "{tmp}"),
    *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
]
#: What it must declare on that server; what is lost by mistake is a failure, and not some skipped cases.
DECLARED = Capabilities(
    reach=Reach.NETWORK,
    durability=Durability.POWER,
    delay_granularity=timedelta(milliseconds=1),
    longest_delay=timedelta(days=36_500),
    priorities=(0, 4294967295),
    tie_break=TieBreak.ENQUEUED,
    lease=timedelta(seconds=5),
    lease_return=LeaseReturn.LEASE_END,
    fencing=True,
    attempts=Attempts.DURABLE,
    dedupe=True,
    counts=True,
)


class TestRedisScripts(AdapterConformance):
    harness = ServerHarness(
        SPEC,
        # A short lease, because on a real clock the suite waits for its end; a busy machine needs some seconds.
        "redis-scripts://127.0.0.1:{port}?namespace={namespace}&lease=5s",
        COMMAND,
        variable="REDIS_SERVER",
        version_option="--version",
        capabilities=DECLARED,
        facets=[Browse, Buried, Delete, Pause],
    )


def test_wrong_password_is_no_server_that_is_away() -> None:
    """Trying again does not help, so it is not `AdapterUnavailable`."""
    address = "redis-scripts://:wrong@127.0.0.1:{port}?namespace={namespace}"
    harness = ServerHarness(SPEC, address, [*COMMAND, "--requirepass", "right"], variable="REDIS_SERVER")
    harness.start()
    try:
        adapter = harness.open(SystemClock(), "test")
        with pytest.raises(ProtocolError, match="refused"):
            adapter.queues()
        adapter.close()
    finally:
        harness.down()
