"""Servers that are not the expected backend: what an address leads to that is wrong by one digit."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final, Self

import attrs

__all__ = ["STRANGERS", "Kind", "Stranger"]


@attrs.frozen
class Kind:
    """How a stranger talks."""

    #: As in "a server that speaks HTTP"; follows "a server".
    label: str
    #: What it says when somebody connects.
    greeting: bytes = b""
    #: What it answers to whatever it is told.
    answer: bytes = b""
    #: Whether it hangs up after that.
    hangs_up: bool = False
    #: Whether it answers no further connect, as a host does behind a firewall that drops what it gets.
    is_full: bool = False


_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
    b"<html><body><h1>400 Bad Request</h1></body></html>\r\n"
)
STRANGERS: Final = (
    Kind("that speaks HTTP", answer=_HTTP, hangs_up=True),
    Kind("that speaks HTTP and does not hang up", answer=_HTTP),
    Kind("that greets as SSH does", greeting=b"SSH-2.0-OpenSSH_9.6\r\n", answer=b"Protocol mismatch.\r\n"),
    Kind("that greets as mail does", greeting=b"220 mail ESMTP\r\n", answer=b"500 unrecognized\r\n"),
    Kind("that wants TLS", answer=b"\x15\x03\x01\x00\x02\x02\x46", hangs_up=True),
    Kind("that answers with zeros", answer=bytes(64)),
    Kind("that answers with empty lines", answer=b"\r\n" * 8),
    Kind("that answers with odd bytes", answer=bytes(range(255, 127, -1))),
    Kind("that hangs up at once", hangs_up=True),
    Kind("that never says anything"),
    Kind("that answers no connect", is_full=True),
)


#: Seconds in which a system of this machine answers a connect, and to how many it may without an accept.
_UNANSWERED: Final = 0.3
_MOST_WAITING: Final = 16


class Stranger:
    """A server on a port of this machine; a context manager. Thread-safe."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0 if kind.is_full else None)
        self._peers: list[socket.socket] = []
        #: Where it listens.
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        if self._kind.is_full:
            self._fill()
            return self
        threading.Thread(target=self._accept, daemon=True, name="kessel-stranger").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the accept of the thread
        self._listener.close()
        for peer in list(self._peers):
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            if self._kind.is_full:
                peer.close()

    def _fill(self) -> None:
        """Connect to it until nobody is answered any more."""
        with contextlib.suppress(TimeoutError):
            while len(self._peers) < _MOST_WAITING:
                self._peers.append(socket.create_connection(("127.0.0.1", self.port), _UNANSWERED))

    def _accept(self) -> None:
        while True:
            try:
                peer = self._listener.accept()[0]
            except OSError:
                return
            self._peers.append(peer)
            threading.Thread(target=self._talk, args=(peer,), daemon=True, name="kessel-stranger").start()

    def _talk(self, peer: socket.socket) -> None:
        kind = self._kind
        with peer, contextlib.suppress(OSError):
            peer.sendall(kind.greeting)
            if kind.hangs_up and not kind.answer:
                return
            while peer.recv(65_536):
                peer.sendall(kind.answer)
                if kind.hangs_up:
                    return
