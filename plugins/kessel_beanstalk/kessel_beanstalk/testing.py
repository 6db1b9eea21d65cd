"""For tests: a private beanstalkd, and a proxy that breaks connections on purpose."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Beanstalkd", "FaultProxy", "free_port"]


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


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


class FaultProxy:
    """Between adapter and server: passes, drops, cuts after n bytes of replies, delays, sends byte by byte.

    While it drops both directions, the end of a connection is dropped, too: the other side stays half open.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.drop_up = False
        self.drop_down = False
        self.cut_after: int | None = None
        self.delay = 0.0
        self.dribble = False
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def _spawn(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):  # as beanstalkd itself: two short replies must not wait
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open |= {client, server}
            self._spawn(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        up = threading.Thread(target=self._pump, args=(client, server, True), daemon=True)
        up.start()
        self._pump(server, client, False)
        up.join()
        self._open -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        try:
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                if self.drop_up if is_up else self.drop_down:
                    continue
                if not is_up and self.cut_after is not None:
                    data, self.cut_after = data[: self.cut_after], max(0, self.cut_after - len(data))
                    sink.sendall(data)
                    if self.cut_after == 0:
                        self.cut_after = None
                        break
                elif not is_up and self.dribble:
                    for byte in data:
                        sink.sendall(bytes([byte]))
                        time.sleep(0.0002)
                else:
                    sink.sendall(data)
        except OSError:
            pass
        if self.drop_up and self.drop_down:
            self._closed.wait()
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Cut every connection now."""
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop, and wait for the threads."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)
