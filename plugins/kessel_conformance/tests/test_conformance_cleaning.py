"""What a case opened is closed, whatever fails while it is cleaned up: a failing case may be repeated."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from kessel_conformance import Harness, StoreHarness
from kessel_conformance.bench import Bench
from kessel_conformance.lockstep import run_lockstep
from kessel_conformance.machine import run_machine
from kessel_conformance.stores.bench import StoreBench
from kessel_memory.plugin import SPEC, STORE

from kessel_core import Clock
from kessel_core.contract import AdapterUnavailable, QueueAdapter, Store


def _unavailable(*arguments: object, **named: object) -> None:
    raise AdapterUnavailable("it went away")


class _GoesAway(Harness):
    """Opens adapters that can be closed, and whose consumers and queues cannot be cleaned up."""

    def __init__(self, breaks: str) -> None:
        super().__init__(SPEC, "memory://")
        self._breaks = breaks
        self.opened = self.closed = 0

    def open(self, clock: Clock, namespace: str) -> QueueAdapter:
        adapter = super().open(clock, namespace)
        consumer, close = adapter.consumer, adapter.close

        def opens(queues: list[str]) -> object:
            made = consumer(queues)
            if self._breaks == "consumer":
                setattr(made, "close", _unavailable)  # noqa: B010
            return made

        def closes() -> None:
            self.closed += 1
            close()

        for name, method in ("consumer", opens), ("close", closes):
            setattr(adapter, name, method)
        if self._breaks == "purge":
            setattr(adapter, "purge", _unavailable)  # noqa: B010
        self.opened += 1
        return adapter


def _case(harness: Harness) -> None:
    with Bench(harness) as bench:
        bench.consumer()


def _plans(harness: Harness) -> None:
    run_lockstep(harness, queues=2, rounds=3, seed=1)


def _machine(harness: Harness) -> None:
    run_machine(harness, examples=1, steps=3, seed=1, shrink=False)


@pytest.mark.parametrize("breaks", ["consumer", "purge"])
@pytest.mark.parametrize("run", [_case, _plans, _machine])
def test_adapters_are_closed_where_cleaning_up_fails(run: Callable[[Harness], None], breaks: str) -> None:
    harness = _GoesAway(breaks)
    harness.up()
    try:
        with suppress(AdapterUnavailable):
            run(harness)
    finally:
        harness.down()
    assert harness.opened == harness.closed > 1


class _StoreGoesAway(StoreHarness):
    opened = closed = 0

    def open(self, clock: Clock, namespace: str) -> Store:
        store = super().open(clock, namespace)
        setattr(store, "scan", _unavailable)  # noqa: B010
        self.opened += 1
        return store

    def close(self, store: Store) -> None:
        self.closed += 1
        super().close(store)


def test_stores_are_closed_where_cleaning_up_fails() -> None:
    harness = _StoreGoesAway(STORE, "memory://")
    harness.up()
    try:
        with pytest.raises(AdapterUnavailable), StoreBench(harness) as bench:
            bench.in_real_time()
    finally:
        harness.down()
    assert harness.opened == harness.closed == 3
