"""Who answers, who does not, and what cannot be meant: one clear error each, without a secret (S17)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis
from kessel_redis.adapter import RedisAdapter
from kessel_redis.connecting import connected
from kessel_redis.edge import translated
from kessel_redis.entries import RedisStore
from kessel_redis.facts import ServerFacts
from kessel_redis.link import Refused, refusal
from kessel_redis.options import RedisOptions, RedisStoreOptions, redis_url_options
from kessel_redis.plugin import SPEC, STORE
from kessel_redis.scripts import packed
from kessel_redis.testing import Redis

from kessel_core import SystemClock, build_plugins
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterContext,
    AdapterUnavailable,
    Attempts,
    Bury,
    Commit,
    Durability,
    EnqueueRejected,
    EnqueueUnknown,
    InvalidConfig,
    Message,
    ProtocolError,
    Put,
    StoreRejected,
    split_url,
)
from kessel_core.testing import free_port

CONTEXT = AdapterContext(clock=SystemClock())
Servers = Callable[..., Redis]
Opened = Callable[..., RedisAdapter]
Ask = Callable[..., Any]


def opened_by(url: str) -> RedisAdapter:
    adapter = build_plugins().chosen_adapter(url, {}).open(CONTEXT)
    assert isinstance(adapter, RedisAdapter)
    return adapter


def message(job_id: str = "a", **more: Any) -> Message:
    return Message(job_id, "q", b"x", 1, **more)


# --- who answers ---------------------------------------------------------------------------------


def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(AdapterUnavailable, match="refused"):
        opened_by(f"redis://u:hush@127.0.0.1:{free_port()}")


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Answer the same to everything that is sent."""

    def talk(client: socket.socket) -> None:
        with client:
            while client.recv(1000):
                client.sendall(answer)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"UNKNOWN_COMMAND\r\n", b"\x15\x03\x01\r\n"]
)
def test_server_that_is_none_is_told_apart(answer: bytes) -> None:
    with answering(answer) as port, pytest.raises(ProtocolError, match="no Redis"):
        opened_by(f"redis://u:hush@127.0.0.1:{port}")


def test_server_that_still_loads_is_unavailable() -> None:
    """It will answer soon; trying again helps."""
    answer = b"-LOADING Redis is loading the dataset in memory\r\n"
    with answering(answer) as port, pytest.raises(AdapterUnavailable, match="loading the dataset"):
        opened_by(f"redis://127.0.0.1:{port}")


def test_silent_server_is_unavailable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(AdapterUnavailable):
        opened_by(f"redis://127.0.0.1:{listener.getsockname()[1]}?timeout=200ms&connect_timeout=200ms")


def test_server_without_tls_is_told_so(server: Redis) -> None:
    with pytest.raises(AdapterUnavailable, match="are connections encrypted there"):
        opened_by(f"rediss://127.0.0.1:{server.port}?timeout=300ms&connect_timeout=300ms")


@pytest.mark.parametrize("password", ["sesame-street", "p%40ss%2Fword"])
@pytest.mark.parametrize("user", ["", "guard"])
def test_wrong_password_is_refused_and_never_shown(guarded: Redis, user: str, password: str) -> None:
    with pytest.raises(ProtocolError, match="refused") as caught:
        opened_by(f"redis://{user}:{password}@127.0.0.1:{guarded.port}")
    shown = "".join(map(str, (caught.value, caught.value.__cause__, caught.value.__context__ or "")))
    for secret in ("sesame", "p@ss", "%40ss"):
        assert secret not in shown


@pytest.fixture(scope="module")
def guarded() -> Iterator[Redis]:
    """A server that wants a password."""
    redis = Redis(requirepass="right")
    redis.start()
    link = connected(redis.options(password="right"))
    rule = b"on >right ~* &* +@all -config -info".split()
    assert link.run(packed(b"ACL", b"SETUSER", b"limited", *rule), 1) == [b"OK"]
    link.close()
    yield redis
    redis.close()


def test_no_password_where_one_is_needed_is_refused(guarded: Redis) -> None:
    with pytest.raises(ProtocolError, match="refused"):
        opened_by(guarded.url())


def test_right_password_is_taken(guarded: Redis) -> None:
    adapter = opened_by(f"redis://:right@127.0.0.1:{guarded.port}")
    adapter.enqueue(message())
    assert adapter.stats("q").ready == 1
    adapter.close()


def test_user_who_may_not_ask_for_settings_gets_no_durability_by_guess(guarded: Redis) -> None:
    """S9: what the server does not say is not promised, unless the user says it."""
    url = f"redis://limited:right@127.0.0.1:{guarded.port}"
    adapter = opened_by(url)
    assert adapter.capabilities.durability is Durability.NONE
    assert adapter.capabilities.attempts is Attempts.SERVER
    adapter.close()
    adapter = opened_by(f"{url}?durability=power&require_durable=true")
    assert adapter.capabilities.durability is Durability.POWER
    adapter.close()


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("~* &* +@all -evalsha", r"evalsha.*\+@scripting"),
        ("~other:* &* +@all", r"key.*\+@read"),
        ("~* &* +@all -zadd -hset", r"may not run HSET, ZADD; .*\+@write"),
    ],
)
def test_missing_rights_are_named(servers: Servers, ask: Ask, opened: Opened, rule: str, text: str) -> None:
    server = servers()
    admin = opened(at=server)
    ask(admin, "ACL", "SETUSER", "limited", "on", ">right", *rule.split())
    with pytest.raises(ProtocolError, match=f"(?s){text}"):
        opened_by(f"redis://limited:right@127.0.0.1:{server.port}").enqueue(message())


def test_what_is_done_is_no_error_for_a_user_who_may_not_publish(
    servers: Servers, ask: Ask, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """S14, S19, S20: nothing is undone then, so an error would let a job be stored or run twice."""
    server = servers()
    admin = opened(at=server, namespace="shop")
    ask(admin, "ACL", "SETUSER", "limited", "on", ">right", *["~*", "resetchannels", "+@all"])
    adapter = opened_by(f"redis://limited:right@127.0.0.1:{server.port}?namespace=shop")
    assert "allow +@pubsub and '&{shop}:*' to this user" in caplog.text
    adapter.enqueue(message())
    assert adapter.enqueue_many([message("b"), message("c")]) == [None, None]
    adapter.store.put("s", "k", b"v")
    adapter.store.delete("s", "k")
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    brought = Commit(follow=(message("f"),), puts=(Put("s", "l", b"v"),))
    held = consumer.settle_and_reserve(held, brought)
    assert held is not None
    consumer.settle(held, Bury("r", "m"))
    adapter.kick("q", "b")
    adapter.pause("q", timedelta(hours=1))
    adapter.close()
    assert (admin.stats("q").ready, admin.stats("q").reserved) == (3, 0)
    assert admin.store.get("s", "l") is not None


def test_database_that_is_not_there_is_refused(server: Redis) -> None:
    with pytest.raises(ProtocolError, match="no such database"):
        opened_by(f"redis://127.0.0.1:{server.port}/99")


def test_number_of_the_database_is_the_path(server: Redis) -> None:
    first, second = opened_by(f"{server.url()}/1"), opened_by(server.url("db=2"))
    first.enqueue(message())
    assert (first.stats("q").ready, second.stats("q").ready) == (1, 0)
    first.close()
    second.close()


def test_unix_socket_is_an_address(servers: Servers, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    servers(unixsocket=str(path))
    adapter = opened_by(f"redis://?socket={path}")
    adapter.enqueue(message())
    assert adapter.stats("q").ready == 1
    adapter.close()


def test_replica_takes_no_jobs(servers: Servers) -> None:
    primary = servers()
    replica = servers(replicaof=f"127.0.0.1 {primary.port}")
    with pytest.raises(AdapterUnavailable, match=r"replica and takes no jobs|MASTERDOWN|LOADING"):
        opened_by(replica.url())


def test_server_that_becomes_a_replica_stores_nothing_and_says_so(
    servers: Servers, opened: Opened, ask: Ask
) -> None:
    """After a failover the socket may still lead to what is a replica now."""
    server = servers()
    adapter = opened(at=server)
    links = [adapter.database.pool.borrow() for _ in range(3)]
    for link in links[1:]:
        adapter.database.pool.give(link)
    ask(adapter, "REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(EnqueueRejected, match="takes no writes") as caught:
        adapter.enqueue(message())
    assert caught.value.reason == "read-only"
    ask(adapter, "REPLICAOF", "NO", "ONE")
    # No connection that was made before is used again, not even one that was in use.
    adapter.database.pool.give(links[0])
    adapter.enqueue(message())
    assert adapter.database.pool.count == 1
    assert adapter.database.pool.borrow() not in links


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "allkeys-lfu"])
def test_server_that_evicts_is_refused(servers: Servers, opened: Opened, ask: Ask, policy: str) -> None:
    server = servers()
    ask(opened(at=server), "CONFIG", "SET", "maxmemory-policy", policy)
    with pytest.raises(ProtocolError, match=f"{policy}.*CONFIG SET maxmemory-policy noeviction"):
        opened_by(server.url())
    with pytest.raises(ProtocolError, match="noeviction"):
        STORE.open(RedisStoreOptions(port=server.port), CONTEXT)


def test_server_that_evicts_only_keys_with_an_end_is_taken(servers: Servers) -> None:
    """None of ours has a time to live; it is the default of some managed services."""
    opened_by(servers(maxmemory_policy="volatile-lru").url()).close()


def test_no_key_has_a_time_to_live(opened: Opened, ask: Ask, namespace: str) -> None:
    """So that no policy with `volatile` touches one."""
    adapter = opened()
    adapter.enqueue_many([message(), message("b", delay=CONTEXT.clock.now() + timedelta(hours=1))])
    adapter.pause("other", timedelta(hours=1))
    adapter.store.put("s", "k", b"v", ttl=timedelta(hours=1))
    keys = ask(adapter, "KEYS", f"*{namespace}*")
    assert len(keys) >= 10
    assert {ask(adapter, "TTL", key) for key in keys} == {-1}


def test_old_server_is_refused(monkeypatch: pytest.MonkeyPatch, server: Redis) -> None:
    old = ServerFacts(info={"redis_version": "6.0.16"}, config={})
    monkeypatch.setattr("kessel_redis.database.facts_of", lambda link, keys: old)
    with pytest.raises(ProtocolError, match=r"Redis 6\.0\.16; kessel needs 6\.2"):
        opened_by(server.url())
    oldest = ServerFacts(info={"redis_version": "6.2.0"}, config={})
    monkeypatch.setattr("kessel_redis.database.facts_of", lambda link, keys: oldest)
    opened_by(server.url()).close()


def test_adapter_that_does_not_open_leaves_no_connection_behind(
    servers: Servers, opened: Opened, ask: Ask
) -> None:
    """Whoever tries again and again would use up all that the server takes."""
    adapter = opened(at=servers(appendfsync="everysec"))
    server = adapter.options
    before = ask(adapter, "CLIENT", "LIST").count(b"id=")
    wrong: dict[str, Any]
    for wrong in ({"require_durable": True}, {"durability": Durability.POWER}):
        with pytest.raises(InvalidConfig):
            RedisAdapter(attrs.evolve(server, **wrong), CONTEXT)
    ask(adapter, "SET", adapter.database.keys.version, "99")
    with pytest.raises(ProtocolError):
        RedisAdapter(server, CONTEXT)
    assert ask(adapter, "CLIENT", "LIST").count(b"id=") == before


def test_keys_of_a_newer_release_are_refused(opened: Opened, ask: Ask, server: Redis, namespace: str) -> None:
    adapter = opened()
    ask(adapter, "SET", adapter.database.keys.version, "2")
    with pytest.raises(ProtocolError, match="keys are of version 2, this release knows 1"):
        opened_by(server.url(f"namespace={namespace}"))


def test_keys_of_somebody_else_are_told(opened: Opened, ask: Ask, namespace: str) -> None:
    adapter = opened()
    ask(adapter, "SET", f"{{{namespace}}}:ids", "mine")
    with pytest.raises(ProtocolError, match="choose another one"):
        adapter.enqueue(message())


# --- full, slow, unsure ----------------------------------------------------------------------------


def test_full_memory_refuses_jobs_and_lets_workers_go_on(servers: Servers, opened: Opened, ask: Ask) -> None:
    """Nothing is stored by halves, and what is there can be run, extended and settled."""
    adapter = opened(at=servers())
    soon = adapter.clock.now() + timedelta(milliseconds=50)
    adapter.enqueue_many([message(str(number)) for number in range(3)] + [message("due", delay=soon)])
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    ask(adapter, "CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(EnqueueRejected, match="memory is full") as caught:
        adapter.enqueue(message("new"))
    assert caught.value.reason == "full"
    assert adapter.find("new") is None
    outcomes = adapter.enqueue_many([message("b"), message("c")])
    assert [getattr(outcome, "reason", "") for outcome in outcomes] == ["full", "full"]
    with pytest.raises(StoreRejected, match="memory is full"):
        adapter.store.put("s", "k", b"v")
    consumer.extend(held)
    ran = []
    for _ in range(4):
        ran.append(held.id)
        consumer.settle(held, COMMIT)
        held = consumer.reserve(timedelta(seconds=5)) if len(ran) < 4 else held
        assert held is not None
    assert ran == ["0", "1", "2", "due"]
    assert adapter.stats("q").total == 0


def test_what_a_lost_reserve_took_is_given_back_at_the_limit_of_memory(
    servers: Servers, opened: Opened, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else no slot could reserve any more, because each asks for it first."""
    adapter = opened(at=servers())
    adapter.enqueue(message())
    monkeypatch.setattr("kessel_redis.consumer.new_token", lambda: 7)
    assert adapter.take(("q",)) is not None
    adapter._deliveries.lost.add(7, ("q",))
    ask(adapter, "CONFIG", "SET", "maxmemory", "1")
    assert adapter.take(("q",)).attempt == 1


def test_too_few_replicas_leave_the_outcome_unknown(opened: Opened) -> None:
    """S14: it may be stored, and a failover may lose it."""
    adapter = opened(replicas=1, timeout=timedelta(milliseconds=300))
    with pytest.raises(EnqueueUnknown, match="fewer than 1 replicas have it"):
        adapter.enqueue(message())
    assert adapter.stats("q").ready == 1, "who only looks asks no replica"


def test_replica_that_has_it_lets_an_enqueue_be_acknowledged(servers: Servers, opened: Opened) -> None:
    primary = servers(repl_diskless_sync_delay="0")
    servers(replicaof=f"127.0.0.1 {primary.port}")
    adapter = opened(at=primary, replicas=1)
    adapter.enqueue(message())
    assert adapter.enqueue_many([message("b")]) == [None]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("MISCONF Redis is configured to save", "MISCONF"),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS"),
        ("BUSY Redis is busy running a script.", "BUSY"),
        ("DB index is out of range", "ERR"),
        ("Error running script (call to f_1): @user_script:9: @user_script: 9: -OOM command", "OOM"),
        ("Error running script (call to f_1): @user_script:9: -READONLY You can't write", "READONLY"),
        ("unknown command `OOM`", "ERR"),
    ],
)
def test_answer_is_known_by_its_code_wherever_that_stands(said: str, code: str) -> None:
    """Before version 7 that of an error in a script stands in the middle; redis-py takes `ERR` off."""
    found = refusal(redis.ResponseError(said))
    assert found is not None and found.code == code


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        ("OOM", EnqueueRejected, "full"),
        ("MISCONF", EnqueueRejected, "full"),
        ("READONLY", EnqueueRejected, "read-only"),
        ("NOREPLICAS", AdapterUnavailable, None),
        ("BUSY", AdapterUnavailable, None),
        ("CLUSTERDOWN", AdapterUnavailable, None),
        ("TRYAGAIN", AdapterUnavailable, None),
        ("NOAUTH", ProtocolError, None),
        ("ERR", ProtocolError, None),
    ],
)
def test_refused_enqueue_is_surely_not_stored(code: str, kind: type[Exception], reason: str | None) -> None:
    """S14: the server has answered, so nothing is unknown."""
    error = translated(Refused(code, "why"), "here", "a")
    assert type(error) is kind
    assert getattr(error, "reason", None) == reason
    assert "here" in str(error)


# --- durability ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "accepted", "durability"),
    [
        ({"appendonly": "no"}, None, "none"),
        ({"appendonly": "yes", "appendfsync": "always"}, None, "power"),
        ({"appendonly": "yes", "appendfsync": "always"}, "process-crash", "process-crash"),
        (
            {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "yes"},
            None,
            "process-crash",
        ),
        ({"appendonly": "yes", "appendfsync": "no"}, None, "process-crash"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, None, "none"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, "process-crash", "process-crash"),
        ({}, None, "none"),
        ({}, "power", "power"),
    ],
)
def test_durability_is_what_the_server_proves(
    config: dict[str, str], accepted: str | None, durability: str
) -> None:
    """S9: never higher than its settings, and with `everysec` only as far as the user accepts."""
    facts = ServerFacts(info={}, config=config)
    assert facts.durability(None if accepted is None else Durability(accepted)) == durability


@pytest.mark.parametrize("accepted", [None, *Durability])
def test_server_that_says_that_it_writes_no_file_keeps_nothing(accepted: Durability | None) -> None:
    """S9: `INFO` says so, too, to a user who may not ask for settings; nobody can accept more than that."""
    facts = ServerFacts(info={"aof_enabled": "0"}, config={})
    assert facts.durability(accepted) is Durability.NONE
    assert facts.setting == "appendonly no"
    assert ServerFacts(info={"aof_enabled": "1"}, config={}).durability(Durability.POWER) is Durability.POWER


@pytest.mark.parametrize(("role", "is_replica"), [("master", False), ("slave", True), ("replica", True)])
def test_replica_is_told_by_its_role_whatever_it_is_called(role: str, is_replica: bool) -> None:
    assert ServerFacts(info={"role": role}, config={}).is_replica is is_replica


@pytest.mark.parametrize(
    ("settings", "wanted"), [({"appendonly": "no"}, "process-crash"), ({"appendfsync": "everysec"}, "power")]
)
def test_more_than_the_server_can_keep_is_refused(
    servers: Servers, settings: dict[str, str], wanted: str
) -> None:
    server = servers(**settings)
    with pytest.raises(InvalidConfig, match=f"durability: {wanted} is more than the server's settings allow"):
        opened_by(server.url(f"durability={wanted}"))
    with pytest.raises(InvalidConfig, match="require_durable: the server may lose acknowledged jobs"):
        opened_by(server.url("require_durable=true"))


def test_durability_of_the_store_is_that_of_the_jobs(servers: Servers) -> None:
    """S19c"""
    store = STORE.open(RedisStoreOptions(port=servers(appendfsync="no").port), CONTEXT)
    assert isinstance(store, RedisStore)
    assert store.capabilities.durability is Durability.PROCESS_CRASH
    store.close()


# --- options ---------------------------------------------------------------------------------------


def test_all_wrong_options_are_told_together() -> None:
    with pytest.raises(InvalidConfig) as caught:
        RedisOptions(
            namespace="no {braces}",
            port=0,
            db=-1,
            connections=0,
            replicas=-1,
            timeout=timedelta(0),
            connect_timeout=timedelta(days=1),
            lease=timedelta(0),
            max_body_bytes=0,
            host="",
            tls_cert="x",
        )
    names = {problem.where[0] for problem in caught.value.problems}
    assert names == {
        *("namespace", "port", "db", "connections", "replicas", "timeout", "connect_timeout", "lease"),
        *("max_body_bytes", "host", "tls_cert"),
    }
    with pytest.raises(InvalidConfig, match="max_value_bytes"):
        RedisStoreOptions(max_value_bytes=0)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"namespace": "x" * 101}, "namespace"),
        ({"db": 1_000_001}, "db"),
        ({"connections": 1001}, "connections"),
        ({"replicas": 101}, "replicas"),
        ({"timeout": timedelta(seconds=3601)}, "timeout"),
        ({"timeout": timedelta(seconds=0.09)}, "timeout"),
        ({"connect_timeout": timedelta(seconds=0.09)}, "connect_timeout"),
        ({"port": 65536}, "port"),
        ({"host": "a:65536"}, "port"),
        ({"host": "a:b"}, "host"),
        ({"host": "a,,b"}, "host"),
        ({"host": "a,:7"}, "host"),
        ({"service": "shop", "socket": "/run/redis"}, "service"),
        ({"tls": True, "socket": "/run/redis"}, "tls"),
        ({"tls_cert": "c"}, "tls_cert"),
        ({"tls_key": "k"}, "tls_cert"),
        ({"lease": timedelta(milliseconds=9)}, "lease"),
        ({"lease": timedelta(days=36_501)}, "lease"),
    ],
    ids=str,
)
def test_each_wrong_option_is_told_alone(given: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        RedisOptions(**given)
    assert [problem.where[0] for problem in caught.value.problems] == [name]


@pytest.mark.parametrize(
    "given",
    [
        {"namespace": "x" * 100, "db": 1_000_000, "connections": 1000, "replicas": 100},
        {"timeout": timedelta(hours=1), "connect_timeout": timedelta(seconds=0.1), "port": 65535},
        {"tls": True, "tls_cert": "c", "tls_key": "k", "service": "shop", "lease": timedelta(days=36_500)},
        {"socket": "/run/redis", "lease": timedelta(milliseconds=10), "max_body_bytes": 1, "port": 1},
    ],
    ids=str,
)
def test_options_at_their_bounds_are_taken(given: dict[str, Any]) -> None:
    RedisOptions(**given)


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_options_come_from_the_address(scheme: str) -> None:
    found = redis_url_options(split_url(f"{scheme}://u:p%40@h:1/3?lease=5s"))
    assert found == {"host": "h", "port": 1, "username": "u", "password": "p@", "db": "3", "lease": "5s"}
    assert redis_url_options(split_url(f"{scheme}s://h"))["tls"] == "true"
    with pytest.raises(InvalidConfig, match="db: is given twice"):
        redis_url_options(split_url(f"{scheme}://h/1?db=2"))
    with pytest.raises(InvalidConfig, match="lease"):
        build_plugins().chosen_adapter(f"{scheme}://h?leas=1s", {})
    with pytest.raises(InvalidConfig, match="db: "):
        build_plugins().chosen_adapter(f"{scheme}://h/shop", {})


def test_several_hosts_have_a_port_each_or_the_usual_one() -> None:
    found = redis_url_options(
        split_url("rediss+sentinel://u:p%2C@s1,s2:5,[::1]:7/shop/2?sentinel_password=x")
    )
    assert found == {
        "host": "s1,s2:5,[::1]:7",
        "username": "u",
        "password": "p,",
        "service": "shop",
        "db": "2",
        "tls": "true",
        "sentinel_password": "x",
    }
    options = RedisOptions(host="s1,s2:5,[::1]:7", service="shop")
    assert options.addresses == (("s1", 26379), ("s2", 5), ("::1", 7))
    assert RedisOptions(host="a, ::1", port=7).addresses == (("a", 7), ("::1", 7))
    assert redis_url_options(split_url("redis+cluster://a:1,b"))["host"] == "a:1,b"
    with pytest.raises(InvalidConfig, match="service: is missing"):
        redis_url_options(split_url("redis+sentinel://s1,s2"))
    with pytest.raises(InvalidConfig, match="host: expected NAME or NAME:PORT"):
        RedisOptions(host="a:b")


def test_place_shows_no_secret() -> None:
    options = RedisOptions(host="h", password="hush", sentinel_password="hush")
    assert "hush" not in options.place + repr(options)
    assert SPEC.place(options) == "h:6379, database 0, namespace kessel"


# --- TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key for 127.0.0.1, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def test_encrypted_connection_checks_the_certificate(certificate: tuple[Path, Path]) -> None:
    cert, key = map(str, certificate)
    server = Redis(
        tls_port=str(tls := free_port()), tls_cert_file=cert, tls_key_file=key, tls_auth_clients="no"
    )
    server.settings["tls-ca-cert-file"] = cert
    try:
        try:
            server.start()
        except AssertionError:
            pytest.skip("this server is built without TLS")
        with pytest.raises(ProtocolError, match=r"no encrypted connection.*certificate"):
            opened_by(f"rediss://127.0.0.1:{tls}")
        adapter = opened_by(f"rediss://127.0.0.1:{tls}?tls_ca={cert}")
        adapter.enqueue(message())
        assert adapter.stats("q").ready == 1
        adapter.close()
    finally:
        server.close()


@pytest.mark.parametrize("host", ["[::1]16379", "[::1]6379", "[::1", "[::1]x", "[::1]:x"])
def test_an_address_of_ipv6_with_an_odd_end_is_refused_and_read_as_no_other_port(host: str) -> None:
    with pytest.raises(InvalidConfig, match="expected NAME or NAME:PORT"):
        RedisOptions(host=host)
