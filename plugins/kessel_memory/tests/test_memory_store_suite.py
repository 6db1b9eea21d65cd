from kessel_conformance import StoreConformance, StoreHarness
from kessel_memory.plugin import SPEC, STORE


class TestMemoryStore(StoreConformance):
    harness = StoreHarness(STORE, url="memory://{namespace}")


class TestStoreOfTheMemoryAdapter(StoreConformance):
    harness = StoreHarness(SPEC, url="memory://{namespace}")
