"""Bytes in and out: a socket with timeouts, and a strict reader of beanstalkd's lines and chunks.

Knows how a reply is framed, and nothing about its meaning. Every problem is an exception of the system or a
`MalformedReply`, and ends the connection.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

__all__ = ["FramedSocket", "MalformedReply", "NotSent", "ReplyReader", "UnendedChunk"]

#: Far longer than any reply line of beanstalkd, in bytes.
_LONGEST_LINE: Final = 1024
#: beanstalkd's own upper limit of `-z` is 1 GiB.
_LONGEST_CHUNK: Final = 2**30
_READ: Final = 65536


class MalformedReply(Exception):
    """The received bytes are not framed like a reply of beanstalkd."""


class UnendedChunk(MalformedReply):
    """A chunk without its closing CRLF."""


class NotSent(ConnectionError):
    """The system did not accept all bytes of a write, so the server cannot have executed the command."""


class FramedSocket(socket.socket):
    """A connected, blocking socket with kernel timeouts and its own reader.

    The timeouts are `SO_RCVTIMEO` and `SO_SNDTIMEO`, not Python's: those would cost a `poll`
    before every `recv`.

    A job may close descriptors by their numbers (fault 45). So what has taken the number of this one is
    neither shut down nor closed.

    Raises:
        OSError: The system refuses an option, as for a connection that has just been lost; it is closed.
    """

    # Its `Connection` closes it. If both are garbage, as with an exception that somebody keeps in a cycle,
    # the collector may look at the socket first, whose own end would warn, and close whatever has its number.
    # Does nothing, in C: in a function of Python a signal handler could run, whose error would be lost.
    __del__ = object.__hash__

    def __init__(self, connected: socket.socket, timeout: float) -> None:
        super().__init__(fileno=connected.detach())
        self._identity = _identity(self.fileno())
        try:
            self._set_up(timeout)
        except BaseException:  # also of a signal handler: nobody else knows of it yet
            self.close()
            raise
        self.reader = ReplyReader(self)

    def _set_up(self, timeout: float) -> None:
        self.settimeout(None)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A silent peer is noticed within about 25 s; by default the kernel needs two hours.
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                self.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(timeout * 1000)))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
        self._read_timeout = 0.0
        self.set_read_timeout(timeout)

    @property
    def is_there(self) -> bool:
        """Whether nobody else has closed it, or replaced it by something of his own."""
        number = self.fileno()
        return number >= 0 and _identity(number) == self._identity

    def shutdown(self, how: int) -> None:
        """Shut it down, if it is still there."""
        if self.is_there:
            super().shutdown(how)

    def close(self) -> None:
        """Close it, if it is still there."""
        if self.is_there:
            super().close()
        else:
            self.detach()

    @property
    def read_timeout(self) -> float:
        """Longest wait for received data, in seconds."""
        return self._read_timeout

    def set_read_timeout(self, seconds: float) -> None:
        """Set the longest wait for received data; cheap if it does not change."""
        if seconds != self._read_timeout:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
            self._read_timeout = seconds

    def send_whole(self, data: bytes) -> None:
        """Send everything.

        Raises:
            NotSent: The system did not accept all of it. Any other exception, for example from a signal
                handler, may be raised after the last byte was sent.
        """
        try:
            self.sendall(data)
        except BlockingIOError as exc:
            raise NotSent("the peer takes no more data") from exc
        except OSError as exc:
            if exc.errno is None:  # not from the system, perhaps from a signal handler
                raise
            raise NotSent(str(exc)) from exc

    def is_stale(self) -> bool:
        """Whether the peer has closed the connection, or has sent unrequested data."""
        try:
            self.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self.reader.has_rest
        except OSError:
            return True
        return True

    def is_readable(self) -> bool:
        """Whether there are bytes to read."""
        try:
            return bool(self.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False


class ReplyReader:
    """Reads lines and chunks; used by one thread at a time."""

    def __init__(self, connection: FramedSocket) -> None:
        self._socket = connection
        #: The received bytes; those before `_at` are consumed.
        self._received = b""
        self._at = 0

    @property
    def has_rest(self) -> bool:
        """Whether there are received bytes that are not consumed."""
        return self._at < len(self._received)

    def readline(self) -> bytes:
        """Return one line with its CRLF.

        Raises:
            ConnectionError: The peer closed the connection.
            TimeoutError: Nothing was received in time.
            MalformedReply: It is not a line of beanstalkd.
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
        """Return a chunk of exactly `length` bytes, and consume its closing CRLF.

        Raises:
            ConnectionError: As `readline`, here and below.
            TimeoutError: Nothing was received in time.
            MalformedReply: It is not a chunk of that length.
            UnendedChunk: It does not end there; as many bytes were consumed all the same.
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
        received, at = self._received, self._at
        self._at = end + 2
        if received[end : end + 2] != b"\r\n":
            raise UnendedChunk("a chunk that is longer than announced")
        return received[at:end]

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


def _identity(number: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _timeval(seconds: float) -> bytes:
    whole, part = divmod(max(seconds, 0.001), 1.0)
    return struct.pack("@ll", int(whole), int(part * 1_000_000))
