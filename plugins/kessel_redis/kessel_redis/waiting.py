"""Hears what other processes tell by published messages, for all who wait in this one (E8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol

from kessel_core.contract import AdapterError, Listener, Outlook, ServerLine
from kessel_redis import codec
from kessel_redis.connecting import connected
from kessel_redis.link import Link, Lost, Refused
from kessel_redis.options import ServerOptions
from kessel_redis.scripts import OPERATIONS, Keys, Layout, Script, packed

__all__ = ["RedisLine", "Source"]


class Source(Protocol):
    """Where to look, and how to reach it: the database that the line is of."""

    options: ServerOptions
    keys: Keys

    @property
    def origin(self) -> str:
        """Tells this process's messages from those of others."""

    def call(self, script: Script, layout: Layout, given: Sequence[bytes]) -> Any:
        """Run a script; raises the errors of the contract."""


class RedisLine(ServerLine):
    """As `ServerLine`.

    Args:
        database: Where to look.
    """

    # Not for long: a busy worker would hear of every job of the others, for nothing.
    linger: ClassVar[float] = 5.0
    usual: ClassVar[tuple[type[Exception], ...]] = (AdapterError, Lost, Refused)

    def __init__(self, database: Source) -> None:
        self._database = database
        super().__init__("redis")

    def ear(self, pipe: int) -> RedisListener:
        """See `ServerLine.ear`."""
        return RedisListener(self, self._database, pipe)

    def outlooks(self, queues: Sequence[str]) -> Iterator[Outlook]:
        """See `ServerLine.outlooks`."""
        answers = self._database.call(OPERATIONS, Layout(tuple(queues)), (b"outlook",))
        for queue, (paused, is_ready, due) in zip(queues, answers, strict=True):
            yield Outlook(
                queue,
                None if paused == b"0" else codec.to_span(paused),
                bool(is_ready),
                None if due == b"-1" else codec.to_span(due),
            )


class RedisListener(Listener):
    """Subscribes to the channel of a namespace, and pings on the same connection."""

    def __init__(self, line: ServerLine, database: Source, pipe: int) -> None:
        super().__init__(line, pipe)
        self._database = database
        self._link: Link | None = None

    def connect(self) -> int:
        """See `Listener.connect`."""
        link = connected(self._database.options)
        try:
            # One answer says that it listens from now on.
            subscribe = packed(b"SUBSCRIBE", self._database.keys.channel)
            if isinstance(answer := link.run(subscribe, 1)[0], Refused):
                raise answer
        except BaseException:
            link.close()
            raise
        self._link = link
        return link.fd

    def ask(self) -> None:
        """See `Listener.ask`."""
        assert self._link is not None
        self._link.send(packed(b"PING"))

    def hear(self, *, is_readable: bool) -> bool:
        """See `Listener.hear`."""
        link, is_answered = self._link, False
        assert link is not None
        while is_readable or link.has_more():
            is_readable = False
            answer = link.read()
            if isinstance(answer, Refused):
                raise answer
            if answer[0] == b"message":
                origin, _, told = answer[2].decode("utf-8", "replace").partition("|")
                if origin != self._database.origin:
                    # What this process did itself, it has announced itself.
                    self.line.hear(told)
            else:
                is_answered = True  # a pong
        return is_answered

    def disconnect(self) -> None:
        """See `Listener.disconnect`."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
