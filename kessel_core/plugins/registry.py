"""The plugins of one application: loaded, asked what they offer, and watched (D1-D4).

`build_plugins` returns a new `Plugins` each time; there is no global one, and importing this module
loads nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.spec import AdapterContext, AdapterSpec
from kessel_core.errors import InvalidConfig, PluginError, UnusablePlugin
from kessel_core.features import BUILTIN
from kessel_core.hooks import specs
from kessel_core.plugins.discovery import Load, PluginStatus, discover, load, register
from kessel_core.plugins.opening import KNOWN_DISTRIBUTIONS, ChosenAdapter, chosen, key_of
from kessel_core.values.nearest import nearest_or_all

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    from kessel_core.model.result import JobResult
__all__ = ["Plugins", "build_plugins"]


log = logging.getLogger("kessel.plugins")


def build_plugins(
    *,
    disabled: Sequence[str] = (),
    required: Sequence[str] = (),
    extra: Mapping[str, object] | None = None,
    distributions: Iterable[Distribution] | None = None,
) -> Plugins:
    """Find and load the plugins.

    Args:
        disabled: Names of plugins that are not even imported.
        required: Names of plugins that must be active.
        extra: Further plugins by name: modules or objects with hooks, for tests and applications.
        distributions: Where to look; None: all installed distributions.

    Raises:
        PluginError: A required plugin is not active; every other failure is in the report.
    """
    manager = pluggy.PluginManager("kessel")
    manager.add_hookspecs(specs)
    report: list[PluginStatus] = []
    for name, module in BUILTIN.items():
        status = PluginStatus(name=name, distribution="kessel-core", module=module)
        register(import_module(module), status, manager)
        report.append(status)
        if name in disabled:
            text = "is built in and stays: leave it out of `middleware` instead"
            status.warn(text)
            log.warning("plugins.disabled: %r %s", name, text)
    for name, plugin in (extra or {}).items():
        status = PluginStatus(name=name, module=repr(plugin)[:80])
        register(plugin, status, manager)
        report.append(status)
    for found, judged in discover(distributions):
        if found.entry.name in disabled:
            report.append(found.status(Load.DISABLED, "disabled by the configuration"))
        elif judged is not None:
            report.append(judged)
        elif manager.has_plugin(found.entry.name):
            owner = next(status.distribution for status in report if status.name == found.entry.name)
            report.append(
                found.status(Load.CONFLICT, f"the name {found.entry.name!r} is taken by {owner} itself")
            )
        else:
            report.append(load(found, manager))
    plugins = Plugins(manager, report)
    for name in required:
        plugins.require(name)
    return plugins


@attrs.frozen(kw_only=True, eq=False)
class Implementation:
    """One plugin's implementation of a hook."""

    hook: str
    owner: PluginStatus
    function: Callable[..., Any]
    #: Names of the arguments of the hook that it wants, in its order.
    arguments: tuple[str, ...]


class Plugins:
    """The loaded plugins of one application; made by `build_plugins`, never changed by those who use it."""

    def __init__(self, manager: pluggy.PluginManager, report: list[PluginStatus]) -> None:
        #: The pluggy manager, with every active plugin registered under its name.
        self.manager = manager
        #: Every plugin that was found, built-in ones first, then sorted by name.
        self.report = report
        #: What two plugins claim -> the text that says so.
        self.clashes: dict[str, str] = {}

    def require(self, name: str) -> None:
        """Check that a plugin that the configuration names is active.

        Raises:
            PluginError: It is not; says why.
        """
        for status in self.report:
            if status.name == name:
                if status.status is not Load.ACTIVE:
                    why = f"{status.status}: {status.why}"
                    raise PluginError(name, why, status.distribution) from status.error
                return
        known = [status.name for status in self.report]
        raise PluginError(name, f"it is not installed{nearest_or_all(name, known)}")

    # --- what plugins offer ---------------------------------------------------------------------

    def _offers(self, hook: Callable[..., object]) -> Iterator[tuple[PluginStatus, Any]]:
        """Ask every plugin alone; one that fails is warned about and left out."""
        for impl in reversed(self.implementations(hook)):
            status = impl.owner
            try:
                offer = impl.function()
                offer = offer if isinstance(offer, Mapping) else list(offer)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:  # SystemExit, too, as at import
                text = f"{impl.hook} failed: {type(exc).__name__}: {exc}"
                if status.warn(text):
                    log.warning("plugin %s: %s", status.owner, text, extra={"plugin": status.name})
            else:
                yield status, offer

    def named(self, hook: Callable[..., object], what: str) -> dict[str, tuple[PluginStatus, Any]]:
        """Collect a mapping of names; what two plugins claim is nobody's, and both are warned about."""
        found: dict[str, tuple[PluginStatus, Any]] = {}
        clashed: set[str] = set()
        for status, offer in self._offers(hook):
            for name, thing in offer.items() if isinstance(offer, Mapping) else ():
                if name in found:
                    self._clash(f"{what} {name!r}", found[name][0], status)
                    clashed.add(name)
                else:
                    found[name] = (status, thing)
        return {name: thing for name, thing in found.items() if name not in clashed}

    def _clash(self, what: str, *claimants: PluginStatus) -> None:
        owners = " and by ".join(status.owner for status in claimants)
        text = f"{what} is claimed by {owners}; disable one of them"
        new = [status.warn(text) for status in claimants]
        if any(new):
            log.warning("%s", text)
        self.clashes[what] = text

    def owned_adapters(self) -> dict[str, tuple[PluginStatus, AdapterSpec]]:
        """Return the adapters by name, each with its plugin; as `adapters` otherwise."""
        claims: dict[str, list[tuple[PluginStatus, AdapterSpec]]] = {}
        for status, offer in self._offers(specs.kessel_adapters):
            for spec in offer:
                if not isinstance(spec, AdapterSpec):
                    status.warn(f"kessel_adapters gave {type(spec).__name__}, not an AdapterSpec")
                    continue
                for key in {spec.name, *(f"{scheme}://" for scheme in spec.schemes)}:
                    claims.setdefault(key, []).append((status, spec))
        clashed: set[str] = set()
        for key, claimants in sorted(claims.items()):
            if len(claimants) > 1:
                self._clash(f"adapter {key!r}", *(status for status, _ in claimants))
                clashed.update(spec.name for _, spec in claimants)
        owned = {spec.name: (status, spec) for claimants in claims.values() for status, spec in claimants}
        return {name: owned[name] for name in sorted(owned) if name not in clashed}

    def adapters(self) -> dict[str, AdapterSpec]:
        """Return the adapters by name; one whose name or scheme two plugins claim is left out."""
        return {name: spec for name, (_, spec) in self.owned_adapters().items()}

    def chosen_adapter(self, url_or_name: str, options: Mapping[str, Any] | None = None) -> ChosenAdapter:
        """Find an adapter and check its options, without opening it.

        Args:
            url_or_name: A URL, whose scheme finds the adapter, or an adapter's name.
            options: Further options; one that is also in the URL is an error.

        Raises:
            InvalidConfig: Unknown adapter or scheme, unknown options or wrong values; all at once.
            PluginError: The plugin that would open it is there, but not usable (D4).
        """
        specs = self.adapters()
        found = chosen(specs.values(), url_or_name, options)
        if found is not None:
            return found
        key = key_of(url_or_name)
        if (clash := self.clashes.get(f"adapter {key!r}")) is not None:
            raise InvalidConfig([UnusablePlugin(("adapter",), clash)], "unknown adapter")
        name, is_url, _ = key.partition("://")
        distribution = KNOWN_DISTRIBUTIONS.get(name)
        owned = [status for status in self.report if status.distribution == distribution]
        for status in owned:
            self.require(status.name)
        if distribution is not None and not owned:
            hint = f"; run: pip install {distribution}"
        else:
            known = {word for spec in specs.values() for word in (spec.schemes if is_url else (spec.name,))}
            is_path = not is_url and not set(name).isdisjoint("/.:")
            hint = "; write a URL, as sqlite:///jobs.db" if is_path else nearest_or_all(name, known)
        text = self.blamed(f"no plugin opens {key!r}{hint}")
        raise InvalidConfig([UnusablePlugin(("adapter",), text)], "unknown adapter")

    def adapter_for(
        self, url_or_name: str, options: Mapping[str, Any] | None = None, *, context: AdapterContext
    ) -> QueueAdapter:
        """Open an adapter: `chosen_adapter`, then its `open`, with what they raise.

        Args:
            url_or_name: A URL, whose scheme finds the adapter, or an adapter's name.
            options: Further options; one that is also in the URL is an error.
            context: What the application gives to adapters.
        """
        return self.chosen_adapter(url_or_name, options).open(context)

    def blamed(self, text: str) -> str:
        """Add which plugins are not usable: the one that is looked for may be among them."""
        broken = [f"{s.owner}: {s.why}" for s in self.report if s.is_broken]
        return f"{text} (not usable now: {'; '.join(broken)})" if broken else text

    def handlers(self) -> list[tuple[str, object]]:
        """Return what plugins offer as handlers, each with its source."""
        return [(f"plugin {status.owner}", offer) for status, offer in self._offers(specs.kessel_handlers)]

    def callbacks(self) -> dict[str, Callable[[JobResult, str], object]]:
        """Return the callbacks by scheme."""
        return {name: thing for name, (_, thing) in self.named(specs.kessel_callbacks, "callback").items()}

    def implementations(self, hook: Callable[..., object]) -> tuple[Implementation, ...]:
        """Return who implements a hook, in the order in which they are called.

        Args:
            hook: Its function in `kessel_core.hooks.specs`.
        """
        name = hook.__name__
        by_name = {status.name: status for status in self.report}
        return tuple(
            Implementation(
                hook=name,
                owner=by_name.get(impl.plugin_name) or PluginStatus(name=impl.plugin_name),
                function=impl.function,
                arguments=tuple(impl.argnames),
            )
            for impl in reversed(getattr(self.manager.hook, name).get_hookimpls())
        )
