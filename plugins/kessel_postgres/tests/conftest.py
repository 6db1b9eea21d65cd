"""One PostgreSQL for all tests of a process, and a schema of each test's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.testing import Postgres

from kessel_core import Clock, SystemClock
from kessel_core.contract import AdapterContext
from kessel_core.testing import VirtualClock

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A server that no test stops."""
    postgres = Postgres()
    postgres.start()
    yield postgres
    postgres.close()


@pytest.fixture
def servers() -> Iterator[Callable[..., Postgres]]:
    """Start servers of a test's own."""
    with ExitStack() as stack:

        def start(**settings: str) -> Postgres:
            postgres = Postgres(**settings)
            stack.callback(postgres.close)
            postgres.start()
            return postgres

        yield start


@pytest.fixture
def schema(server: Postgres) -> str:
    """A schema with the tables, new for each test."""
    name = f"t{next(_numbers)}"
    server.install(name)
    return name


@pytest.fixture
def database(server: Postgres) -> Iterator[psycopg.Connection]:
    """A connection of the test's own."""
    with closing(psycopg.connect(server.url(), autocommit=True)) as connection:
        yield connection


@pytest.fixture
def opened(server: Postgres, schema: str) -> Iterator[Callable[..., PostgresAdapter]]:
    """Open the schema, as often as a test likes."""
    with ExitStack() as stack:

        def open_schema(clock: Clock | None = None, **options: Any) -> PostgresAdapter:
            context = AdapterContext(clock=clock or SystemClock())
            adapter = PostgresAdapter(server.options(schema, **options), context)
            stack.callback(adapter.close)
            return adapter

        yield open_schema


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that moves when something waits."""
    return VirtualClock()


@pytest.fixture
def adapter(opened: Callable[..., PostgresAdapter], clock: VirtualClock) -> PostgresAdapter:
    """An adapter under virtual time, with a lease of 60 s."""
    return opened(clock)
