"""Wires an application together from its configuration. Nothing here requests or runs a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from kessel_core.client.jobs import JobMaker
from kessel_core.client.producer import Producer
from kessel_core.clock import Clock
from kessel_core.config.options import Config
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.facets import Results
from kessel_core.contract.spec import AdapterContext
from kessel_core.errors import ConfigError, InvalidConfig, Problem, UnusablePlugin
from kessel_core.features.callbacks import Callbacks
from kessel_core.features.retry import RetryPause
from kessel_core.handlers.registry import HandlerRegistry
from kessel_core.model.retry import RetryPolicy
from kessel_core.model.routes import NO_ROUTE, Route
from kessel_core.plugins.chain import Chain, build_chain
from kessel_core.plugins.handlers import collect_handlers
from kessel_core.plugins.loading import build_plugins
from kessel_core.plugins.opening import ChosenAdapter
from kessel_core.plugins.registry import Plugins
from kessel_core.plugins.watchers import Watchers, preparers_of, watchers_of
from kessel_core.runtime.async_loop import AsyncLoop
from kessel_core.runtime.handling import HandlerRunner
from kessel_core.runtime.pipeline import Pipeline

__all__ = ["Application", "ApplicationSettings", "open_application"]


@attrs.frozen(kw_only=True, eq=False)
class ApplicationSettings:
    """What a manager was created with; see `JobManager` for each field."""

    config: Config
    clock: Clock
    adapter: str | QueueAdapter
    adapter_options: Mapping[str, Any]
    handlers: Mapping[str, object] | Iterable[object] | None
    middleware: tuple[str, ...]
    plugins: Plugins | None
    only_requests: bool


@attrs.frozen(kw_only=True, eq=False)
class Application:
    """The open parts of an application; replaced as a whole, so that threads see all of them or none."""

    adapter: QueueAdapter
    plugins: Plugins
    registry: HandlerRegistry
    callbacks: Callbacks
    jobs: JobMaker
    producer: Producer
    pipeline: Pipeline
    watchers: Watchers
    #: Runs async handlers; its thread starts with the first of them.
    loop: AsyncLoop
    #: Whether the adapter was opened here, and is to be closed here.
    owns_adapter: bool

    def close(self) -> None:
        """Stop the event loop, and close the adapter if it was opened here."""
        try:
            self.loop.close()
        finally:
            if self.owns_adapter:
                self.adapter.close()


def open_application(settings: ApplicationSettings) -> Application:
    """Load plugins, check everything, open the adapter.

    Raises:
        InvalidConfig: Handlers, middleware or adapter options are wrong; every one is listed.
        PluginError: A plugin that the configuration requires is not usable.
        AdapterUnavailable: The backend cannot be reached.
    """
    config = settings.config
    plugins = settings.plugins
    if plugins is None:
        plugins = build_plugins(disabled=config.plugins.disabled, required=config.plugins.required)
    loop = AsyncLoop()
    registry, chain, choice = _checked(
        plugins, settings, HandlerRunner(loop, config.jobs, plugins.payload_types())
    )
    if choice is None:
        assert isinstance(settings.adapter, QueueAdapter)
        adapter = settings.adapter
    else:
        adapter = choice.open(AdapterContext(clock=settings.clock))
    jobs = JobMaker(
        clock=settings.clock,
        routes=_routes(registry, config.routes),
        payload_types=plugins.payload_types(),
    )
    callbacks = Callbacks(plugins.callbacks().usable())
    watchers = watchers_of(plugins)
    return Application(
        adapter=adapter,
        plugins=plugins,
        registry=registry,
        callbacks=callbacks,
        jobs=jobs,
        producer=Producer(adapter, jobs, callbacks, preparers_of(plugins), watchers.enqueued),
        pipeline=Pipeline(
            registry=registry,
            chain=chain,
            callbacks=callbacks,
            clock=settings.clock,
            rules=config.jobs,
            watchers=watchers,
            keeps_results=adapter.facet(Results) is not None,
            longest_pause=adapter.capabilities.longest_delay,
            loop=loop,
        ),
        watchers=watchers,
        loop=loop,
        owns_adapter=choice is not None,
    )


def _routes(registry: HandlerRegistry, configured: Mapping[str, Mapping[str, Any]]) -> dict[str, Route]:
    """Return where the jobs of each type go; the configuration is asked before the handler."""
    routes = {one.type: one.route for one in registry if one.route != NO_ROUTE}
    for kind, table in configured.items():
        routes[kind.strip()] = Route(**table).over(routes.get(kind.strip()))
    return routes


def _checked(
    plugins: Plugins, settings: ApplicationSettings, runner: HandlerRunner
) -> tuple[HandlerRegistry, Chain, ChosenAdapter | None]:
    """Check adapter, handlers and middleware; all mistakes are reported in one error."""
    registry, chain, choice = HandlerRegistry(), None, None
    jobs = settings.config.jobs
    found: list[ConfigError] = []
    if not isinstance(settings.adapter, QueueAdapter):
        try:
            choice = plugins.chosen_adapter(settings.adapter, settings.adapter_options)
        except ConfigError as exc:
            found.append(exc)
    if settings.only_requests:
        chain = build_chain(plugins)  # a process that runs no jobs needs no middleware
    else:
        try:
            registry = collect_handlers(plugins, settings.config.handlers, settings.handlers)
        except InvalidConfig as exc:
            found.append(exc)
        inner = (RetryPause(RetryPolicy(base=jobs.retry_base, cap=jobs.retry_cap)), runner)
        try:
            chain = build_chain(plugins, settings.middleware, settings.config.middleware_options, inner=inner)
        except InvalidConfig as exc:
            found.append(exc)
    if len(found) == 1:
        raise found[0]
    if found:
        raise InvalidConfig([problem for exc in found for problem in _problems(exc)])
    assert chain is not None
    return registry, chain, choice


def _problems(exc: ConfigError) -> Sequence[Problem]:
    return exc.problems if isinstance(exc, InvalidConfig) else [UnusablePlugin(("adapter",), str(exc))]
