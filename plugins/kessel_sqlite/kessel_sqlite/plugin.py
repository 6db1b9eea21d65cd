"""The plugin: offers the adapter and the store; loads `sqlite3` only when one is opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kessel_core.contract import AdapterContext, AdapterSpec, AdapterUnavailable, StoreSpec
from kessel_core.hooks import hookimpl
from kessel_sqlite.options import (
    FileOptions,
    SqliteOptions,
    SqliteStoreOptions,
    absent_file,
    file_place,
    sqlite_url_options,
)

if TYPE_CHECKING:
    from kessel_sqlite.adapter import SqliteAdapter
    from kessel_sqlite.entries import SqliteStore

__all__ = ["SPEC", "STORE", "kessel_adapters", "kessel_stores"]


@contextmanager
def _translated(options: FileOptions) -> Iterator[None]:
    """Translate what the system refuses before SQLite is asked, for example a path that is too long."""
    try:
        yield
    except OSError as exc:
        error = AdapterUnavailable(f"{options.path}: cannot be opened: {exc.strerror or exc}")
        error.add_note("check the path and its rights")
        raise error from exc


def _open(options: SqliteOptions, context: AdapterContext) -> SqliteAdapter:
    from kessel_sqlite.adapter import SqliteAdapter

    with _translated(options):
        return SqliteAdapter(options, context)


def _open_store(options: SqliteStoreOptions, context: AdapterContext) -> SqliteStore:
    from kessel_sqlite.engine import Engine
    from kessel_sqlite.entries import SqliteStore

    with _translated(options):
        return SqliteStore(Engine(options, context.clock), options.max_value_bytes, owns_file=True)


SPEC = AdapterSpec(
    name="sqlite",
    schemes=("sqlite",),
    options=SqliteOptions,
    open=_open,
    from_url=sqlite_url_options,
    absent=absent_file,
    place=file_place,
    summary="in one file of this machine: durable, for several processes, without a server",
)

STORE = StoreSpec(
    name="sqlite",
    schemes=("sqlite",),
    options=SqliteStoreOptions,
    open=_open_store,
    from_url=sqlite_url_options,
    absent=absent_file,
    place=file_place,
    summary="in one file of this machine: durable, for several processes, without a server",
)


@hookimpl
def kessel_adapters() -> Iterable[AdapterSpec]:
    """Offer the adapter `sqlite`: `sqlite:///jobs.db` is relative, `sqlite:////var/jobs.db` absolute."""
    return [SPEC]


@hookimpl
def kessel_stores() -> Iterable[StoreSpec]:
    """Offer the store `sqlite`: `sqlite:///store.db` is relative, `sqlite:////var/store.db` absolute."""
    return [STORE]
