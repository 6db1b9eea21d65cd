"""`kessel worker` and `kessel drain`: run jobs, and stop (D9)."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from kessel_core.cli import ending
from kessel_core.cli.app import (
    App,
    as_json,
    config_option,
    configured,
    handlers_option,
    logs_options,
    pass_app,
    queue_option,
)
from kessel_core.cli.health import Telling, telling
from kessel_core.cli.output import emit, jobs_text
from kessel_core.cli.streams import kept_stderr
from kessel_core.contract.promises import Reach
from kessel_core.errors import AdapterUnavailable, DescriptorsLost
from kessel_core.values.logs import get_logger

if TYPE_CHECKING:
    from kessel_core.client.manager import JobManager
    from kessel_core.runtime.signals import StopSignals

__all__ = ["drain", "worker"]

log = get_logger("kessel.worker")

AT_ONCE: Final = timedelta(0)
#: Seconds between two tries to open a queue.
_PAUSE: Final = 0.5


def _worker_options(command: Callable[..., None]) -> Callable[..., None]:
    for names, path, metavar, text in (
        (("--grace",), "worker.grace", "TIME", "How long to wait for running jobs when stopping, as 30s."),
        (("-s", "--slots"), "worker.slots", "N", "Jobs at the same time in one process."),
    ):
        command = config_option(*names, path=path, metavar=metavar, help=text)(command)
    return handlers_option(queue_option(command))


# --- worker --------------------------------------------------------------------------------


@click.command()
@_worker_options
@config_option("-p", "--processes", path="worker.processes", metavar="N", help="Worker processes.")
@config_option(
    "--health",
    path="worker.health_address",
    metavar="HOST:PORT",
    help="Serve /livez and /readyz there, as 127.0.0.1:8086.",
)
@config_option(
    "--health-file", path="worker.health_file", metavar="PATH", help="Renew this file while it is alive."
)
@click.option("--parent-fd", type=int, hidden=True)
@click.option("--begun-fd", type=int, hidden=True)
@click.option("--health-fd", type=int, hidden=True)
@logs_options
@configured
@pass_app
def worker(app: App, parent_fd: int | None, begun_fd: int | None, health_fd: int | None) -> None:
    """Work on jobs until told to stop.

    SIGTERM, SIGHUP or Ctrl-C stops: no new job is taken, running ones get the grace period, what is
    left is given back. A second signal does so at once. Exit code 0 after a stop.
    """
    from kessel_core.runtime.signals import StopSignals

    for descriptor in (parent_fd, begun_fd, health_fd):
        if descriptor is not None:
            _keep_from_children(descriptor)
    # Before anything is imported for the jobs, which may take long.
    with StopSignals() as signals:
        try:
            signals.check()
            code = _worked(app, signals, parent_fd, begun_fd, health_fd)
        except BaseException:
            # An error after a stop that interrupted nothing, as of the closing, is one to be told.
            if not signals.has_interrupted:
                raise
            code = 0  # it was interrupted before it had begun
    raise SystemExit(code)


def _keep_from_children(descriptor: int) -> None:
    try:
        os.set_inheritable(descriptor, False)
    except OSError as exc:
        raise click.UsageError("--parent-fd, --begun-fd and --health-fd are for the supervisor only") from exc


def _worked(
    app: App, signals: StopSignals, parent_fd: int | None, begun_fd: int | None, health_fd: int | None
) -> int:
    """Do the work of this process; return its exit code."""
    app.start_logging(kept_stderr())
    with telling(app, health_fd) as health:
        if app.config.worker.processes > 1:
            return _supervised(app, health)
        return _alone(app, signals, health, parent_fd, begun_fd)


def _alone(
    app: App, signals: StopSignals, health: Telling, parent_fd: int | None, begun_fd: int | None
) -> int:
    ending.bound()
    with app.manager() as manager:
        _check(app, manager)
        work = manager.worker()
        health.of_worker(manager, work)
        run = functools.partial(work.run, ready=functools.partial(_say_begun, begun_fd))
        if not _run(run, work.stop, signals, parent_fd):
            # Must not look like a requested stop, so that the supervisor or the system restarts it.
            click.echo("error: every slot of the worker has ended by itself", err=True)
            return 1
    return 0


def _say_begun(descriptor: int | None) -> None:
    if descriptor is not None:
        with suppress(OSError):  # the supervisor is gone, which its own pipe tells
            os.write(descriptor, b"1")
        os.close(descriptor)


def _supervised(app: App, health: Telling) -> int:
    from kessel_core.runtime.supervisor import Supervisor

    processes = app.config.worker.processes
    # What is wrong with plugins or adapter is said here once, and not by every process.
    with app.manager() as manager:
        _check(app, manager)
        listeners = health.listeners(processes)
        pages = health.pages(manager)
    # -P, as the command itself runs: `-m` alone would import from the working directory before all else.
    command = [sys.executable, "-P", "-m", "kessel_core.cli", *sys.argv[1:], "--processes", "1"]
    supervisor = Supervisor(command, processes, grace=app.config.worker.grace, listeners=listeners)
    health.of_processes(supervisor, listeners, pages)
    return supervisor.run()


def _check(app: App, manager: JobManager) -> None:
    """Refuse a worker that nobody could give a job, or that could only bury jobs."""
    if manager.adapter.capabilities.reach is Reach.PROCESS:
        raise app.wrong(
            "adapter",
            f"nobody else can reach the jobs of {manager.adapter.name!r}, so this worker would wait for "
            "ever; use an adapter that others can reach, such as sqlite:///kessel.db",
        )
    _check_handlers(app, manager)


def _check_handlers(app: App, manager: JobManager) -> None:
    """Refuse to run without handlers; otherwise log the adapter and the job types of this process."""
    types, own = manager.registry.types(), manager.registry.own_types()
    # What plugins offer for callbacks is enough for a worker of queues that it was told to serve.
    if not own and not (types and app.given("queues")):
        raise app.wrong(
            "handlers",
            "no job type has a handler, so every job would be buried; "
            "name a module with --handlers, map types in [kessel.handlers], or install a plugin",
        )
    known = [*own, *(one for one in types if one not in own)]
    some = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    log.info("worker: jobs of %s, handlers for %s", app.place, some)


def _run(
    run: Callable[[], object],
    stop: Callable[[timedelta | None], object],
    signals: StopSignals,
    parent_fd: int | None,
) -> bool:
    """Run to the end; return whether a signal or the end of the supervisor asked for it."""
    from kessel_core.runtime.supervisor import stop_with_parent

    asked = threading.Event()

    def on_stop(count: int) -> None:
        asked.set()
        stop(None if count == 1 else AT_ONCE)

    if parent_fd is not None:
        stop_with_parent(parent_fd, lambda: on_stop(1))
    with signals.handed_to(on_stop, supervised=parent_fd is not None):
        try:
            run()
        except DescriptorsLost as exc:
            ending.abandon(exc)
    return asked.is_set()


# --- drain ---------------------------------------------------------------------------------


@click.command()
@_worker_options
@config_option(
    "--patience",
    path="worker.patience",
    metavar="TIME",
    help="How long to try while the queue cannot be used.",
)
@click.option("--fail", is_flag=True, help="Exit with 1 if a job failed for good.")
@as_json
@logs_options
@configured
@pass_app
def drain(app: App, fail: bool, as_json: bool) -> None:
    """Work until the queues are empty, then end.

    For cron jobs and deployments. Jobs that are delayed or buried stay where they are. Exits with
    1 if the queue cannot be used for the time of --patience (30s), or if it is stopped before.
    """
    from kessel_core.runtime.signals import StopSignals

    app.start_logging(kept_stderr())
    ending.bound()
    with StopSignals() as signals, ExitStack() as opened:
        manager = _patiently_opened(app, opened)
        _check_handlers(app, manager)
        work = manager.worker()
        stopped = _run(work.drain, work.stop, signals, None)
    counts = work.counts
    if as_json:
        emit({"success": 0, "failed": 0, "failed-transient": 0, "lost": 0} | counts)
    else:
        none = "no job was done" if stopped else "no job was ready"
        click.echo(", ".join(f"{count:,} {what}" for what, count in counts.items()) or none)
    if stopped:
        click.echo("error: stopped before the queues were empty", err=True)
        raise SystemExit(1)
    if fail and (failed := counts.get("failed", 0)):
        click.echo(f"error: {jobs_text(failed)} failed for good; `kessel buried` tells why", err=True)
        raise SystemExit(1)


def _patiently_opened(app: App, opened: ExitStack) -> JobManager:
    """Open the queue; while it is away, try again for the time of --patience: its server may just start."""
    end = time.monotonic() + app.config.worker.patience.total_seconds()
    level = logging.WARNING
    while True:
        try:
            return opened.enter_context(app.manager())
        except AdapterUnavailable as exc:
            if (left := end - time.monotonic()) <= 0:
                raise
            log.log(level, "drain: queue not usable, trying again: %s", exc)
            level = logging.DEBUG
            time.sleep(min(left, _PAUSE))
