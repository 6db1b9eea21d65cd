"""How the suite gets hold of an adapter: what its author writes, in at most ten lines."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final, cast
from urllib.parse import urlsplit

from kessel_core import Clock, InvalidConfig, Problem, SystemClock
from kessel_core.contract import (
    AdapterContext,
    AdapterSpec,
    Capabilities,
    Facet,
    FacetKind,
    QueueAdapter,
    VirtualTime,
    facets_of,
    redacted,
)
from kessel_core.testing import VirtualClock

__all__ = ["Harness", "ServerMissing", "filled"]

_BRACES: Final = re.compile(r"\{\w+\}")


class ServerMissing(Exception):
    """The server that an adapter needs cannot be had here: a skip on a laptop, an error under CI."""


class Harness:
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
        plans_url: Address for generated plans on a real clock, if other options suit them better.
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
        plans_url: str | None = None,
        capabilities: Capabilities | None = None,
        facets: Iterable[FacetKind[Facet]] | None = None,
    ) -> None:
        if spec is None and url is None and type(self).open is Harness.open:
            raise TypeError("a harness needs a spec, a URL, or its own open(clock, namespace)")
        self.spec = spec
        self.url = url
        self.options = dict(options or {})
        self.expected_failures = dict(expected_failures or {})
        self.tolerance = tolerance
        self.real_clock = real_clock
        self.version = version
        self.disabled = dict(disabled or {})
        self.still = dict(still or {})
        self.plans_url = plans_url
        self.expected_capabilities = capabilities
        self.expected_facets = None if facets is None else frozenset(cast("Iterable[type[Facet]]", facets))
        #: What braces in the URL and the options stand for; `start` may add to it.
        self.values: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._tmp: str | None = None
        self._capabilities: Capabilities | None = None
        self._facets: frozenset[type[Facet]] = frozenset()
        self._name: str | None = None
        #: Where the adapter's class is; known once the harness is up.
        self.module: str | None = None

    # --- for authors to override -------------------------------------------------------------

    def start(self) -> None:
        """Bring up what the adapter needs. Called once, before anything is opened.

        Raises:
            ServerMissing: It cannot be had here.
        """

    def stop(self) -> None:
        """Take down what `start` brought up. Called once, at the end, also after a failure."""

    def restart(self) -> None:
        """Stop the server and bring it up again with its data; a harness without it skips such cases."""
        raise NotImplementedError

    def another(self, *, still: bool = False) -> Harness | None:
        """Return a harness of this kind that brings up a server of its own; None if there can be but one.

        With it, a case that restarts the server runs beside the others.

        Args:
            still: Its server stands still during `sleep`.
        """
        return None

    def sleep(self, seconds: float) -> None:
        """Let real time pass; no call to the adapter is under way."""
        time.sleep(max(0.0, seconds))

    def open(self, clock: Clock, namespace: str) -> QueueAdapter:
        """Return a newly opened adapter; the same namespace shows the same jobs, if they last."""
        return self.open_url(self.url, clock, namespace)

    def open_url(self, address: str | None, clock: Clock, namespace: str) -> QueueAdapter:
        """Open an address, with its braces filled in."""
        values = {**self.values, "namespace": namespace, "tmp": self.folder}
        url = filled(address, values) if address is not None else None
        options = {key: filled(value, values) for key, value in self.options.items()}
        unknown = sorted(set(_BRACES.findall(url or "")))
        if unknown:
            known = ", ".join("{" + name + "}" for name in sorted(values))
            raise InvalidConfig([Problem(("adapter",), f"{', '.join(unknown)} is not known; known: {known}")])
        context = AdapterContext(clock=clock)
        if self.spec is None:
            from kessel_core import build_plugins

            assert url is not None
            return build_plugins().chosen_adapter(url, options).open(context)
        from kessel_core.values.options import structure_options

        given = dict(self.spec.from_url(urlsplit(url))) if url is not None else {}
        origin = redacted(url) if url is not None else "options"
        return self.spec.open(structure_options(self.spec.options, {**given, **options}, origin), context)

    def purge(self, namespace: str) -> None:
        """Remove what a case left behind. The suite has already emptied its queues."""

    # --- for the suite -----------------------------------------------------------------------

    @property
    def folder(self) -> str:
        """A temporary folder, made when it is first asked for."""
        if self._tmp is None:
            self._tmp = tempfile.mkdtemp(prefix="kessel-conformance-")
        return self._tmp

    def up(self) -> None:
        """Start, and learn what the adapter declares."""
        self.start()
        try:
            self._probe()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stop, and remove the temporary folder."""
        try:
            self.stop()
        finally:
            if self._tmp is not None:
                shutil.rmtree(self._tmp, ignore_errors=True)
                self._tmp = None

    def _probe(self) -> None:
        # An adapter may take a virtual clock only when it is given one, so that is tried first;
        # nothing but its declaration is read.
        if not self.real_clock:
            adapter = self.open(VirtualClock(), self.namespace())
            try:
                self._learn(adapter)
            finally:
                adapter.close()
            if VirtualTime in self._facets:
                return
        adapter = self.open(SystemClock(), self.namespace())
        try:
            self._learn(adapter)
        finally:
            adapter.close()

    def _learn(self, adapter: QueueAdapter) -> None:
        self._capabilities, self._facets = adapter.capabilities, frozenset(facets_of(adapter))
        self._name, self.module = adapter.name, type(adapter).__module__

    @property
    def capabilities(self) -> Capabilities:
        """What the adapter declares; known once the harness is up."""
        assert self._capabilities is not None, "the harness is not up"
        return self._capabilities

    @property
    def facets(self) -> frozenset[type[Facet]]:
        """The facets that the adapter has; known once the harness is up."""
        return self._facets

    @property
    def adapter_name(self) -> str:
        """The adapter's name; known once the harness is up."""
        return self._name or "?"

    @property
    def virtual(self) -> bool:
        """Whether cases run on a virtual clock: the adapter takes one, and the harness lets it."""
        return VirtualTime in self._facets and not self.real_clock

    @property
    def can_restart(self) -> bool:
        """Whether `restart` is there."""
        return type(self).restart is not Harness.restart

    def clock(self) -> Clock:
        """Return a clock for one case."""
        return VirtualClock() if self.virtual else SystemClock()

    def namespace(self) -> str:
        """Return a name that was not used before, also not by another process or an earlier run."""
        return f"kc{os.urandom(4).hex()}x{next(self._numbers)}"


def filled(value: Any, values: Mapping[str, str]) -> Any:
    """Put values into the braces of a text; other values stay as they are."""
    if not isinstance(value, str):
        return value
    for key, text in values.items():
        value = value.replace("{" + key + "}", text)
    return value
