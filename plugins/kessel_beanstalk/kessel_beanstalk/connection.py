"""One connection to a server: commands and replies, and when it must not be used any more.

Only a valid reply keeps a connection open (rule 3); one with outstanding replies is never used again,
whatever was raised in between. A forked child closes its copies at once (rule 2).
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from kessel_beanstalk import commands
from kessel_beanstalk.commands import Command
from kessel_beanstalk.edge import UnexpectedReply, translated
from kessel_beanstalk.framing import FramedSocket
from kessel_core.contract import AdapterError, get_logger

__all__ = ["DEFAULT_TUBE", "Connection"]

#: The tube that every new connection uses and watches.
DEFAULT_TUBE: Final = "default"
#: After so many idle seconds a connection is checked before it gets a command.
_IDLE_SECONDS: Final = 0.5
#: Commands in one write of `ask_each`: their replies fit into any socket buffer.
_BATCH: Final = 256

T = TypeVar("T")

#: Set when somebody in this process has closed a descriptor of ours (fault 45). From then on each connection
#: looks whether its number still leads to its own socket; before, that would cost time for nothing.
_somebody_closes = threading.Event()
log = get_logger("kessel.beanstalk")

# Open connections by identity. A socket that stays open in a child keeps the parent's jobs reserved after the
# parent has died (rule 2). A plain dict, because copying it is atomic, whatever other threads did during the
# fork.
_open_connections: Final[dict[int, weakref.ref[Connection]]] = {}


def _close_in_child() -> None:
    for reference in list(_open_connections.values()):
        connection = reference()
        if connection is not None:
            connection.close()
    _open_connections.clear()


os.register_at_fork(after_in_child=_close_in_child)


class Connection:
    """Used by one thread at a time, except `shut_down`; closed for good after any unexpected event.

    Args:
        own: The connected socket.
        address: The server's name in errors.
        generation: Larger than that of every earlier connection.
        on_lost: Called when the connection is lost, but not when it is closed on purpose.
    """

    def __init__(
        self,
        own: FramedSocket,
        address: str,
        generation: int,
        on_lost: Callable[[Connection, BaseException], None],
    ) -> None:
        self.socket = own
        self._reader = own.reader
        self.address = address
        self.generation = generation
        #: The tube that the last `use` chose; empty while that is not certain.
        self.using = DEFAULT_TUBE
        self.is_open = True
        self._on_lost = on_lost
        #: Number of replies that are outstanding.
        self._due = 0
        self._is_shut = False
        self._pid = os.getpid()
        self._last_use = time.monotonic()
        _open_connections[id(self)] = weakref.ref(self)

    def __del__(self) -> None:
        if getattr(self, "is_open", False):
            self.close()

    @property
    def is_usable(self) -> bool:
        """Whether it is open, of this process, without outstanding replies, and not closed by the server."""
        if not self.is_open:
            return False
        if self._pid != os.getpid():
            self.close()
            return False
        try:
            self.check()
        except AdapterError:
            return False
        if self._due:
            self.broken(ConnectionError("a conversation was interrupted"))
            return False
        if time.monotonic() - self._last_use > _IDLE_SECONDS and self.socket.is_stale():
            self.broken(ConnectionError("closed by the server while idle"))
            return False
        return True

    # --- commands and replies -------------------------------------------------------------------------

    def ask(self, command: Command[T]) -> T:
        """Send one command and return its reply.

        Raises:
            AdapterError: There was no valid reply; the connection is closed. Exceptions that are not
                `Exception`, for example from a signal handler, are passed on unchanged.
        """
        self.send(command)
        return self.reply(command)

    def ask_each(self, asked: Sequence[Command[T]]) -> list[T]:
        """Send many commands of one kind, in few writes, and return their replies.

        Raises:
            AdapterError: As `ask`.
        """
        found: list[T] = []
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            self.send(*batch)
            found += [self.reply(command) for command in batch]
        return found

    def send(self, *asked: Command[object]) -> None:
        """Send commands in one write; `reply` must be called for each, in this order.

        Raises:
            AdapterError: As `ask`.
        """
        try:
            self._due += len(asked)
            lines = asked[0].line if len(asked) == 1 else b"".join([command.line for command in asked])
            self.socket.send_whole(lines)
        except Exception as exc:
            self.broken(exc)
            raise translated(exc, self.address) from exc
        except BaseException as exc:
            self.broken(exc)
            raise

    def reply(self, command: Command[T]) -> T:
        """Return the reply to a command that was sent.

        Raises:
            AdapterError: As `ask`.
        """
        reader, kind = self._reader, command.kind
        try:
            line = reader.readline()
            words = line.split()
            read = kind.answers.get(words[0]) if words else None
            if read is None:
                raise UnexpectedReply(kind.name, line)
            answer = read(reader, words)
        except Exception as exc:
            self.broken(exc)
            raise translated(exc, self.address) from exc
        except BaseException as exc:
            self.broken(exc)
            raise
        self._due -= 1
        if not self._due:
            self._last_use = time.monotonic()
        return answer

    def wait_at_most(self, seconds: float) -> None:
        """Set the longest wait for a reply; cheap if it does not change.

        Raises:
            AdapterError: The system refused, as for a descriptor that somebody has closed.
        """
        try:
            self.socket.set_read_timeout(seconds)
        except OSError as exc:
            self.broken(exc)
            raise translated(exc, self.address) from exc

    def check(self) -> None:
        """Look whether its descriptor is still its own, if there is any reason to doubt it.

        Raises:
            AdapterError: Somebody else closed it.
        """
        if _somebody_closes.is_set() and not self.socket.is_there:
            why = ConnectionError("somebody else closed its descriptor")
            self.broken(why)
            raise translated(why, self.address)

    def use(self, tube: str) -> None:
        """Choose the tube for the next commands; sends nothing if it is the current one.

        Raises:
            AdapterError: As `ask`.
        """
        if self.using != tube:
            self.using = ""  # until the end: else the next job would land in this tube after an interruption
            self.ask(commands.use(tube))
            self.using = tube

    # --- its end -------------------------------------------------------------------------------

    def broken(self, why: BaseException) -> None:
        """Close the connection after an unexpected event; report it unless it was shut down on purpose."""
        if self.is_open:
            if not self.socket.is_there:
                _somebody_closes.set()
            self.close()
            if not self._is_shut:
                self._on_lost(self, why)

    def shut_down(self) -> None:
        """Wake the thread that reads from it, which then sees its end. Thread-safe."""
        self._is_shut = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("shutting a connection down that is closed already", exc_info=True)

    def close(self) -> None:
        """Close the connection; the server returns its reserved jobs at once. Idempotent.

        It is not shut down, because in a forked child that would end the parent's connection, too.
        """
        self.is_open = False
        _open_connections.pop(id(self), None)
        try:
            self.socket.close()
        except OSError:  # the kernel may report a late error; the descriptor is closed anyway
            log.debug("closing a connection to %s failed", self.address, exc_info=True)
