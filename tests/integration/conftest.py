"""Servers of those tests that ask the same of PostgreSQL and of Redis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.testing import Postgres
from kessel_redis.adapter import RedisAdapter
from kessel_redis.testing import Redis

from kessel_core import Clock, SystemClock
from kessel_core.contract import AdapterContext

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["postgres", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One of the two."""
    with closing(Postgres() if request.param == "postgres" else Redis()) as one:
        one.start()
        yield one


@pytest.fixture
def opened(server: Any) -> Iterator[Callable[..., Any]]:
    """Open the same jobs, as often as a test likes."""
    name = f"t{next(_numbers)}"
    kind = PostgresAdapter if isinstance(server, Postgres) else RedisAdapter
    if isinstance(server, Postgres):
        server.install(name)
    with ExitStack() as stack:

        def open_one(clock: Clock | None = None, **options: Any) -> Any:
            context = AdapterContext(clock=clock or SystemClock())
            adapter = kind(server.options(name, **options), context)
            stack.callback(adapter.close)
            return adapter

        yield open_one
