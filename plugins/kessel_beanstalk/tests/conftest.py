"""A real beanstalkd of each test's own, on a free loopback port, stopped by its process id."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.options import BeanstalkOptions
from kessel_beanstalk.testing import Beanstalkd
from kessel_conformance import FaultProxy

from kessel_core import SystemClock
from kessel_core.contract import AdapterContext


@pytest.fixture
def servers() -> Iterator[Callable[..., Beanstalkd]]:
    """Start servers with the arguments a test wants."""
    started: list[Beanstalkd] = []

    def start(*arguments: str, before: str = ":") -> Beanstalkd:
        server = Beanstalkd(*arguments, before=before)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def server(servers: Callable[..., Beanstalkd]) -> Beanstalkd:
    """A server without a binlog."""
    return servers()


@pytest.fixture
def durable(servers: Callable[..., Beanstalkd], tmp_path: Path) -> Beanstalkd:
    """A server with a binlog that is synced at every write."""
    (tmp_path / "binlog").mkdir()
    return servers("-b", str(tmp_path / "binlog"), "-f", "0")


@pytest.fixture
def opened() -> Iterator[Callable[..., BeanstalkAdapter]]:
    """Open adapters on a port; closed after the test."""
    with contextlib.ExitStack() as stack:

        def open_port(port: int, **options: Any) -> BeanstalkAdapter:
            adapter = BeanstalkAdapter(
                BeanstalkOptions(**{"host": "127.0.0.1", "port": port, **options}),
                AdapterContext(clock=SystemClock()),
            )
            stack.callback(adapter.close)
            return adapter

        yield open_port


@pytest.fixture
def adapter(opened: Callable[..., BeanstalkAdapter], server: Beanstalkd) -> BeanstalkAdapter:
    """An adapter on a server without a binlog."""
    return opened(server.port)


@pytest.fixture
def proxied_to() -> Iterator[Callable[[Beanstalkd], FaultProxy]]:
    """Put proxies in front of servers."""
    with contextlib.ExitStack() as stack:

        def put(server: Beanstalkd) -> FaultProxy:
            proxy = FaultProxy(server.port)
            stack.callback(proxy.close)
            return proxy

        yield put


@pytest.fixture
def proxied(proxied_to: Callable[[Beanstalkd], FaultProxy], server: Beanstalkd) -> FaultProxy:
    """A proxy in front of the server without a binlog."""
    return proxied_to(server)
