from kessel_conformance import AdapterConformance, Harness
from kessel_memory.plugin import SPEC

from kessel_core.contract import Browse, Buried, Delete, Pause, Results, VirtualTime


class TestMemory(AdapterConformance):
    harness = Harness(
        SPEC,
        url="memory://{namespace}?max_body_bytes=70000&lease=20s&keep_results=100",
        facets=(Browse, Buried, Delete, Pause, Results, VirtualTime),
    )
