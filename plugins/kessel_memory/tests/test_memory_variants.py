"""The same suite on other options: the other order among equals, and no results (S6, S17)."""

from __future__ import annotations

from kessel_conformance import AdapterConformance, Harness
from kessel_memory.plugin import SPEC

from kessel_core.contract import Browse, Buried, Delete, Find, Pause, Store, VirtualTime


class TestMemoryInOrderOfEnqueueing(AdapterConformance):
    harness = Harness(
        SPEC,
        url="memory://{namespace}?tie_break=enqueued&lease=20s",
        facets=(Browse, Buried, Delete, Find, Pause, Store, VirtualTime),
    )
