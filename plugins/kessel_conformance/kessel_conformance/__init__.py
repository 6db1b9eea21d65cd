"""The suite by which any queue adapter proves itself.

    from kessel_conformance import AdapterConformance, Harness
    from kessel_adapter_foo.plugin import SPEC

    class TestFoo(AdapterConformance):
        harness = Harness(SPEC, url="foo://localhost:1234/{namespace}")

Names load when they are used, so that the pytest plugin costs nothing in other projects.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench
    from kessel_conformance.catalogue import SUITE_VERSION, Case, Level, case
    from kessel_conformance.handler_suite import HandlerConformance, HandlerExample
    from kessel_conformance.harness import Harness, ServerMissing
    from kessel_conformance.history import Violation
    from kessel_conformance.middleware_suite import MiddlewareConformance
    from kessel_conformance.outcome import Outcome, Verdict
    from kessel_conformance.proxy import Cut, FaultProxy, Traffic
    from kessel_conformance.runner import Run, run_suite
    from kessel_conformance.server import ServerHarness, StoreServerHarness
    from kessel_conformance.settings import Settings
    from kessel_conformance.stores.bench import StoreBench
    from kessel_conformance.stores.harness import StoreHarness
    from kessel_conformance.stores.suite import StoreConformance
    from kessel_conformance.suite import AdapterConformance

__all__ = [
    "SUITE_VERSION",
    "AdapterConformance",
    "Bench",
    "Case",
    "Cut",
    "FaultProxy",
    "HandlerConformance",
    "HandlerExample",
    "Harness",
    "Level",
    "MiddlewareConformance",
    "Outcome",
    "Run",
    "ServerHarness",
    "ServerMissing",
    "Settings",
    "StoreBench",
    "StoreConformance",
    "StoreHarness",
    "StoreServerHarness",
    "Traffic",
    "Verdict",
    "Violation",
    "case",
    "run_suite",
]

_HOMES = {
    "SUITE_VERSION": "catalogue",
    "AdapterConformance": "suite",
    "Bench": "bench",
    "Case": "catalogue",
    "Cut": "proxy",
    "FaultProxy": "proxy",
    "HandlerConformance": "handler_suite",
    "HandlerExample": "handler_suite",
    "Harness": "harness",
    "Level": "catalogue",
    "MiddlewareConformance": "middleware_suite",
    "Outcome": "runner",
    "Run": "runner",
    "ServerHarness": "server",
    "ServerMissing": "harness",
    "Settings": "settings",
    "StoreBench": "stores.bench",
    "StoreConformance": "stores.suite",
    "StoreHarness": "stores.harness",
    "StoreServerHarness": "server",
    "Traffic": "proxy",
    "Verdict": "runner",
    "Violation": "history",
    "case": "catalogue",
    "run_suite": "runner",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
