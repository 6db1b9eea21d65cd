"""What `kessel worker` tells of its health: at an address, and by a file (S38).

The address is taken before anything else is opened, so that a wrong one is the first thing that is said; and
it answers from then on, because what is imported for the jobs may take longer than a probe waits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from kessel_core.values.logs import get_logger

if TYPE_CHECKING:
    import socket

    from kessel_core.cli.app import App
    from kessel_core.client.manager import JobManager
    from kessel_core.hooks.page import Page
    from kessel_core.runtime.health_http import Answer
    from kessel_core.runtime.supervisor import Supervisor
    from kessel_core.runtime.worker import Worker

__all__ = ["Telling", "telling"]

log = get_logger("kessel.health")

#: Seconds between two times that the file is renewed.
_RENEW_EVERY: Final = 2.0


class Telling:
    """Who is told of the health of a process, and how. Nothing of it costs anything where nobody is.

    Args:
        is_wanted: Whether anybody is told.
        stack: Ends what was begun.
    """

    def __init__(self, is_wanted: bool, stack: ExitStack) -> None:
        #: Whether anybody is told.
        self.is_wanted = is_wanted
        self._stack = stack
        #: None: the work has not begun.
        self._answer: Callable[[str], Answer] | None = None

    def answer(self, path: str) -> Answer:
        """Return the answer for a path; thread-safe."""
        if self._answer is None:
            from kessel_core.runtime.health_pages import not_begun

            return not_begun(path)
        return self._answer(path)

    def of_worker(self, manager: JobManager, worker: Worker) -> None:
        """Tell of the worker of this process."""
        if not self.is_wanted:
            return
        from kessel_core.runtime.health_pages import WorkerPages
        from kessel_core.runtime.idleness import LOOK_EVERY

        pages = WorkerPages(lambda: worker.health(looks=False), _pages(manager, worker))
        self.repeat("kessel-health-look", LOOK_EVERY, worker.health)
        self._answer = pages.answer

    def listeners(self, processes: int) -> Sequence[socket.socket]:
        """Return where each of several processes answers the supervisor; none if nobody is told."""
        if not self.is_wanted:
            return ()
        from kessel_core.runtime.health_http import listening

        return [self._stack.enter_context(listening("127.0.0.1", 0)) for _ in range(processes)]

    def pages(self, manager: JobManager) -> Mapping[str, Page]:
        """Return the pages of plugins, to merge those of several processes."""
        return _pages(manager, manager.worker()) if self.is_wanted else {}

    def of_processes(
        self, supervisor: Supervisor, listeners: Sequence[socket.socket], pages: Mapping[str, Page]
    ) -> None:
        """Tell of all processes of a supervisor."""
        if not self.is_wanted:
            return
        from kessel_core.runtime.health_pages import SummedPages

        ports = {number: one.getsockname()[1] for number, one in enumerate(listeners, start=1)}
        self._answer = SummedPages(supervisor, ports, pages).answer

    def serve(self, listener: socket.socket) -> None:
        """Answer at a socket that listens, until the end."""
        from kessel_core.runtime.health_http import HealthServer

        server = HealthServer(listener, self.answer)
        self._stack.callback(server.close)
        server.start()

    def renew(self, file: Path) -> None:
        """Renew a file, until the end."""
        self._stack.callback(_remove, file)
        self.repeat("kessel-health-file", _RENEW_EVERY, lambda: _renew(file, self.answer))

    def repeat(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        """Do something again and again in a thread of its own, until the end."""
        ended = threading.Event()

        def run() -> None:
            while not ended.is_set():
                try:
                    work()
                except Exception:
                    log.exception("%s failed", name)
                ended.wait(seconds)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._stack.callback(thread.join, timeout=1.0)
        self._stack.callback(ended.set)
        thread.start()


@contextmanager
def telling(app: App, descriptor: int | None) -> Iterator[Telling]:
    """Take the address and the file of the configuration, and give them back at the end.

    Args:
        app: The command.
        descriptor: A socket that a supervisor has passed, which tells of all processes; None: this process
            is on its own.

    Raises:
        InvalidConfig: The address cannot be listened at, or the file not be written.
    """
    with ExitStack() as stack:
        if descriptor is not None:
            told = Telling(True, stack)
            told.serve(_passed(descriptor))
            yield told
            return
        address, file = app.config.worker.health_address, app.config.worker.health_file
        told = Telling(address is not None or file is not None, stack)
        if address is not None:
            told.serve(stack.enter_context(_taken(app, address)))
        if file is not None:
            told.renew(_writable(app, Path(file).absolute()))
        yield told


def _passed(descriptor: int) -> socket.socket:
    import socket

    try:
        return socket.socket(fileno=descriptor)
    except OSError as exc:
        raise click.UsageError("--health-fd is for the supervisor only") from exc


def _taken(app: App, address: str) -> socket.socket:
    from kessel_core.cli.serving import listener_at
    from kessel_core.runtime.health_pages import LIVE, READY

    try:
        return listener_at(address, (LIVE, READY))
    except ValueError as exc:
        raise app.wrong("worker.health_address", str(exc)) from exc


def _writable(app: App, path: Path) -> Path:
    try:
        new = _beside(path)
        # Not the file itself, which says that the worker is alive.
        new.write_bytes(b"")
        new.unlink()
        path.unlink(missing_ok=True)  # of a worker that was killed
    except (OSError, ValueError) as exc:  # also of what cannot be the name of a file
        why = getattr(exc, "strerror", None) or exc
        raise app.wrong("worker.health_file", f"cannot write {path}: {why}") from exc
    return path


def _renew(path: Path, answer: Callable[[str], Answer]) -> None:
    """Write the file if the worker is alive, else remove it."""
    from kessel_core.runtime.health_pages import LIVE

    told = answer(LIVE)
    try:
        if told.status == 200:
            _write(path, told.body)
        else:
            if path.exists():  # said once
                log.warning("not alive: %s", told.body.decode().strip())
            path.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("the health file could not be renewed: %s", exc)


def _write(path: Path, body: bytes) -> None:
    """Replace the file as a whole, so that nobody reads half of it."""
    new = _beside(path)
    try:
        new.write_bytes(body)
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.new")


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _pages(manager: JobManager, worker: Worker) -> Mapping[str, Page]:
    from kessel_core.hooks.page import PageContext
    from kessel_core.plugins.pages import pages_of

    adapter = manager.adapter
    context = PageContext(
        adapter=adapter.name,
        queues=worker.queues,
        types=frozenset(manager.registry.types()),
        health=lambda: worker.health(looks=False),
        running=lambda: worker.running,
        stats=adapter.stats,
    )
    return pages_of(manager.plugins, context)
