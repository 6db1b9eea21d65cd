"""Stores a job in the application's own transaction, over the application's own connection.

Nothing is committed, rolled back or tried again here. No driver is imported: what is given says itself how
its connection is reached.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kessel_core.contract import AdapterUnavailable, IdHeld, Message
from kessel_postgres import codec
from kessel_postgres.database import Database
from kessel_postgres.edge import translated
from kessel_postgres.link import Refused

__all__ = ["put_within"]


def put_within(database: Database, message: Message, span: timedelta | None, given: Any) -> None:
    """Store one job; it is there once the transaction of the connection commits.

    Args:
        database: Where the jobs are.
        message: The job.
        span: Its delay; None: none.
        given: A connection of psycopg or psycopg2, a Session or Connection of SQLAlchemy, or a connection of
            Django, to the same database.

    Raises:
        IdHeld: A job has its id; the transaction may go on.
        EnqueueRejected: It is not stored.
        AdapterUnavailable: It is not stored: the connection is lost.
        TypeError: `given` is no such thing.
        ValueError: It is connected to another database.
    """
    connection = _driver_connection(given)
    schema = database.options.schema
    # The name of the schema is checked. Casts, because not every driver says what its values are.
    text = (
        f'SELECT m.value, CASE WHEN m.value = %s THEN "{schema}".put_one_v1('  # noqa: S608
        "%s::text, %s::text, %s::bigint, %s::interval, %s::bytea) END"
        f" FROM \"{schema}\".meta m WHERE m.key = 'id'"
    )
    values = (
        database.identity,
        codec.job_id(message.id).decode(),
        message.queue,
        message.priority,
        span,
        message.body,
    )
    try:
        with _plain_cursor(connection) as cursor:
            cursor.execute(text, values)
            row = cursor.fetchone()
    except Exception as exc:
        code = getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None)
        if code in ("3F000", "42P01"):
            raise _elsewhere(database) from exc
        why = " ".join(str(exc).split())
        if code is None:
            raise AdapterUnavailable(f"not stored, over the application's connection: {why}") from exc
        raise translated(Refused(code, why), database.options.place, message.id) from exc
    if row is None or row[0] != database.identity:
        raise _elsewhere(database)
    if row[1] is not None:
        raise IdHeld(message.id, row[1])


def _elsewhere(database: Database) -> ValueError:
    return ValueError(f"the connection is not to the database of the jobs: {database.options.place}")


def _plain_cursor(connection: Any) -> Any:
    """Return a cursor of the driver's usual kind, with tuples as rows; a connection may be set to others."""
    drivers = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
    if "psycopg" in drivers:
        from psycopg import Cursor
        from psycopg.rows import tuple_row

        return Cursor(connection, row_factory=tuple_row)
    if "psycopg2" in drivers:
        from psycopg2 import extensions  # type: ignore[import-untyped, unused-ignore]  # it is not ours

        return connection.cursor(cursor_factory=extensions.cursor)
    return connection.cursor()


def _driver_connection(given: Any) -> Any:
    """Return the connection of the driver."""
    found = given
    if callable(getattr(found, "ensure_connection", None)):  # of Django
        found.ensure_connection()
        found = found.connection
    elif callable(getattr(found, "connection", None)):  # a Session of SQLAlchemy
        found = found.connection()
    pooled: Any = getattr(found, "connection", None)
    if hasattr(pooled, "driver_connection"):  # a Connection of SQLAlchemy
        found = pooled.driver_connection
    if not callable(getattr(found, "cursor", None)) or not hasattr(found, "autocommit"):
        raise TypeError(
            "connection: expected one of psycopg, psycopg2, SQLAlchemy or Django, got"
            f" {type(given).__module__}.{type(given).__qualname__}"
        )
    return found
