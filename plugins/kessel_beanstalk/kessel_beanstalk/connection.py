"""One server, and single connections to it: made, checked, translated, given up.

Rules kept here: own sockets with timeouts (1), fork safety and generations (2), only clean
replies keep a connection (3), facts of the server logged and `require_durable` (11).
The edge of the adapter: beyond `Connection.call` there are only kessel's errors and the clean
replies of greenstalk.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import attrs
import greenstalk

from kessel_beanstalk.options import BeanstalkOptions
from kessel_beanstalk.protocol import FramedSocket, MalformedReply, parse_stats, reply_values
from kessel_core.contract import AdapterError, AdapterUnavailable, CapabilityMissing, ProtocolError

__all__ = ["ADAPTER_NAME", "CLEAN", "Connection", "Server", "ServerFacts"]

ADAPTER_NAME: Final = "beanstalk"
#: Replies after which a connection can go on (rule 3); the server has said no and is in step.
CLEAN: Final = (
    greenstalk.TimedOutError,
    greenstalk.DeadlineSoonError,
    greenstalk.NotFoundError,
    greenstalk.JobTooBigError,
    greenstalk.DrainingError,
    greenstalk.NotIgnoredError,
    greenstalk.OutOfMemoryError,
    greenstalk.BuriedError,
)
#: After so long without use a connection is looked at before it is trusted with a command.
_IDLE_SECONDS: Final = 0.5

_T = TypeVar("_T")
_log = logging.getLogger("kessel.beanstalk")

# Open connections by identity. A forked child closes its copies at once: a socket that lives on
# in a child keeps the parent's jobs reserved after the parent's death (rule 2). A plain dict, as
# only its copying is atomic whatever other threads were doing at the moment of the fork.
_open_connections: Final[dict[int, weakref.ref[Connection]]] = {}


def _close_in_child() -> None:
    for reference in list(_open_connections.values()):
        connection = reference()
        if connection is not None:
            connection.close()
    _open_connections.clear()


os.register_at_fork(after_in_child=_close_in_child)


@attrs.frozen(kw_only=True)
class ServerFacts:
    """What a server says about itself."""

    version: str
    #: Random for each server process: another one means a restart.
    server_id: str
    max_job_size: int
    binlog: bool
    draining: bool

    @classmethod
    def from_stats(cls, stats: greenstalk.Stats) -> ServerFacts:
        """Read the reply of `stats`.

        Raises:
            MalformedReply: It lacks what every beanstalkd since 1.4 says.
        """
        try:
            return cls(
                version=str(stats["version"]),
                server_id=str(stats["id"]),
                max_job_size=int(stats["max-job-size"]),
                binlog=int(stats["binlog-current-index"]) > 0,
                draining=str(stats.get("draining", "false")) == "true",
            )
        except (KeyError, ValueError, TypeError) as exc:
            raise MalformedReply(f"statistics without {exc}") from exc

    def __str__(self) -> str:
        return (
            f"beanstalkd {self.version}, binlog {'on' if self.binlog else 'off'}, "
            f"max job size {self.max_job_size}, {'draining, ' if self.draining else ''}id {self.server_id}"
        )


class Server:
    """The server behind an address, as all connections of one adapter see it. For any thread."""

    def __init__(self, options: BeanstalkOptions) -> None:
        self.options = options
        self.address = options.address
        #: Called after a restart of the server was seen: what is known of its jobs is void.
        self.on_restart: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._facts: ServerFacts | None = None
        self._generation = 0
        self._is_up = False
        # Losses of connections older than this say nothing about the server of now.
        self._up_since = 0

    @property
    def facts(self) -> ServerFacts:
        """What the server said at the last connect."""
        if self._facts is None:
            raise AdapterUnavailable(f"{self.address}: never connected")
        return self._facts

    def connect(self, *, watch: Sequence[str] = ()) -> Connection:
        """Make a connection; `watch` are checked tube names, without `default` unless named.

        Raises:
            AdapterUnavailable: Nobody there, or no answer in time.
            ProtocolError: Another protocol answers.
            CapabilityMissing: `require_durable`, and the server has no binlog (first connect only).
        """
        try:
            connection, facts = self._dialled(watch)
        except AdapterError as exc:
            self._went_down(exc)
            raise
        try:
            self._came_up(connection, facts)
        except BaseException:
            connection.close()
            raise
        return connection

    def _dialled(self, watch: Sequence[str]) -> tuple[Connection, ServerFacts]:
        options = self.options
        patience = options.connect_timeout.total_seconds()
        try:
            plain = socket.create_connection((options.host, options.port), timeout=patience)
        except (OSError, UnicodeError) as exc:  # UnicodeError: a host name that IDNA refuses
            raise AdapterUnavailable(f"{self.address}: cannot connect: {_told(exc)}") from exc
        own = FramedSocket(plain, options.timeout.total_seconds())
        with self._lock:
            self._generation += 1
            generation = self._generation
        own.set_read_timeout(patience)
        try:
            client = greenstalk.Client(own, encoding=None, watch=list(watch) or greenstalk.DEFAULT_TUBE)
            facts = ServerFacts.from_stats(client.stats())
        except BaseException as exc:
            own.close()
            if isinstance(exc, Exception):
                raise translated(exc, self.address) from exc
            raise
        own.set_read_timeout(options.timeout.total_seconds())
        return Connection(self, own, client, generation), facts

    def _came_up(self, connection: Connection, facts: ServerFacts) -> None:
        with self._lock:
            before, was_up = self._facts, self._is_up
            if self.options.require_durable and not facts.binlog:
                why = (
                    f"{self.address} runs without a binlog (start it with -b DIR), and require_durable is set"
                )
                if before is None:
                    raise CapabilityMissing("durability", ADAPTER_NAME, why)
                raise AdapterUnavailable(why)
            self._facts = facts
            if not was_up:
                self._is_up = True
                self._up_since = connection.generation
        restarted = before is not None and before.server_id != facts.server_id
        if restarted:
            self.on_restart()
        if not was_up or restarted:
            if before is None:
                _log.info("connected to %s: %s", self.address, facts)
            elif not restarted:
                _log.info("connected again to %s, the same server process", self.address)
            elif facts.binlog:
                _log.info("connected again to %s, which was restarted: %s", self.address, facts)
            else:
                _log.warning(
                    "connected again to %s, which was restarted without a binlog: its jobs are gone: %s",
                    self.address,
                    facts,
                )

    def lost(self, connection: Connection, why: BaseException) -> None:
        """Note that a connection broke; one line a change of state, however many broke."""
        with self._lock:
            news = self._is_up and connection.generation >= self._up_since
        if news:
            self._went_down(why)

    def _went_down(self, why: BaseException) -> None:
        with self._lock:
            was_up, self._is_up = self._is_up, False
        if was_up:
            _log.warning("lost the connection to %s: %s", self.address, _told(why))
        else:
            _log.debug("no connection to %s: %s", self.address, _told(why))


class Connection:
    """One connection, for one thread at a time; after any surprise it is closed for good."""

    def __init__(
        self, server: Server, own: FramedSocket, client: greenstalk.Client[bytes], generation: int
    ) -> None:
        self.server = server
        self.socket = own
        #: greenstalk, for single commands: `call(client.touch, ...)`.
        self.client = client
        self.generation = generation
        self.using = greenstalk.DEFAULT_TUBE
        self.is_open = True
        self._is_shut = False
        self._pid = os.getpid()
        self._last_use = time.monotonic()
        _open_connections[id(self)] = weakref.ref(self)

    def __del__(self) -> None:
        if getattr(self, "is_open", False):
            self.close()

    @property
    def is_usable(self) -> bool:
        """True if it is open, belongs to this process, and does not look closed by the server."""
        if not self.is_open:
            return False
        if self._pid != os.getpid():
            self.close()
            return False
        if time.monotonic() - self._last_use > _IDLE_SECONDS and self.socket.is_stale():
            self.broken(ConnectionError("closed by the server while idle"))
            return False
        return True

    def call(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Do one conversation; whatever does not end cleanly ends the connection (rule 3).

        Raises:
            greenstalk.BeanstalkdError: One of `CLEAN`.
            AdapterError: Everything else, translated. Exceptions that are not `Exception`, as
                from a signal handler, pass as they are.
        """
        try:
            result = function(*arguments)
        except CLEAN:
            raise
        except BaseException as exc:
            self.broken(exc)
            if isinstance(exc, Exception):
                raise translated(exc, self.server.address) from exc
            raise
        self._last_use = time.monotonic()
        return result

    def pipeline(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Do a conversation of several commands; here no refusal that comes out is clean.

        Replies to the later commands would still be under way, and be taken for others.

        Raises:
            AdapterError: Anything that `function` did not handle, translated.
        """
        try:
            return self.call(function, *arguments)
        except CLEAN as exc:
            self.broken(exc)
            raise translated(exc, self.server.address) from exc

    def use(self, tube: str) -> None:
        """Choose the tube of the following puts and peeks; costs nothing when it is chosen."""
        if self.using != tube:
            self.call(self.client.use, tube)
            self.using = tube

    def send(self, commands: bytes) -> None:
        """Send commands in one write. Only inside `call`, as are the next ones."""
        self.socket.sendall(commands)

    def values(self, expected: bytes) -> list[bytes]:
        """Read one reply line; see `protocol.reply_values`."""
        return reply_values(self.socket.reader.readline(), expected)

    def chunk(self, size: bytes) -> bytes:
        """Read the chunk that a reply line announced."""
        return self.socket.reader.read(int(size) + 2)[:-2]

    def job(self, expected: bytes) -> tuple[int, bytes]:
        """Read a reply that carries a job: its server id and its body."""
        server_id, size = self.values(expected)
        return int(server_id), self.chunk(size)

    def jobs_stats(self, server_ids: Sequence[int]) -> list[dict[str, str] | None]:
        """Ask for `stats-job` of many jobs in one write; None for those that do not exist."""
        self.send(b"".join(b"stats-job %d\r\n" % server_id for server_id in server_ids))
        found: list[dict[str, str] | None] = []
        for _ in server_ids:
            try:
                (size,) = self.values(b"OK")
            except greenstalk.NotFoundError:
                found.append(None)
            else:
                found.append(parse_stats(self.chunk(size)))
        return found

    def jobs_bodies(self, server_ids: Sequence[int]) -> list[bytes | None]:
        """Ask for the bodies of many jobs in one write; None for those that do not exist."""
        self.send(b"".join(b"peek %d\r\n" % server_id for server_id in server_ids))
        found: list[bytes | None] = []
        for _ in server_ids:
            try:
                found.append(self.job(b"FOUND")[1])
            except greenstalk.NotFoundError:
                found.append(None)
        return found

    def broken(self, why: BaseException) -> None:
        """Give the connection up after a surprise, which the end of one that we shut down is not."""
        if self.is_open:
            self.close()
            if not self._is_shut:
                self.server.lost(self, why)

    def shut_down(self) -> None:
        """Wake the thread that reads from it: it sees the end. For any thread."""
        self._is_shut = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            _log.debug("shutting a connection down that is closed already", exc_info=True)

    def close(self) -> None:
        """Give the connection up; the server returns at once what it held. Idempotent.

        Never shuts down: in a forked child that would end the parent's connection, too.
        """
        self.is_open = False
        _open_connections.pop(id(self), None)
        try:
            self.client.close()
        except OSError:  # the kernel may report a late error; the descriptor is closed anyway
            _log.debug("closing a connection to %s failed", self.server.address, exc_info=True)


def translated(exc: Exception, address: str) -> AdapterError:
    """Return kessel's error for what greenstalk, the reader or the system raised (one edge)."""
    match exc:
        case AdapterError():
            return exc
        case greenstalk.UnknownResponseError():
            said = b" ".join([exc.status, *exc.values])[:80]
            return ProtocolError(f"{address}: not a beanstalkd, it answered {said!r}")
        case MalformedReply():
            return ProtocolError(f"{address}: not a beanstalkd, {exc}")
        case greenstalk.BadFormatError() | greenstalk.UnknownCommandError() | greenstalk.ExpectedCrlfError():
            return ProtocolError(f"{address}: the server does not understand us ({type(exc).__name__})")
        case greenstalk.InternalError() | greenstalk.OutOfMemoryError():
            return AdapterError(f"{address}: the server failed ({type(exc).__name__})")
        case greenstalk.Error():
            return AdapterError(f"{address}: unexpected answer {type(exc).__name__}")
        case OSError():
            return AdapterUnavailable(f"{address}: connection lost: {_told(exc)}")
        case _:  # AssertionError, ValueError: greenstalk on a reply cut or mangled
            return AdapterUnavailable(f"{address}: connection lost: a mangled reply ({type(exc).__name__})")


def _told(exc: BaseException) -> str:
    if isinstance(exc, greenstalk.BeanstalkdError):  # its text is a list, mostly an empty one
        return f"the server said {type(exc).__name__}"
    return str(exc) or type(exc).__name__
