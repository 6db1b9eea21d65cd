"""Applications with the section `[kessel.prometheus]`, and what their page says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import kessel_memory.plugin
import kessel_prometheus.plugin
import pytest
from kessel_prometheus.metrics import PATH

from kessel_core import Config, JobManager, Worker, WorkerConfig, build_plugins
from kessel_core.hooks import Page, PageContext
from kessel_core.plugins.pages import pages_of
from kessel_core.testing import VirtualClock

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


def samples(page: bytes) -> dict[str, float]:
    """Name with its labels in the order of their names, as `a{b="c"}`, -> value."""
    found: dict[str, float] = {}
    for line in page.decode().splitlines():
        if not line.startswith("#"):
            match = _SAMPLE.match(line)
            assert match is not None, line
            name = f"{match[1]}{{{match[2]}}}" if match[2] else match[1]
            assert name not in found, line
            found[name] = float(match[3])
    return found


class App:
    """A manager on a private memory queue and the virtual clock, with the plugin."""

    def __init__(self, clock: VirtualClock, handlers: Any) -> None:
        self.clock = clock
        extra = {"memory": kessel_memory.plugin, "prometheus": kessel_prometheus.plugin}
        self.manager = JobManager(
            "memory://",
            clock=clock,
            config=Config(worker=WorkerConfig(health_address="127.0.0.1:0")),
            handlers=handlers,
            plugins=build_plugins(extra=extra, distributions=[]),
        ).connect()
        self.worker: Worker = self.manager.worker(slots=1)
        self.page: Page | None = None

    def offer(self) -> Page:
        """Ask for the page, as `kessel worker --health` does."""
        context = PageContext(
            adapter=self.manager.adapter.name,
            queues=self.worker.queues,
            types=frozenset(self.manager.registry.types()),
            health=lambda: self.worker.health(looks=False),
            running=lambda: self.worker.running,
            stats=self.manager.adapter.stats,
        )
        self.page = pages_of(self.manager.plugins, context)[PATH]
        return self.page

    def drain(self) -> None:
        self.worker = self.manager.worker(slots=1)
        self.worker.drain()

    def show(self) -> dict[str, float]:
        assert self.page is not None
        return samples(self.page.show())


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(auto_advance=False)


@pytest.fixture
def app(clock: VirtualClock) -> Iterator[Callable[..., App]]:
    made: list[App] = []

    def make(handlers: Any, *, offers: bool = True) -> App:
        made.append(App(clock, handlers))
        if offers:
            made[-1].offer()
        return made[-1]

    yield make
    for one in made:
        # At once: this clock stands still, and after a failure a worker with a grace period may still run.
        one.worker.stop(timedelta(0))
        one.manager.close()
