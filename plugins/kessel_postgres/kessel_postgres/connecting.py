"""Makes connections, with what every one of them needs set; and reads what the server says about itself."""

from __future__ import annotations

import re
from typing import Any, Final

import attrs
import psycopg
from psycopg.conninfo import make_conninfo

from kessel_core.contract import AdapterUnavailable, Durability, InvalidConfig, Problem, opened_above
from kessel_postgres.edge import not_connected
from kessel_postgres.link import Call, Link, Statement
from kessel_postgres.options import ServerOptions

__all__ = ["OLDEST", "SETTINGS", "ServerFacts", "connected", "facts_of", "opened"]

#: The oldest version that is supported, as `server_version_num` has it.
OLDEST: Final = 140000

#: Plans of our statements look for a few rows by an index, however many there are. A plan that is made while
#: a table is nearly empty reads all of it, and goes on doing so when there are millions; and plpgsql plans
#: again and again while it finds that plan dear. What has to be read all the same has an absurd cost then, so
#: compiling it would seem to be worth while, and takes half a second.
_PLANS: Final = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
}
#: Behind a pooler, where a connection keeps nothing: the same, for one transaction.
SETTINGS: Final = Statement(
    b"settings",
    b"SELECT "
    + b", ".join(f"set_config('{name}', '{value}', true)".encode() for name, value in _PLANS.items()),
    (),
)
#: What libpq says of a value in which it finds no sense.
_SENSELESS: Final = re.compile(r"invalid (\w+) value: \S*")
#: A peer that is gone is noticed within half a minute, also where nothing is sent.
_ALIVE: Final = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


def connected(options: ServerOptions) -> Link:
    """Make a connection.

    Raises:
        InvalidConfig: libpq does not know an option, or finds no sense in one.
        AdapterUnavailable: Nobody answers.
        ProtocolError: Somebody answers who is no PostgreSQL, or refuses user, password or database.
    """
    return Link(opened(options), prepares=not options.pooler)


def opened(options: ServerOptions) -> psycopg.Connection[tuple[object, ...]]:
    """Make a connection of psycopg, in autocommit; raises what `connected` raises."""
    conninfo = _conninfo(options)
    try:
        return opened_above(
            lambda: psycopg.connect(conninfo, autocommit=True, prepare_threshold=None),
            psycopg.Connection.close,
        )
    except psycopg.Error as exc:
        if exc.sqlstate is None and (found := _SENSELESS.search(str(exc))):
            raise InvalidConfig([Problem((found[1],), found[0])], "invalid options") from None
        raise not_connected(exc, options.place, options.host) from None  # the chain would show the address
    except UnicodeError as exc:  # psycopg looks up the host: a name that IDNA refuses
        raise AdapterUnavailable(f"{options.place}: cannot connect: {exc}") from None


def _conninfo(options: ServerOptions) -> str:
    given: dict[str, Any] = dict(options.parameters)
    for name, value in (
        ("host", options.host),
        ("port", options.port),
        ("user", options.username),
        ("password", options.password),
        ("dbname", options.database),
    ):
        if value:
            given[name] = value
    usual: dict[str, Any] = {
        "connect_timeout": max(1, round(options.connect_timeout.total_seconds())),
        "fallback_application_name": "kessel",
        "client_encoding": "UTF8",
        **_ALIVE,
    }
    if not options.pooler:
        milliseconds = round(options.timeout.total_seconds() * 1000)
        # A statement ends before we stop waiting for it, so its outcome is known.
        ours = {
            **_PLANS,
            "statement_timeout": str(max(1, milliseconds - 50)),
            "default_transaction_isolation": r"read\ committed",
        }
        flags = " ".join(f"-c {name}={value}" for name, value in ours.items())
        given["options"] = f"{given.get('options', '')} {flags}".strip()
    try:
        return make_conninfo("", **{**usual, **given})
    except psycopg.ProgrammingError:
        problems = [
            Problem((name,), "is neither an option of kessel-postgres nor one of libpq")
            for name in options.parameters
            if not _is_known(name)
        ]
        raise InvalidConfig(
            problems or [Problem((), "libpq finds no sense in it")], "invalid options"
        ) from None


def _is_known(name: str) -> bool:
    try:
        make_conninfo("", **{name: "1"})
    except psycopg.ProgrammingError:
        return False
    return True


@attrs.frozen(kw_only=True)
class ServerFacts:
    """What a server says about itself and this connection."""

    version: int
    version_name: str
    encoding: str
    database: str
    role: str
    is_replica: bool
    is_read_only: bool
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    plan_cache_mode: str
    isolation: str
    has_schema: bool
    has_meta: bool
    may_use: bool

    @property
    def durability(self) -> Durability:
        """What an acknowledged commit survives.

        With `synchronous_commit = off` even the end of a server's process loses the last ones.
        """
        if self.synchronous_commit == "off":
            return Durability.NONE
        if self.fsync == "on" and self.full_page_writes == "on":
            return Durability.POWER
        return Durability.PROCESS_CRASH


_FACTS: Final = """SELECT current_setting('server_version_num'), current_setting('server_version'),
 current_setting('server_encoding'), current_database()::text, current_user::text,
 pg_is_in_recovery()::text, current_setting('transaction_read_only'),
 current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
 current_setting('plan_cache_mode'), current_setting('transaction_isolation'),
 (EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = '{s}'))::text,
 (EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = '{s}' AND c.relname = 'meta' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')))::text,
 coalesce((SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = '{s}'), false)::text"""


def facts_of(link: Link, schema: str, seconds: float) -> ServerFacts:
    """Ask a server about itself; raises what `Link.run` raises."""
    # The name of the schema is checked: letters, digits and _ only.
    statement = Statement(b"facts", _FACTS.replace("{s}", schema).encode(), ())
    row = link.run([[Call(statement)]], seconds)[0][0]
    values = [(row.get_value(0, column) or b"").decode() for column in range(row.nfields)]
    return ServerFacts(
        version=int(values[0]),
        version_name=values[1],
        encoding=values[2],
        database=values[3],
        role=values[4],
        is_replica=values[5] == "true",
        is_read_only=values[6] == "on",
        fsync=values[7],
        full_page_writes=values[8],
        synchronous_commit=values[9],
        plan_cache_mode=values[10],
        isolation=values[11],
        has_schema=values[12] == "true",
        has_meta=values[13] == "true",
        may_use=values[14] == "true",
    )
