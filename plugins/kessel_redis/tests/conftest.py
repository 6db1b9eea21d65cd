"""One Redis for all tests of a process, and a namespace of each test's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kessel_redis.adapter import RedisAdapter
from kessel_redis.link import Refused
from kessel_redis.scripts import packed
from kessel_redis.testing import Redis

from kessel_core import Clock, SystemClock
from kessel_core.contract import AdapterContext

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[Redis]:
    """A server that no test stops."""
    redis = Redis()
    redis.start()
    yield redis
    redis.close()


@pytest.fixture
def servers() -> Iterator[Callable[..., Redis]]:
    """Start servers of a test's own."""
    with ExitStack() as stack:

        def start(**settings: str) -> Redis:
            redis = Redis(**settings)
            stack.callback(redis.close)
            redis.start()
            return redis

        yield start


@pytest.fixture
def namespace() -> str:
    """A name that is new for each test."""
    return f"t{next(_numbers)}"


@pytest.fixture
def opened(server: Redis, namespace: str) -> Iterator[Callable[..., RedisAdapter]]:
    """Open the namespace, as often as a test likes."""
    with ExitStack() as stack:

        def open_namespace(
            clock: Clock | None = None, at: Redis | None = None, **options: Any
        ) -> RedisAdapter:
            context = AdapterContext(clock=clock or SystemClock())
            adapter = RedisAdapter((at or server).options(**{"namespace": namespace, **options}), context)
            stack.callback(adapter.close)
            return adapter

        yield open_namespace


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Run a command of Redis through an adapter's connections, as nobody else does."""

    def run(adapter: RedisAdapter, *parts: str | bytes) -> Any:
        link = adapter.database.pool.borrow()
        try:
            encoded = [part.encode() if isinstance(part, str) else part for part in parts]
            answer = link.run(packed(*encoded), 1)[0]
        finally:
            adapter.database.pool.give(link)
        assert not isinstance(answer, Refused), answer
        return answer

    return run
