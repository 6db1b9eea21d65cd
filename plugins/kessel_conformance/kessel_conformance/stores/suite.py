"""The class that the author of a store derives from."""

from __future__ import annotations

from typing import ClassVar

from kessel_conformance.stores.harness import StoreHarness
from kessel_conformance.suite import CatalogueSuite

__all__ = ["StoreConformance"]


class StoreConformance(CatalogueSuite):
    """Derive a class named `Test...` and give it a `harness`."""

    #: How the store is opened.
    harness: ClassVar[StoreHarness]
    _harness_class = StoreHarness
