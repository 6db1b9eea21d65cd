"""The plugin: offers the adapter, the store and `kessel postgres`; loads psycopg only when one is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kessel_core.contract import AdapterContext, AdapterSpec, StoreSpec
from kessel_core.hooks import hookimpl
from kessel_postgres.options import (
    PostgresOptions,
    PostgresStoreOptions,
    ServerOptions,
    postgres_url_options,
)

if TYPE_CHECKING:
    import click

    from kessel_postgres.adapter import PostgresAdapter
    from kessel_postgres.entries import PostgresStore

__all__ = ["SPEC", "STORE", "kessel_adapters", "kessel_cli", "kessel_stores"]


def _open(options: PostgresOptions, context: AdapterContext) -> PostgresAdapter:
    from kessel_postgres.adapter import PostgresAdapter

    return PostgresAdapter(options, context)


def _open_store(options: PostgresStoreOptions, context: AdapterContext) -> PostgresStore:
    from kessel_postgres.database import Database
    from kessel_postgres.entries import PostgresStore

    return PostgresStore(Database(options, context.clock), options.max_value_bytes, owns_database=True)


def _place(options: ServerOptions) -> str:
    return options.place


_SCHEMES = ("postgresql", "postgres")
_SUMMARY = "in a PostgreSQL database: durable, for many machines, in transactions of the application"

SPEC = AdapterSpec(
    name="postgres",
    schemes=_SCHEMES,
    options=PostgresOptions,
    open=_open,
    from_url=postgres_url_options,
    place=_place,
    summary=_SUMMARY,
)

STORE = StoreSpec(
    name="postgres",
    schemes=_SCHEMES,
    options=PostgresStoreOptions,
    open=_open_store,
    from_url=postgres_url_options,
    place=_place,
    summary=_SUMMARY,
)


@hookimpl
def kessel_adapters() -> Iterable[AdapterSpec]:
    """Offer the adapter `postgres`: `postgresql://user@host/database`."""
    return [SPEC]


@hookimpl
def kessel_stores() -> Iterable[StoreSpec]:
    """Offer the store `postgres`: `postgresql://user@host/database`."""
    return [STORE]


@hookimpl
def kessel_cli(group: click.Group) -> None:
    """Add `kessel postgres`."""
    from kessel_postgres.command import postgres

    group.add_command(postgres)
