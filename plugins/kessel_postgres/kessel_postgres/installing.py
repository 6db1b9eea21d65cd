"""Makes the tables of a schema and brings them up to date, under a lock and in one transaction."""

from __future__ import annotations

from contextlib import closing

import psycopg

from kessel_core.contract import AdapterUnavailable, ProtocolError
from kessel_postgres.connecting import OLDEST, opened
from kessel_postgres.options import ServerOptions
from kessel_postgres.schema import VERSION, upgrade_script

__all__ = ["install"]


def install(options: ServerOptions) -> tuple[int, int]:
    """Make the tables, or bring them up to date; does nothing if they are.

    Workers may go on meanwhile: scripts only add, and wait for a lock of others for 5 s at most.

    Returns:
        The version before, 0 if there were no tables, and the one now.

    Raises:
        AdapterUnavailable: Nobody answers, or somebody holds a lock on the tables; nothing was changed.
        ProtocolError: The server refuses, is too old, or has the tables of a newer release.
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
                present = _version(connection, options.schema)
                if present >= VERSION:
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
            raise ProtocolError(f"{place}: not changed: {text}") from exc
        return present, VERSION


def _version(connection: psycopg.Connection[tuple[object, ...]], schema: str) -> int:
    row = connection.execute("SELECT to_regclass(%s)::text", (f'"{schema}".meta',)).fetchone()
    if row is None or row[0] is None:
        return 0
    # The name of the schema is checked.
    found = connection.execute(
        f"SELECT value FROM \"{schema}\".meta WHERE key = 'version'".encode()  # noqa: S608
    ).fetchone()
    return int(str(found[0])) if found is not None else 0
