"""Wakes what waits: at once for writes of its own process, by notifications for those of others.

For each adapter there is one `ServerLine`: the line of the waiting consumers, the threads that wait for
entries and, only while somebody waits, one thread that listens on a connection of its own. It looks itself
as well, for all who wait in one query: when time makes a job ready, and every few seconds in case that a
notification was lost. So two hundred waiting slots hold one connection and ask nothing.

A connection that listens is the one that dies unseen, because nothing is ever sent on it. So it notifies
itself, and is made anew if that does not arrive. Then all who wait look once: nobody knows what they missed.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import threading
import time
from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING, Final, Protocol

from kessel_core.contract import AdapterError, Waiter, WaitingLine, get_logger, keep_standard_numbers
from kessel_postgres import codec
from kessel_postgres.connecting import connected
from kessel_postgres.link import Call, Link, Lost, Refused
from kessel_postgres.options import ServerOptions
from kessel_postgres.sql import Statements
from kessel_postgres.telling import ALL

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["ServerLine", "Source"]

log = get_logger("kessel.postgres")

#: Time between two looks in case that a notification was lost, in seconds.
_LOOK: Final = 5.0
#: Time between two notifications to oneself, and how long one may take.
_BEAT: Final = 10.0
_BEAT_TAKES: Final = 5.0
#: Shortest and longest time between two looks where nothing is heard.
_POLL: Final = (0.05, 1.0)
#: The thread ends after this many seconds in which nobody waits; the next wait starts another.
_LINGER: Final = 30.0


class Source(Protocol):
    """Where to look, and how to reach it: the database that the line is of."""

    options: ServerOptions
    statements: Statements
    seconds: float
    channel: bytes

    @property
    def pids(self) -> set[int]:
        """The server's processes behind the connections of this process."""

    def call(self, call: Call) -> PGresult:
        """Run one call as its own transaction; raises the errors of the contract."""


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
        """Wake all who wait for an entry; call it once the change is committed."""
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
                    target=self._watch, args=(self._database, self._pipe), name="kessel-postgres", daemon=True
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
        watch = (
            _Poller(self, database, pipe[0])
            if database.options.pooler
            else _Listener(self, database, pipe[0])
        )
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
                    watch.turn()
                except Exception as exc:
                    # Those who wait will meet the same error, and report it. Whatever it is, a listener that
                    # is gone would leave them asleep.
                    is_usual = isinstance(exc, (AdapterError, Lost, Refused))
                    log.debug("cannot listen: %s", exc, exc_info=None if is_usual else exc)
                    watch.close()
                    self.wake()
                    self.entries.wake()
                    _sleep(pipe[0], random.uniform(0.2, 0.5))  # noqa: S311 - so that not all come at once
        finally:
            watch.close()
            for end in pipe:
                os.close(end)

    def take_plan(self) -> float | None:
        """Return when to look because of time alone, on the monotonic clock."""
        with self.lock:
            return self._planned

    def look(self, database: Source) -> bool:
        """Look for all who wait; return whether a job was ready."""
        with self.lock:
            self._planned = None
        self.entries.wake()
        queues = self.wanted_queues()
        if not queues:
            return False
        names = codec.array(codec.TEXTS, map(codec.text, queues))
        rows = database.call(Call(database.statements.outlook, (names,)))
        found = False
        for row in range(rows.ntuples):
            queue = (rows.get_value(row, 0) or b"").decode()
            paused, due = (_span(rows.get_value(row, column)) for column in (1, 3))
            is_ready = codec.boolean(rows.get_value(row, 2))
            if paused is None and is_ready:
                # One consumer; it wakes the next one when it has taken a job.
                self.announce(queue)
                found = True
            elif (next_look := _next_change(paused, is_ready, due)) is not None:
                self.plan(next_look)
        return found

    def hear(self, payload: str) -> None:
        """Wake those whom a notification concerns."""
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


def _next_change(paused: timedelta | None, is_ready: bool, due: timedelta | None) -> timedelta | None:
    """Return after which span time alone makes a job of a queue ready; None: never."""
    if paused is None:
        return due
    if is_ready:
        return paused
    return None if due is None else max(paused, due)


def _span(value: bytes | None) -> timedelta | None:
    return None if value is None else codec.to_span(value)


def _sleep(pipe: int, seconds: float) -> None:
    """Sleep until something is to be done, or the time is over."""
    if _readable([pipe], seconds):
        _drain(pipe)


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


class _Poller:
    """Looks again and again, where nothing is heard: soon after something was there, later and later else."""

    def __init__(self, line: ServerLine, database: Source, pipe: int) -> None:
        self._line, self._database, self._pipe = line, database, pipe
        self._pause = _POLL[0]

    def turn(self) -> None:
        if self._line.is_idle:
            _sleep(self._pipe, 1.0)
            self._pause = _POLL[0]
            return
        found = self._line.look(self._database)
        self._pause = _POLL[0] if found else min(2 * self._pause, _POLL[1])
        planned = self._line.take_plan()
        pause = self._pause * random.uniform(0.8, 1.0)  # noqa: S311 - so that not all come at once
        _sleep(self._pipe, pause if planned is None else min(pause, planned - time.monotonic()))

    def close(self) -> None:
        self._pause = _POLL[0]


class _Listener:
    """Listens on a connection of its own."""

    def __init__(self, line: ServerLine, database: Source, pipe: int) -> None:
        self._line, self._database, self._pipe = line, database, pipe
        self._link: Link | None = None
        self._name = f"h:{os.getpid()}.{random.getrandbits(62)}"
        self._looked = self._beat = 0.0
        #: When the notification to oneself was sent that has not arrived yet.
        self._asked: float | None = None

    def turn(self) -> None:
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
            raise Lost("no notification arrives", was_sent=True)
        if self._asked is None and now - self._beat >= _BEAT:
            self._ask(link, now)
        # What came along with an answer is read already, and no socket will tell of it.
        self._hear(link)
        wakes = [self._beat + _BEAT, self._looked + _LOOK, now + 1.0 if self._line.is_idle else now + _LOOK]
        if planned is not None:
            wakes.append(planned)
        if self._asked is not None:
            wakes.append(self._asked + _BEAT_TAKES)
        if self._pipe in _readable([link.pgconn.socket, self._pipe], min(wakes) - now):
            _drain(self._pipe)
        self._hear(link)

    def _listen(self) -> Link:
        database = self._database
        link = connected(database.options)
        try:
            statements = database.statements
            link.run(
                [[Call(statements.listen)], [Call(statements.hear, (database.channel,))]], database.seconds
            )
        except BaseException:
            link.close()
            raise
        self._link, self._asked = link, None
        self._ask(link, time.monotonic())
        # Whoever looked before may have missed something.
        self._line.wake()
        self._line.entries.wake()
        return link

    def _ask(self, link: Link, now: float) -> None:
        beat = Call(self._database.statements.beat, (self._database.channel, self._name.encode()))
        link.run([[beat]], self._database.seconds)
        self._beat = self._asked = now

    def _hear(self, link: Link) -> None:
        for pid, payload in link.notifications():
            if payload == self._name:
                self._asked = None
            elif not payload.startswith("h:") and pid not in self._database.pids:
                # What this process did itself, it has announced itself.
                self._line.hear(payload)

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
