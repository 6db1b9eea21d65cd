"""Slots that wait for jobs, each in a thread, over an adapter on a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeAlias

from kessel_core.contract import COMMIT, AdapterUnavailable, Consumer
from tests.until import until

__all__ = ["Waiting", "waiting_slots"]

#: Lets so many slots wait over an adapter, for jobs of one queue, and returns what they got so far.
Waiting: TypeAlias = Callable[..., list[Any]]

_LONG = timedelta(seconds=30)


@contextmanager
def waiting_slots() -> Iterator[Waiting]:
    """Let slots wait in threads while this is entered; each takes one job, and commits it."""
    threads: list[threading.Thread] = []
    consumers: list[Consumer] = []

    def wait(adapter: Any, count: int, queue: str = "q") -> list[Any]:
        got: list[Any] = []

        def slot() -> None:
            consumer = adapter.consumer([queue])
            consumers.append(consumer)
            try:
                found = consumer.reserve(_LONG)
            except AdapterUnavailable:
                assert adapter._is_closed  # just now, while this one looked
                return
            if found is not None:
                got.append(found)
                consumer.settle(found, COMMIT)

        for _ in range(count):
            threads.append(threading.Thread(target=slot))
            threads[-1].start()
        until(lambda: len(adapter.line._waiters) >= count)
        return got

    yield wait
    for consumer in consumers:
        consumer.cancel()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
