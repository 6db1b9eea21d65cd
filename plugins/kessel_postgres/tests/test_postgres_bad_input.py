"""Who answers, who does not, and what cannot be meant: one clear error each, without a secret (S17)."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.connecting import connected
from kessel_postgres.options import PostgresOptions, PostgresStoreOptions, postgres_url_options
from kessel_postgres.plugin import SPEC
from kessel_postgres.testing import Postgres

from kessel_core import SystemClock, build_plugins
from kessel_core.contract import (
    AdapterContext,
    AdapterUnavailable,
    Durability,
    InvalidConfig,
    Message,
    ProtocolError,
    split_url,
)
from kessel_core.testing import free_port

CONTEXT = AdapterContext(clock=SystemClock())


def opened(url: str) -> PostgresAdapter:
    adapter = build_plugins().chosen_adapter(url, {}).open(CONTEXT)
    assert isinstance(adapter, PostgresAdapter)
    return adapter


def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(AdapterUnavailable, match="refused"):
        opened(f"postgresql://u:hush@127.0.0.1:{free_port()}/x")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n"])
def test_server_that_is_none_is_told_apart(answer: bytes) -> None:
    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(1000)
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        with pytest.raises(ProtocolError, match="no PostgreSQL"):
            opened(f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/x")
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Postgres]:
    """A server that wants a password."""
    server = Postgres()
    hba = server.data / "pg_hba.conf"
    hba.write_text("host all kessel 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    server.start()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE ROLE guard LOGIN PASSWORD 'right'")
    server.install()
    yield server
    server.close()


def test_wrong_password_is_refused_and_never_shown(guarded: Postgres) -> None:
    for password in ("sesame-street", "", "p%40ss%2Fword"):
        secret = f":{password}" if password else ""
        with pytest.raises(ProtocolError, match="refused") as caught:
            opened(f"postgresql://guard{secret}@127.0.0.1:{guarded.port}/postgres")
        shown = "".join(map(str, (caught.value, caught.value.__cause__, caught.value.__context__ or "")))
        assert "sesame" not in shown
        assert "p@ss" not in shown
        assert "%40ss" not in shown


@pytest.mark.parametrize("hosts", ["{}.invalid", "{0}.invalid,{0}2.invalid"])
def test_host_that_holds_a_password_by_mistake_is_shown_without_it(hosts: str) -> None:
    """Neither the error repeats it, as the place in front of it does not, nor a traceback."""
    options = PostgresOptions(host=hosts.format("me:hunter2@nowhere"), port=free_port())
    with pytest.raises(AdapterUnavailable) as caught:
        connected(options)
    assert "hunter2" in str(caught.value.__context__)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_unknown_database_is_refused(server: Postgres) -> None:
    with pytest.raises(ProtocolError, match=r"refused.*nothere"):
        opened(f"postgresql://kessel@127.0.0.1:{server.port}/nothere")


def test_replica_or_read_only_server_takes_no_jobs(server: Postgres, schema: str) -> None:
    read_only = "options=-c%20default_transaction_read_only%3Don"
    with pytest.raises(AdapterUnavailable, match="read-only"):
        opened(server.url(f"schema={schema}&{read_only}"))


def test_server_that_becomes_read_only_stores_nothing_and_says_so(
    server: Postgres, opened: Callable[..., PostgresAdapter]
) -> None:
    """After a failover the socket may still lead to what is a replica now."""
    from kessel_core.contract import EnqueueRejected

    adapter = opened(connections=1)
    link = adapter.database.pool.borrow()
    link._connection.pgconn.exit_pipeline_mode()
    link._connection.execute("SET default_transaction_read_only = on")
    link._connection.pgconn.enter_pipeline_mode()
    adapter.database.pool.give(link)
    with pytest.raises(EnqueueRejected, match="takes no writes") as caught:
        adapter.enqueue(Message("a", "q", b"x", 1))
    assert caught.value.reason == "read-only"
    # That connection is not used again.
    adapter.enqueue(Message("a", "q", b"x", 1))


def test_database_of_another_encoding_is_refused(server: Postgres) -> None:
    with closing(psycopg.connect(server.url(), autocommit=True)) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(ProtocolError, match="LATIN1"):
        opened(f"postgresql://kessel@127.0.0.1:{server.port}/latin")


def test_pooler_that_drops_options_is_told_what_to_say(server: Postgres, schema: str) -> None:
    with closing(psycopg.connect(server.url(), autocommit=True)) as connection:
        connection.execute("CREATE ROLE pooled LOGIN SUPERUSER")
        connection.execute("ALTER ROLE pooled SET plan_cache_mode = 'auto'")
    # The options of the connection win over those of the role; so they are given here as a pooler would.
    url = f"postgresql://pooled@127.0.0.1:{server.port}/postgres?schema={schema}&pooler=true"
    adapter = opened(url)
    assert not adapter.capabilities.blocking_reserve
    adapter.close()


def test_durability_is_read_from_the_server(server: Postgres, schema: str) -> None:
    """S9: what is promised is what the server proves."""
    adapter = opened(server.url(f"schema={schema}"))
    assert adapter.capabilities.durability is Durability.PROCESS_CRASH
    adapter.close()
    lazy = opened(server.url(f"schema={schema}&options=-c%20synchronous_commit%3Doff"))
    assert lazy.capabilities.durability is Durability.NONE
    lazy.close()
    with pytest.raises(InvalidConfig, match="fsync=off"):
        opened(server.url(f"schema={schema}&require_durable=true"))


def test_schema_of_another_name_is_another_queue(server: Postgres) -> None:
    server.install("tenant_a")
    server.install("tenant_b")
    first, second = opened(server.url("schema=tenant_a")), opened(server.url("schema=tenant_b"))
    first.enqueue(Message("same", "q", b"1", 1))
    second.enqueue(Message("same", "q", b"2", 1))
    assert (first.stats("q").ready, second.stats("q").ready) == (1, 1)
    first.close()
    second.close()


def test_all_wrong_options_are_told_together() -> None:
    with pytest.raises(InvalidConfig) as caught:
        PostgresOptions(
            schema="No Schema",
            port=0,
            connections=0,
            timeout=timedelta(0),
            lease=timedelta(0),
            max_body_bytes=0,
            host="a\0",
            parameters={"host": "x", "sslmode": "\0"},
        )
    names = {problem.where[0] for problem in caught.value.problems}
    assert names == {
        "schema",
        "port",
        "connections",
        "timeout",
        "lease",
        "max_body_bytes",
        "host",
        "parameters",
    }


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"schema": "x" * 41}, "schema"),
        ({"schema": "pg_x"}, "schema"),
        ({"port": 65536}, "port"),
        ({"connections": 1001}, "connections"),
        ({"connect_timeout": timedelta(seconds=0.99)}, "connect_timeout"),
        ({"connect_timeout": timedelta(seconds=3601)}, "connect_timeout"),
        ({"timeout": timedelta(seconds=0.09)}, "timeout"),
        ({"timeout": timedelta(seconds=3601)}, "timeout"),
        ({"username": "u\0"}, "username"),
        ({"password": "p\0"}, "password"),
        ({"database": "d\0"}, "database"),
        ({"parameters": {"sslmode": "\0"}}, "parameters"),
        ({"parameters": {"username": "u"}}, "parameters"),
        ({"parameters": {"port": "1"}}, "parameters"),
        ({"lease": timedelta(milliseconds=9)}, "lease"),
        ({"lease": timedelta(days=36_501)}, "lease"),
        ({"max_body_bytes": 500_000_001}, "max_body_bytes"),
    ],
    ids=str,
)
def test_each_wrong_option_is_told_alone(given: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        PostgresOptions(**given)
    assert [problem.where[0] for problem in caught.value.problems] == [name]


@pytest.mark.parametrize("size", [0, 500_000_001])
def test_value_of_a_store_has_a_longest_size(size: int) -> None:
    with pytest.raises(InvalidConfig, match="max_value_bytes"):
        PostgresStoreOptions(max_value_bytes=size)


@pytest.mark.parametrize(
    "given",
    [
        {"schema": "x" * 40, "port": 65535, "connections": 1000, "max_body_bytes": 500_000_000},
        {"connect_timeout": timedelta(seconds=1), "timeout": timedelta(seconds=0.1), "port": 1},
        {"connect_timeout": timedelta(hours=1), "timeout": timedelta(hours=1), "connections": 1},
        {"parameters": {"port": "1,2"}, "host": "a,b", "lease": timedelta(milliseconds=10)},
    ],
    ids=str,
)
def test_options_at_their_bounds_are_taken(given: dict[str, Any]) -> None:
    PostgresOptions(**given)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, "the default server, schema kessel"),
        ({"host": "h", "port": 7, "database": "d", "schema": "s"}, "h:7/d, schema s"),
        ({"parameters": {"service": "shop"}}, "shop, schema kessel"),
        # What somebody wrote into the wrong option is not shown.
        ({"host": "h", "database": "postgresql://u:hush@h/d"}, None),
    ],
)
def test_s17_place_says_where_the_tables_are(given: dict[str, Any], place: str | None) -> None:
    told = PostgresOptions(**given).place
    assert told == place if place is not None else "hush" not in told


def test_command_for_rights_names_the_schema_unless_it_is_the_usual_one() -> None:
    assert PostgresOptions().rights_command("app") == "kessel postgres sql --grant app"
    assert PostgresOptions(schema="s").rights_command("app") == "kessel postgres sql --schema s --grant app"


def test_options_of_libpq_are_known_from_others() -> None:
    found = postgres_url_options(split_url("postgresql://u@h:1/db?sslmode=require&lease=5s&leas=1"))
    assert found["parameters"] == {"sslmode": "require"}
    assert (found["lease"], found["leas"], found["database"]) == ("5s", "1", "db")
    with pytest.raises(InvalidConfig, match="lease"):
        build_plugins().chosen_adapter("postgresql://u@h:1/db?leas=1s", {})


def test_several_hosts_have_a_port_each() -> None:
    found = postgres_url_options(split_url("postgresql:///db?host=a,b&port=1,2&user=u&dbname=d"))
    assert found == {
        "host": "a,b",
        "database": "d",
        "username": "u",
        "parameters": {"port": "1,2"},
    }


def test_option_that_libpq_does_not_know_is_refused(server: Postgres) -> None:
    with pytest.raises(InvalidConfig, match="neither an option of kessel-postgres nor one of libpq"):
        SPEC.open(PostgresOptions(parameters={"sslmood": "x"}), CONTEXT)


def test_value_in_which_libpq_finds_no_sense_is_refused(server: Postgres) -> None:
    with pytest.raises(InvalidConfig, match='sslmode: invalid sslmode value: "foo"'):
        opened(server.url("sslmode=foo"))


def test_place_shows_no_secret() -> None:
    options = PostgresOptions(host="h", password="hush", parameters={"sslpassword": "hush"})
    assert "hush" not in options.place + repr(options)
