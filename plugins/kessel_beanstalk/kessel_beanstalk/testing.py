"""For tests: a private beanstalkd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

from kessel_core.testing import free_port

__all__ = ["Beanstalkd"]


class Beanstalkd:
    """One server process; `start` after `kill` is a restart on the same port and binlog.

    `before` is a shell command that the server's process runs first, such as `ulimit -n 16`.
    """

    def __init__(self, *arguments: str, before: str = ":") -> None:
        binary = os.environ.get("BEANSTALKD") or shutil.which("beanstalkd")
        if not binary:
            raise RuntimeError("no beanstalkd: set BEANSTALKD or put it on PATH (apt-get install beanstalkd)")
        self.binary = binary
        self.arguments = arguments
        self.before = before
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it accepts connections.

        Raises:
            AssertionError: It does not start.
        """
        for _ in range(20):
            server = [self.binary, "-l", "127.0.0.1", "-p", str(self.port), *self.arguments]
            command = ["/bin/sh", "-c", f'{self.before} && exec "$@"', "sh", *server]
            # The test chooses the command. Nobody reads its output, so it must not fill a pipe.
            self.process = subprocess.Popen(  # noqa: S603
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            until = time.monotonic() + 10
            while self.process.poll() is None and time.monotonic() < until:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    return
                time.sleep(0.01)
            self.kill()
            time.sleep(0.05)
        raise AssertionError("beanstalkd does not start")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Stop it by its process id."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(number)
            self.process.wait(10)

    def signal(self, number: int) -> None:
        """Send a signal that does not end it."""
        assert self.process is not None
        self.process.send_signal(number)
