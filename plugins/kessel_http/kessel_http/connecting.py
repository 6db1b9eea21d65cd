"""A connection to a URL, guarded (S24).

The name is looked up once, every address is checked, and the connection goes to one that was checked. All of
it ends at one deadline of the machine's clock, the look-up included.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  # look-ups and TLS load it by themselves, when there may be no descriptor left
import errno
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, TypeAlias

import attrs

from kessel_http.addresses import refusal
from kessel_http.urls import Url

__all__ = ["Deadline", "Found", "LookUp", "Network", "RefusedAddress", "Unable", "connected", "look_up"]

#: Family and address of a socket, as `socket.getaddrinfo` gives them.
Found: TypeAlias = tuple[int, tuple[Any, ...]]
#: Looks up a name and a port; raises OSError.
LookUp: TypeAlias = Callable[[str, int], Sequence[Found]]


class RefusedAddress(Exception):
    """The URL leads to an address that it must not lead to; nothing was connected."""


class Unable(Exception):
    """This process lacks what a connection needs, such as a descriptor; the other side had no part in it."""


#: Descriptors of the process and of the system, memory, and local ports.
_SHORT: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EAGAIN}
)


#: What says nothing of the other side: this process lacks something, or its machine a family of addresses.
_OURS: Final = _SHORT | {errno.EAFNOSUPPORT, errno.ENETUNREACH}


class Deadline:
    """When a call must have ended.

    Args:
        seconds: From now; more than zero.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return how many seconds are left; more than zero.

        Raises:
            TimeoutError: None.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def look_up(name: str, port: int) -> list[Found]:
    """Look a name up as the system does.

    Raises:
        OSError: It has no address, or no name server answers.
    """
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


@attrs.frozen(kw_only=True)
class Network:
    """What decides where a connection goes; thread-safe."""

    #: Looks up a name.
    resolve: LookUp = look_up
    #: Returns why a URL that is not internal must not lead to an address, or None if it may.
    refused: Callable[[IPv4Address | IPv6Address], str | None] = refusal
    #: For https; checks that the certificate is of the host in the URL.
    tls: ssl.SSLContext = attrs.field(factory=ssl.create_default_context)


def connected(url: Url, deadline: Deadline, network: Network, *, internal: bool) -> socket.socket:
    """Connect to a URL.

    Args:
        url: Where to.
        deadline: For all of it.
        network: Decides where that is.
        internal: Whether any address is allowed.

    Raises:
        RefusedAddress: One of the addresses is refused.
        Unable: This process has no descriptor, thread or memory for it.
        OSError: It cannot be reached in time, or its certificate is wrong.
    """
    try:
        return _connected(url, deadline, network, internal=internal)
    except OSError as exc:
        if exc.errno in _SHORT:
            raise Unable(exc.strerror or str(exc)) from exc
        raise


def _connected(url: Url, deadline: Deadline, network: Network, *, internal: bool) -> socket.socket:
    found = _addresses(url, deadline, network.resolve)
    if not internal:
        for _, address in found:
            why = network.refused(ip_address(str(address[0])))
            if why is not None:
                leads = "is" if url.address is not None else f"leads to {address[0]}, which is"
                raise RefusedAddress(f"{url.host} {leads} refused: {why}")
    made = _first_connected(found, deadline)
    if url.scheme == "http":
        return made
    return network.tls.wrap_socket(made, server_hostname=url.host)  # which closes it if it fails


def _addresses(url: Url, deadline: Deadline, resolve: LookUp) -> Sequence[Found]:
    if url.address is not None:
        family = socket.AF_INET if url.address.version == 4 else socket.AF_INET6
        return [(family, (url.host, url.port))]
    # In a thread, because the system's look-up knows no timeout; it ends by itself, after a minute at most.
    answers: queue.SimpleQueue[Sequence[Found] | Exception] = queue.SimpleQueue()

    def look() -> None:
        try:
            answers.put(resolve(url.host, url.port))
        except Exception as exc:
            answers.put(exc)

    try:
        threading.Thread(target=look, name="kessel-http-look-up", daemon=True).start()
    except RuntimeError as exc:
        raise Unable(str(exc)) from exc
    try:
        answer = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError("the name could not be looked up in time") from None
    if isinstance(answer, Exception):
        # Without a descriptor to ask with, the system says that a name is not known; then this says why.
        socket.socket().close()
        raise answer
    if not answer:
        raise OSError(f"{url.host} has no address")
    return answer


#: The least that one address gets, in seconds, if there are many.
_LEAST: Final = 0.2


def _first_connected(found: Sequence[Found], deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers; each gets an equal part of the time that is left.

    The socket that is returned gets all of it for what it does next. What an address answered counts more
    than that another could not be tried: in a container without IPv6 that one is the last of every name.
    """
    last: OSError | None = None
    for number, (family, address) in enumerate(found):
        try:
            return _connected_to(family, address, deadline, len(found) - number)
        except OSError as exc:
            if last is None or exc.errno not in _OURS:
                last = exc
    assert last is not None
    raise last


def _connected_to(family: int, address: tuple[Any, ...], deadline: Deadline, parts: int) -> socket.socket:
    """Connect to one address, in one of so many parts of the time that is left."""
    made = socket.socket(family, socket.SOCK_STREAM)  # fails for IPv6 where the system has none
    try:
        made.settimeout(min(deadline.left(), max(deadline.left() / parts, _LEAST)))
        made.connect(address)
        made.settimeout(deadline.left())
    except BaseException:
        made.close()
        raise
    return made
