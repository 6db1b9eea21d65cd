"""Finds everything that is wrong with an application before anything of it is opened.

`JobManager.connect`, `JobManager.check` and `kessel plugins --check` all ask here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import attrs

from kessel_core.clock import Clock
from kessel_core.config.options import ADAPTER_STORE, Config, options
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.store import Store
from kessel_core.errors import ConfigError, InvalidConfig, Problem, UnusablePlugin
from kessel_core.features.callbacks import callback_handlers
from kessel_core.features.retry import RetryPause
from kessel_core.handlers.registry import HandlerRegistry
from kessel_core.model.retry import RetryPolicy
from kessel_core.plugins.chain import Chain, build_chain
from kessel_core.plugins.handlers import collect_handlers
from kessel_core.plugins.loading import build_plugins
from kessel_core.plugins.opening import Chosen
from kessel_core.plugins.registry import Plugins
from kessel_core.plugins.sections import Sections
from kessel_core.runtime.async_loop import AsyncLoop
from kessel_core.runtime.handling import HandlerRunner

__all__ = ["ApplicationSettings", "Checked", "check_application"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


@attrs.frozen(kw_only=True, eq=False)
class ApplicationSettings:
    """What a manager was created with; see `JobManager` for each field."""

    config: Config
    clock: Clock
    adapter: str | QueueAdapter
    adapter_options: Mapping[str, Any]
    store: str | Store
    handlers: Mapping[str, object] | Iterable[object] | None
    middleware: tuple[str, ...]
    plugins: Plugins | None
    only_requests: bool


@attrs.frozen(kw_only=True, eq=False)
class Checked:
    """The parts of an application that was found to be right; nothing is open yet, and no thread runs."""

    #: With what the sections of this application add.
    plugins: Plugins
    sections: Sections
    registry: HandlerRegistry
    chain: Chain
    #: Runs async handlers; its thread starts with the first of them.
    loop: AsyncLoop
    #: None: it was given open.
    adapter: Chosen[QueueAdapter] | None
    #: None: it was given open, or it is the adapter's own.
    store: Chosen[Store] | None


def check_application(settings: ApplicationSettings) -> Checked:
    """Load plugins, check adapter, store, sections, handlers and middleware.

    Raises:
        InvalidConfig: Something is wrong; every mistake is listed.
        PluginError: A plugin that the configuration requires is not usable, or that is the only mistake.
    """
    config, plugins = settings.config, settings.plugins
    if problems := [*_of_arguments(settings)]:
        raise InvalidConfig(problems)
    if plugins is None:
        plugins = build_plugins(disabled=config.plugins.disabled)
    for name in config.plugins.required:
        plugins.require(name)
    sections = Sections(
        plugins,
        config.sections,
        clock=settings.clock,
        runs_jobs=not settings.only_requests,
        shows_pages=config.worker.health_address is not None,
    )
    loop, mistakes = AsyncLoop(), _Mistakes()
    adapter = store = None
    if not isinstance(url := settings.adapter, QueueAdapter):
        adapter = mistakes.of("adapter", plugins.chosen_adapter, url, settings.adapter_options)
    if not isinstance(place := settings.store, Store) and place != ADAPTER_STORE:
        store = mistakes.of("store", plugins.chosen_store, place)
    middleware, tables = settings.middleware, config.middleware_options
    if settings.only_requests:
        registry: HandlerRegistry | None = HandlerRegistry()
        chain = mistakes.of("middleware", build_chain, plugins, middleware, tables, only_requests=True)
    else:
        parts = mistakes.of("sections", sections.make_all)
        plugins = plugins.joined(parts or [])
        registry = mistakes.of("handlers", _handlers, plugins, settings)
        pause = RetryPause(RetryPolicy(base=config.jobs.retry_base, cap=config.jobs.retry_cap))
        inner = (pause, HandlerRunner(loop, config.jobs, plugins.payload_types()))
        chain = mistakes.of("middleware", build_chain, plugins, middleware, tables, inner=inner)
    mistakes.report()
    assert registry is not None
    assert chain is not None
    return Checked(
        plugins=plugins,
        sections=sections,
        registry=registry,
        chain=chain,
        loop=loop,
        adapter=adapter,
        store=store,
    )


def _of_arguments(settings: ApplicationSettings) -> Iterator[Problem]:
    """Yield what is wrong with arguments that stand for options; those of a configuration were checked."""
    given: dict[str, object] = {
        "adapter_options": settings.adapter_options,
        "middleware": settings.middleware,
    }
    if not isinstance(settings.adapter, QueueAdapter):
        given["adapter"] = settings.adapter
    if not isinstance(settings.store, Store):
        given["store"] = settings.store
    for path, value in given.items():
        yield from options()[path].problems(value)


def _handlers(plugins: Plugins, settings: ApplicationSettings) -> HandlerRegistry:
    """Return all handlers: the application's, those of plugins, and those that answer callbacks."""
    registry = collect_handlers(plugins, settings.config.handlers, settings.handlers)
    for kind, function in callback_handlers(plugins.callbacks().usable()):
        if registry.get(kind) is None:  # an application may answer a scheme itself
            registry.add(kind, function, "the callbacks of plugins")
    return registry


class _Mistakes:
    """What is wrong with the parts of an application, in the order in which they were looked at."""

    def __init__(self) -> None:
        self._found: list[tuple[str, ConfigError]] = []

    def of(self, part: str, make: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        """Return what `make` returns; None, and its mistakes noted, if it raises `ConfigError`."""
        try:
            return make(*args, **kwargs)
        except ConfigError as exc:
            self._found.append((part, exc))
            return None

    def report(self) -> None:
        """Raise one error of all that was noted, if anything was."""
        if len(self._found) == 1:
            raise self._found[0][1]
        if self._found:
            raise InvalidConfig([problem for part, exc in self._found for problem in _problems(part, exc)])


def _problems(part: str, exc: ConfigError) -> Sequence[Problem]:
    return exc.problems if isinstance(exc, InvalidConfig) else [UnusablePlugin((part,), str(exc))]
