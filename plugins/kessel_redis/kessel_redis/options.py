"""The options of the adapter and of the store, and how a URL sets them; connects to nothing.

Cheap to import, because the plugin module loads it at discovery.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, unquote

import attrs

from kessel_core.contract import Durability, InvalidConfig, Problem, redacted, url_options

__all__ = ["Address", "RedisOptions", "RedisStoreOptions", "ServerOptions", "redis_url_options"]

#: Schemes whose connections are encrypted.
_TLS: Final = frozenset({"rediss", "valkeys"})
#: Braces would give the keys another hash tag, and so spread them over a cluster.
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.:@-]{1,100}")
#: Redis refuses a value of 512 MiB, and a call needs room beside it.
_LARGEST: Final = 500_000_000
_INVALID: Final = "invalid address of 'redis'"
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379


class Address(NamedTuple):
    """Where somebody listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it for people, without a secret."""
        return f"{redacted(self.host)}:{self.port}"


@attrs.frozen(kw_only=True)
class ServerOptions:
    """How a server is reached, and which keys are ours."""

    #: Name or address of the server; several with commas, each with or without `:port`, are nodes of one
    #: cluster, or the sentinels that know the service.
    host: str = "localhost"
    #: The port of those that have none, 1 to 65535; None: 6379, of a sentinel 26379.
    port: int | None = None
    #: The name under which Redis Sentinel knows the primary; empty: `host` is the server itself.
    service: str = ""
    #: The user and the password of the sentinels, if they want one.
    sentinel_username: str = ""
    sentinel_password: str = attrs.field(default="", repr=False)
    #: Path of a Unix socket; then `host` and `port` are not used.
    socket: str = ""
    #: The user of an access list; empty: the default user.
    username: str = ""
    #: The password.
    password: str = attrs.field(default="", repr=False)
    #: The number of the database, 0 to 1,000,000.
    db: int = 0
    #: Begins every key and channel: 1 to 100 letters, digits and `_.:@-`; several tenants have one each.
    namespace: str = "kessel"
    #: Encrypt connections; the schemes `rediss` and `valkeys` set it. The server's certificate is checked.
    tls: bool = False
    #: File with the certificates that the server's may be signed by; empty: those of this machine.
    tls_ca: str = ""
    #: File with the certificate of this client; empty: none.
    tls_cert: str = ""
    #: File with its key.
    tls_key: str = ""
    #: The name in the server's certificate must be that of `host`.
    tls_check_hostname: bool = True
    #: Most connections of one process that do work; one more hears messages while somebody waits.
    connections: int = 10
    #: Longest wait for a connection to be made; 100 ms to 1 h.
    connect_timeout: timedelta = timedelta(seconds=5)
    #: Longest wait for an answer, and for a connection of those above to be free; 100 ms to 1 h.
    timeout: timedelta = timedelta(seconds=10)
    #: What an acknowledged write survives, where the server does not say it (`CONFIG` is forbidden), or where
    #: `appendfsync everysec` is to count as `process-crash`. Never more than the server's settings allow.
    durability: Durability | None = None
    #: How many replicas must have a write before it is acknowledged (`WAIT`); with fewer in time its outcome
    #: is unknown. A failover may lose it all the same.
    replicas: int = 0

    def __attrs_post_init__(self) -> None:
        """Check all values together.

        Raises:
            InvalidConfig: Some values are out of range; lists all of them.
        """
        problems = self._problems()
        if problems:
            raise InvalidConfig(problems, "invalid options of 'redis'")

    def _problems(self) -> list[Problem]:
        problems: list[Problem] = []
        if _NAMESPACE.fullmatch(self.namespace) is None:
            problems.append(Problem(("namespace",), "must be 1 to 100 of A-Z a-z 0-9 _ . : @ -"))
        for name, least, most in (
            ("db", 0, 1_000_000),
            ("connections", 1, 1000),
            ("replicas", 0, 100),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                problems.append(Problem((name,), f"expected {least} to {most}, got {value}"))
        for name in ("connect_timeout", "timeout"):
            seconds = getattr(self, name).total_seconds()
            if not 0.1 <= seconds <= 3600:
                problems.append(Problem((name,), f"expected 0.1 s to 1 h, got {seconds:g} s"))
        try:
            ports = [port for _, port in self.addresses]
        except ValueError:
            problems.append(Problem(("host",), "expected NAME or NAME:PORT, several with commas"))
        else:
            problems += [
                Problem(("port",), f"expected 1 to 65535, got {port}")
                for port in ports
                if not 1 <= port <= 65535
            ]
            if not all(host for host, _ in self.addresses):
                problems.append(Problem(("host",), "must not be empty"))
        if self.service and self.socket:
            problems.append(Problem(("service",), "is not at a Unix socket"))
        if bool(self.tls_cert) != bool(self.tls_key):
            problems.append(Problem(("tls_cert",), "and tls_key go together"))
        if self.tls and self.socket:
            problems.append(Problem(("tls",), "a Unix socket has no TLS"))
        return problems

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Whom to ask, in this order.

        Raises:
            ValueError: A port is no number.
        """
        usual = self.port if self.port is not None else _SENTINEL_PORT if self.service else _PORT
        return tuple(_address(part.strip(), usual) for part in self.host.split(","))

    @property
    def place(self) -> str:
        """Where the keys are, without a secret."""
        where = f"unix socket {self.socket}" if self.socket else ",".join(map(str, self.addresses))
        if self.service:
            where = f"service {self.service} at {where}"
        return f"{where}, database {self.db}, namespace {self.namespace}"


@attrs.frozen(kw_only=True)
class RedisOptions(ServerOptions):
    """The options of a queue: `redis://user:password@host:port/db?name=value`.

    Raises:
        InvalidConfig: Some values are out of range; lists all of them.
    """

    #: How long a reservation holds its job unless it is extended; at least 10 ms.
    lease: timedelta = timedelta(seconds=60)
    #: Longest body of a job, and longest value in its store, in bytes. A large one holds up everybody.
    max_body_bytes: int = 32 * 1024 * 1024
    #: Refuse a server on which an acknowledged job may be lost when it crashes or loses its power.
    require_durable: bool = False

    def _problems(self) -> list[Problem]:
        problems = super()._problems()
        if not timedelta(milliseconds=10) <= self.lease <= timedelta(days=36_500):
            problems.append(Problem(("lease",), f"expected 10 ms to 100 years, got {self.lease}"))
        if not 1 <= self.max_body_bytes <= _LARGEST:
            problems.append(
                Problem(("max_body_bytes",), f"expected 1 to {_LARGEST}, got {self.max_body_bytes}")
            )
        return problems


@attrs.frozen(kw_only=True)
class RedisStoreOptions(ServerOptions):
    """The options of a store: `redis://user:password@host:port/db?name=value`.

    Raises:
        InvalidConfig: Some values are out of range; lists all of them.
    """

    #: Longest value, in bytes.
    max_value_bytes: int = 32 * 1024 * 1024

    def _problems(self) -> list[Problem]:
        problems = super()._problems()
        if not 1 <= self.max_value_bytes <= _LARGEST:
            problems.append(
                Problem(("max_value_bytes",), f"expected 1 to {_LARGEST}, got {self.max_value_bytes}")
            )
        return problems


def _address(text: str, port: int) -> Address:
    if text.startswith("["):  # an address of IPv6, as in a URL
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError
        return Address(host, int(rest[1:]) if rest else port)
    host, colon, rest = text.partition(":")
    return Address(host, int(rest)) if colon and ":" not in rest else Address(text, port)


def redis_url_options(url: SplitResult) -> Mapping[str, Any]:
    """Read the options from a URL.

    The path is the number of the database; with Sentinel it begins with the name of the service.

    Raises:
        InvalidConfig: The URL is not valid.
    """
    scheme, _, kind = url.scheme.partition("+")
    user, at, hosts = url.netloc.rpartition("@")
    if "," in hosts or kind:
        # Several, which the standard library does not know; the rest is as usual.
        url = url._replace(netloc=f"{user}{at}several")
    found = url_options(url)
    if "," in hosts or kind:
        found["host"] = unquote(hosts)
    path = [part for part in str(found.pop("path", "")).split("/") if part]
    if kind == "sentinel":
        if not path:
            raise InvalidConfig([Problem(("service",), "is missing: //HOST,HOST/SERVICE")], _INVALID)
        found["service"] = path.pop(0)
    if path:
        if "db" in found:
            raise InvalidConfig([Problem(("db",), "is given twice")], _INVALID)
        found["db"] = "/".join(path)
    if scheme in _TLS:
        found.setdefault("tls", "true")
    return found
