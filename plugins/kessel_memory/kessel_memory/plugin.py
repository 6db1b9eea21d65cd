"""The plugin: offers the adapter; loads its code only when an adapter opens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kessel_core.contract import AdapterContext, AdapterSpec
from kessel_core.hooks import hookimpl
from kessel_memory.options import MemoryOptions, memory_url_options

if TYPE_CHECKING:
    from kessel_memory.adapter import MemoryAdapter

__all__ = ["SPEC", "kessel_adapters"]


def _open(options: MemoryOptions, context: AdapterContext) -> MemoryAdapter:
    from kessel_memory.adapter import MemoryAdapter

    return MemoryAdapter(options, context)


SPEC = AdapterSpec(
    name="memory",
    schemes=("memory",),
    options=MemoryOptions,
    open=_open,
    from_url=memory_url_options,
    summary="in this process only: for tests, demos and jobs that may be lost with it",
)


@hookimpl
def kessel_adapters() -> Iterable[AdapterSpec]:
    """Offer the adapter `memory`, opened by `memory://` or `memory://name`."""
    return [SPEC]
