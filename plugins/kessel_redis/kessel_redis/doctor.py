"""The checks of `kessel doctor` for a namespace of jobs, and for the server that it is on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from kessel_core.contract import (
    AdapterError,
    DoctorContext,
    Durability,
    Finding,
    Level,
    jobs_findings,
    lease_findings,
)
from kessel_redis.database import SILENT, VERSION
from kessel_redis.facts import ServerFacts
from kessel_redis.operations import RedisOperations
from kessel_redis.scripts import packed

__all__ = ["examine"]

#: Difference of clocks above which there is a warning.
_SAME_CLOCK: Final = timedelta(seconds=5)
#: Share of `maxmemory` above which there is a warning.
_NEARLY_FULL: Final = 0.8
#: Field of `INFO` -> what could not be written unless it is `ok`.
_SAVED: Final = {"aof_last_write_status": "the append-only file", "rdb_last_bgsave_status": "a snapshot"}
#: The version from which on scripts tell their errors with a code, and is maintained.
_ADVISED: Final = (7, 0)


def examine(operations: RedisOperations, context: DoctorContext) -> list[Finding]:
    """Return the findings; raises nothing."""
    findings: list[Finding] = []
    try:
        # Asked again, because settings change while a server runs.
        facts = operations.database.ask()
    except AdapterError as exc:
        return [Finding(Level.ERROR, "server", str(exc), "check the address, and that the server runs")]
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _server(operations, facts),
        lambda: _channel(operations, facts),
        lambda: _durability(operations, facts),
        lambda: _saving(facts),
        lambda: _memory(facts),
        lambda: _replication(operations, facts),
        lambda: _clock(operations),
        lambda: lease_findings(operations.options.lease),
        lambda: jobs_findings(operations, context.queues, operations.database.clock.now()),
    ]
    for check in checks:
        try:
            findings += check()
        except AdapterError as exc:
            findings.append(
                Finding(Level.ERROR, "server", str(exc), "check the address, and that the server runs")
            )
            break  # the next ones would meet the same
    return findings


def _server(operations: RedisOperations, facts: ServerFacts) -> Iterator[Finding]:
    detail = f"{facts.version_name}, {operations.options.place}, keys of version {VERSION}"
    if not facts.info:
        yield Finding(
            Level.WARNING, "server", f"{detail}; INFO is refused", "allow +info to this user, to see more"
        )
    elif facts.version < _ADVISED:
        yield Finding(Level.WARNING, "server", detail, "install Redis 7 or newer, or Valkey")
    else:
        yield Finding(Level.OK, "server", detail)


def _channel(operations: RedisOperations, facts: ServerFacts) -> Iterator[Finding]:
    if not facts.may_publish:
        yield Finding(Level.WARNING, "channel", SILENT, operations.database.channel_rights)


def _durability(operations: RedisOperations, facts: ServerFacts) -> Iterator[Finding]:
    declared, proved = operations.database.durability, facts.durability(operations.options.durability)
    detail = f"an acknowledged job survives: {declared} ({facts.setting})"
    if list(Durability).index(proved) < list(Durability).index(declared):
        yield Finding(
            Level.ERROR,
            "durability",
            f"{detail}; since this process began, the server's settings allow only {proved}",
            "set appendonly and appendfsync as they were, or start again",
        )
    elif declared is Durability.POWER:
        yield Finding(Level.OK, "durability", detail)
    elif facts.fsync == "no file":
        advice = "without that file a crash loses jobs; set appendonly yes and appendfsync always"
        yield Finding(Level.WARNING, "durability", detail, advice)
    elif facts.fsync == "unknown":
        yield Finding(
            Level.WARNING, "durability", detail, "allow +config|get, or say it with the option durability"
        )
    else:
        advice = "set appendfsync always and no-appendfsync-on-rewrite no, if no job may be lost"
        yield Finding(Level.WARNING, "durability", detail, advice)
    delayed = int(facts.info.get("aof_delayed_fsync", 0))
    if facts.fsync == "everysec" and delayed:
        yield Finding(
            Level.WARNING,
            "durability",
            f"the disk was too slow for appendfsync everysec {delayed} times since the server started",
            "a crash of its process may lose acknowledged jobs then: a quicker disk, or appendfsync always",
        )


def _saving(facts: ServerFacts) -> Iterator[Finding]:
    """Yield what keeps the server from saving, after which it refuses writes."""
    for field, what in _SAVED.items():
        if facts.info.get(field, "ok") != "ok":
            yield Finding(
                Level.ERROR,
                "disk",
                f"the server could not write {what}",
                "look at its disk and its log; it may refuse jobs until it can",
            )


def _memory(facts: ServerFacts) -> Iterator[Finding]:
    used, most = int(facts.info.get("used_memory", 0)), int(facts.info.get("maxmemory", 0))
    policy = facts.info.get("maxmemory_policy", "unknown")
    detail = f"{used / 2**20:.0f} MiB used of {f'{most / 2**20:.0f} MiB' if most else 'no limit'}, {policy}"
    if facts.evicts:
        advice = "set maxmemory-policy noeviction: it removes jobs in silence"
        yield Finding(Level.ERROR, "memory", detail, advice)
    elif most and used > _NEARLY_FULL * most:
        yield Finding(Level.WARNING, "memory", detail, "jobs are refused when it is full; raise maxmemory")
    elif facts.info:
        yield Finding(Level.OK, "memory", detail)


def _replication(operations: RedisOperations, facts: ServerFacts) -> Iterator[Finding]:
    replicas, wanted = int(facts.info.get("connected_slaves", 0)), operations.options.replicas
    if facts.is_replica:
        yield Finding(Level.ERROR, "replication", "the server is a replica now", "name the primary")
    elif wanted > replicas:
        yield Finding(
            Level.ERROR,
            "replication",
            f"{replicas} replicas, and the option replicas asks for {wanted}: no enqueue is acknowledged",
            "start a replica, or lower the option",
        )
    elif facts.info:
        text = f"{replicas} replicas" if replicas else "no replica"
        lost = "; a failover may lose acknowledged jobs" if replicas else ""
        yield Finding(Level.OK, "replication", text + lost)


def _clock(operations: RedisOperations) -> Iterator[Finding]:
    before = datetime.now(UTC)
    seconds, micros = operations.database.run(packed(b"TIME"))
    apart = abs(datetime.fromtimestamp(int(seconds) + int(micros) / 1e6, UTC) - before)
    if apart > _SAME_CLOCK:
        yield Finding(
            Level.WARNING,
            "clock",
            f"the server's clock and this machine's are {apart.total_seconds():.0f} s apart",
            "set both by NTP: delays count by the server's, expirations by the worker's",
        )
