"""Serving pages over HTTP until a signal comes, and what a command that does so may ask the queue."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from kessel_core.cli.app import App, configured, logs_options, pass_app
from kessel_core.values.logs import get_logger

if TYPE_CHECKING:
    import socket

    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.operations import QueueStats
    from kessel_core.hooks.page import Page

__all__ = ["QueueCounts", "listener_at", "serve_pages", "with_queue"]

log = get_logger("kessel.health")

_Command: TypeAlias = Callable[..., Any]


class QueueCounts:
    """Counts the jobs of the configured queue, for a command that runs for long. Thread-safe.

    Created by `with_queue`. The queue is opened when it is asked first, or later if it could not be
    then: a command may start before it.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._adapter: QueueAdapter | None = None
        self._lock = threading.Lock()

    @property
    def adapter(self) -> str:
        """The name of the adapter."""
        return self._app.chosen.spec.name

    def all(self) -> Sequence[QueueStats]:
        """Count the jobs of each queue that is configured, and of those that the adapter knows besides.

        Raises:
            KesselError: The queue cannot be reached, or does not exist yet.
        """
        with self._lock:
            if self._adapter is None:
                self._adapter = self._opened()
        adapter = self._adapter
        configured = self._app.config.queues
        others = [queue for queue in adapter.queues() if queue not in configured]
        return [adapter.stats(queue) for queue in (*configured, *others)]

    def close(self) -> None:
        """Close the queue, if it was opened."""
        with self._lock:
            adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.close()

    def _opened(self) -> QueueAdapter:
        from kessel_core.clock import SystemClock
        from kessel_core.contract.spec import AdapterContext
        from kessel_core.errors import KesselError

        chosen = self._app.chosen
        if (why := chosen.spec.absent(chosen.options)) is not None:
            raise KesselError(why)
        return chosen.open(AdapterContext(clock=SystemClock()))


def with_queue(command: _Command) -> _Command:
    """Give a command of a plugin a `QueueCounts`, and the options of the adapter and of logging.

    Nothing is opened for it before it asks. A wrong adapter is reported before it is called.

    Example:
        >>> import click
        >>> @click.command()
        ... @with_queue
        ... def ready(counts):
        ...     "Say how many jobs are ready."
        ...     click.echo(sum(stats.ready for stats in counts.all()))
    """

    @logs_options
    @configured
    @pass_app
    @functools.wraps(command)
    def run(app: App, /, **arguments: Any) -> Any:
        app.start_logging()
        _ = app.chosen
        counts = QueueCounts(app)
        try:
            return command(counts, **arguments)
        finally:
            counts.close()

    return run


def serve_pages(address: str, pages: Mapping[str, Page], option: str) -> None:
    """Serve pages until SIGTERM, SIGHUP or Ctrl-C; to be called in the main thread.

    Args:
        address: Where, as `127.0.0.1:8087`.
        pages: Path -> page; only what it shows is used.
        option: What the address was given by, for the error.

    Raises:
        InvalidConfig: It is no address, or one that cannot be listened at.
    """
    from http import HTTPStatus

    from kessel_core.errors import InvalidConfig, Problem
    from kessel_core.runtime.health_http import Answer, HealthServer
    from kessel_core.runtime.signals import SEEN_WITHIN, on_signals

    def answer(path: str) -> Answer:
        page = pages.get(path)
        if page is None:
            return Answer.plain(HTTPStatus.NOT_FOUND, f"there are: {', '.join(sorted(pages))}")
        return Answer(HTTPStatus.OK, page.show(), page.content_type)

    try:
        listener = listener_at(address, sorted(pages))
    except ValueError as exc:
        raise InvalidConfig([Problem((option,), str(exc))]) from exc
    ended = threading.Event()
    server = HealthServer(listener, answer)
    try:
        with on_signals(lambda count: ended.set()):
            server.start()
            # A bounded wait, so that the handlers of signals run.
            while not ended.wait(SEEN_WITHIN):
                pass
    finally:
        server.close()


def listener_at(address: str, paths: Sequence[str]) -> socket.socket:
    """Return a socket that listens, and say in the log what is served there.

    Raises:
        ValueError: It is no address, or one that cannot be listened at; the text says why, and what to do.
    """
    from kessel_core.runtime.health_http import listening
    from kessel_core.values.addresses import address_text, read_address

    host, port = read_address(address)
    try:
        listener = listening(host, port)
    except (OSError, UnicodeError) as exc:
        why = getattr(exc, "strerror", None) or exc
        raise ValueError(
            f"cannot listen at {address}: {why}; choose an address of this machine and a free port above "
            "1023, as 127.0.0.1:8086"
        ) from exc
    place = address_text(*listener.getsockname()[:2])
    log.info("serving %s", ", ".join(f"http://{place}{path}" for path in paths))
    return listener
