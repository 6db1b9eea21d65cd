from kessel_conformance import AdapterConformance, Harness
from kessel_memory.plugin import SPEC

from kessel_core.contract import Browse, Buried, Delete, Find, Pause, Store, VirtualTime


class TestMemory(AdapterConformance):
    harness = Harness(
        SPEC,
        url="memory://{namespace}?max_body_bytes=70000&lease=20s",
        facets=(Browse, Buried, Delete, Find, Pause, Store, VirtualTime),
    )
