"""One connection: calls go out together in one flush, and their answers are awaited for a bounded time.

It stands on `psycopg.pq`, because what psycopg does around each statement costs more than the statement
(61 against 40 microseconds a call), and because nothing here may send a call twice. It is always in pipeline
mode: each sync ends a transaction, and only its answer says that the transaction is committed.
"""

from __future__ import annotations

import itertools
import re
import select
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

__all__ = ["Call", "Link", "Lost", "Refused", "Statement"]

#: What PgBouncer says, by its versions, to whom it drops while he waits for a connection to the server.
_NO_SERVER: Final = re.compile(
    r"(query_wait_timeout|pgbouncer cannot connect to server)\Z|server login has been failing\b"
)

_READ: Final = select.POLLIN
_BOTH: Final = select.POLLIN | select.POLLOUT


class Statement(NamedTuple):
    """One statement, as it is prepared."""

    #: Its name on the server; unique in a schema.
    name: bytes
    #: The text, with $1 and so on.
    text: bytes
    #: The types of its parameters.
    types: tuple[int, ...]


class Call(NamedTuple):
    """A statement with its values, in binary."""

    statement: Statement
    values: Sequence[bytes | None] = ()


class Lost(Exception):
    """The connection is gone, or the answer did not come in time.

    `was_sent` says whether anything of the call may have reached the server.
    """

    def __init__(self, why: str, was_sent: bool) -> None:
        super().__init__(why)
        self.why = why
        self.was_sent = was_sent


class Refused(Exception):
    """The server answered with an error; what the call did is undone.

    `code` is its SQLSTATE, `why` its message.
    """

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"{why} ({code})")
        self.code = code
        self.why = why


class Link:
    """One open connection; used by one thread at a time. After `Lost` it is good for nothing but `close`."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]], *, prepares: bool) -> None:
        self._connection = connection
        self._prepares = prepares
        #: Name of a statement -> its name on this connection.
        self._prepared: dict[bytes, bytes] = {}
        self._numbers = itertools.count()
        #: What this run prepares.
        self._new: list[bytes] = []
        self.pgconn: PGconn = connection.pgconn
        #: The process of the server behind it.
        self.pid = self.pgconn.backend_pid
        self._poll = select.poll()
        self._fd = self.pgconn.socket
        self._poll.register(self._fd, _READ)
        self.pgconn.enter_pipeline_mode()

    def is_sound(self) -> bool:
        """Whether an idle connection is still there: one that has something to say was closed, as a rule."""
        return self.pgconn.status == ConnStatus.OK and not self._poll.poll(0)

    def run(self, transactions: Sequence[Sequence[Call]], seconds: float) -> list[list[PGresult]]:
        """Run calls in one round trip, each inner sequence as a transaction of its own; return their rows.

        Args:
            transactions: At least one, each with at least one call.
            seconds: Longest wait for all answers.

        Raises:
            Lost: Nothing is known about what was not answered.
            Refused: The error of the first transaction, which is undone. An error of another one is not
                raised: the first is done, and whoever called must not take it for undone.
        """
        end = time.monotonic() + seconds
        begun = False
        try:
            for calls in transactions:
                for call in calls:
                    self._send(call)
                    begun = True
                self.pgconn.pipeline_sync()
            self._flush(end)
            return self._answers(len(transactions), end)
        except psycopg.Error as exc:
            raise Lost(_one_line(str(exc)), begun) from exc

    def _send(self, call: Call) -> None:
        statement, values = call
        formats = [1] * len(values)
        if not self._prepares:
            self.pgconn.send_query_params(statement.text, values, statement.types, formats, 1)
            return
        name = self._prepared.get(statement.name)
        if name is None:
            # With a number, because after an error nobody knows whether it was prepared.
            name = self._prepared[statement.name] = b"%s_%d" % (statement.name, next(self._numbers))
            self.pgconn.send_prepare(name, statement.text, statement.types)
            self._new.append(statement.name)
        self.pgconn.send_query_prepared(name, values, formats, 1)

    def _flush(self, end: float) -> None:
        if not self.pgconn.flush():
            return
        self._poll.modify(self._fd, _BOTH)
        try:
            while self.pgconn.flush():
                # The server may wait for us to read before it reads on.
                if any(events & _READ for _, events in self._wait(end)):
                    self.pgconn.consume_input()
        finally:
            self._poll.modify(self._fd, _READ)

    def _wait(self, end: float) -> list[tuple[int, int]]:
        left = end - time.monotonic()
        ready = self._poll.poll(max(0, left * 1000))
        if not ready:
            raise Lost("no answer in time", was_sent=True)
        return ready

    def _answers(self, syncs: int, end: float) -> list[list[PGresult]]:
        pgconn = self.pgconn
        answers: list[list[PGresult]] = [[]]
        has_failed = False
        #: Of the first transaction.
        error: Refused | None = None
        is_first = True
        self._wait(end)
        pgconn.consume_input()
        while True:
            while pgconn.is_busy():
                self._wait(end)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:  # the end of one statement
                if pgconn.status != ConnStatus.OK:
                    raise Lost("the connection was closed", was_sent=True)
                continue
            status = result.status
            if status == ExecStatus.TUPLES_OK:
                answers[-1].append(result)
            elif status == ExecStatus.PIPELINE_SYNC:
                syncs -= 1
                if not syncs:
                    break
                answers.append([])
            elif status == ExecStatus.FATAL_ERROR:
                has_failed, refused = True, _refused(result, pgconn, is_first)
                if len(answers) == 1 and error is None:
                    error = refused
            is_first = False
        if has_failed:
            for name in self._new:
                del self._prepared[name]
        self._new.clear()
        if error is not None:
            raise error
        return answers

    def notifications(self) -> Iterator[tuple[int, str]]:
        """Yield process and payload of each notification that has come.

        Raises:
            Lost: The connection is gone.
        """
        try:
            self.pgconn.consume_input()
            while (notify := self.pgconn.notifies()) is not None:
                yield notify.be_pid, notify.extra.decode("utf-8", "replace")
        except psycopg.Error as exc:
            raise Lost(_one_line(str(exc)), was_sent=False) from exc
        if self.pgconn.status != ConnStatus.OK:
            raise Lost("the connection was closed", was_sent=False)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _refused(result: PGresult, pgconn: PGconn, is_first: bool) -> Refused:
    code = result.error_field(DiagnosticField.SQLSTATE)
    why = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    text = _one_line((why or b"").decode("utf-8", "replace"))
    severity = result.error_field(DiagnosticField.SEVERITY_NONLOCALIZED)
    if code is None or severity != b"ERROR" or pgconn.status != ConnStatus.OK:
        # It ended the connection, and came instead of the answer to the sync: nobody knows. Except where a
        # pooler had no server for us: what came before any other answer went to none.
        is_held_back = is_first and code == b"08P01" and _NO_SERVER.match(text) is not None
        raise Lost(text or "the connection was closed", was_sent=not is_held_back)
    return Refused(code.decode("ascii", "replace"), text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
