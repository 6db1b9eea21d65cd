"""Makes connections, with what every one of them needs set, to the server that takes our jobs now.

With Sentinel one of several is asked who that is; in a cluster the node that has our keys. This happens
whenever a connection is made, because the answer changes.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from kessel_core.contract import AdapterUnavailable, ProtocolError, opened_above
from kessel_redis.edge import not_connected, translated
from kessel_redis.link import Link, Lost, Refused
from kessel_redis.options import Address, ServerOptions
from kessel_redis.scripts import Keys, packed

__all__ = ["connected"]

#: How often one node of a cluster may name another one.
_HOPS: Final = 5
#: A peer that is gone is noticed within half a minute, also where nothing is sent.
_ALIVE: Final = {
    number: value
    for name, value in (
        ("TCP_KEEPIDLE", 10),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 20_000),
    )
    if (number := getattr(socket, name, None)) is not None
}


def connected(options: ServerOptions) -> Link:
    """Make a connection to the server that has our keys; the first address counts that leads to one.

    Raises:
        AdapterUnavailable: Nobody answers, or nobody who takes jobs now.
        ProtocolError: Somebody answers who is no Redis, or refuses user, password or database.
    """
    error: AdapterUnavailable | None = None
    for address in options.addresses:
        try:
            return _by_sentinel(options, address) if options.service else _following(options, address)
        except AdapterUnavailable as exc:
            error = error or exc
        except Lost as exc:
            error = error or AdapterUnavailable(f"{options.place}: {exc.why}")
    assert error is not None
    raise error


def _by_sentinel(options: ServerOptions, sentinel: Address) -> Link:
    """Ask a sentinel for the primary, and connect there."""
    link = _linked(options, sentinel, is_sentinel=True)
    try:
        ask = packed(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", options.service.encode())
        found = link.run(ask, 1)[0]
    finally:
        link.close()
    if isinstance(found, Refused):
        raise ProtocolError(f"{options.place}: no sentinel answers at {sentinel}: {found.why}")
    if found is None:
        raise ProtocolError(f"{options.place}: the sentinel at {sentinel} knows no such service")
    primary = Address(found[0].decode(), int(found[1]))
    link = _linked(options, primary)
    with _closed_on_error(link):
        role = link.run(packed(b"ROLE"), 1)[0]
        if isinstance(role, list) and role[0] != b"master":
            # One that was demoted answers all the same, and the sentinel may not know yet.
            raise AdapterUnavailable(f"{options.place}: {primary} is a replica now")
    return link


def _following(options: ServerOptions, address: Address) -> Link:
    """Connect, and go on to the node that has our keys if this one names it."""
    for _ in range(_HOPS):
        link = _linked(options, address)
        with _closed_on_error(link):
            answer = link.run(packed(b"EXISTS", Keys(options.namespace).version), 1)[0]
            if isinstance(answer, Refused) and answer.code != "MOVED":
                raise translated(answer, options.place, None)
        if not isinstance(answer, Refused):
            return link
        link.close()
        host, _, port = answer.why.split()[-1].rpartition(":")
        address = Address(host or address.host, int(port))
    raise AdapterUnavailable(f"{options.place}: the nodes of the cluster name each other")


@contextlib.contextmanager
def _closed_on_error(link: Link) -> Iterator[None]:
    try:
        yield
    except BaseException:
        link.close()
        raise


def _linked(options: ServerOptions, address: Address, *, is_sentinel: bool = False) -> Link:
    return opened_above(lambda: _dialled(options, address, is_sentinel=is_sentinel), Link.close)


def _dialled(options: ServerOptions, address: Address, *, is_sentinel: bool) -> Link:
    connection = _connection(options, address, is_sentinel=is_sentinel)
    try:
        connection.connect()
    except (redis.RedisError, OSError, ValueError) as exc:
        connection.disconnect()
        # The chain might show what was sent.
        raise not_connected(exc, options.place, is_tls=options.tls) from None
    return Link(connection)


def _connection(options: ServerOptions, address: Address, *, is_sentinel: bool) -> Any:
    """Return a connection of redis-py, whose types are incomplete; it is not connected yet."""
    kind: Any = Connection
    username, password = options.username, options.password
    if is_sentinel:
        username, password = options.sentinel_username, options.sentinel_password
    given: dict[str, Any] = {
        "db": 0 if is_sentinel else options.db,
        "username": username or None,
        "password": password or None,
        "socket_timeout": options.timeout.total_seconds(),
        "socket_connect_timeout": options.connect_timeout.total_seconds(),
        # Nothing below kessel may send a command again.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # nothing comes that was not asked for
    }
    if options.socket:
        kind = UnixDomainSocketConnection
        given |= {"path": options.socket}
    else:
        given |= {
            "host": address.host,
            "port": address.port,
            "socket_keepalive": True,
            "socket_keepalive_options": _ALIVE,
        }
    if options.tls:
        kind = SSLConnection
        given |= {
            "ssl_ca_certs": options.tls_ca or None,
            "ssl_certfile": options.tls_cert or None,
            "ssl_keyfile": options.tls_key or None,
            "ssl_check_hostname": options.tls_check_hostname,
        }
    return kind(**given)
