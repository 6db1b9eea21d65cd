"""Wakes what waits: at once for writes of its own process, by published messages for those of others.

For each adapter there is one `ServerLine`: the line of the waiting consumers, the threads that wait for
entries and, only while somebody waits, one thread that listens on a connection of its own. It looks itself
as well, for all who wait in one call: when time makes a job ready, and every few seconds in case that a
message was lost. So two hundred waiting slots hold one connection and ask nothing.

A connection that listens is the one that dies unseen, because nothing is ever sent on it. So it is pinged,
and made anew if no answer comes. After that all who wait look once, because nobody knows what they missed.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from math import ceil
from typing import Any, Final, Protocol

from kessel_core.contract import AdapterError, Waiter, WaitingLine, get_logger, keep_standard_numbers
from kessel_redis import codec
from kessel_redis.connecting import connected
from kessel_redis.link import Link, Lost, Refused
from kessel_redis.options import ServerOptions
from kessel_redis.scripts import OPERATIONS, Keys, Layout, Script, packed
from kessel_redis.telling import ALL

__all__ = ["ServerLine", "Source"]

log = get_logger("kessel.redis")

#: Time between two looks in case that a message was lost, in seconds.
_LOOK: Final = 5.0
#: Time between two pings, and how long the answer may take.
_BEAT: Final = 10.0
_BEAT_TAKES: Final = 5.0
#: The thread ends after this many seconds in which nobody waits; the next wait starts another. A busy worker
#: hears of every job of the others, for nothing.
_LINGER: Final = 5.0


class Source(Protocol):
    """Where to look, and how to reach it: the database that the line is of."""

    options: ServerOptions
    keys: Keys

    @property
    def origin(self) -> str:
        """Tells this process's messages from those of others."""

    def call(self, script: Script, layout: Layout, given: Sequence[bytes]) -> Any:
        """Run a script; raises the errors of the contract."""


class ServerLine(WaitingLine):
    """What all consumers and waiting threads of one adapter share. Thread-safe.

    Args:
        database: Where to look.
    """

    def __init__(self, database: Source) -> None:
        self._database = database
        self._is_shut = False
        super().__init__()

    def reset(self) -> None:
        """Start with an empty line; also in a forked child, where the other threads are gone."""
        super().reset()
        #: The threads that wait for entries; each is in line for `space:key`.
        self.entries = WaitingLine()
        self._thread: threading.Thread | None = None
        self._pipe: tuple[int, int] | None = None
        #: When to look because of time alone, on the monotonic clock.
        self._planned: float | None = None

    # --- for those who wait ------------------------------------------------------------------

    def join(self, queues: frozenset[str]) -> Waiter:
        """Enter the line, and make sure that somebody listens."""
        waiter = super().join(queues)
        self.watch()
        return waiter

    def join_entry(self, space: str, key: str) -> Waiter:
        """Wait for an entry from now on, in the line `entries`."""
        waiter = self.entries.join(frozenset((f"{space}:{key}",)))
        self.watch()
        return waiter

    def announce_entry(self, space: str, key: str) -> None:
        """Wake all who wait for an entry; call it once the change is made."""
        self.entries.announce(f"{space}:{key}", ALL)

    def watch(self) -> None:
        """Make sure that somebody listens; call it when something waits."""
        with self.lock:
            if self._thread is None and not self._is_shut:
                keep_standard_numbers()
                self._pipe = os.pipe()
                for end in self._pipe:
                    os.set_blocking(end, False)
                self._thread = threading.Thread(
                    target=self._watch, args=(self._database, self._pipe), name="kessel-redis", daemon=True
                )
                self._thread.start()

    def plan(self, span: timedelta) -> None:
        """Look for all who wait after a span, because time alone makes a job ready then."""
        at = time.monotonic() + span.total_seconds()
        with self.lock:
            if self._planned is not None and self._planned <= at:
                return
            self._planned = at
            self._nudge()

    def shut(self) -> None:
        """End the thread; all who wait for entries look again."""
        with self.lock:
            self._is_shut = True
            thread = self._thread
            self._nudge()
            self.entries.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits."""
        return self.is_empty and self.entries.is_empty

    def _nudge(self) -> None:
        if self._pipe is not None:
            with contextlib.suppress(BlockingIOError):  # it is full, and so will be read
                os.write(self._pipe[1], b"x")

    # --- the thread --------------------------------------------------------------------------

    def _watch(self, database: Source, pipe: tuple[int, int]) -> None:
        listener = _Listener(self, database, pipe[0])
        idle_since: float | None = None
        try:
            while True:
                with self.lock:
                    now = time.monotonic()
                    idle_since = (idle_since or now) if self.is_idle else None
                    if self._is_shut or (idle_since is not None and now - idle_since > _LINGER):
                        self._thread, self._pipe = None, None
                        return
                try:
                    listener.turn()
                except Exception as exc:
                    # Those who wait will meet the same error, and report it. Whatever it is, a listener that
                    # is gone would leave them asleep.
                    is_usual = isinstance(exc, (AdapterError, Lost, Refused))
                    log.debug("cannot listen: %s", exc, exc_info=None if is_usual else exc)
                    listener.close()
                    self.wake()
                    self.entries.wake()
                    if _readable([pipe[0]], random.uniform(0.2, 0.5)):  # noqa: S311 - so that not all come at once
                        _drain(pipe[0])
        finally:
            listener.close()
            for end in pipe:
                os.close(end)

    def take_plan(self) -> float | None:
        """Return when to look because of time alone, on the monotonic clock."""
        with self.lock:
            return self._planned

    def look(self, database: Source) -> None:
        """Look for all who wait."""
        with self.lock:
            self._planned = None
        self.entries.wake()
        queues = self.wanted_queues()
        if not queues:
            return
        answers = database.call(OPERATIONS, Layout(tuple(queues)), (b"outlook",))
        for queue, (paused, is_ready, due) in zip(queues, answers, strict=True):
            if paused == b"0" and is_ready:
                # One consumer; it wakes the next one when it has taken a job.
                self.announce(queue)
            elif is_ready:
                self.plan(codec.to_span(paused))
            elif due != b"-1":
                self.plan(codec.to_span(due))

    def hear(self, payload: str) -> None:
        """Wake those whom a message concerns."""
        kind, _, rest = payload.partition(":")
        if kind == "e":
            self.entries.announce(rest, ALL)
            return
        number, _, queue = rest.partition(":")
        if not number.isdigit():
            return  # not ours
        if kind == "r":
            self.announce(queue, int(number))
        elif kind == "d" and not self.is_empty:
            with contextlib.suppress(OverflowError):
                self.plan(timedelta(microseconds=int(number)))


def _readable(descriptors: list[int], seconds: float) -> set[int]:
    """Wait until some can be read from; `select` would refuse numbers from 1,024 up."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(ceil(max(0.0, seconds) * 1000))}


def _drain(pipe: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(pipe, 4096):
            pass


class _Listener:
    """Listens on a connection of its own, and looks when it is time to."""

    def __init__(self, line: ServerLine, database: Source, pipe: int) -> None:
        self._line, self._database, self._pipe = line, database, pipe
        self._link: Link | None = None
        self._looked = self._beat = 0.0
        #: When the ping was sent whose answer has not come yet.
        self._asked: float | None = None

    def turn(self) -> None:
        """Do what is due, then wait until something happens."""
        link = self._link or self._listen()
        now = time.monotonic()
        planned = self._line.take_plan()
        if not self._line.is_idle and (
            now - self._looked >= _LOOK or (planned is not None and planned <= now)
        ):
            self._looked = now
            self._line.look(self._database)
            planned = self._line.take_plan()
        if self._asked is not None and now - self._asked > _BEAT_TAKES:
            raise Lost("no answer to a ping", was_sent=True)
        if self._asked is None and now - self._beat >= _BEAT:
            link.send(packed(b"PING"))
            self._beat = self._asked = now
        wakes = [self._beat + _BEAT, self._looked + _LOOK, now + (1.0 if self._line.is_idle else _LOOK)]
        if planned is not None:
            wakes.append(planned)
        if self._asked is not None:
            wakes.append(self._asked + _BEAT_TAKES)
        ready = _readable([link.fd, self._pipe], min(wakes) - now)
        if self._pipe in ready:
            _drain(self._pipe)
        if link.fd in ready:
            self._hear(link)

    def _listen(self) -> Link:
        database = self._database
        link = connected(database.options)
        try:
            # One answer says that it listens from now on.
            if isinstance(answer := link.run(packed(b"SUBSCRIBE", database.keys.channel), 1)[0], Refused):
                raise answer
        except BaseException:
            link.close()
            raise
        self._link, self._asked, self._beat = link, None, time.monotonic()
        # Whoever looked before may have missed something.
        self._line.wake()
        self._line.entries.wake()
        return link

    def _hear(self, link: Link) -> None:
        while True:
            answer = link.read()
            if isinstance(answer, Refused):
                raise answer
            if answer[0] == b"message":
                origin, _, payload = answer[2].decode("utf-8", "replace").partition("|")
                if origin != self._database.origin:
                    # What this process did itself, it has announced itself.
                    self._line.hear(payload)
            else:
                self._asked = None  # a pong
            if not link.has_more():
                return

    def close(self) -> None:
        """Close the connection."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
