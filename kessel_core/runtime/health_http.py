"""A small HTTP server for probes and scrapers, and the question of a supervisor to those of its workers.

It stands open to whoever reaches its address: it reads one short request for each connection, within a few
seconds, some connections at a time, and answers GET and HEAD only. What it knows comes from one function.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Final

import attrs

from kessel_core.values.logs import get_logger

__all__ = ["Answer", "HealthServer", "ask_all", "listening"]

log = get_logger("kessel.health")

#: Longest request, in bytes.
_LONGEST: Final = 8192
#: Seconds for a client to send its request, and again to take the answer. Real time: clients live in it.
_PATIENCE: Final = 3.0
#: Connections at the same time; others wait for one of them to end.
_CONNECTIONS: Final = 8
_REQUEST: Final = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[0-9]\r?\n")
_STATUS: Final = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3}) [^\r\n]*\r\n")
_TYPE: Final = re.compile(rb"\r\nContent-Type: ([^\r\n]*)\r\n")
#: Longest answer of a worker, in bytes.
_LONGEST_ANSWER: Final = 64 * 1024 * 1024


@attrs.frozen
class Answer:
    """What is sent for a path."""

    #: The status of HTTP.
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def plain(cls, status: HTTPStatus, why: str = "") -> Answer:
        """Return one of a line of text."""
        return cls(status, f"{why or status.phrase}\n".encode())


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens at this address; port 0: any free one.

    Raises:
        OSError: The port is taken, the address is not of this machine, or the name is unknown.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two processes have the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(32)
    except BaseException:
        listener.close()
        raise
    return listener


class HealthServer:
    """Answers requests until it is closed.

    Args:
        listener: A socket that listens; closed with the server.
        answer: Path without its query -> answer; called in threads of the server.
    """

    def __init__(self, listener: socket.socket, answer: Callable[[str], Answer]) -> None:
        self._listener = listener
        self._answer = answer
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self._wakes, self._wake = socket.socketpair()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="kessel-health", daemon=True)
        _serving.add(self)

    def start(self) -> None:
        """Begin to answer."""
        self._listener.setblocking(False)
        self._thread.start()

    def close(self) -> None:
        """Stop answering; what is being sent still is. Idempotent."""
        self._is_closed = True
        self._wake.close()
        if self._thread.ident is not None:
            self._thread.join(timeout=1.0)
        self.abandon()

    def abandon(self) -> None:
        """Close the sockets, as a forked child has to, which would keep the port for ever."""
        for one in (self._listener, self._wakes, self._wake):
            one.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._listener, selectors.EVENT_READ)
            waiting.register(self._wakes, selectors.EVENT_READ)
            while not self._is_closed:
                if not self._free.acquire(timeout=1.0):
                    continue
                if not self._take(waiting):
                    self._free.release()

    def _take(self, waiting: selectors.BaseSelector) -> bool:
        """Wait for a connection and serve it in a thread; return False if there was none."""
        waiting.select()
        if self._is_closed:
            return False
        try:
            connection, _ = self._listener.accept()
        except OSError as exc:  # it has gone again, or there are no descriptors left
            if not isinstance(exc, BlockingIOError):
                time.sleep(0.05)
            return False
        thread = threading.Thread(
            target=self._serve, args=(connection,), name="kessel-health-request", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as exc:  # there are no threads left just now; the next probe may get one
            log.debug("no thread for a request: %s", exc)
            connection.close()
            time.sleep(0.05)
            return False
        return True

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):  # the client has gone
                request = _read_request(connection)
                if request is not None:
                    _send(connection, *self._answered(request))
        finally:
            self._free.release()

    def _answered(self, request: bytes) -> tuple[Answer, bool]:
        """Return the answer, and whether its body is wanted."""
        if not _is_whole(request):
            return Answer.plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), True
        found = _REQUEST.match(request)
        if found is None:
            return Answer.plain(HTTPStatus.BAD_REQUEST), True
        method, target = found[1].decode(), found[2].decode()
        if method not in ("GET", "HEAD"):
            return Answer.plain(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD"), True
        try:
            return self._answer(target.partition("?")[0]), method == "GET"
        except Exception:
            log.exception("no answer for %s", target)
            return Answer.plain(HTTPStatus.INTERNAL_SERVER_ERROR), True


_serving: weakref.WeakSet[HealthServer] = weakref.WeakSet()


def _leave_in_child() -> None:
    for server in list(_serving):
        server.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_in_child)


def _is_whole(request: bytes) -> bool:
    return b"\r\n\r\n" in request or b"\n\n" in request


def _read_request(connection: socket.socket) -> bytes | None:
    """Read up to the end of the head, or as much as is too long; None: it did not come in time."""
    deadline = time.monotonic() + _PATIENCE
    read = b""
    while not _is_whole(read) and len(read) < _LONGEST:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(_LONGEST)
        if not part:
            return read + b"\n\n" if read else None
        read += part
    return read


def _send(connection: socket.socket, answer: Answer, has_body: bool) -> None:
    head = (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        + ("Allow: GET, HEAD\r\n" if answer.status == HTTPStatus.METHOD_NOT_ALLOWED else "")
        + "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    connection.settimeout(_PATIENCE)
    connection.sendall(head.encode("latin-1") + (answer.body if has_body else b""))
    # What was not read, as the body of a POST, would let the system drop the answer on its way.
    connection.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + 1.0
    while (rest := deadline - time.monotonic()) > 0:
        connection.settimeout(rest)
        if not connection.recv(65536):
            return


# --- asking -----------------------------------------------------------------------------------------------


def ask_all(ports: Mapping[int, int], path: str, patience: float) -> dict[int, Answer]:
    """Ask servers of this machine for a path, all at the same time.

    Args:
        ports: Any key -> port on 127.0.0.1.
        path: The path.
        patience: Seconds for all of them together.

    Returns:
        Key -> answer, of those that have answered in time.
    """
    deadline = time.monotonic() + patience

    def asked(port: int) -> Answer | None:
        with contextlib.suppress(OSError), _sent(port, path, deadline) as connection:
            return _received(connection, deadline)
        return None

    # Each in a thread: a process that hangs may not even let anybody connect, and must not use up the time
    # of the others.
    with ThreadPoolExecutor(max(1, len(ports)), "kessel-asking") as pool:
        found = dict(zip(ports, pool.map(asked, ports.values()), strict=True))
    return {key: answer for key, answer in found.items() if answer is not None}


def _sent(port: int, path: str, deadline: float) -> socket.socket:
    left = max(deadline - time.monotonic(), 0.001)
    connection = socket.create_connection(("127.0.0.1", port), timeout=left)
    try:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    except BaseException:
        connection.close()
        raise
    return connection


def _received(connection: socket.socket, deadline: float) -> Answer | None:
    parts: list[bytes] = []
    length = 0
    while length < _LONGEST_ANSWER:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(1 << 20)
        if not part:
            break
        parts.append(part)
        length += len(part)
    head, blank, body = b"".join(parts).partition(b"\r\n\r\n")
    status, kind = _STATUS.match(head + b"\r\n"), _TYPE.search(head + b"\r\n")
    if not blank or status is None or kind is None:
        return None
    return Answer(int(status[1]), body, kind[1].decode("latin-1"))
