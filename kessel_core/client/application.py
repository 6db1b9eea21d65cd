"""Wires an application together from its configuration. Nothing here requests or runs a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final

import attrs

from kessel_core.client.checking import ApplicationSettings, Checked, check_application
from kessel_core.client.jobs import JobMaker
from kessel_core.client.producer import Producer
from kessel_core.config.options import Config
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.spec import AdapterContext
from kessel_core.contract.store import Store, no_store
from kessel_core.errors import CapabilityMissing
from kessel_core.features.callbacks import Callbacks
from kessel_core.features.history import Recorder
from kessel_core.features.progress import Reports
from kessel_core.features.results import KeptOutcomes
from kessel_core.handlers.registry import HandlerRegistry
from kessel_core.model.routes import NO_ROUTE, Route
from kessel_core.plugins.registry import Plugins
from kessel_core.plugins.sections import Sections
from kessel_core.plugins.status import PluginStatus
from kessel_core.plugins.watchers import Watchers, preparers_of, watchers_of
from kessel_core.runtime.async_loop import AsyncLoop
from kessel_core.runtime.following import FollowUps
from kessel_core.runtime.pipeline import Pipeline
from kessel_core.runtime.settling import Settling

__all__ = ["Application", "open_application"]


#: Who writes down what happens to jobs, in logs.
_HISTORY: Final = PluginStatus(
    name="history", distribution="kessel-core", module="kessel_core.features.history"
)


@attrs.frozen(kw_only=True, eq=False)
class Application:
    """The open parts of an application; replaced as a whole, so that threads see all of them or none."""

    adapter: QueueAdapter
    #: None: the adapter has none, and no other is configured.
    store: Store | None
    plugins: Plugins
    registry: HandlerRegistry
    callbacks: Callbacks
    jobs: JobMaker
    producer: Producer
    pipeline: Pipeline
    #: What running jobs report.
    reports: Reports
    watchers: Watchers
    #: Writes down what happens to jobs; None: nobody wants to know.
    recorder: Recorder | None
    #: What plugins make of their sections of the configuration.
    sections: Sections
    #: Runs async handlers; its thread starts with the first of them.
    loop: AsyncLoop
    #: Closes the adapter and the store, as far as they were opened here.
    opened: ExitStack

    def close(self) -> None:
        """Stop the event loop, and close the adapter and the store if they were opened here."""
        try:
            self.loop.close()
            if self.recorder is not None:
                self.recorder.close()
        finally:
            self.opened.close()

    def need_store(self, why: str = "") -> Store:
        """Return the store.

        Raises:
            CapabilityMissing: There is none (S17); `why` says what cannot be done without it.
        """
        if self.store is not None:
            return self.store
        raise no_store(self.adapter.name, why)


def open_application(settings: ApplicationSettings) -> Application:
    """Load plugins, check everything, open the adapter and the store.

    Raises:
        InvalidConfig: Handlers, middleware or adapter options are wrong; every one is listed.
        PluginError: A plugin that the configuration requires is not usable.
        AdapterUnavailable: The backend cannot be reached.
    """
    config = settings.config
    checked = check_application(settings)
    plugins, registry = checked.plugins, checked.registry
    with ExitStack() as stack:
        adapter, store = _opened(checked, settings, stack)
        opened = stack.pop_all()
    checked.sections.opened(store)
    jobs = JobMaker(
        clock=settings.clock,
        routes=_routes(registry, config.routes),
        payload_types=plugins.payload_types(),
    )
    callbacks, reports = Callbacks(), Reports(store, settings.clock)
    recorder = None if config.history.keep is None else Recorder(config.history.keep, settings.clock)
    watchers = watchers_of(plugins if recorder is None else plugins.joined([(_HISTORY, recorder)]))
    wrappers = checked.chain.enqueue
    producer = Producer(
        adapter,
        jobs,
        callbacks,
        preparers_of(plugins),
        wrappers,
        watchers.enqueued,
        registry,
        runs_jobs=not settings.only_requests,
    )
    application = Application(
        adapter=adapter,
        store=store,
        plugins=plugins,
        registry=registry,
        callbacks=callbacks,
        jobs=jobs,
        producer=producer,
        pipeline=Pipeline(
            registry=registry,
            chain=checked.chain,
            callbacks=callbacks,
            clock=settings.clock,
            rules=config.jobs,
            callback_queue=config.callbacks.queue,
            watchers=watchers,
            longest_pause=adapter.capabilities.longest_delay,
            loop=checked.loop,
            settling=Settling(FollowUps(adapter, store), wrappers, adapter.capabilities.max_body_bytes),
            kept=KeptOutcomes(config.results.keep, store),
            reports=reports,
            made=producer.made,
            stored=producer.stored,
        ),
        reports=reports,
        watchers=watchers,
        recorder=recorder,
        sections=checked.sections,
        loop=checked.loop,
        opened=opened,
    )
    try:
        for why in _needing_a_store(config, registry):
            application.need_store(why)
    except CapabilityMissing:
        application.close()
        raise
    if recorder is not None:
        recorder.open(application.need_store())
    return application


def _needing_a_store(config: Config, registry: HandlerRegistry) -> Iterator[str]:
    """Yield what cannot be done without a store, and was asked for."""
    keeping = sorted(one.type for one in registry if one.keep is not None)
    if keeping:
        yield f"results of {', '.join(keeping)} are to be kept"
    elif config.results.keep is not None:
        yield "results.keep is set"
    if config.history.keep is not None:
        yield "history.keep is set"


def _opened(
    checked: Checked, settings: ApplicationSettings, stack: ExitStack
) -> tuple[QueueAdapter, Store | None]:
    """Open what is not open yet; what is opened here is closed by the stack."""
    context = AdapterContext(clock=settings.clock)
    adapter, store = settings.adapter, settings.store
    if not isinstance(adapter, QueueAdapter):
        assert checked.adapter is not None
        adapter = checked.adapter.open(context)
        stack.callback(adapter.close)
    if isinstance(store, Store):
        return adapter, store
    if checked.store is None:
        return adapter, adapter.facet(Store)
    opened = checked.store.open(context)
    stack.callback(opened.close)
    return adapter, opened


def _routes(registry: HandlerRegistry, configured: Mapping[str, Mapping[str, Any]]) -> dict[str, Route]:
    """Return where the jobs of each type go; the configuration is asked before the handler."""
    routes = {one.type: one.route for one in registry if one.route != NO_ROUTE}
    for kind, table in configured.items():
        routes[kind.strip()] = Route(**table).over(routes.get(kind.strip()))
    return routes
