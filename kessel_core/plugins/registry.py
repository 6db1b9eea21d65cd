"""The loaded plugins of a process: their status, who implements a hook, and what they offer (D1-D4).

Any number of applications may share one `Plugins`: they read it and never change it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import pluggy

from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.store import Store
from kessel_core.errors import PluginClash, PluginError, Problem
from kessel_core.hooks import specs
from kessel_core.plugins import offers, opening
from kessel_core.plugins.hooking import hook_manager
from kessel_core.plugins.status import PluginState, PluginStatus, unusable
from kessel_core.values.logs import get_logger
from kessel_core.values.nearest import nearest_or_all
from kessel_core.values.payload_types import PayloadType
from kessel_core.values.raised import raised

__all__ = ["Implementation", "Plugins"]

log = get_logger("kessel.plugins")

T = TypeVar("T")

#: Kind of offer -> the hook that collects it.
_OFFERING: Mapping[str, Callable[..., object]] = {
    "adapter": specs.kessel_adapters,
    "store": specs.kessel_stores,
    "handler": specs.kessel_handlers,
    "middleware": specs.kessel_middleware,
    "section": specs.kessel_sections,
    "callback": specs.kessel_callbacks,
}


@attrs.frozen(kw_only=True, eq=False)
class Implementation:
    """One plugin's implementation of a hook."""

    #: Name of the hook.
    hook: str
    #: The plugin.
    owner: PluginStatus
    #: The implementation itself.
    function: Callable[..., Any]
    #: Names of the hook's arguments that it accepts, in its own order.
    wanted: tuple[str, ...]

    def __call__(self, **arguments: Any) -> Any:
        """Call it with those of the hook's arguments that it accepts; raises whatever it raises."""
        return self.function(*[arguments[name] for name in self.wanted])


class Plugins:
    """The loaded plugins of a process; created by `build_plugins`, thread-safe.

    What plugins offer is collected when it is first needed, from each plugin once and in isolation.
    """

    def __init__(
        self,
        manager: pluggy.PluginManager,
        report: Sequence[PluginStatus],
        warnings: Sequence[Problem] = (),
    ) -> None:
        #: What is wrong with the configuration of the plugins without stopping anything.
        self.warnings = tuple(warnings)
        self._manager = manager
        self._report = tuple(report)
        self._active = {status.name: status for status in report if status.state is PluginState.ACTIVE}
        #: Plugin -> what was wrong when its hooks were called; grows with each call.
        self._remarks: dict[str, list[str]] = {}
        self._offers: dict[str, offers.Offers] = {}
        self._payload_types: tuple[PayloadType, ...] | None = None
        self._lock = threading.RLock()

    @property
    def report(self) -> list[PluginStatus]:
        """Every plugin that was found, built-in ones first, then sorted by name."""
        return [
            attrs.evolve(status, warnings=(*status.warnings, *self._remarks.get(status.name, ())))
            if status.state is PluginState.ACTIVE
            else status
            for status in self._report
        ]

    def joined(self, parts: Sequence[tuple[PluginStatus, object]]) -> Plugins:
        """Return these plugins and parts of them that belong to one application; this one does not change.

        Args:
            parts: An object with hooks, and the active plugin that it is a part of.
        """
        if not parts:
            return self
        manager = hook_manager(specs)
        for name, plugin in self.objects():
            manager.register(plugin, name=name)
        joined = Plugins(manager, self._report, self.warnings)
        joined._remarks = self._remarks
        joined._active |= self._active  # also of parts that were joined before
        for owner, part in parts:
            # A number of its own, because this owner may have parts from before.
            name = f"{owner.name}#{len(joined._active)}"
            manager.register(part, name=name)
            joined._active[name] = owner
        return joined

    def require(self, name: str) -> None:
        """Check that a plugin is active.

        Raises:
            PluginError: It is not; the error says why.
        """
        if name in self._active:
            return
        for status in self._report:
            if status.name == name:
                raise unusable(status)
        known = [status.name for status in self._report]
        raise PluginError(name, f"it is not installed{nearest_or_all(name, known)}")

    def objects(self) -> list[tuple[str, object]]:
        """Return the active plugins by name, in the order in which they were registered."""
        return [(name, plugin) for name, plugin in self._manager.list_name_plugin() if plugin is not None]

    def implementations(self, hook: Callable[..., object]) -> tuple[Implementation, ...]:
        """Return the implementations of a hook, in the order in which they are called.

        Args:
            hook: The function of the hook in `kessel_core.hooks.specs`.
        """
        name = hook.__name__
        return tuple(
            Implementation(
                hook=name,
                owner=self._active[impl.plugin_name],
                function=impl.function,
                wanted=tuple(impl.argnames),
            )
            for impl in reversed(getattr(self._manager.hook, name).get_hookimpls())
        )

    # --- what plugins offer ---------------------------------------------------------------------

    def ask(
        self, hook: Callable[..., object], question: Callable[[Implementation], T]
    ) -> list[tuple[PluginStatus, T]]:
        """Call each plugin in isolation, in the order of the report; log and skip those that fail."""
        answers: list[tuple[PluginStatus, T]] = []
        for implementation in reversed(self.implementations(hook)):
            try:
                answers.append((implementation.owner, question(implementation)))
            except (Exception, SystemExit) as exc:  # as at import
                failed = f"{implementation.hook} failed: {raised(exc)}"
                self._remark(implementation.owner, failed)
        return answers

    def adapters(self) -> offers.Offers:
        """Return the adapters by name and by `scheme://`."""
        return self._offered("adapter")

    def stores(self) -> offers.Offers:
        """Return the stores by name and by `scheme://`."""
        return self._offered("store")

    def handlers(self) -> offers.Offers:
        """Return the handlers by job type."""
        return self._offered("handler")

    def middleware(self) -> offers.Offers:
        """Return the middleware by name."""
        return self._offered("middleware")

    def sections(self) -> offers.Offers:
        """Return the sections of the configuration by name."""
        return self._offered("section")

    def callbacks(self) -> offers.Offers:
        """Return the callbacks by scheme."""
        return self._offered("callback")

    def payload_types(self) -> tuple[PayloadType, ...]:
        """Return how payloads of others' classes are read and written, in the order of the plugins."""
        with self._lock:
            if self._payload_types is None:
                found: list[PayloadType] = []
                for owner, things in self.ask(specs.kessel_payload_types, _listed):
                    for thing in things:
                        if isinstance(thing, PayloadType):
                            found.append(thing)
                        else:
                            why = f"kessel_payload_types gave {type(thing).__name__}, not a PayloadType"
                            self._remark(owner, why)
                self._payload_types = tuple(found)
            return self._payload_types

    def clashes(self, settled: Iterable[str] = ()) -> list[PluginClash]:
        """Ask all plugins for what they offer, and return the names that several of them do, of every kind.

        Args:
            settled: Job types whose handler the configuration chooses.
        """
        free = {*self.handlers().names} - {*settled}
        self.payload_types()  # which have no names, but whoever fails there belongs into the report
        handlers = [self.handlers().clash(name) for name in sorted(free) if len(self.handlers().of(name)) > 1]
        others = (self.adapters(), self.stores(), self.middleware(), self.sections(), self.callbacks())
        return [*handlers, *(clash for found in others for clash in found.clashes())]

    def chosen_adapter(
        self, url_or_name: str, options: Mapping[str, Any] | None = None
    ) -> opening.Chosen[QueueAdapter]:
        """Find an adapter and check its options, without opening it.

        Args:
            url_or_name: A URL, whose scheme finds the adapter, or an adapter's name.
            options: Additional options; one that is also in the URL is an error.

        Raises:
            InvalidConfig: Unknown adapter or scheme, unknown options or wrong values; all at once.
            PluginError: The plugin that would open it is installed, but not usable (D4).
        """
        return opening.choose(opening.ADAPTERS, self.adapters(), self._report, url_or_name, options or {})

    def chosen_store(self, url_or_name: str) -> opening.Chosen[Store]:
        """Find a store and check its options, without opening it; as `chosen_adapter`.

        Raises:
            InvalidConfig: Unknown store or scheme, unknown options or wrong values; all at once.
            PluginError: The plugin that would open it is installed, but not usable (D4).
        """
        return opening.choose(opening.STORES, self.stores(), self._report, url_or_name, {})

    def _offered(self, kind: str) -> offers.Offers:
        with self._lock:
            if kind not in self._offers:
                found = offers.gathered(kind, self.ask(_OFFERING[kind], _things))
                for owner, text in found.rejected:
                    self._remark(owner, text)
                if kind == "callback":  # only requests name one, so no check at start would report it
                    for clash in found.clashes():
                        log.warning("%s", clash)
                self._offers[kind] = found
            return self._offers[kind]

    def _remark(self, owner: PluginStatus, text: str) -> None:
        """Note and log what is wrong with a plugin, once."""
        with self._lock:
            known = self._remarks.setdefault(owner.name, [])
            if text in known:
                return
            known.append(text)
        log.warning("plugin %s: %s", owner.owner, text, extra={"plugin": owner.name})


def _things(implementation: Implementation) -> Mapping[Any, Any] | list[Any]:
    offer = implementation()
    return offer if isinstance(offer, Mapping) else list(offer)


def _listed(implementation: Implementation) -> list[object]:
    return list(implementation())
