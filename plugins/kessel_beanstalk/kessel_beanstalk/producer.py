"""The producing side: one connection per thread, three outcomes (rules 2, 5, 6, 7).

A put is *rejected* if the server refused it or it was not sent completely, *unknown* if it was sent
completely and no reply came. Nothing is ever sent a second time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from kessel_beanstalk import commands
from kessel_beanstalk.commands import Command, Refused
from kessel_beanstalk.connection import Connection
from kessel_beanstalk.framing import NotSent
from kessel_beanstalk.options import MAX_NUMBER, number_problem, whole_seconds
from kessel_beanstalk.shared import Shared
from kessel_core.contract import (
    AdapterError,
    AdapterUnavailable,
    EnqueueRejected,
    EnqueueUnknown,
    Message,
    get_logger,
    queue_name_problem,
)

__all__ = ["Producer"]

#: Most puts in one write. The replies to two such batches fit into any socket buffer, so the two sides
#: cannot deadlock.
_BATCH: Final = 256
_BATCH_BYTES: Final = 256 * 1024

log = get_logger("kessel.beanstalk")


class Producer:
    """Puts messages. Thread-safe."""

    def __init__(self, shared: Shared) -> None:
        self._server = shared.server
        self._clock = shared.clock
        self._names = shared.names
        self._max_body_bytes = shared.largest_body
        self._ttr = shared.options.ttr_seconds
        self._mine = threading.local()
        self._is_closed = False

    def close(self) -> None:
        """Refuse further puts; connections are closed when their threads end, this thread's at once."""
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
        """Store one message; see `QueueAdapter.enqueue`.

        Raises:
            EnqueueRejected: Definitely not stored.
            EnqueueUnknown: The job may have been sent completely, and what came is no answer to it.
            AdapterUnavailable: Definitely not stored: it was not sent completely.
            ProtocolError: Definitely not stored: the server that answers before that is not beanstalkd.
        """
        delay = self._checked(message, self._clock.now() if message.delay is not None else None)
        connection = self._connection()
        connection.use(message.queue)
        try:
            answer = connection.ask(self._command(message, delay))
        except AdapterError as exc:
            if isinstance(exc.__cause__, NotSent):
                raise AdapterUnavailable(f"{exc}; the job was not sent whole, so it is not stored") from exc
            raise EnqueueUnknown(message.id, str(exc)) from exc
        if isinstance(answer, Refused):
            raise self._taken_back(connection, message, answer)
        self._names.was_put(message.id, answer)

    def _command(self, message: Message, delay: int) -> Command[int | Refused]:
        return commands.put(message.body, message.priority, delay, self._ttr)

    def _checked(self, message: Message, now: datetime | None) -> int:
        """Refuse values that the protocol would truncate, wrap or misread; return the delay in seconds."""
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

    def _taken_back(self, connection: Connection, message: Message, answer: Refused) -> AdapterError:
        """Return the error of a refusal; a job that was buried for lack of memory is removed first."""
        if answer.status == "BURIED":
            try:
                if connection.ask(commands.delete(answer.server_id)):
                    return EnqueueRejected(message.id, "the server is out of memory", "full")
            except AdapterError:
                log.debug("job %s was not taken back", message.id, exc_info=True)
        return _refusal(message, answer)

    # --- many ----------------------------------------------------------------------------------

    def put_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Store many, pipelined; see `QueueAdapter.enqueue_many`."""
        outcomes: list[AdapterError | None] = [None] * len(messages)
        tried = 0
        in_flight: deque[tuple[int, Command[int | Refused]]] = (
            deque()
        )  # possibly sent, without a reply so far
        try:
            connection = self._connection()
            # One batch is sent while the server replies to the previous one.
            while tried < len(messages):
                tried, fresh = self._batch(connection, messages, tried, outcomes, in_flight)
                self._read(connection, messages, outcomes, in_flight, len(in_flight) - fresh)
            self._read(connection, messages, outcomes, in_flight, len(in_flight))
        except AdapterError as exc:
            down = exc if isinstance(exc, AdapterUnavailable) else AdapterUnavailable(str(exc))
            for position in range(tried, len(messages)):
                outcomes[position] = down
            # After that, because a batch that was not sent to its end is in flight: some of it may be stored.
            for position, _ in in_flight:
                outcomes[position] = EnqueueUnknown(messages[position].id, str(exc))
        return outcomes

    def _batch(
        self,
        connection: Connection,
        messages: Sequence[Message],
        start: int,
        outcomes: list[AdapterError | None],
        in_flight: deque[tuple[int, Command[int | Refused]]],
    ) -> tuple[int, int]:
        """Send the next puts of one queue; return the next start, and how many were sent."""
        fresh: list[tuple[int, Command[int | Refused]]] = []
        size = 0
        queue = messages[start].queue
        now = self._clock.now()
        position = start
        while position < len(messages) and len(fresh) < _BATCH and size < _BATCH_BYTES:
            message = messages[position]
            if message.queue != queue:  # the tube changes only between batches
                break
            try:
                delay = self._checked(message, now)
            except EnqueueRejected as exc:
                outcomes[position] = exc
            else:
                fresh.append((position, self._command(message, delay)))
                size += len(message.body)
            position += 1
        if fresh:
            if connection.using != queue:
                # The replies to earlier puts come first.
                self._read(connection, messages, outcomes, in_flight, len(in_flight))
                connection.use(queue)
            in_flight.extend(fresh)
            connection.send(*(command for _, command in fresh))
        return position, len(fresh)

    def _read(
        self,
        connection: Connection,
        messages: Sequence[Message],
        outcomes: list[AdapterError | None],
        in_flight: deque[tuple[int, Command[int | Refused]]],
        count: int,
    ) -> None:
        """Read the replies of the oldest `count` puts in flight."""
        for _ in range(count):
            position, command = in_flight[0]
            answer = connection.reply(command)
            message = messages[position]
            if isinstance(answer, Refused):
                outcomes[position] = _refusal(message, answer)
            else:
                self._names.was_put(message.id, answer)
            in_flight.popleft()


_REFUSALS: Final[dict[str, tuple[str, str]]] = {
    "JOB_TOO_BIG": ("its body is larger than the server takes", "too-large"),
    "DRAINING": ("the server is draining: it takes no new jobs", "draining"),
    "OUT_OF_MEMORY": ("the server is out of memory or disk space", "full"),
}


def _refusal(message: Message, answer: Refused) -> AdapterError:
    if answer.status == "BURIED":
        return EnqueueUnknown(message.id, "the server ran out of memory and buried it")
    return EnqueueRejected(message.id, *_REFUSALS[answer.status])
