"""What plugins make of their sections of the configuration, for one application.

Each section is checked whole, and every mistake of all of them is in one error. Nothing here is shared
between applications: the plugins themselves stay as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from kessel_core.clock import Clock
from kessel_core.config.options import Config
from kessel_core.contract.store import Store
from kessel_core.errors import InvalidConfig, KesselError, Problem, UnusablePlugin
from kessel_core.hooks import specs
from kessel_core.hooks.section import Section, SectionContext
from kessel_core.plugins import known
from kessel_core.plugins.inspection import inspected
from kessel_core.plugins.offers import Offer
from kessel_core.plugins.registry import Plugins
from kessel_core.plugins.status import PluginStatus, missing, with_unusable
from kessel_core.values.nearest import did_you_mean, nearest_or_all
from kessel_core.values.raised import said

__all__ = ["Sections"]

#: Hooks that are called before there is an application, so a part of one is too late for them.
_OF_THE_PLUGIN: Final = frozenset(
    hook.__name__
    for hook in (
        specs.kessel_adapters,
        specs.kessel_cli,
        specs.kessel_middleware,
        specs.kessel_payload_types,
        specs.kessel_sections,
        specs.kessel_stores,
    )
)


class Sections:
    """The sections of one application, each made once; thread-safe.

    Args:
        plugins: The plugins that offer them.
        configured: Name -> table, as in `Config.sections`.
        clock: The application's clock.
        runs_jobs: Whether this process runs jobs.
        shows_pages: Whether its workers have an address for pages.
        store: Opens the store when a section asks for it; None: `opened` says what it is.
    """

    def __init__(
        self,
        plugins: Plugins,
        configured: Mapping[str, Mapping[str, Any]],
        *,
        clock: Clock,
        runs_jobs: bool,
        shows_pages: bool = False,
        store: Callable[[], Store | None] | None = None,
    ) -> None:
        self._plugins = plugins
        self._configured = configured
        self._context = SectionContext(
            clock=clock, runs_jobs=runs_jobs, shows_pages=shows_pages, store=store or self._get_store
        )
        self._is_open = False
        self._store: Store | None = None
        self._made: dict[str, object] = {}
        self._lock = threading.RLock()

    def make_all(self) -> list[tuple[PluginStatus, object]]:
        """Make every section that is configured or needs no options.

        Returns:
            What the factories returned and has hooks, each with the plugin that it belongs to.

        Raises:
            InvalidConfig: Unknown sections, wrong options, clashes; all at once.
        """
        offered = self._plugins.sections()
        problems = [*self._unknown()]
        parts: list[tuple[PluginStatus, object]] = []
        for name in offered.names:
            first, *more = offered.of(name)
            if name in attrs.fields_dict(Config):
                why = f"{name!r} from {first.owner.owner} is the name of an option of kessel itself"
                problems.append(UnusablePlugin(("sections",), why))
            elif more:
                problems.append(offered.clash(name, ("sections", name)))
            elif name in self._configured or not _needs_options(first.thing):
                try:
                    part = self._make(first)
                except InvalidConfig as exc:
                    problems += exc.problems
                    continue
                problems += _wrong_hooks(first, part)
                parts.append((first.owner, part))
        if problems:
            raise InvalidConfig(problems, "invalid sections")
        return [(owner, part) for owner, part in parts if inspected(part).hooks]

    def opened(self, store: Store | None) -> None:
        """Say that the application is open, with this store."""
        self._store, self._is_open = store, True

    def _get_store(self) -> Store | None:
        if not self._is_open:
            raise KesselError("the store is not open yet: ask for it when a job runs")
        return self._store

    def get(self, name: str) -> object:
        """Return what a plugin made of a section; made now if it was not before.

        Raises:
            KesselError: No plugin offers it, or several do.
            InvalidConfig: Its options are wrong.
        """
        found = self._plugins.sections().of(name)
        if len(found) != 1:
            names = self._plugins.sections().names
            raise KesselError(
                str(self._plugins.sections().clash(name))
                if found
                else with_unusable(
                    f"no plugin has a section {name!r}{nearest_or_all(name, names)}", self._plugins.report
                )
            )
        return self._make(found[0])

    def _unknown(self) -> Iterator[Problem]:
        """Yield a problem for each table that no plugin would read."""
        names = self._plugins.sections().names
        ours = attrs.fields_dict(Config)
        for name in self._configured:
            if name not in names:
                hint = did_you_mean(name, [*names, *ours]) or (nearest_or_all(name, names) if names else "")
                if name in known.SECTIONS:
                    hint = missing(known.SECTIONS[name], self._plugins.report)
                text = with_unusable(f"no plugin has this section{hint}", self._plugins.report)
                yield UnusablePlugin(("sections", name), text)

    def _make(self, offer: Offer) -> object:
        with self._lock:
            if offer.name not in self._made:
                self._made[offer.name] = _made(
                    offer.thing, self._configured.get(offer.name, {}), self._context
                )
            return self._made[offer.name]


def _made(section: Section, given: Mapping[str, Any], context: SectionContext) -> object:
    where = ("sections", section.name)
    try:
        if given or _needs_options(section):
            from kessel_core.values.options import structure_options  # cattrs loads only where there are some

            options = structure_options(section.options, given)
        else:
            options = section.options()
        return section.factory(options, context)
    except InvalidConfig as exc:
        raise InvalidConfig([problem.under(*where) for problem in exc.problems]) from exc
    except (Exception, SystemExit) as exc:  # as at import
        problem = Problem(where, f"cannot be made: {said(exc)}")
        raise InvalidConfig([problem]) from exc


def _needs_options(section: Section) -> bool:
    return any(field.default is attrs.NOTHING and field.init for field in attrs.fields(section.options))


def _wrong_hooks(offer: Offer, part: object) -> Iterator[Problem]:
    """Yield what is wrong with the hooks of a part; one without any hook is all right."""
    found = inspected(part)
    texts = [found.why] if found.why else [*found.warnings] if found.hooks else []
    texts += [
        f"a section has no {hook}: let the plugin itself implement it"
        for hook in found.hooks
        if hook in _OF_THE_PLUGIN
    ]
    for text in texts:
        yield UnusablePlugin(("sections", offer.name), f"from {offer.owner.owner}: {text}")
