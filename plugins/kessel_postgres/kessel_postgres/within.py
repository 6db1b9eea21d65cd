"""Stores a job in the application's own transaction, over the application's own connection.

Nothing is committed, rolled back or tried again here. No driver is imported: what is given says itself how
its connection is reached.
"""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any, Final

from kessel_core.contract import AdapterUnavailable, EnqueueRejected, EnqueueUnknown, IdHeld, Message
from kessel_postgres import codec
from kessel_postgres.database import Database
from kessel_postgres.edge import translated
from kessel_postgres.link import Refused
from kessel_postgres.sql import INSTANCE

__all__ = ["put_within"]

#: What is missing where the tables of kessel are not: schema, table, function, column.
_ELSEWHERE: Final = frozenset({"3F000", "42P01", "42883", "42703"})
#: The errors of a driver, by the names that all drivers share, for a connection that is gone.
_GONE: Final = frozenset({"OperationalError", "InterfaceError"})
#: What a server says instead of an answer when it ends a connection, as the beginning of SQLSTATEs.
_ENDS: Final = ("57P0", "08")
#: Of a connection that is in no transaction; of psycopg and psycopg2 alike.
_IDLE: Final = 0


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
        AdapterUnavailable: It is not stored: the connection is lost, or the database of the jobs cannot be
            asked whether it is the one.
        EnqueueUnknown: The connection is lost, and it commits each statement by itself: it may be stored.
        TypeError: `given` is no such thing, or one for asyncio.
        ValueError: It is connected to another database, such as a copy; it is not stored there.
    """
    connection = _driver_connection(given)
    known = database.identity
    row = _put(database, message, span, connection)
    if row is None and database.identify() != known:
        row = _put(database, message, span, connection)
    if row is None:
        raise _elsewhere(database)
    # Of what type it is, the connection may decide, also that of NULL.
    if holder := row[0]:
        raise IdHeld(message.id, holder.decode() if isinstance(holder, bytes) else str(holder))


def _put(database: Database, message: Message, span: timedelta | None, connection: Any) -> Any:
    """Return a row with the state of the job that holds the id, NULL if this one is stored.

    None: it is another database, and nothing was done there.
    """
    schema = database.options.schema
    # The server compares, and does nothing elsewhere; what comes back may be of any type. Texts go as bytes,
    # because the encoding of the connection may lack them. Casts, because not every driver says what its
    # values are. The name of the schema is checked.
    text = "pg_catalog.convert_from(%s::bytea, 'UTF8')"
    delay = "%s::bigint * interval '1 microsecond'"
    query = (
        f'SELECT "{schema}".put_one_v1({text}, {text}, %s::bigint, {delay}, %s::bytea)'  # noqa: S608
        f" FROM \"{schema}\".meta m WHERE m.key = 'id' AND m.value = {text} AND {INSTANCE} = {text}"
    )
    micros = None if span is None else codec.microseconds(span)
    put = (codec.job_id(message.id), codec.text(message.queue), message.priority, micros, message.body)
    values = (*put, *map(codec.text, database.identity))
    commits_itself = _commits_itself(connection)
    try:
        with _plain_cursor(connection) as cursor:
            cursor.execute(query, values)
            return cursor.fetchone()
    except Exception as exc:
        if not _is_refusal(exc):  # as of a signal handler
            raise
        code = getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None)
        if code in _ELSEWHERE:
            raise _elsewhere(database) from exc
        why = " ".join(str(exc).split())
        is_gone = any(kind.__name__ in _GONE for kind in type(exc).__mro__)
        if commits_itself and (is_gone if code is None else code.startswith(_ENDS)):
            raise EnqueueUnknown(message.id, f"over the application's connection: {why}") from exc
        if code is not None:
            raise translated(Refused(code, why), database.options.place, message.id) from exc
        why = f"not stored, over the application's connection: {why}"
        if is_gone:
            raise AdapterUnavailable(why) from exc
        raise EnqueueRejected(message.id, why, "refused") from exc


def _is_refusal(exc: Exception) -> bool:
    """Whether it is an error of a driver, which all have a base of that name, or of what makes its values."""
    is_of_driver = any(kind.__name__ == "Error" for kind in type(exc).__mro__)
    return is_of_driver or isinstance(exc, (ValueError, TypeError))


def _commits_itself(connection: Any) -> bool:
    """Whether each statement is a transaction of its own, as in Django outside of `atomic`."""
    status = getattr(getattr(connection, "info", None), "transaction_status", _IDLE)
    return bool(connection.autocommit) and status == _IDLE


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
    if not _is_async(found):
        if callable(getattr(found, "ensure_connection", None)):  # of Django
            found.ensure_connection()
            found = found.connection
        elif callable(getattr(found, "connection", None)):  # a Session of SQLAlchemy
            found = found.connection()
        pooled: Any = getattr(found, "connection", None)
        if hasattr(pooled, "driver_connection"):  # a Connection of SQLAlchemy
            found = pooled.driver_connection
    is_one = callable(getattr(found, "cursor", None)) and hasattr(found, "autocommit")
    if _is_async(found) or not is_one:
        raise TypeError(
            "connection: expected one of psycopg, psycopg2, SQLAlchemy or Django, not for asyncio, got"
            f" {type(given).__module__}.{type(given).__qualname__}"
        )
    return found


def _is_async(connection: Any) -> bool:
    """Whether it waits for nothing: its methods are to be awaited, or it is such a one of psycopg2."""
    is_awaited = inspect.iscoroutinefunction(getattr(type(connection), "commit", None))
    return is_awaited or bool(getattr(connection, "async_", 0))
