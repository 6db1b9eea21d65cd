"""The options of the adapter and of the store, and how a URL sets them; connects to nothing.

Cheap to import, because the plugin module loads it at discovery.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import SplitResult

import attrs

from kessel_core.contract import InvalidConfig, Problem, redacted, url_options

__all__ = [
    "PostgresOptions",
    "PostgresStoreOptions",
    "ServerOptions",
    "postgres_url_options",
    "schema_problem",
]

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")
#: What is read here and not by libpq.
_OWN: Final = frozenset({"host", "port", "username", "password", "database", "path", "parameters"})
#: What a URL may hold for libpq: its parameter key words, up to version 18. Newer ones go into `parameters`.
_LIBPQ: Final = frozenset(
    """
    hostaddr passfile require_auth channel_binding client_encoding options application_name
    fallback_application_name keepalives keepalives_idle keepalives_interval keepalives_count
    tcp_user_timeout gssencmode sslmode sslnegotiation sslcompression sslcert sslkey sslkeylogfile
    sslpassword sslcertmode sslrootcert sslcrl sslcrldir sslsni requirepeer ssl_min_protocol_version
    ssl_max_protocol_version min_protocol_version max_protocol_version krbsrvname gsslib
    gssdelegation scram_client_key scram_server_key service servicefile target_session_attrs
    load_balance_hosts oauth_issuer oauth_client_id oauth_client_secret oauth_scope
    """.split()  # noqa: SIM905 - forty names would be forty lines
)
#: The schema of a queue unless its options name another.
_SCHEMA_NAME: Final = "kessel"
#: PostgreSQL refuses a value of 1 GiB, and a parameter needs room beside it.
_LARGEST: Final = 500_000_000


def schema_problem(name: str) -> str | None:
    """Return what is wrong with the name of a schema, or None."""
    if _SCHEMA.fullmatch(name) is None:
        return "must be 1 to 40 of a-z 0-9 _ and not begin with a digit"
    return "must not begin with pg_, which PostgreSQL keeps for itself" if name.startswith("pg_") else None


@attrs.frozen(kw_only=True)
class ServerOptions:
    """How a database is reached; what is left out, libpq takes from its own variables and files."""

    #: Name or address of the server, or several with commas; empty: what libpq finds.
    host: str = ""
    #: Its port; None: what libpq finds, 5432 as a rule.
    port: int | None = None
    #: The role; empty: what libpq finds.
    username: str = ""
    #: The password; better in `~/.pgpass` or `PGPASSWORD`.
    password: str = attrs.field(default="", repr=False)
    #: The database; empty: what libpq finds.
    database: str = ""
    #: The schema that holds the tables: letters in lower case, digits, `_`; several tenants have one each.
    schema: str = _SCHEMA_NAME
    #: Every other option of libpq by its name, such as `sslmode`, `service`, `target_session_attrs`.
    parameters: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    #: Most connections of one process that do work; one more hears notifications while somebody waits.
    connections: int = 10
    #: Longest wait for a connection to be made; 1 s to 1 h.
    connect_timeout: timedelta = timedelta(seconds=5)
    #: Longest wait for an answer, and for a connection of those above to be free; 100 ms to 1 h.
    timeout: timedelta = timedelta(seconds=10)
    #: The address is that of a pooler in transaction mode, such as PgBouncer: nothing is prepared, and jobs
    #: of other processes are noticed by looking, after 50 ms to 1 s.
    pooler: bool = False

    def __attrs_post_init__(self) -> None:
        """Check all values together.

        Raises:
            InvalidConfig: Some values are out of range; lists all of them.
        """
        problems = self._problems()
        if problems:
            raise InvalidConfig(problems, "invalid options of 'postgres'")

    def _problems(self) -> list[Problem]:
        problems: list[Problem] = []
        if (wrong := schema_problem(self.schema)) is not None:
            problems.append(Problem(("schema",), wrong))
        if self.port is not None and not 1 <= self.port <= 65535:
            problems.append(Problem(("port",), f"expected 1 to 65535, got {self.port}"))
        if not 1 <= self.connections <= 1000:
            problems.append(Problem(("connections",), f"expected 1 to 1000, got {self.connections}"))
        for name, least in (("connect_timeout", 1.0), ("timeout", 0.1)):
            seconds = getattr(self, name).total_seconds()
            if not least <= seconds <= 3600:
                problems.append(Problem((name,), f"expected {least:g} s to 1 h, got {seconds:g} s"))
        for name in ("host", "username", "password", "database"):
            if "\0" in getattr(self, name):
                problems.append(Problem((name,), "must not hold a NUL"))
        problems += [
            Problem(
                ("parameters", name), "is an option of its own" if name in _OWN else "must not hold a NUL"
            )
            for name, text in self.parameters.items()
            if "\0" in text or (name in _OWN and not _is_of_many_hosts(name, text))
        ]
        return problems

    @property
    def place(self) -> str:
        """Where the tables are, without a secret."""
        host = self.host or self.parameters.get("service") or "the default server"
        port = f":{self.port}" if self.port is not None else ""
        database = f"/{self.database}" if self.database else ""
        return f"{redacted(host)}{port}{redacted(database)}, schema {self.schema}"

    def rights_command(self, role: str) -> str:
        """Return the command that prints the least rights of a role."""
        schema = "" if self.schema == _SCHEMA_NAME else f" --schema {self.schema}"
        return f"kessel postgres sql{schema} --grant {role}"


@attrs.frozen(kw_only=True)
class PostgresOptions(ServerOptions):
    """The options of a queue: `postgresql://user@host/database?name=value`.

    Raises:
        InvalidConfig: Some values are out of range; lists all of them.
    """

    #: How long a reservation holds its job unless it is extended; at least 10 ms.
    lease: timedelta = timedelta(seconds=60)
    #: Longest body of a job, and longest value in its store, in bytes.
    max_body_bytes: int = 64 * 1024 * 1024
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
class PostgresStoreOptions(ServerOptions):
    """The options of a store: `postgresql://user@host/database?name=value`.

    Raises:
        InvalidConfig: Some values are out of range; lists all of them.
    """

    #: Longest value, in bytes.
    max_value_bytes: int = 64 * 1024 * 1024

    def _problems(self) -> list[Problem]:
        problems = super()._problems()
        if not 1 <= self.max_value_bytes <= _LARGEST:
            problems.append(
                Problem(("max_value_bytes",), f"expected 1 to {_LARGEST}, got {self.max_value_bytes}")
            )
        return problems


def postgres_url_options(url: SplitResult) -> Mapping[str, Any]:
    """Read the options from a URL; those of libpq become `parameters`.

    Raises:
        InvalidConfig: The URL is not valid.
    """
    found = url_options(url)
    path = str(found.pop("path", "")).lstrip("/")
    if path:
        found["database"] = path
    # libpq calls it so.
    for theirs, ours in (("user", "username"), ("dbname", "database")):
        if theirs in found:
            found[ours] = found.pop(theirs)
    rest = {name: found.pop(name) for name in list(found) if name in _LIBPQ}
    if isinstance(found.get("port"), str) and _is_of_many_hosts("port", found["port"]):
        rest["port"] = found.pop("port")
    if rest:
        found["parameters"] = rest
    return found


def _is_of_many_hosts(name: str, text: str) -> bool:
    """Whether it is a port for each of several hosts, which only libpq can read."""
    return name == "port" and "," in text
