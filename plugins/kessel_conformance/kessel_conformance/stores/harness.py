"""How the suite gets hold of a store: one of its own, or that of an adapter."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from kessel_conformance.harness_base import AnyHarness
from kessel_conformance.stores import strength
from kessel_conformance.stores.child import Opening
from kessel_core import Clock
from kessel_core.contract import (
    AdapterContext,
    AdapterSpec,
    QueueAdapter,
    Store,
    StoreCapabilities,
    StoreSpec,
    need,
)

__all__ = ["StoreHarness"]


class StoreHarness(AnyHarness):
    """Opens one store, as often as the suite wants it.

    Subclass it to bring a server (`start`, `stop`, `restart`), to open in another way (`open`, `close`), or
    to clean up (`purge`).

    Args:
        spec: What the plugin's `kessel_stores` hook returns; or its `kessel_adapters` hook, for the store
            that an adapter has as a facet. None finds a store by the URL's scheme among the installed
            plugins. Other processes import it, so it has to be a global name of a module.
        url: Address. `{namespace}` becomes a name that is new for every case and example,
            `{tmp}` a folder that lives as long as the run, other braces come from `values`. Without
            `{namespace}` all cases share the store, each with spaces of its own.
        options: Options by name, instead of a URL or on top of it; texts may hold braces, too.
        expected_failures: Case id -> reason with a link. Such a case must really fail.
        tolerance: Scheduling noise that is granted on a real clock.
        real_clock: Do not use a virtual clock, even if the store takes one.
        version: Of the server, for the report.
        disabled: Case id -> reason; as for `Harness`.
        still: Case id -> reason; as for `Harness`.
        servers: Among how many servers the cases are shared out; as for `Harness`.
        capabilities: What the store must declare, exactly; None takes what it declares.

    Example:
        >>> from kessel_conformance import StoreHarness
        >>> harness = StoreHarness(url="foo://localhost/{namespace}")
    """

    kind = "store"
    #: Longest wait for what must come at once; a wait that takes all of it was not woken.
    long_wait: ClassVar[timedelta] = timedelta(seconds=10)

    def __init__(
        self,
        spec: StoreSpec | AdapterSpec | None = None,
        url: str | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        expected_failures: Mapping[str, str] | None = None,
        tolerance: timedelta = timedelta(milliseconds=250),
        real_clock: bool = False,
        version: str | None = None,
        disabled: Mapping[str, str] | None = None,
        still: Mapping[str, str] | None = None,
        servers: int = 1,
        capabilities: StoreCapabilities | None = None,
    ) -> None:
        if spec is None and url is None and type(self).open is StoreHarness.open:
            raise TypeError("a harness needs a spec, a URL, or its own open(clock, namespace)")
        super().__init__(
            spec,
            url,
            options=options,
            expected_failures=expected_failures,
            tolerance=tolerance,
            real_clock=real_clock,
            version=version,
            disabled=disabled,
            still=still,
            servers=servers,
        )
        self.expected_capabilities = capabilities
        self._capabilities: StoreCapabilities | None = None
        #: The adapters whose facets are open.
        self._adapters: dict[int, QueueAdapter] = {}

    def open(self, clock: Clock, namespace: str) -> Store:
        """Return a newly opened store; the same namespace shows the same entries, if they last."""
        opened = self.open_url(self.url, clock, namespace)
        if isinstance(opened, QueueAdapter):
            return self._facet_of(opened)
        assert isinstance(opened, Store)
        return opened

    def _facet_of(self, adapter: QueueAdapter) -> Store:
        store = need(adapter, Store)
        self._adapters[id(store)] = adapter
        return store

    def close(self, store: Store) -> None:
        """Close a store that was opened here; that of an adapter is closed with it."""
        adapter = self._adapters.pop(id(store), None)
        (store if adapter is None else adapter).close()

    # --- for the suite -----------------------------------------------------------------------

    def opening(self, namespace: str) -> Opening:
        """Return how another process opens the same store.

        Raises:
            LookupError: It cannot: the spec is not a global name of a module, or the harness has a way of its
                own to open.
        """
        if type(self).open is not StoreHarness.open:
            raise LookupError("the harness has an open() of its own, which another process does not have")
        return self._opening(namespace)

    def _opening(self, namespace: str) -> Opening:
        url, options = self.address(self.url, namespace)
        kind = "adapter" if isinstance(self.spec, AdapterSpec) else "store"
        return Opening(kind, None if self.spec is None else _global_name(self.spec), url, options)

    def strength(self) -> tuple[int, int]:
        """As `AnyHarness.strength`."""
        return strength.CAUGHT, strength.PLANTED

    def _open_installed(self, url: str, options: Mapping[str, Any], context: AdapterContext) -> Store:
        opened: Store = self._installed.chosen_store(url).open(context)
        return opened

    def _look(self, clock: Clock) -> None:
        store = self.open(clock, self.namespace())
        try:
            self._capabilities = store.capabilities
            self._name, self.module = store.name, type(store).__module__
        finally:
            self.close(store)

    @property
    def _takes_virtual_clock(self) -> bool:
        return self.capabilities.virtual_time

    @property
    def capabilities(self) -> StoreCapabilities:
        """What the store declares; known once the harness is up."""
        assert self._capabilities is not None, "the harness is not up"
        return self._capabilities


def _global_name(spec: StoreSpec | AdapterSpec) -> str:
    """Return `module:name` of a spec; the module of its function is looked at first."""
    own = sys.modules.get(getattr(spec.open, "__module__", ""))
    for module in [own, *list(sys.modules.values())]:
        for name, value in list(vars(module).items()) if module is not None else ():
            if value is spec:
                assert module is not None
                return f"{module.__name__}:{name}"
    raise LookupError(f"the spec of {spec.name!r} must be a global name of a module, for other processes")
