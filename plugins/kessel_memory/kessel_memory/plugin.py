"""The plugin: offers the adapter; loads its code only when an adapter opens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kessel_core.contract import AdapterContext, AdapterSpec, StoreSpec
from kessel_core.hooks import hookimpl
from kessel_memory.options import MemoryOptions, MemoryStoreOptions, memory_url_options

if TYPE_CHECKING:
    from kessel_memory.adapter import MemoryAdapter
    from kessel_memory.entries import MemoryStore

__all__ = ["SPEC", "STORE", "kessel_adapters", "kessel_stores"]


def _open(options: MemoryOptions, context: AdapterContext) -> MemoryAdapter:
    from kessel_memory.adapter import MemoryAdapter

    return MemoryAdapter(options, context)


def _open_store(options: MemoryStoreOptions, context: AdapterContext) -> MemoryStore:
    from kessel_memory.entries import open_store

    return open_store(options, context)


SPEC = AdapterSpec(
    name="memory",
    schemes=("memory",),
    options=MemoryOptions,
    open=_open,
    from_url=memory_url_options,
    summary="in this process only: for tests, demos and jobs that may be lost with it",
)


STORE = StoreSpec(
    name="memory",
    schemes=("memory",),
    options=MemoryStoreOptions,
    open=_open_store,
    from_url=memory_url_options,
    summary="in this process only: for tests, and for what may be lost with it",
)


@hookimpl
def kessel_adapters() -> Iterable[AdapterSpec]:
    """Offer the adapter `memory`, opened by `memory://` or `memory://name`."""
    return [SPEC]


@hookimpl
def kessel_stores() -> Iterable[StoreSpec]:
    """Offer the store `memory`, opened by `memory://` or `memory://name`."""
    return [STORE]
