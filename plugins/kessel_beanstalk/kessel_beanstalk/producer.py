"""The producing side: one connection a thread, three outcomes (rules 2, 5, 6, 7).

A put is *rejected* when the server said no or nothing whole was sent, *unknown* once it was
sent whole and no reply came. Nothing is ever put a second time from here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import greenstalk

from kessel_beanstalk.connection import CLEAN, Connection, Server
from kessel_beanstalk.options import MAX_NUMBER, number_problem, whole_seconds
from kessel_core import Clock
from kessel_core.contract import (
    AdapterError,
    AdapterUnavailable,
    EnqueueRejected,
    EnqueueUnknown,
    Message,
    ProtocolError,
    queue_name_problem,
)

__all__ = ["Producer"]

#: Puts in one write. The replies of two such batches fit into any socket buffer, so that neither
#: side can wait for the other for ever.
_BATCH: Final = 256
_BATCH_BYTES: Final = 256 * 1024


class Producer:
    """Puts messages. For any thread."""

    def __init__(
        self,
        server: Server,
        clock: Clock,
        max_body_bytes: int,
        stored: Callable[[str, int], None],
    ) -> None:
        self._server = server
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._ttr = server.options.ttr_seconds
        #: Told the job's own id and the server's id of each stored message.
        self._stored = stored
        self._mine = threading.local()
        self._is_closed = False

    def close(self) -> None:
        """Refuse from now on; connections close with their threads, this thread's at once."""
        self._is_closed = True
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is not None:
            connection.close()

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is None or not connection.is_usable:
            if self._is_closed:
                raise AdapterUnavailable(f"{self._server.address}: this adapter is closed")
            connection = self._mine.connection = self._server.connect()
        return connection

    # --- one -----------------------------------------------------------------------------------

    def put(self, message: Message) -> None:
        """Store one message; see `QueueAdapter.enqueue`."""
        delay = self._checked(message, self._clock.now() if message.delay is not None else None)
        connection = self._connection()
        try:
            connection.use(message.queue)
        except CLEAN as exc:
            raise EnqueueRejected(message.id, f"the server refused the tube ({type(exc).__name__})") from exc
        sent = connection.socket.sent_whole
        try:
            server_id = connection.call(self._put, connection, self._command(message, delay))
        except CLEAN as exc:
            raise self._refusal(connection, message, exc) from exc
        except ProtocolError:
            raise
        except AdapterError as exc:
            if connection.socket.sent_whole == sent:
                raise AdapterUnavailable(f"{exc}; the job was not sent whole, so it is not stored") from exc
            raise EnqueueUnknown(message.id, str(exc)) from exc
        self._stored(message.id, server_id)

    @staticmethod
    def _put(connection: Connection, command: bytes) -> int:
        connection.send(command)
        return int(connection.values(b"INSERTED")[0])

    def _command(self, message: Message, delay: int) -> bytes:
        body = message.body
        return b"put %d %d %d %d\r\n%b\r\n" % (message.priority, delay, self._ttr, len(body), body)

    def _checked(self, message: Message, now: datetime | None) -> int:
        """Check everything that the protocol would cut, wrap or misread; return the delay in seconds."""
        problem = queue_name_problem(message.queue)
        if problem is not None:
            raise EnqueueRejected(message.id, f"the queue name {problem}", "refused")
        problem = number_problem(message.priority)
        if problem is not None:
            raise EnqueueRejected(message.id, f"priority: {problem}", "out-of-range")
        if len(message.body) > self._max_body_bytes:
            raise EnqueueRejected(
                message.id,
                f"its body has {len(message.body)} bytes, the limit is {self._max_body_bytes}",
                "too-large",
            )
        if message.delay is None or now is None:
            return 0
        seconds = max(0, whole_seconds(message.delay - now))
        if seconds > MAX_NUMBER:
            raise EnqueueRejected(
                message.id, f"delay: {seconds} s is more than {MAX_NUMBER} s", "out-of-range"
            )
        return seconds

    def _refusal(self, connection: Connection, message: Message, exc: Exception) -> AdapterError:
        match exc:
            case greenstalk.JobTooBigError():
                return EnqueueRejected(
                    message.id, f"its {len(message.body)} bytes are more than the server takes", "too-large"
                )
            case greenstalk.DrainingError():
                return EnqueueRejected(message.id, "the server is draining: it takes no new jobs", "draining")
            case greenstalk.OutOfMemoryError():
                return EnqueueRejected(message.id, "the server is out of memory or disk space", "full")
            case greenstalk.BuriedError(id=int() as server_id):
                # Stored, but buried for want of memory. Take it out, so that the answer is clear.
                try:
                    connection.call(connection.client.delete, server_id)
                except (AdapterError, *CLEAN):
                    return EnqueueUnknown(message.id, "the server ran out of memory and buried it")
                return EnqueueRejected(message.id, "the server is out of memory", "full")
            case _:
                return EnqueueRejected(message.id, f"the server refused it ({type(exc).__name__})")

    # --- many ----------------------------------------------------------------------------------

    def put_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Store many, pipelined; see `QueueAdapter.enqueue_many`."""
        outcomes: list[AdapterError | None] = [None] * len(messages)
        tried = 0
        in_flight: deque[int] = deque()  # positions sent, or perhaps sent, and not answered

        def fly(connection: Connection) -> None:
            # One batch is written while the server answers the one before.
            nonlocal tried
            while tried < len(messages):
                commands, tried, fresh = self._batch(connection, messages, tried, outcomes, in_flight)
                if commands:
                    connection.send(commands)
                self._read(connection, messages, outcomes, in_flight, len(in_flight) - fresh)
            self._read(connection, messages, outcomes, in_flight, len(in_flight))

        try:
            connection = self._connection()
            # The tube is changed between batches only, so each batch is of one queue.
            connection.pipeline(fly, connection)
        except AdapterError as exc:
            for position in in_flight:
                outcomes[position] = EnqueueUnknown(messages[position].id, str(exc))
            down = exc if isinstance(exc, AdapterUnavailable) else AdapterUnavailable(str(exc))
            for position in range(tried, len(messages)):
                outcomes[position] = down
        return outcomes

    def _batch(
        self,
        connection: Connection,
        messages: Sequence[Message],
        start: int,
        outcomes: list[AdapterError | None],
        in_flight: deque[int],
    ) -> tuple[bytes, int, int]:
        """Write the next commands of one queue; return them, the next start, and their number."""
        commands: list[bytes] = []
        size = 0
        queue = messages[start].queue
        now = self._clock.now()
        position = start
        while position < len(messages) and len(commands) < _BATCH and size < _BATCH_BYTES:
            message = messages[position]
            if message.queue != queue:
                break
            try:
                delay = self._checked(message, now)
            except EnqueueRejected as exc:
                outcomes[position] = exc
            else:
                commands.append(self._command(message, delay))
                size += len(message.body)
                in_flight.append(position)
            position += 1
        if commands and connection.using != queue:
            # One conversation at a time: the puts before are answered first.
            self._read(connection, messages, outcomes, in_flight, len(in_flight) - len(commands))
            connection.client.use(queue)
            connection.using = queue
        return b"".join(commands), position, len(commands)

    def _read(
        self,
        connection: Connection,
        messages: Sequence[Message],
        outcomes: list[AdapterError | None],
        in_flight: deque[int],
        count: int,
    ) -> None:
        """Read the replies of the oldest `count` puts in flight, or of as many as there are."""
        for _ in range(min(count, len(in_flight))):
            position = in_flight[0]
            message = messages[position]
            try:
                (number,) = connection.values(b"INSERTED")
            except (greenstalk.JobTooBigError, greenstalk.DrainingError, greenstalk.OutOfMemoryError) as exc:
                outcomes[position] = self._refusal(connection, message, exc)
            except greenstalk.BuriedError:
                outcomes[position] = EnqueueUnknown(message.id, "the server ran out of memory and buried it")
            else:
                self._stored(message.id, int(number))
            in_flight.popleft()
