"""For tests: a private Redis on a free loopback port, in a folder of its own, stopped by its pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from kessel_core.testing import free_port
from kessel_redis.options import RedisOptions

__all__ = ["Redis", "RedisMissing", "Sentinel", "program"]

#: What every server here has: it keeps what it acknowledged.
_USUAL = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "loglevel": "warning",
}


#: How often it is started; somebody may have taken its port meanwhile.
_TRIES = 5


class RedisMissing(RuntimeError):
    """There is no program of Redis or Valkey here."""


def program() -> str:
    """Return the path of the server's program: by `REDIS_SERVER`, or on PATH.

    Raises:
        RedisMissing: There is none.
    """
    named = os.environ.get("REDIS_SERVER")
    found = shutil.which(named) if named else shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise RedisMissing(
            "no Redis: install it (apt-get install redis-server, brew install redis), or name its program"
            " with REDIS_SERVER=/path/to/redis-server"
        )
    return found


class Redis:
    """One server; `start` after `kill` is a restart with the same port and data.

    Args:
        settings: Such as `appendfsync="no"` or `maxmemory_policy="allkeys-lru"`, beside or instead of those
            that keep all data; `_` stands for `-`.
    """

    def __init__(self, **settings: str) -> None:
        self.settings = {**_USUAL, **{name.replace("_", "-"): value for name, value in settings.items()}}
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def start(self) -> None:
        """Start it, and wait until it takes commands.

        Raises:
            AssertionError: It does not start.
        """
        until = time.monotonic() + 60
        for _ in range(_TRIES):
            # The tests choose the program. A group of its own, so that Ctrl-C in a terminal is for the tests.
            self.process = subprocess.Popen(  # noqa: S603
                [program(), *self.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            while self.process.poll() is None and time.monotonic() < until:
                if self._answers():
                    return
                time.sleep(0.01)
            time.sleep(0.1)
        self.kill()
        raise AssertionError("redis-server does not start")

    @property
    def folder(self) -> Path:
        """The folder with its data, made when it is first asked for."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="kessel-redis-"))
        return self._folder

    def arguments(self) -> list[str]:
        """Return the arguments of the program."""
        settings = {"port": str(self.port), "dir": str(self.folder), **self.settings}
        return [part for name, value in settings.items() for part in (f"--{name}", *(value.split() or [""]))]

    def _answers(self) -> bool:
        """Whether it takes commands: one that still reads its file says so."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.sendall(b"PING\r\n")
            return not sock.recv(100).startswith(b"-LOADING")
        return False

    def options(self, namespace: str = "kessel", **more: object) -> RedisOptions:
        """Return the options of an adapter on it."""
        given = {"host": "127.0.0.1", "port": self.port, "namespace": namespace, **more}
        return RedisOptions(**given)  # type: ignore[arg-type]

    def url(self, query: str = "") -> str:
        """Return the address of an adapter on it."""
        return f"redis://127.0.0.1:{self.port}{'?' if query else ''}{query}"

    @property
    def version(self) -> str:
        """What the program says of itself."""
        command = [program(), "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Stop it by its process id; SIGTERM asks it to stop in order."""
        process = self.process
        if process is not None:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)  # one that stands still hears nothing else but SIGKILL
                process.send_signal(number)
            process.wait(30)

    def close(self) -> None:
        """Stop it, and remove its data."""
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


class Sentinel(Redis):
    """A sentinel that watches a primary under the name `jobs`, and promotes a replica by itself.

    Args:
        primary: Running.
    """

    def __init__(self, primary: Redis) -> None:
        super().__init__()
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor jobs 127.0.0.1 {primary.port} 1",
            "sentinel down-after-milliseconds jobs 300",
            "sentinel failover-timeout jobs 2000",
        ]
        self._file = self.folder / "sentinel.conf"  # which it writes itself, too
        self._file.write_text("\n".join(lines) + "\n")

    def arguments(self) -> list[str]:
        """Return the arguments of the program."""
        return [str(self._file), "--sentinel"]
