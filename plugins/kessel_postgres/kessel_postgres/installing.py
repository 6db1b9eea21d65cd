"""Makes the tables of a schema and brings them up to date, under a lock and in one transaction."""

from __future__ import annotations

from contextlib import closing
from typing import Final

import psycopg

from kessel_core.contract import AdapterUnavailable, ProtocolError
from kessel_postgres.connecting import OLDEST, opened
from kessel_postgres.options import ServerOptions
from kessel_postgres.schema import VERSION, too_new, upgrade_script, used_by_others, versions
from kessel_postgres.sql import statements_of

__all__ = ["install"]

#: A table, a type or a function of that name is there.
_THERE: Final = frozenset({"42P07", "42710", "42723"})


def install(options: ServerOptions) -> tuple[int, int]:
    """Make the tables, or bring them up to date; does nothing if they are.

    Workers may go on meanwhile: scripts only add, and wait for a lock of others for 5 s at most.

    Returns:
        The version before, 0 if there were no tables, and the one now.

    Raises:
        AdapterUnavailable: Nobody answers, or somebody holds a lock on the tables; nothing was changed.
        ProtocolError: The server refuses, is too old, or has the tables of a newer release that this one
            cannot work with, or of something else.
        InvalidConfig: libpq does not know an option.
    """
    place = options.place
    with closing(opened(options)) as connection:
        if connection.info.server_version < OLDEST:
            raise ProtocolError(
                f"{place}: the server is too old; PostgreSQL {OLDEST // 10000} or newer is needed"
            )
        try:
            with connection.transaction():
                # Two who install at the same time: the second waits here, and finds it done.
                steps = upgrade_script(options.schema, VERSION)
                for statement in (next(steps), next(steps)):
                    connection.execute(statement)
                present, oldest = _versions(connection, options)
                if oldest > VERSION:
                    raise ProtocolError(f"{place}: not changed: {too_new(present)}")
                if present >= VERSION:  # a newer one that this release can work with, as while nodes differ
                    return present, present
                for statement in upgrade_script(options.schema, present):
                    connection.execute(statement)
        except psycopg.Error as exc:
            text = " ".join(str(exc).split())
            if exc.sqlstate in ("55P03", "57014") or connection.closed:
                raise AdapterUnavailable(f"{place}: not changed: {text}") from exc
            if exc.sqlstate == "42501":
                text += (
                    "; let a role with the right CREATE on the database run it, or print the statements for"
                    f" somebody who may: kessel postgres sql --schema {options.schema}"
                )
            if exc.sqlstate in _THERE:
                text = f"something else uses the schema: {exc.diag.message_primary}"
                text += "; choose another schema, with ?schema=NAME"
            raise ProtocolError(f"{place}: not changed: {text}") from exc
        return present, VERSION


def _versions(connection: psycopg.Connection[tuple[object, ...]], options: ServerOptions) -> tuple[int, int]:
    """Return the version of the tables, and which one a program must know at least; zeros: there are none."""
    name = f'"{options.schema}".meta'
    is_there = "SELECT relkind IN ('r', 'p', 'v', 'm', 'f') FROM pg_class WHERE oid = to_regclass(%s)"
    if connection.execute(is_there, (name,)).fetchone() != (True,):
        return 0, 0
    rows = connection.execute(statements_of(options.schema).meta.text).fetchall()
    found = versions({str(key): str(value) for key, value in rows if value is not None})
    if found is None:
        raise ProtocolError(f"{options.place}: not changed: {used_by_others(options.schema)}")
    return found
