"""How the suite gets hold of an adapter: what its author writes, in at most ten lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, cast

from kessel_conformance import strength
from kessel_conformance.harness_base import AnyHarness, ServerMissing, filled
from kessel_core import Clock
from kessel_core.contract import (
    AdapterContext,
    AdapterSpec,
    Capabilities,
    Facet,
    FacetKind,
    QueueAdapter,
    VirtualTime,
    facets_of,
)

__all__ = ["Harness", "ServerMissing", "filled"]


class Harness(AnyHarness):
    """Opens one adapter, as often as the suite wants it.

    Subclass it to bring a server (`start`, `stop`, `restart`), to open in another way (`open`),
    or to clean up (`purge`).

    Args:
        spec: What the plugin's `kessel_adapters` hook returns; None finds it by the URL's scheme
            among the installed plugins.
        url: Address. `{namespace}` becomes a name that is new for every case and example,
            `{tmp}` a folder that lives as long as the run, other braces come from `values`.
        options: Options by name, instead of a URL or on top of it; texts may hold braces, too.
        expected_failures: Case id -> reason with a link. Such a case must really fail.
        tolerance: Scheduling noise that is granted on a real clock, beyond what is declared.
        real_clock: Do not use a virtual clock, even if the adapter takes one.
        version: Of the server, for the report.
        disabled: Case id -> reason. Only for what a *server* does now and then, so that it can neither
            pass nor be an expected failure; pytest shows it as a skip, the report as disabled.
        still: Case id -> reason, which is in the report. Such a case gets a server of its own that
            stands still while the case lets time pass: for a server that is wrong by chance at the
            very moment when something is due. It needs `another`.
        servers: Among how many servers the cases are shared out, 1 or more: where a look costs something for
            every job that a server has ever had, several take less time. It needs `another`.
        plans_url: Address for generated plans on a real clock, if other options suit them better.
        refused_url: Address, as `url`, with a user or a password that the server refuses: whoever opens it
            must hear so, and never see the password. Many servers refuse a user that they do not know.
        forks: Whether an adapter that is open when its process forks works in the child as well, as servers
            want that open it before they fork; then that is proved. An adapter need not do so.
        capabilities: What the adapter must declare, exactly; None takes what it declares.
        facets: What the adapter must have, exactly; None takes what it has. With it a facet that is
            lost by mistake is a failure, and not a number of skipped cases.

    Example:
        >>> from kessel_conformance import Harness
        >>> class Server(Harness):
        ...     def start(self):
        ...         self.values["port"] = "11300"
        >>> harness = Server(url="foo://localhost:{port}/{namespace}")
    """

    kind = "adapter"
    spec: AdapterSpec | None

    def __init__(
        self,
        spec: AdapterSpec | None = None,
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
        plans_url: str | None = None,
        refused_url: str | None = None,
        forks: bool = False,
        capabilities: Capabilities | None = None,
        facets: Iterable[FacetKind[Facet]] | None = None,
    ) -> None:
        if spec is None and url is None and type(self).open is Harness.open:
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
        self.plans_url = plans_url
        self.refused_url = refused_url
        self.forks = forks
        self.expected_capabilities = capabilities
        self.expected_facets = None if facets is None else frozenset(cast("Iterable[type[Facet]]", facets))
        self._capabilities: Capabilities | None = None
        self._facets: frozenset[type[Facet]] = frozenset()

    def open(self, clock: Clock, namespace: str) -> QueueAdapter:
        """Return a newly opened adapter; the same namespace shows the same jobs, if they last."""
        return cast("QueueAdapter", self.open_url(self.url, clock, namespace))

    def chosen(self, namespace: str) -> tuple[AdapterSpec, Any] | None:
        """Return what opens a namespace, and its options; None if `open` needs neither a spec nor a URL."""
        if self.spec is None and self.url is None:
            return None
        url, options = self.address(self.url, namespace)
        if self.spec is not None:
            return self.spec, self._structured(url, options)
        assert url is not None
        found = self._installed.chosen_adapter(url, options)
        return cast("AdapterSpec", found.spec), found.options

    def strength(self) -> tuple[int, int]:
        """As `AnyHarness.strength`."""
        return strength.CAUGHT, strength.PLANTED

    def _open_installed(self, url: str, options: Mapping[str, Any], context: AdapterContext) -> QueueAdapter:
        opened: QueueAdapter = self._installed.chosen_adapter(url, options).open(context)
        return opened

    def _look(self, clock: Clock) -> None:
        adapter = self.open(clock, self.namespace())
        try:
            self._capabilities, self._facets = adapter.capabilities, frozenset(facets_of(adapter))
            self._name, self.module = adapter.name, type(adapter).__module__
        finally:
            adapter.close()

    @property
    def _takes_virtual_clock(self) -> bool:
        return VirtualTime in self._facets

    @property
    def capabilities(self) -> Capabilities:
        """What the adapter declares; known once the harness is up."""
        assert self._capabilities is not None, "the harness is not up"
        return self._capabilities

    @property
    def facets(self) -> frozenset[type[Facet]]:
        """The facets that the adapter has; known once the harness is up."""
        return self._facets
