"""beanstalkd's replies, read strictly, and the socket that greenstalk is given.

One reader for one connection. greenstalk would put its own buffered reader on the socket, and
whatever that has read ahead is lost for anybody else; it also checks a reply's framing with
`assert`, which `python -O` removes (a body longer than declared is then cut in silence). So
greenstalk gets a socket of ours whose `makefile`, a public method of every socket, returns
*our* reader. Then its single commands and our pipelined ones share one buffer and one set of
checks, and no private name of greenstalk is used.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

import greenstalk

__all__ = [
    "FramedSocket",
    "MalformedReply",
    "ReplyReader",
    "parse_list",
    "parse_stats",
    "reply_values",
]

#: No reply line of beanstalkd is near this long.
_LONGEST_LINE: Final = 1024
#: beanstalkd's own upper limit of `-z` is 1 GiB.
_LONGEST_CHUNK: Final = 2**30 + 2
_READ: Final = 65536

_ERRORS: Final[dict[bytes, type[greenstalk.BeanstalkdError]]] = {
    b"BAD_FORMAT": greenstalk.BadFormatError,
    b"DEADLINE_SOON": greenstalk.DeadlineSoonError,
    b"DRAINING": greenstalk.DrainingError,
    b"EXPECTED_CRLF": greenstalk.ExpectedCrlfError,
    b"INTERNAL_ERROR": greenstalk.InternalError,
    b"JOB_TOO_BIG": greenstalk.JobTooBigError,
    b"NOT_FOUND": greenstalk.NotFoundError,
    b"NOT_IGNORED": greenstalk.NotIgnoredError,
    b"OUT_OF_MEMORY": greenstalk.OutOfMemoryError,
    b"TIMED_OUT": greenstalk.TimedOutError,
    b"UNKNOWN_COMMAND": greenstalk.UnknownCommandError,
}


class MalformedReply(Exception):
    """What came is not framed as beanstalkd frames its replies."""


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
        #: How many calls of `sendall` gave all their bytes to the kernel. A command that was not
        #: sent whole cannot have been obeyed.
        self.sent_whole = 0
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

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send everything, and count that."""
        try:
            super().sendall(data, flags)
        except BlockingIOError as exc:
            raise TimeoutError("the peer takes no more data") from exc
        self.sent_whole += 1

    def makefile(self, *_args: Any, **_kwargs: Any) -> ReplyReader:  # type: ignore[override]
        """Return the one reader of this connection, see the module's text."""
        return self.reader

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
    """Reads lines and chunks; has what greenstalk asks of a file: readline, read, close."""

    def __init__(self, connection: FramedSocket) -> None:
        self._socket = connection
        self._rest = b""

    @property
    def has_rest(self) -> bool:
        """True if bytes were received that nobody has taken yet."""
        return bool(self._rest)

    def readline(self) -> bytes:
        """Return one line with its CRLF.

        Raises:
            ConnectionError: The peer closed first.
            TimeoutError: It was silent too long.
            MalformedReply: No line of beanstalkd.
        """
        while True:
            rest = self._rest
            end = rest.find(b"\n") + 1
            if end:
                if rest[end - 2 : end] != b"\r\n":
                    raise MalformedReply(f"a line without CR: {rest[:end]!r:.80}")
                self._rest = rest[end:]
                return rest[:end]
            if len(rest) > _LONGEST_LINE:
                raise MalformedReply(f"a line without end: {rest[:40]!r}")
            self._rest = rest + self._receive(_READ)

    def read(self, size: int) -> bytes:
        """Return a chunk of exactly `size` bytes, its closing CRLF included."""
        if not 2 <= size <= _LONGEST_CHUNK:
            raise MalformedReply(f"a chunk of {size} bytes")
        rest = self._rest
        if len(rest) < size:
            parts = [rest]
            missing = size - len(rest)
            self._rest = b""
            while missing > 0:
                part = self._receive(max(missing, _READ))
                parts.append(part)
                missing -= len(part)
            rest = b"".join(parts)
        chunk, self._rest = rest[:size], rest[size:]
        if chunk[-2:] != b"\r\n":
            raise MalformedReply("a chunk that is longer than announced")
        return chunk

    def _receive(self, size: int) -> bytes:
        try:
            part = self._socket.recv(size)
        except BlockingIOError as exc:
            raise TimeoutError(f"no answer within {self._socket.read_timeout:g} s") from exc
        if not part:
            raise ConnectionError(
                "closed by the peer" + (" in the middle of an answer" if self._rest else "")
            )
        return part

    def close(self) -> None:
        """Forget what was read ahead; greenstalk closes the socket itself."""
        self._rest = b""


def _timeval(seconds: float) -> bytes:
    whole, part = divmod(max(seconds, 0.001), 1.0)
    return struct.pack("@ll", int(whole), int(part * 1_000_000))


def reply_values(line: bytes, expected: bytes) -> list[bytes]:
    """Return the words after the expected status.

    Raises:
        greenstalk.Error: The server answered something else, as greenstalk would raise it.
    """
    status, *values = line.split() or [b""]
    if status == expected:
        return values
    if status == b"BURIED":
        raise greenstalk.BuriedError(values)
    error = _ERRORS.get(status)
    if error is not None:
        raise error(values)
    raise greenstalk.UnknownResponseError(status, values)


def parse_stats(chunk: bytes) -> dict[str, str]:
    """Return the entries of a `stats` reply as texts."""
    lines = chunk.decode("ascii").splitlines()
    if not lines or lines[0] != "---":
        raise MalformedReply("statistics without their first line")
    entries = (line.partition(": ") for line in lines[1:] if line)
    return {key: value.strip('"') for key, _, value in entries}


def parse_list(chunk: bytes) -> list[str]:
    """Return the entries of a list reply."""
    lines = chunk.decode("ascii").splitlines()
    if not lines or lines[0] != "---":
        raise MalformedReply("a list without its first line")
    return [line[2:] for line in lines[1:] if line]
