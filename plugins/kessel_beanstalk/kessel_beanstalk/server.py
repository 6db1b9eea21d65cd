"""The server behind an address, shared by all connections of one adapter.

Opens connections, notices restarts, and logs one line per change of state, however many connections broke
(rule 11). The connections themselves are in `connection`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

from kessel_beanstalk import commands
from kessel_beanstalk.commands import Command, ServerFacts
from kessel_beanstalk.connection import DEFAULT_TUBE, Connection
from kessel_beanstalk.edge import described
from kessel_beanstalk.framing import FramedSocket
from kessel_beanstalk.options import BeanstalkOptions
from kessel_core.contract import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    get_logger,
    opened_above,
)

__all__ = ["ADAPTER_NAME", "Server"]

ADAPTER_NAME: Final = "beanstalk"

log = get_logger("kessel.beanstalk")


class Server:
    """The server behind an address, shared by all connections of one adapter. Thread-safe."""

    def __init__(self, options: BeanstalkOptions) -> None:
        self.options = options
        self.address = options.address
        #: Called when a restart of the server was noticed, which invalidates what is known about its jobs.
        self.on_restart: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._facts: ServerFacts | None = None
        self._generation = 0
        self._is_up = False
        # The loss of an older connection says nothing about the current state of the server.
        self._up_since = 0

    @property
    def facts(self) -> ServerFacts:
        """What the server reported at the last connect."""
        if self._facts is None:
            raise AdapterUnavailable(f"{self.address}: never connected")
        return self._facts

    def connect(self, *, watch: Sequence[str] = ()) -> Connection:
        """Open a connection that watches these tubes; the names must be checked, and replace `default`.

        Raises:
            AdapterUnavailable: The server cannot be reached, or did not reply in time.
            ProtocolError: The server that answers is not beanstalkd.
            CapabilityMissing: `require_durable` is set, and the server has no binlog (first connect only).
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

    def _dialled(self, watched: Sequence[str]) -> tuple[Connection, ServerFacts]:
        options = self.options
        patience = options.connect_timeout.total_seconds()
        address = (options.host, options.port)
        try:
            plain = opened_above(
                lambda: socket.create_connection(address, timeout=patience), socket.socket.close
            )
            own = FramedSocket(plain, options.timeout.total_seconds())
        except (OSError, UnicodeError) as exc:  # UnicodeError: a host name that IDNA refuses
            raise AdapterUnavailable(f"{self.address}: cannot connect: {described(exc)}") from exc
        try:
            return self._greeted(own, watched)
        except BaseException:  # an interrupt too: a connection that nobody is given stays open otherwise
            own.close()
            raise

    def _greeted(self, own: FramedSocket, watched: Sequence[str]) -> tuple[Connection, ServerFacts]:
        options = self.options
        with self._lock:
            self._generation += 1
            generation = self._generation
        connection = Connection(own, self.address, generation, self.lost)
        connection.wait_at_most(options.connect_timeout.total_seconds())
        watching: list[Command[None]] = [commands.watch(tube) for tube in watched]
        if watched and DEFAULT_TUBE not in watched:
            watching.append(commands.ignore(DEFAULT_TUBE))
        connection.send(commands.stats, *watching)
        facts = connection.reply(commands.stats)
        for command in watching:
            connection.reply(command)
        connection.wait_at_most(options.timeout.total_seconds())
        return connection, facts

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
                log.info("connected to %s: %s", self.address, facts)
            elif not restarted:
                log.info("connected again to %s, the same server process", self.address)
            elif facts.binlog:
                log.info("connected again to %s, which was restarted: %s", self.address, facts)
            else:
                log.warning(
                    "connected again to %s, which was restarted without a binlog: its jobs are gone: %s",
                    self.address,
                    facts,
                )

    def lost(self, connection: Connection, why: BaseException) -> None:
        """Record that a connection broke; logs one line per change of state, however many broke."""
        with self._lock:
            is_news = self._is_up and connection.generation >= self._up_since
        if is_news:
            self._went_down(why)

    def _went_down(self, why: BaseException) -> None:
        with self._lock:
            was_up, self._is_up = self._is_up, False
        if was_up:
            log.warning("lost the connection to %s: %s", self.address, described(why))
        else:
            log.debug("no connection to %s: %s", self.address, described(why))
