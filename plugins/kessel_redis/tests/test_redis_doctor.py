"""The doctor of a Redis: what is wrong with the server, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from kessel_redis import doctor
from kessel_redis.adapter import RedisAdapter
from kessel_redis.facts import ServerFacts
from kessel_redis.testing import Redis

from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterUnavailable,
    Bury,
    DoctorContext,
    Durability,
    Level,
    Message,
)

Opened = Callable[..., RedisAdapter]
CONTEXT = DoctorContext(queues=("q",), types=frozenset(), grace=timedelta(seconds=30))


def found(adapter: RedisAdapter, subject: str) -> list[tuple[Level, str, str]]:
    return [(one.level, one.detail, one.advice) for one in adapter.doctor(CONTEXT) if one.subject == subject]


@pytest.fixture
def told(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RedisAdapter]:
    """Let the server say something else of itself than it does."""

    def tell(config: dict[str, str] | None = None, **info: str) -> RedisAdapter:
        adapter = opened()
        facts = adapter.database.facts
        changed = attrs.evolve(facts, info={**facts.info, **info}, config={**facts.config, **(config or {})})
        monkeypatch.setattr(adapter.database, "ask", lambda: changed)
        return adapter

    return tell


def test_sound_server_has_nothing_to_do(told: Callable[..., RedisAdapter]) -> None:
    findings = told(redis_version="7.0.0").doctor(CONTEXT)
    assert {one.level for one in findings} == {Level.OK}
    assert {one.subject for one in findings} == {"server", "durability", "memory", "replication", "jobs"}
    assert all(one.advice == "" for one in findings)


def test_server_that_is_gone_is_one_finding(opened: Opened, servers: Callable[..., Redis]) -> None:
    server = servers()
    adapter = opened(at=server)
    server.kill()
    [finding] = adapter.doctor(CONTEXT)
    assert (finding.level, finding.subject) == (Level.ERROR, "server")


@pytest.mark.parametrize(
    ("info", "subject", "level", "text"),
    [
        ({"redis_version": "6.2.7"}, "server", Level.WARNING, "Redis 7 or newer"),
        ({"maxmemory_policy": "allkeys-lru"}, "memory", Level.ERROR, "noeviction"),
        ({"maxmemory": "1000", "used_memory": "900"}, "memory", Level.WARNING, "maxmemory"),
        ({"aof_last_write_status": "err"}, "disk", Level.ERROR, "its disk"),
        ({"rdb_last_bgsave_status": "err"}, "disk", Level.ERROR, "its disk"),
        ({"role": "slave"}, "replication", Level.ERROR, "name the primary"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(
    told: Callable[..., RedisAdapter], info: dict[str, str], subject: str, level: Level, text: str
) -> None:
    [(told_level, _, advice)] = found(told(**info), subject)
    assert told_level is level
    assert text in advice


def test_valkey_is_called_by_its_name(told: Callable[..., RedisAdapter]) -> None:
    [(_, detail, _)] = found(told(valkey_version="8.0.1"), "server")
    assert detail.startswith("Valkey 8.0.1, ")


@pytest.mark.parametrize(
    ("settings", "options", "text"),
    [
        ({"appendonly": "no"}, {}, "set appendonly yes"),
        ({"appendfsync": "everysec"}, {}, "set appendfsync always"),
        ({"appendfsync": "no"}, {}, "set appendfsync always"),
    ],
)
def test_durability_that_is_less_than_power_is_a_warning(
    opened: Opened, servers: Callable[..., Redis], settings: dict[str, str], options: Any, text: str
) -> None:
    [(level, _, advice)] = found(opened(at=servers(**settings)), "durability")
    assert level is Level.WARNING
    assert text in advice


def test_settings_that_became_worse_are_an_error(told: Callable[..., RedisAdapter]) -> None:
    """What is declared was read when the adapter was opened; the server may be told otherwise since."""
    [(level, detail, _)] = found(told({"appendfsync": "no"}), "durability")
    assert level is Level.ERROR
    assert "allow only process-crash" in detail


def test_slow_disk_is_told_where_it_costs_jobs(told: Callable[..., RedisAdapter]) -> None:
    findings = found(told({"appendfsync": "everysec"}, aof_delayed_fsync="3"), "durability")
    assert any("3 times" in detail for _, detail, _ in findings)
    assert len(found(told({"appendfsync": "always"}, aof_delayed_fsync="3"), "durability")) == 1


def test_server_that_may_not_be_asked_is_a_warning(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = opened(durability=Durability.PROCESS_CRASH)
    monkeypatch.setattr(adapter.database, "ask", lambda: ServerFacts(info={}, config={}))
    [(level, detail, advice)] = found(adapter, "server")
    assert (level, advice) == (Level.WARNING, "allow +info to this user, to see more")
    assert detail.endswith("; INFO is refused")
    [(level, _, advice)] = found(adapter, "durability")
    assert level is Level.WARNING and advice.startswith("allow +config|get")
    assert found(adapter, "memory") == found(adapter, "replication") == []


def test_server_that_goes_away_meanwhile_is_asked_nothing_more(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question would wait for its time-out."""
    adapter = opened()

    def gone(*_: object) -> None:
        raise AdapterUnavailable("it is gone")

    for name in ("run", "call"):
        monkeypatch.setattr(adapter.database, name, gone)
    errors = [(one.subject, one.detail) for one in adapter.doctor(CONTEXT) if one.level is Level.ERROR]
    assert errors == [("server", "it is gone")]


def test_user_who_may_not_publish_is_told_which_right_is_missing(
    opened: Opened, servers: Callable[..., Redis], ask: Callable[..., Any]
) -> None:
    server = servers()
    ask(opened(at=server), *["ACL", "SETUSER", "shop", "on", ">password", "~*", "resetchannels", "+@all"])
    adapter = opened(at=server, namespace="shop", username="shop", password="password")
    [(level, _, advice)] = found(adapter, "channel")
    assert (level, advice) == (
        Level.WARNING,
        "allow +@pubsub and '&{shop}:*' to this user, by ACL SETUSER",
    )
    ask(adapter, *["ACL", "SETUSER", "shop", "&{shop}:*"])
    assert found(adapter, "channel") == []


def test_missing_replica_is_an_error_where_one_is_asked_for(opened: Opened) -> None:
    [(level, detail, _)] = found(opened(replicas=1), "replication")
    assert level is Level.ERROR
    assert "no enqueue is acknowledged" in detail


def test_replicas_that_there_are_are_enough_and_may_lack_the_latest_jobs(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = opened(replicas=1)
    facts = adapter.database.facts
    for number, detail in (("1", "1 replicas; a failover may lose acknowledged jobs"), ("0", None)):
        told = attrs.evolve(facts, info={**facts.info, "connected_slaves": number})
        monkeypatch.setattr(adapter.database, "ask", lambda told=told: told)
        [(level, text, _)] = found(adapter, "replication")
        assert (level, text) == (Level.OK, detail) if detail else level is Level.ERROR
    assert found(opened(), "replication") == [(Level.OK, "no replica", "")]


def test_clock_of_the_server_that_is_apart_is_told(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(UTC) + timedelta(hours=1)

    monkeypatch.setattr(doctor, "datetime", Ahead)
    [(level, detail, _)] = found(opened(), "clock")
    assert level is Level.WARNING
    assert "3600 s apart" in detail


def test_short_lease_and_buried_jobs_are_told(opened: Opened) -> None:
    adapter = opened(lease=timedelta(seconds=1))
    adapter.enqueue_many([Message("a", "q", b"x", 1), Message("b", "q", b"x", 1)])
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    held = consumer.settle_and_reserve(held, Bury("r", "m"))
    assert held is not None
    consumer.settle(held, COMMIT)
    assert found(adapter, "lease")[0][0] is Level.WARNING
    [(level, detail, _)] = found(adapter, "jobs")
    assert (level, detail) == (Level.WARNING, "q: 0 ready, 0 delayed, 0 reserved, 1 buried")
