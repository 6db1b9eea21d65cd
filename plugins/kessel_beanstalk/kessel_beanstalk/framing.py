"""Bytes in and out: a socket with timeouts, and beanstalkd's lines and chunks read strictly.

Knows how a reply is framed, and nothing of what it says. All that is odd is an exception of the system or
a `MalformedReply`, and ends the connection.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

__all__ = ["FramedSocket", "MalformedReply", "NotSent", "ReplyReader"]

#: No reply line of beanstalkd is near this long.
_LONGEST_LINE: Final = 1024
#: beanstalkd's own upper limit of `-z` is 1 GiB.
_LONGEST_CHUNK: Final = 2**30
_READ: Final = 65536


class MalformedReply(Exception):
    """What came is not framed as beanstalkd frames its replies."""


class NotSent(ConnectionError):
    """The system did not take all bytes of a write: a command in it cannot have been obeyed."""


class FramedSocket(socket.socket):
    """A connected, blocking socket with kernel timeouts, whose reader is ours.

    The timeouts are `SO_RCVTIMEO` and `SO_SNDTIMEO`, not Python's: those would cost a `poll`
    before every `recv`.
    """

    def __init__(self, connected: socket.socket, timeout: float) -> None:
        super().__init__(fileno=connected.detach())
        self.settimeout(None)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A silent peer is noticed within about 25 s, the kernel's own default is two hours.
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                self.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(timeout * 1000)))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
        self._read_timeout = 0.0
        self.set_read_timeout(timeout)
        self.reader = ReplyReader(self)

    @property
    def read_timeout(self) -> float:
        """Longest silence in seconds while a reply is due."""
        return self._read_timeout

    def set_read_timeout(self, seconds: float) -> None:
        """Set the longest silence; cheap when it does not change."""
        if seconds != self._read_timeout:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
            self._read_timeout = seconds

    def send_whole(self, data: bytes) -> None:
        """Send everything.

        Raises:
            NotSent: The system refused some of it. Whatever else is raised, as by a signal handler in the
                middle of the call, may come after the last byte has left.
        """
        try:
            self.sendall(data)
        except BlockingIOError as exc:
            raise NotSent("the peer takes no more data") from exc
        except OSError as exc:
            if exc.errno is None:  # not the system's: a signal handler may raise such errors, too
                raise
            raise NotSent(str(exc)) from exc

    def is_stale(self) -> bool:
        """Return True if the peer has closed, or has sent what nobody asked for."""
        try:
            self.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self.reader.has_rest
        except OSError:
            return True
        return True

    def is_readable(self) -> bool:
        """Return True if bytes wait to be read."""
        try:
            return bool(self.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False


class ReplyReader:
    """Reads lines and chunks; for one thread at a time."""

    def __init__(self, connection: FramedSocket) -> None:
        self._socket = connection
        #: What was received; the part before `_at` was taken.
        self._received = b""
        self._at = 0

    @property
    def has_rest(self) -> bool:
        """True if bytes were received that nobody has taken yet."""
        return self._at < len(self._received)

    def readline(self) -> bytes:
        """Return one line with its CRLF.

        Raises:
            ConnectionError: The peer closed first.
            TimeoutError: It was silent too long.
            MalformedReply: No line of beanstalkd.
        """
        while True:
            received, at = self._received, self._at
            end = received.find(b"\n", at) + 1
            if end:
                line = received[at:end]
                if not line.endswith(b"\r\n"):
                    raise MalformedReply(f"a line without CR: {line!r:.80}")
                self._at = end
                return line
            if len(received) - at > _LONGEST_LINE:
                raise MalformedReply(f"a line without end: {received[at : at + 40]!r}")
            self._received = received[at:] + self._receive(_READ)
            self._at = 0

    def chunk(self, length: int) -> bytes:
        """Return a chunk of exactly `length` bytes; its closing CRLF is read, too.

        Raises:
            As `readline`.
        """
        if not 0 <= length <= _LONGEST_CHUNK:
            raise MalformedReply(f"a chunk of {length} bytes")
        end = self._at + length
        if len(self._received) < end + 2:
            parts = [self._received[self._at :]]
            missing = length + 2 - len(parts[0])
            while missing > 0:
                part = self._receive(max(missing, _READ))
                parts.append(part)
                missing -= len(part)
            self._received, self._at, end = b"".join(parts), 0, length
        received = self._received
        if received[end : end + 2] != b"\r\n":
            raise MalformedReply("a chunk that is longer than announced")
        chunk = received[self._at : end]
        self._at = end + 2
        return chunk

    def _receive(self, size: int) -> bytes:
        try:
            part = self._socket.recv(size)
        except BlockingIOError as exc:
            raise TimeoutError(f"no answer within {self._socket.read_timeout:g} s") from exc
        if not part:
            raise ConnectionError(
                "closed by the peer" + (" in the middle of an answer" if self.has_rest else "")
            )
        return part


def _timeval(seconds: float) -> bytes:
    whole, part = divmod(max(seconds, 0.001), 1.0)
    return struct.pack("@ll", int(whole), int(part * 1_000_000))
