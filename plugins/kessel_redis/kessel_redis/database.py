"""What the adapter, its deliveries, operations, store and doctor share: options, clock, keys, connections.

`Database.run` is the one place that borrows a connection, loads scripts that the server has lost, and
translates errors. Nothing here knows what a job is.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from kessel_core import Clock
from kessel_core.contract import (
    AdapterUnavailable,
    InvalidConfig,
    Pool,
    Problem,
    ProtocolError,
    Written,
    get_logger,
)
from kessel_redis import codec
from kessel_redis.connecting import connected
from kessel_redis.edge import RIGHTS, outdates_connections, translated
from kessel_redis.facts import OLDEST, ServerFacts, facts_of
from kessel_redis.link import Link, Lost, Refused
from kessel_redis.options import ServerOptions
from kessel_redis.scripts import LOADS, OPERATIONS, Keys, Layout, Script, packed
from kessel_redis.waiting import RedisLine

__all__ = ["SILENT", "VERSION", "Database"]

_T = TypeVar("_T")
log = get_logger("kessel.redis")

#: What it means that a user may not publish.
SILENT: Final = (
    "this user may not publish on the channel of the namespace: other processes notice what it does when they"
    " look, some seconds later"
)
#: The version of the keys; a newer one is refused.
VERSION: Final = 1


class Database:
    """One namespace of one server. Thread-safe; a forked child may keep using it.

    Raises:
        AdapterUnavailable: Nobody answers, or the server takes no writes.
        ProtocolError: It is no Redis, or too old; it refuses; it removes keys when its memory is full; the
            keys are of a version that this release does not know.
        InvalidConfig: It is less durable than the option `durability` says.
    """

    def __init__(self, options: ServerOptions, clock: Clock) -> None:
        self.options = options
        self.clock = clock
        self.keys = Keys(options.namespace)
        self.pool = Pool(lambda: connected(options), options.connections, options.timeout.total_seconds())
        self._name = secrets.token_hex(6)
        try:
            #: What the server said when it was opened.
            self.facts = self._borrowed(self._checked)
        except BaseException:
            self.pool.close()
            raise
        #: What an acknowledged write survives.
        self.durability = self.facts.durability(options.durability)
        self.line = RedisLine(self)

    @property
    def origin(self) -> str:
        """Tells this process's messages from those of others; a forked child has another one."""
        return f"{self._name}.{os.getpid()}"

    @property
    def channel_rights(self) -> str:
        """What to do about a user who may not publish."""
        return f"allow +@pubsub and '&{{{self.options.namespace}}}:*' to this user, by ACL SETUSER"

    def span_until(self, moment: datetime | None) -> bytes:
        """Return the span until a moment; zero if there is none, or it is over."""
        return b"0" if moment is None else codec.micros(moment - self.clock.now())

    def message(self, text: str) -> bytes:
        """Return a message to other processes as it is published."""
        return f"{self.origin}|{text}".encode()

    def call(self, script: Script, layout: Layout, given: Sequence[bytes], written: Written = None) -> Any:
        """Run a script; see `Keys.call`, and raises what `run` raises."""
        return self.run(self.keys.call(script, layout, given), written)

    def operate(self, name: bytes, queue: str, *given: bytes) -> Any:
        """Run an operation on one queue until it has no more to make ready; raises what `run` raises."""
        while True:
            answer = self.call(OPERATIONS, Layout((queue,)), (name, *given))
            if answer != b"more":
                return answer

    def run(self, command: bytes, written: Written = None) -> Any:
        """Send one command, and return its answer.

        It is sent once; again only if the server knows no such script, and so has done nothing.

        Args:
            command: Packed.
            written: What it writes, for the errors; then the replicas are asked for, if the options say so.

        Raises:
            AdapterUnavailable: The server cannot be reached, or does not answer; where something is written,
                nothing was.
            EnqueueUnknown, StoreUnknown: It may be written.
            EnqueueRejected, StoreRejected: The server refused what was to be written.
            ProtocolError: It refused for another reason.
        """
        return self._borrowed(lambda link: self._asked(link, command, written is not None), written)

    def ask(self) -> ServerFacts:
        """Ask the server about itself; raises what `run` raises."""
        return self._borrowed(lambda link: facts_of(link, self.keys))

    def _borrowed(self, use: Callable[[Link], _T], written: Written = None) -> _T:
        """Use a connection; one that may not be sound afterwards is closed."""
        link = self.pool.borrow()
        try:
            answer = use(link)
        except (Lost, Refused) as exc:
            if outdates_connections(exc):
                self.pool.drop(link)
                self.pool.forget()
            else:
                self.pool.give(link)
            if isinstance(exc, Lost) and exc.was_sent:
                self._doubt()
            raise translated(exc, self.options.place, written) from exc
        except BaseException:
            self.pool.drop(link)
            raise
        self.pool.give(link)
        return answer

    def _doubt(self) -> None:
        """Wake all who wait, because a call without an answer may have made a job ready, or will.

        What it publishes later bears the old name, and is heard as another process's.
        """
        self._name = secrets.token_hex(6)
        self.line.wake_all()

    def _asked(self, link: Link, command: bytes, is_write: bool) -> Any:
        replicas = self.options.replicas if is_write else 0
        if replicas:
            milliseconds = round(self.options.timeout.total_seconds() * 500)  # it is late by up to 100 ms
            command += packed(b"WAIT", b"%d" % replicas, b"%d" % milliseconds)
        for is_last in (False, True):
            answer, *waited = link.run(command, 2 if replicas else 1)
            if isinstance(answer, Refused):
                if answer.code != "NOSCRIPT" or is_last:
                    raise answer
                self._load(link)
                continue
            if replicas and (isinstance(waited[0], Refused) or waited[0] < replicas):
                raise Lost(f"fewer than {replicas} replicas have it", was_sent=True)
            return answer
        raise AssertionError("unreachable")

    def _load(self, link: Link) -> None:
        for answer in link.run(b"".join(LOADS), len(LOADS)):
            if isinstance(answer, Refused):
                raise answer

    def _checked(self, link: Link) -> ServerFacts:
        facts = facts_of(link, self.keys)
        self._refuse(facts)
        if not facts.may_publish:
            log.warning("%s: %s; %s", self.options.place, SILENT, self.channel_rights)
        self._load(link)
        self._check_version(link)
        return facts

    def _refuse(self, facts: ServerFacts) -> None:
        place, accepted = self.options.place, self.options.durability
        if facts.version and facts.version < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise ProtocolError(f"{place}: this is {facts.version_name}; kessel needs {oldest} or newer")
        if refused := sorted(facts.refused - {"PUBLISH"}):
            # Else a script would end in the middle of its work.
            raise ProtocolError(
                f"{place}: this user may not run {', '.join(refused)}; the rights that are needed: {RIGHTS}"
            )
        if facts.is_replica:
            raise AdapterUnavailable(f"{place}: the server is a replica and takes no jobs; name the primary")
        if facts.evicts:
            raise ProtocolError(
                f"{place}: when its memory is full, the server removes whatever it likes, jobs as well"
                f" (maxmemory-policy {facts.info['maxmemory_policy']}); it must be noeviction:"
                " CONFIG SET maxmemory-policy noeviction, and the same in its configuration file"
            )
        if accepted is not None and facts.durability(accepted) is not accepted:
            raise InvalidConfig(
                [
                    Problem(
                        ("durability",),
                        f"{accepted} is more than the server's settings allow, {facts.provable}"
                        f" ({facts.setting})",
                    )
                ],
                "invalid options of 'redis'",
            )

    def _check_version(self, link: Link) -> None:
        """Refuse the keys of a newer release; those of a new namespace get our version."""
        key = self.keys.version
        get, put = packed(b"GET", key), packed(b"SET", key, b"%d" % VERSION, b"NX")
        _, found = link.run(put + get, 2)
        if isinstance(found, Refused):
            raise found
        # Without memory nothing is set; whoever comes later sets it.
        if found is not None and int(found) > VERSION:
            raise ProtocolError(
                f"{self.options.place}: the keys are of version {int(found)}, this release knows {VERSION};"
                " install a newer kessel-redis, or choose another namespace"
            )

    def close(self) -> None:
        """Close all connections; later calls are refused. Idempotent."""
        # First, so that whoever is woken hears of it.
        self.pool.close()
        self.line.shut()
