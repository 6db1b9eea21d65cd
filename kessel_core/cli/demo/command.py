"""`kessel demo`: a few hundred jobs of every kind, from request to settlement, in one process.

It uses a queue of its own in a file of its own, so that it can be stopped and started again:
what was requested then is found and finished.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, logs_options, pass_app
from kessel_core.cli.demo.jobs import SHORT_LIFE, demo_requests
from kessel_core.cli.demo.plugin import Watch
from kessel_core.cli.demo.report import report
from kessel_core.cli.progress import progress
from kessel_core.contract.promises import Reach
from kessel_core.plugins.known import EXAMPLES
from kessel_core.runtime.signals import StopSignals

if TYPE_CHECKING:
    from kessel_core.client.manager import JobManager
    from kessel_core.clock import Clock
    from kessel_core.config.options import Config
    from kessel_core.contract.adapter import QueueAdapter

__all__ = ["demo"]

QUEUE: Final = "kessel-demo"
DEFAULT_FILE: Final = "sqlite:///kessel-demo.db"
SLOTS: Final = 4
BATCH: Final = 50
#: How often the queue is looked at while jobs are worked on.
LOOK_SECONDS: Final = 0.1


@click.command()
@as_json
@logs_options
@configured
@pass_app
def demo(app: App, as_json: bool) -> None:
    """Run a few hundred jobs of every kind, and watch.

    Everything happens in this process, in the queue kessel-demo of kessel-demo.db in this
    directory, or of another adapter with --adapter URL. Ctrl-C or SIGTERM stops it; started
    again, it finishes what is left.
    """
    config = _config(app)
    _start_logging(app)
    watch = Watch()
    plugins = app.plugins_with(demo=watch)
    with StopSignals() as signals:
        try:
            with app.manager(config=config, plugins=plugins) as manager:
                pauses = _Pauses(manager.clock)
                with signals.handed_to(pauses.interrupt):
                    _run(manager, watch, pauses)
                report(watch, config.adapter, QUEUE, as_json)
        except BaseException as exc:
            # An interrupt may have fallen where something made another error of it.
            if signals.has_interrupted and not isinstance(exc, KeyboardInterrupt):
                raise KeyboardInterrupt from exc
            raise


class _Pauses:
    """Where a signal is served: nothing else is interrupted in the middle of its work."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._is_interrupted = False

    def interrupt(self, count: int) -> None:
        """Let the present pause, or the next one, be the last."""
        with self._changed:
            self._is_interrupted = True
            self._changed.notify_all()

    def __call__(self, seconds: float = 0.0) -> None:
        """Pause.

        Raises:
            KeyboardInterrupt: A signal came.
        """
        with self._changed:
            if not self._is_interrupted and seconds:
                self._clock.wait(self._changed, seconds)
            if self._is_interrupted:
                raise KeyboardInterrupt


def _run(manager: JobManager, watch: Watch, pause: _Pauses) -> None:
    found = _left_over(manager.adapter)
    if found:
        click.echo(f"found {found:,} jobs of a run that was stopped; finishing them", err=True)
        total = found
    else:
        total = _request_all(manager, pause)
    try:
        _work(manager, watch, total, pause)
    except KeyboardInterrupt:
        manager.stop(timedelta(seconds=5))
        _say_interrupted(manager.adapter)
        raise


def _config(app: App) -> Config:
    if not app.given("adapter"):
        schemes = {name.removesuffix("://") for name in app.any_plugins.adapters().names}
        # Never the configured adapter: nobody wants these jobs among those of an application.
        app.argument("adapter", DEFAULT_FILE if "sqlite" in schemes else "memory://", "kessel demo")
    config = app.config
    return attrs.evolve(
        config,
        queues=(QUEUE,),
        worker=attrs.evolve(config.worker, slots=SLOTS, processes=1),
        # Short pauses, so that retries can be watched.
        jobs=attrs.evolve(
            config.jobs,
            max_attempts=5,
            retry_base=timedelta(milliseconds=200),
            retry_cap=timedelta(seconds=1),
        ),
    )


def _start_logging(app: App) -> None:
    from kessel_core.cli.logs import configure

    # The bar is for watching, and a line for each job would tear it; who asks for lines gets them.
    is_default = app.loaded.origins["logging.level"].layer == "default"
    configure("error" if is_default else app.config.logging.level, app.config.logging.json)


# --- requesting ------------------------------------------------------------------------------


def _left_over(adapter: QueueAdapter) -> int:
    """Return how many unfinished jobs an earlier run left; buried ones alone are cleared away."""
    count = adapter.stats(QUEUE)
    living = count.ready + count.delayed + count.reserved
    if not living and count.buried:
        adapter.purge(QUEUE)
    return living


def _request_all(manager: JobManager, pause: _Pauses) -> int:
    if "addition" not in manager.registry.types():
        click.echo(
            f"the example handlers are missing, so most jobs will be buried: pip install {EXAMPLES}", err=True
        )
    requests = [attrs.evolve(request, queue=QUEUE) for request in demo_requests()]
    with _bar("requesting", len(requests)) as show:
        for start in range(0, len(requests), BATCH):
            manager.request_many(requests[start : start + BATCH])
            show(min(start + BATCH, len(requests)), "")
            pause()
        pause(SHORT_LIFE.total_seconds())
    return len(requests)


# --- working ---------------------------------------------------------------------------------


def _work(manager: JobManager, watch: Watch, total: int, pause: _Pauses) -> None:
    manager.start(slots=SLOTS, queues=[QUEUE])
    with _bar("working", total) as show:
        while True:
            count = manager.adapter.stats(QUEUE)
            living = count.ready + count.delayed + count.reserved
            retried = watch.retried.total()
            show(total - living, f"{count.delayed} delayed, {retried} retries, {count.buried} buried")
            if not living:
                break
            pause(LOOK_SECONDS)
    manager.stop(timedelta(seconds=5))


def _bar(what: str, total: int) -> AbstractContextManager[Callable[[int, str], None]]:
    return progress(what, total, otherwise=f"{what} {total:,} jobs")


def _say_interrupted(adapter: QueueAdapter) -> None:
    count = adapter.stats(QUEUE)
    left = count.ready + count.delayed + count.reserved
    if adapter.capabilities.reach is Reach.PROCESS:
        click.echo(f"stopped; {left:,} jobs are gone with this process", err=True)
    else:
        click.echo(f"stopped; {left:,} jobs are left: `kessel demo` finishes them", err=True)
