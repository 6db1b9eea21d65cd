from kessel_conformance import AdapterConformance, Harness
from kessel_memory.plugin import SPEC


class TestMemory(AdapterConformance):
    harness = Harness(SPEC, url="memory://{namespace}?max_body_bytes=70000&lease=20s&keep_results=100")
