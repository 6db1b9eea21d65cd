"""A TCP proxy that breaks connections on purpose, between an adapter and its server on loopback.

The cases of lost connections use it before the server of any harness; an adapter's own tests may, too.
It is longer than 350 lines, because all ways of breaking a connection meet in one loop.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import attrs

__all__ = ["Cut", "FaultProxy", "Traffic"]

#: Seconds between two bytes that are sent one by one.
_BETWEEN_BYTES: Final = 0.0002
#: So many bytes of each piece of data; all of a long one would take seconds.
_SINGLE_BYTES: Final = 200
#: Seconds; a server that does not answer a request that was held is waited for no longer.
_ANSWERED_WITHIN: Final = 10.0
#: An answer of no protocol, neither in its first line nor after a length; nobody waits for the rest of it.
GARBLED: Final = b"\0\0\0\x0b" + 400 * b"\xff\xfegarbled\r\n"
#: `SO_LINGER` with no time at all: a close resets the connection instead of ending it in order.
_RESET: Final = struct.pack("ii", 1, 0)


@attrs.frozen(kw_only=True)
class Cut:
    """Where one connection is to be cut: as soon as so many more bytes have passed in one direction.

    With 0 bytes it is cut when the first byte of that direction arrives, and nothing passes: towards the
    server that drops a request, towards the adapter an answer, of a request that the server has carried out.
    """

    #: Towards the server; False: towards the adapter.
    up: bool
    #: Zero or more.
    after: int
    #: Whether all of the data passes in which that is reached: of a request whose length is known about.
    whole: bool = False
    #: Whether the adapter sees a reset (`ECONNRESET`) instead of an end of the stream.
    reset: bool = False
    #: Whether neither side sees it before `show_cuts`; until then nothing passes any more.
    unseen: bool = False


@attrs.frozen(kw_only=True)
class Traffic:
    """What has passed through a proxy; the difference of two is what passed between them."""

    #: Connections that were made.
    connections: int = 0
    #: Times that something was sent after an answer, or as the first thing of a connection.
    round_trips: int = 0
    #: Bytes towards the server.
    up: int = 0
    #: Bytes towards the adapter.
    down: int = 0

    @property
    def bytes(self) -> int:
        """Bytes in both directions."""
        return self.up + self.down

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(
            connections=self.connections - earlier.connections,
            round_trips=self.round_trips - earlier.round_trips,
            up=self.up - earlier.up,
            down=self.down - earlier.down,
        )


class FaultProxy:
    """Passes on, cuts, swallows, delays, or sends byte by byte. Thread-safe; a context manager.

    Args:
        target: The server's port on 127.0.0.1.

    Attributes:
        port: The proxy's own port on 127.0.0.1.
        drop_up: Swallow what goes to the server. While both directions are swallowed, ends of connections
            are, too, so that the other side stays half open.
        drop_down: Swallow what goes to the adapter.
        delay: Seconds by which each piece of data is late.
        dribble: Send to the adapter byte by byte, at least the beginning of each piece.
        refuses: Reset new connections at once, as if nobody listened.
        garbles: Put `GARBLED` in the place of each piece of data that goes to the adapter.
        loses: Asked about each answer that comes, before it passes, whether it is lost with its connection;
            after the first one that is, no more. So something can happen between an answer and its loss.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.drop_up = False
        self.drop_down = False
        self.delay = 0.0
        self.dribble = False
        self.refuses = False
        self.garbles = False
        self.loses: Callable[[], bool] | None = None
        #: Guards `loses`, which may take its time, and make calls that pass through here.
        self._loses_lock = threading.Lock()
        self._cut: Cut | None = None
        self._traffic = Traffic()
        self._sent = 0
        #: Guards the cut, the traffic and the sets below.
        self._lock = threading.Lock()
        self._open: set[_Link] = set()
        self._threads: set[threading.Thread] = set()
        self._closed = threading.Event()
        self._answers_pass = threading.Event()
        self._answers_pass.set()
        self._cuts_shown = threading.Event()
        self._holds = self._holds_first = False
        #: The connections whose requests are held.
        self._held: list[_Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- faults ----------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cut every connection now."""
        with self._lock:
            links = list(self._open)
        for link in links:
            link.cut(reset=False)

    def cut_at(self, cut: Cut) -> None:
        """Cut the first connection that reaches this point, once."""
        self._cuts_shown.clear()
        with self._lock:
            self._cut = cut

    def show_cuts(self) -> None:
        """End the connections that were cut unseen."""
        self._cuts_shown.set()

    def hold_answers(self) -> None:
        """Keep what goes to the adapter until `end_faults`, so that it comes late."""
        self._answers_pass.clear()

    def hold_requests(self, *, of_first: bool = False) -> None:
        """Keep what goes to the server: until `end_faults` of all connections, until `pass_held` of these.

        So a server carries out a request after the adapter has given it up, and made a new connection.

        Args:
            of_first: Keep only what the first connection sends that sends something.
        """
        self._holds, self._holds_first = True, of_first

    @property
    def holds_some(self) -> bool:
        """Whether a request is held."""
        with self._lock:
            return self._held != []

    def pass_held(self) -> None:
        """Let the server have the requests that are held, and wait until it has answered each."""
        with self._lock:
            held, self._held = self._held, []
        for link in held:
            link.requests_pass.set()
        for link in held:
            link.answered.wait(_ANSWERED_WITHIN)

    def end_faults(self) -> bool:
        """Pass everything on again, without delay, but for what `hold_requests` has kept.

        Returns:
            Whether a cut was still outstanding.
        """
        self._holds = False
        self._answers_pass.set()
        self.drop_up = self.drop_down = self.dribble = self.refuses = self.garbles = False
        self.delay = 0.0
        self.loses = None
        with self._lock:
            left, self._cut = self._cut, None
        return left is not None

    @property
    def traffic(self) -> Traffic:
        """What has passed so far."""
        with self._lock:
            return self._traffic

    @property
    def sent(self) -> int:
        """Bytes that the adapter has sent, those that were swallowed included."""
        with self._lock:
            return self._sent

    def close(self) -> None:
        """Stop, and wait for the threads."""
        self._closed.set()
        self._answers_pass.set()
        self._cuts_shown.set()
        with self._lock:
            held, self._held = self._held, []
        for link in held:
            link.answered.set()
            link.requests_pass.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(5)

    # --- its threads -----------------------------------------------------------------------------------

    def _spawn(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)
            finally:
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, daemon=True, name="kessel-proxy")
        with self._lock:  # so that nobody joins a thread that has not begun
            self._threads.add(thread)
            thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._traffic = attrs.evolve(self._traffic, connections=self._traffic.connections + 1)
            try:
                if self.refuses:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):  # as servers do: two short answers must not wait for one another
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(client, server)
            with self._lock:
                self._open.add(link)
            self._spawn(self._serve, link)

    def _serve(self, link: _Link) -> None:
        up = self._spawn(self._pump, link, True)
        self._pump(link, False)
        up.join()
        with self._lock:
            self._open.discard(link)
        link.close()

    def _pump(self, link: _Link, up: bool) -> None:
        source, sink = (link.client, link.server) if up else (link.server, link.client)
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay:
                    self._closed.wait(self.delay)
                if up:
                    with self._lock:
                        self._sent += len(data)
                    self._wait_if_held(link)
                else:
                    link.answered.set()
                    self._answers_pass.wait()
                    data = GARBLED if self.garbles else data
                    if self._is_lost():
                        link.is_cut = True
                        link.cut(reset=False)
                        return
                if (self.drop_up if up else self.drop_down) or link.is_cut:
                    continue
                passes, cut = self._counted(link, up, len(data))
                if cut is not None:  # before the adapter can have read it, and ask for more
                    link.is_cut = True
                single = min(passes, _SINGLE_BYTES) if self.dribble and not up else 0
                for byte in data[:single]:
                    sink.sendall(bytes([byte]))
                    time.sleep(_BETWEEN_BYTES)
                sink.sendall(data[single:passes])
                if up and link.is_held:
                    # Else its end, which comes next, would close the connection before the request is done.
                    link.answered.wait(_ANSWERED_WITHIN)
                if cut is not None:
                    if cut.unseen:
                        self._cuts_shown.wait()
                    link.cut(reset=cut.reset)
                    return
        if self.drop_up and self.drop_down:
            self._closed.wait()
        link.cut(reset=False)

    def _is_lost(self) -> bool:
        with self._loses_lock:
            if self.loses is None or not self.loses():
                return False
            self.loses = None
            return True

    def _wait_if_held(self, link: _Link) -> None:
        with self._lock:
            is_next = self._holds and not (self._holds_first and self._held)
            if is_next and link not in self._held and not self._closed.is_set():
                link.is_held = True
                link.answered.clear()
                link.requests_pass.clear()
                self._held.append(link)
        if link.is_held:
            link.requests_pass.wait()

    def _counted(self, link: _Link, up: bool, size: int) -> tuple[int, Cut | None]:
        """Count data; return how much of it passes, and the cut if it is to be cut after that."""
        with self._lock:
            cut, traffic = self._cut, self._traffic
            if cut is None or cut.up != up:
                passes, due = size, False
            else:
                due = cut.after <= size
                passes = size if due and cut.whole else min(size, cut.after)
                self._cut = None if due else attrs.evolve(cut, after=cut.after - size)
            asks, link.was_up = up and not link.was_up, up
            self._traffic = attrs.evolve(
                traffic,
                round_trips=traffic.round_trips + asks,
                up=traffic.up + (passes if up else 0),
                down=traffic.down + (0 if up else passes),
            )
            return passes, cut if due else None


class _Link:
    """One connection of an adapter, with the proxy's own to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        #: Direction of the latest data.
        self.was_up = False
        #: Nothing passes any more, in either direction.
        self.is_cut = False
        #: Its requests wait for `requests_pass`; the server has said something since then.
        self.is_held = False
        self.requests_pass = threading.Event()
        self.answered = threading.Event()
        self._resets = False

    def cut(self, *, reset: bool) -> None:
        """End both; towards the server always in order, so that it reads what has been sent."""
        self._resets = self._resets or reset
        if self._resets:
            # Reading ends, nothing is sent: with this linger it is the close that resets the connection.
            self._shut(self.client, socket.SHUT_RD)
            with contextlib.suppress(OSError):
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            self._shut(self.client, socket.SHUT_RDWR)
        self._shut(self.server, socket.SHUT_RDWR)

    @staticmethod
    def _shut(end: socket.socket, how: int) -> None:
        with contextlib.suppress(OSError):
            end.shutdown(how)

    def close(self) -> None:
        """Release both."""
        for end in (self.client, self.server):
            end.close()
