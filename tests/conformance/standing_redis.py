"""A Redis for the mutants of one process, each of which finds it empty; see `standing`."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kessel_redis.testing import Redis
from standing import kill_by_file

__all__ = ["ByFile", "start"]


class ByFile(Redis):
    """A server that another process may have started, with a file that has its process id.

    Args:
        folder: With its data; None: a new one.
        port: Where it listens; None: a new one.
    """

    def __init__(self, folder: Path | None = None, port: int | None = None) -> None:
        super().__init__()
        if folder is not None and port is not None:
            self._folder, self.port = folder, port

    def arguments(self) -> list[str]:
        return [*super().arguments(), "--pidfile", str(self.folder / "pid")]

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None and self.process.poll() is None:
            super().kill(number)
        else:
            kill_by_file(self.folder / "pid", number)


class StandingRedis:
    """See `standing.Standing`."""

    def __init__(self) -> None:
        self._server = ByFile()
        self._server.start()
        process = self._server.process
        assert process is not None
        # Whoever kills it sees it end only when its parent has asked for its end.
        threading.Thread(target=process.wait, daemon=True).start()

    @contextlib.contextmanager
    def lent(self, file: str) -> Iterator[dict[str, Any]]:
        if not self._server._answers():
            self._server.kill()
            self._server.start()
        for command in ("FLUSHALL", "SCRIPT FLUSH"):
            with socket.create_connection(("127.0.0.1", self._server.port), 20) as connection:
                connection.sendall(command.encode() + b"\r\n")
                assert connection.recv(100) == b"+OK\r\n"
        yield {"folder": str(self._server.folder), "port": self._server.port}

    def close(self) -> None:
        self._server.close()


def start() -> StandingRedis:
    return StandingRedis()
