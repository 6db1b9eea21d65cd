"""One POST and its answer: within one deadline, without redirects and proxies, and never reading much (S23).

`http.client` writes the request and reads the answer, over a socket whose every operation gets what is left
of the time: a server that drips one byte at a time gains nothing by it.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final

import attrs

from kessel_http.connecting import Deadline, Network, connected
from kessel_http.urls import Url

__all__ = ["Answer", "NotAnswered", "post"]

#: At most so many bytes of an answer are read, its head included.
LONGEST: Final = 64 * 1024
_CONTINUING: Final = range(100, 200)
_SWITCHING: Final = 101


class NotAnswered(Exception):
    """There was no answer; the message says why, for people."""


@attrs.frozen
class Answer:
    """What an endpoint answered."""

    #: Of HTTP; the final one.
    status: int
    #: The header `Retry-After`.
    retry_after: str | None = None


def post(
    url: Url,
    headers: Mapping[str, str],
    body: bytes,
    network: Network,
    *,
    seconds: float,
    internal: bool,
) -> Answer:
    """Send a body, and return the answer when its status is known and its body has come or been given up.

    Args:
        url: Where to.
        headers: Beside those that HTTP itself needs.
        body: JSON.
        network: Decides where the connection goes.
        seconds: For everything, from the look-up of the name on; more than zero.
        internal: Whether any address is allowed.

    Raises:
        RefusedAddress: It leads to an address that it must not lead to.
        Unable: This process has no descriptor, thread or memory for it; nothing was sent.
        NotAnswered: There was no whole head of an answer in time; the request may have arrived.
    """
    deadline = Deadline(seconds)
    try:
        made = connected(url, deadline, network, internal=internal)
    except (OSError, UnicodeError) as exc:
        raise NotAnswered(_why(exc, seconds)) from exc
    with made:
        wire = _Wire(made, deadline)
        try:
            response = _asked(wire, url, headers, body)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise NotAnswered(_why(exc, seconds)) from exc
        _drain(response)
        return Answer(response.status, response.getheader("Retry-After"))


def _asked(wire: _Wire, url: Url, headers: Mapping[str, str], body: bytes) -> http.client.HTTPResponse:
    """Send a request and return its answer, which may be there before all of it was sent.

    Who answers at once, as a gateway that takes nothing for now, and ends the connection without having read
    the body, resets it; what was answered can be read nevertheless (RFC 9112, 9.5 and 9.6).
    """
    try:
        _send(wire, url, headers, body)
    except (ConnectionError, ssl.SSLEOFError) as sending:
        try:
            return _head(wire)
        except (OSError, http.client.HTTPException, ValueError):
            raise sending from None
    return _head(wire)


def _send(wire: _Wire, url: Url, headers: Mapping[str, str], body: bytes) -> None:
    connection = http.client.HTTPConnection(url.host, url.port)
    connection.sock = wire
    connection.putrequest("POST", url.target, skip_host=True, skip_accept_encoding=True)
    fields = {
        "Host": url.authority,
        "User-Agent": "kessel-http",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    for name, value in fields.items():
        connection.putheader(name, value)
    connection.endheaders(body)


def _head(wire: _Wire) -> http.client.HTTPResponse:
    """Read heads until one is final: any number may come before it, such as 103."""
    while True:
        response = http.client.HTTPResponse(wire, method="POST")  # type: ignore[arg-type]  # as much of a socket as it uses
        response.begin()
        if wire.ended:  # `http.client` takes that for the end of the head
            raise ConnectionError("the connection ended within the head of its answer")
        if response.status not in _CONTINUING or response.status == _SWITCHING:
            return response


def _drain(response: http.client.HTTPResponse) -> None:
    """Read the body, so that the server is not cut off; whatever goes wrong with it changes nothing."""
    try:
        while response.read(8192):
            pass
    except (OSError, http.client.HTTPException, ValueError):
        pass


class _TooLong(OSError):
    """More than `LONGEST` bytes came."""


class _Wire:
    """A socket, as far as `http.client` uses one."""

    def __init__(self, made: socket.socket, deadline: Deadline) -> None:
        self._socket = made
        self._deadline = deadline
        self._reader = _Reader(made, deadline)
        self._file = _Kept(self._reader)

    @property
    def ended(self) -> bool:
        """Whether the other side has sent all that it ever will, and more was asked for."""
        return self._reader.ended

    def sendall(self, data: bytes) -> None:
        """Send everything in time; a piece at a time, because TLS gives each piece the whole timeout."""
        left = memoryview(data)
        while left:
            self._socket.settimeout(self._deadline.left())
            left = left[self._socket.send(left) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what is read from; always the same, because a head may follow on a head."""
        return self._file


class _Kept(io.BufferedReader):
    """Stays open until its socket is closed, whatever responses that are read from it do at their end."""

    def close(self) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing; there is nothing to write."""


class _Reader(io.RawIOBase):
    def __init__(self, made: socket.socket, deadline: Deadline) -> None:
        self._socket = made
        self._deadline = deadline
        self._left = LONGEST
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            raise _TooLong(f"the head of its answer is longer than {LONGEST // 1024} KiB")
        self._socket.settimeout(self._deadline.left())
        got = self._socket.recv_into(memoryview(buffer)[: self._left])
        self._left -= got
        self.ended = got == 0
        return got


def _why(exc: Exception, seconds: float) -> str:
    """Return why there is no answer, for people."""
    match exc:
        case TimeoutError():
            return f"no answer within {seconds:g} s"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {exc.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {exc.reason or exc}"
        case OSError():
            return exc.strerror or str(exc) or type(exc).__name__
        case _:
            return f"what answers does not speak HTTP: {type(exc).__name__}"
