"""Sentinel and Cluster: who has our keys is asked whenever a connection is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from kessel_redis.adapter import RedisAdapter
from kessel_redis.connecting import _linked, connected
from kessel_redis.link import Refused
from kessel_redis.options import Address, RedisOptions
from kessel_redis.scripts import packed
from kessel_redis.testing import Redis, Sentinel

from kessel_core import SystemClock
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterContext,
    AdapterUnavailable,
    EnqueueError,
    EnqueueUnknown,
    IdHeld,
    JobState,
    Message,
    ProtocolError,
)
from kessel_core.testing import free_port

CONTEXT = AdapterContext(clock=SystemClock())
Servers = Callable[..., Redis]


def patiently(holds: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def asked(server: Redis, *parts: object) -> Any:
    """Ask one server, whatever it is."""
    link = _linked(server.options(), Address("127.0.0.1", server.port))
    answer = link.run(packed(*(str(part).encode() for part in parts)), 1)[0]
    link.close()
    assert not isinstance(answer, Refused), answer
    return answer


def stored(adapter: RedisAdapter, job_id: str) -> bool:
    """Enqueue until the end is known; whether it was acknowledged."""
    try:
        adapter.enqueue(Message(job_id, "q", b"x", 1))
    except IdHeld:
        return True
    except (AdapterUnavailable, EnqueueError):
        return False
    return True


@pytest.fixture
def watched(servers: Servers) -> Iterator[tuple[Redis, Redis, Sentinel]]:
    """A primary, its replica, and a sentinel that knows both."""
    primary = servers(repl_diskless_sync_delay="0")
    replica = servers(replicaof=f"127.0.0.1 {primary.port}")
    patiently(lambda: b"master_link_status:up" in asked(replica, "INFO", "replication"))
    sentinel = Sentinel(primary)
    sentinel.start()
    patiently(lambda: b"slaves=1" in asked(sentinel, "INFO", "sentinel"))
    yield primary, replica, sentinel
    sentinel.close()


def test_jobs_go_on_at_the_replica_that_a_sentinel_promotes(
    watched: tuple[Redis, Redis, Sentinel],
) -> None:
    """S7, S9: what `replicas=1` acknowledged is there; who was open before goes on, with what it held."""
    primary, replica, sentinel = watched
    address = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"  # one of them is away
    sure = RedisAdapter(RedisOptions(host=address, service="jobs", replicas=1), CONTEXT)
    adapter = RedisAdapter(RedisOptions(host=address, service="jobs"), CONTEXT)
    consumer = adapter.consumer(["q"])
    assert stored(sure, "held")
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    acknowledged = {str(number) for number in range(20) if stored(sure, str(number))}
    assert len(acknowledged) == 20
    primary.kill()
    assert not stored(adapter, "lost")
    patiently(lambda: stored(adapter, "after"))
    assert asked(replica, "ROLE")[0] == b"master"
    assert {job.id for job in adapter.peek("q", JobState.READY, 100)} >= acknowledged | {"after"}
    consumer.settle(held, COMMIT)
    assert adapter.find("held") is None
    consumer.close()
    adapter.close()
    sure.close()


def test_service_that_no_sentinel_knows_is_refused(watched: tuple[Redis, Redis, Sentinel]) -> None:
    primary, _, sentinel = watched
    with pytest.raises(ProtocolError, match="knows no such service"):
        connected(RedisOptions(host="127.0.0.1", port=sentinel.port, service="other"))
    with pytest.raises(ProtocolError, match="no sentinel answers"):
        connected(RedisOptions(host="127.0.0.1", port=primary.port, service="jobs"))


def test_one_that_was_demoted_is_not_taken_for_the_primary(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers all the same, and what it shows may be old: its sentinel does not know yet."""
    replica = servers(replicaof=f"127.0.0.1 {servers().port}")

    class Late:
        def run(self, command: bytes, answers: int) -> list[Any]:
            return [[b"127.0.0.1", b"%d" % replica.port]]

        def close(self) -> None:
            """It is no connection."""

    def linked(options: RedisOptions, address: Address, *, is_sentinel: bool = False) -> Any:
        return Late() if is_sentinel else _linked(options, address)

    monkeypatch.setattr("kessel_redis.connecting._linked", linked)
    with pytest.raises(AdapterUnavailable, match=f"127.0.0.1:{replica.port} is a replica now"):
        connected(RedisOptions(host="127.0.0.1", service="jobs"))


# --- cluster ---------------------------------------------------------------------------------------


@pytest.fixture
def nodes(servers: Servers) -> list[Redis]:
    """Two nodes of a cluster, with half of the slots each."""
    if not asked(servers(), "COMMAND", "INFO", "FCALL")[0]:
        pytest.skip("the port of the cluster's bus can be chosen from Redis 7 on")
    both = [servers(cluster_enabled="yes", cluster_port=str(free_port())) for _ in range(2)]
    for node, (first, last) in zip(both, ((0, 8191), (8192, 16383)), strict=True):
        asked(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
    bus = both[1].settings["cluster-port"]
    asked(both[0], "CLUSTER", "MEET", "127.0.0.1", both[1].port, bus)
    for node in both:
        patiently(lambda node=node: b"cluster_state:ok" in asked(node, "CLUSTER", "INFO"))
        patiently(lambda node=node: b"cluster_slots_ok:16384" in asked(node, "CLUSTER", "INFO"))
    return both


def test_namespace_is_found_at_whatever_node_has_it_and_followed(nodes: list[Redis]) -> None:
    """A node that is away is passed over; and all keys of a namespace are in one slot."""
    address = ",".join(f"127.0.0.1:{port}" for port in (free_port(), nodes[0].port, nodes[1].port))
    places = set()
    for namespace in ("a", "b", "c", "d"):
        adapter = RedisAdapter(RedisOptions(host=address, namespace=namespace), CONTEXT)
        assert adapter.enqueue_many([Message("a", "q", b"x", 1), Message("b", "p", b"x", 1)]) == [None] * 2
        assert adapter.queues() == ["p", "q"]
        adapter.store.put("s", "k", b"v")
        link = adapter.database.pool.borrow()
        places.add(link._connection.port)
        adapter.database.pool.give(link)
        adapter.close()
    assert places == {nodes[0].port, nodes[1].port}


def test_node_that_names_no_host_means_its_own(nodes: list[Redis]) -> None:
    """As behind an address that the nodes do not know; then the one that they were asked at is right."""
    for node in nodes:
        asked(node, "CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint")
    places = set()
    for namespace in ("a", "b", "c", "d"):
        options = RedisOptions(host="127.0.0.1", port=nodes[0].port, namespace=namespace)
        with closing(connected(options)) as link:
            places.add((link._connection.host, link._connection.port))
    assert places == {("127.0.0.1", node.port) for node in nodes}


def test_slot_that_moves_takes_its_worker_along(nodes: list[Redis]) -> None:
    """The call that meets it has done nothing, and says that it is to be tried again."""
    adapter = RedisAdapter(RedisOptions(host="127.0.0.1", port=nodes[0].port, namespace="a"), CONTEXT)
    link = adapter.database.pool.borrow()
    source = next(node for node in nodes if node.port == link._connection.port)
    target = next(node for node in nodes if node is not source)
    adapter.database.pool.give(link)
    slot = asked(source, "CLUSTER", "KEYSLOT", "{a}")
    ours, theirs = (asked(node, "CLUSTER", "MYID").decode() for node in (source, target))
    asked(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ours)
    asked(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", theirs)
    keys = [key.decode() for key in asked(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)]
    for key in keys:
        asked(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    with pytest.raises((AdapterUnavailable, EnqueueError)) as caught:
        adapter.enqueue(Message("a", "q", b"x", 1))
    assert not isinstance(caught.value, EnqueueUnknown)
    for node in (target, source):
        asked(node, "CLUSTER", "SETSLOT", slot, "NODE", theirs)
    patiently(lambda: stored(adapter, "a"))
    link = adapter.database.pool.borrow()
    assert link._connection.port == target.port
    adapter.database.pool.give(link)
    adapter.close()
