"""Fixtures of the memory adapter's own tests: an adapter on a virtual clock, and short ways to use it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import Clock
from kessel_core.contract import AdapterContext, Message
from kessel_core.testing.clock import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that only tests, and waits, move."""
    return VirtualClock()


@pytest.fixture
def opened(clock: VirtualClock) -> Iterator[Callable[..., MemoryAdapter]]:
    """Opens adapters with options; they are closed afterwards."""
    adapters: list[MemoryAdapter] = []

    def open_(on: Clock = clock, **options: Any) -> MemoryAdapter:
        adapters.append(MemoryAdapter(MemoryOptions(**options), AdapterContext(clock=on)))
        return adapters[-1]

    yield open_
    for adapter in adapters:
        adapter.close()


@pytest.fixture
def adapter(opened: Callable[..., MemoryAdapter]) -> MemoryAdapter:
    """A private adapter with default options."""
    return opened()


@pytest.fixture
def message(clock: VirtualClock) -> Callable[..., Message]:
    """Makes messages with ids 1, 2, 3 ...; a delay may be a span from now."""
    numbers = itertools.count(1)

    def make(
        job_id: str = "",
        queue: str = "default",
        *,
        priority: int = 65536,
        delay: datetime | timedelta | None = None,
        body: bytes = b"{}",
    ) -> Message:
        at = clock.now() + delay if isinstance(delay, timedelta) else delay
        return Message(job_id or str(next(numbers)), queue, body, priority, at)

    return make
