"""Which store an application has: the adapter's own, one with a URL, an open one, or none (S19, S17)."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.entries import Entries, MemoryStore
from kessel_memory.options import MemoryOptions

from kessel_core import (
    AdapterUnavailable,
    CapabilityMissing,
    Config,
    HistoryConfig,
    InvalidConfig,
    JobManager,
    ResultsConfig,
    StoreRejected,
    build_plugins,
    hookimpl,
)
from kessel_core.contract import (
    AdapterContext,
    AdapterSpec,
    FacetKind,
    Message,
    Store,
    StoreSpec,
)
from kessel_core.testing import VirtualClock


class Bare(MemoryAdapter):
    """A memory adapter without a store."""

    name: ClassVar[str] = "bare"

    def facet(self, kind: FacetKind[Any]) -> Any:
        return None if kind is Store else super().facet(kind)


def bare() -> Bare:
    return Bare(MemoryOptions(), AdapterContext(clock=VirtualClock()))


def test_s19_the_adapters_own_store_is_the_default() -> None:
    with JobManager("memory://") as manager:
        assert manager.store is manager.adapter.facet(Store)
        assert manager.store.put("tests", "k", b"v") > 0


def test_s17_without_a_store_what_needs_one_is_refused_with_what_to_set() -> None:
    with (
        JobManager(bare()) as manager,
        pytest.raises(CapabilityMissing, match=r"'bare' .*'store': set store to a URL"),
    ):
        manager.store  # noqa: B018  # asking is what is tested


@pytest.mark.parametrize(
    "config",
    [
        Config(results=ResultsConfig(keep=timedelta(days=1))),
        Config(history=HistoryConfig(keep=timedelta(days=1))),
    ],
    ids=["results", "history"],
)
def test_s17_an_adapter_without_the_store_that_is_needed_does_not_stay_open(config: Config) -> None:
    made: list[Bare] = []

    class Offering:
        @hookimpl
        def kessel_adapters(self) -> Iterable[AdapterSpec]:
            def open_it(options: object, context: AdapterContext) -> Bare:
                made.append(bare())
                return made[-1]

            return [AdapterSpec(name="bare", schemes=("bare",), options=MemoryOptions, open=open_it)]

    plugins = build_plugins(extra={"offering": Offering()}, distributions=[])
    with pytest.raises(CapabilityMissing, match="keep is set; set store to a URL"):
        JobManager("bare://", config=config, plugins=plugins).connect()
    (adapter,) = made
    with pytest.raises(AdapterUnavailable, match="closed"):
        adapter.enqueue(Message("i", "q", b"x", 5))


def test_a_url_opens_a_store_beside_any_adapter_and_closes_it() -> None:
    with JobManager(bare(), store="memory://test_store_opening") as manager:
        store = manager.store
        store.put("tests", "k", b"v")
        with JobManager(bare(), store="memory://test_store_opening", clock=manager.clock) as other:
            assert other.store.get("tests", "k") is not None
        assert store.get("tests", "k") is not None
    with pytest.raises(Exception, match="closed"):
        store.get("tests", "k")


def test_a_store_that_is_given_open_stays_open() -> None:
    entries = Entries(VirtualClock(), threading.RLock())
    store = MemoryStore(entries)
    with JobManager("memory://", store=store) as manager:
        assert manager.store is store
    assert store.get("tests", "k") is None


def test_s19_a_key_that_is_no_text_is_refused_as_any_other() -> None:
    """None failed somewhere inside of each store, as a TypeError or an AttributeError."""
    wrong: Any = None
    with JobManager("memory://") as manager:
        store = manager.store
        for call in (
            lambda: store.get("a", wrong),
            lambda: store.put("a", wrong, b""),
            lambda: store.delete("a", wrong),
            lambda: store.wait("a", wrong, timeout=timedelta(0)),
        ):
            with pytest.raises(StoreRejected, match="the key must be text, got NoneType"):
                call()


def test_a_store_of_a_plugin_is_closed_with_the_manager() -> None:
    closed: list[str] = []

    class Watched(MemoryStore):
        def close(self) -> None:
            closed.append("store")
            super().close()

    class Offering:
        @hookimpl
        def kessel_stores(self) -> Iterable[StoreSpec]:
            def open_it(options: object, context: AdapterContext) -> Watched:
                return Watched(Entries(context.clock, threading.RLock()))

            return [StoreSpec(name="watched", schemes=("watched",), options=MemoryOptions, open=open_it)]

    plugins = build_plugins(extra={"offering": Offering()})
    with JobManager("memory://", store="watched", plugins=plugins):
        assert closed == []
    assert closed == ["store"]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("amqp://h", r"store: no plugin has a store for 'amqp://'"),
        ("sqllite:///x.db", r"store: no plugin has a store for 'sqllite://'"),
        ("memory://x?colour=red", r"memory://x\?colour=red: store.colour: unknown option"),
        ("memory://a:secret@x?colour=red", r"^(?!.*secret)"),
    ],
)
def test_a_wrong_store_is_reported_under_its_option(url: str, text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        JobManager("memory://", store=url).connect()


def test_all_mistakes_of_adapter_and_store_are_reported_at_once() -> None:
    with pytest.raises(InvalidConfig) as caught:
        JobManager("nothing://", store="nowhere://", middleware=("unheard",)).connect()
    assert [problem.where[0] for problem in caught.value.problems] == ["adapter", "store", "middleware"]


def test_what_opens_no_store_is_named() -> None:
    class Wrong:
        @hookimpl
        def kessel_stores(self) -> Iterable[StoreSpec]:
            return [
                StoreSpec(name="wrong", schemes=(), options=MemoryOptions, open=lambda options, context: 7)  # type: ignore[arg-type, return-value]  # the mistake
            ]

    with pytest.raises(Exception, match="store 'wrong' opened a int, not a Store"):
        JobManager("memory://", store="wrong", plugins=build_plugins(extra={"wrong": Wrong()})).connect()


def test_the_store_is_configured_as_an_option() -> None:
    with JobManager(config=Config(adapter="memory://", store="memory://")) as manager:
        assert manager.store is not manager.adapter.facet(Store)
    with pytest.raises(InvalidConfig, match="store"):
        Config(store=" ")
