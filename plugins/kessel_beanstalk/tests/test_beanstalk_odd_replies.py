"""Replies that are legal and do not belong there, or are no replies: the contract's errors (rule 3)."""

from __future__ import annotations

import itertools
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from typing import TypeAlias

import attrs
import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    EnqueueRejected,
    EnqueueUnknown,
    LeaseLost,
    SystemClock,
)
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterContext,
    Bury,
    Consumer,
    JobState,
    Message,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
)

Opened = Callable[..., BeanstalkAdapter]
Call: TypeAlias = Callable[[BeanstalkAdapter, Consumer, Reservation], object]
SHORT = timedelta(seconds=2)
MESSAGE = Message("job-1", "q", b'{"v":1,"id":"job-1","type":"t","priority":9,"payload":null}', 9)


class OddServer:
    """Passes everything to a real server, but answers the next command that begins so by itself."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.odd: dict[bytes, bytes] = {}
        #: Changes the real answer to a command that begins so.
        self.change: dict[bytes, Callable[[bytes], bytes]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            suppress(OSError, IndexError),  # a side that is gone
            socket.create_connection(("127.0.0.1", self.target)) as server,
            client,
        ):
            commands, replies = client.makefile("rb"), server.makefile("rb")
            while line := commands.readline():
                command = line.split()[0]
                body = commands.read(int(line.split()[4]) + 2) if command == b"put" else b""
                reply = self.odd.get(command)
                if reply is None:
                    server.sendall(line + body)
                    reply = replies.readline()
                    if reply.split()[0] in (b"OK", b"RESERVED", b"FOUND"):
                        reply += replies.read(int(reply.split()[-1]) + 2)
                    reply = self.change.get(command, bytes)(reply)
                client.sendall(reply)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def odd(server: Beanstalkd) -> Iterator[OddServer]:
    """An odd server before a real one."""
    proxy = OddServer(server.port)
    yield proxy
    proxy.close()


STATUSES = [
    b"OUT_OF_MEMORY", b"INTERNAL_ERROR", b"DRAINING", b"BURIED", b"BURIED 5", b"NOT_FOUND", b"NOT_IGNORED",
    b"DEADLINE_SOON", b"TIMED_OUT", b"JOB_TOO_BIG", b"BAD_FORMAT", b"UNKNOWN_COMMAND", b"EXPECTED_CRLF",
    b"INSERTED", b"INSERTED x", b"RESERVED", b"RESERVED 1", b"RESERVED x 5", b"FOUND 1 -5", b"OK", b"OK x",
    b"OK 0\r\n", b"OK 4\r\n---\n", b"OK 7\r\n---\na: ", b"OK 3\r\n\xff\xff\xff", b"DELETED", b"HELLO", b"",
]  # fmt: skip


def held_by(adapter: BeanstalkAdapter) -> tuple[Consumer, Reservation]:
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    return consumer, held


def settles(settlement: Settlement) -> Call:
    return lambda adapter, consumer, held: consumer.settle(held, settlement)


def reserves(adapter: BeanstalkAdapter, *_: object) -> None:
    with closing(adapter.consumer(["q"])) as consumer:
        consumer.reserve(NO_PAUSE)


def opens_another(adapter: BeanstalkAdapter, *_: object) -> None:
    BeanstalkAdapter(adapter.shared.options, AdapterContext(clock=SystemClock())).close()


CALLS: dict[str, list[Call]] = {
    "put": [
        lambda adapter, *_: adapter.enqueue(MESSAGE),
        lambda adapter, *_: adapter.enqueue_many([MESSAGE, MESSAGE]),
        settles(Snooze()),
        settles(Bury("error")),
    ],
    "use": [lambda adapter, *_: adapter.enqueue(MESSAGE), settles(Snooze())],
    "reserve-with-timeout": [
        reserves,
        lambda adapter, consumer, held: consumer.settle_and_reserve(held, COMMIT),
    ],
    "delete": [settles(COMMIT), lambda adapter, *_: adapter.delete("q", "job-2")],
    "release": [settles(Rollback()), settles(Snooze())],
    "bury": [settles(Bury("error"))],
    "touch": [lambda adapter, consumer, held: consumer.extend(held)],
    "stats-job": [
        lambda adapter, consumer, held: consumer.attempt(held),
        reserves,
        lambda adapter, *_: adapter.peek("q", JobState.READY),
        lambda adapter, *_: adapter.kick("q", "job-1"),
        settles(Rollback()),
    ],
    "stats-tube": [lambda adapter, *_: adapter.stats("q"), lambda adapter, *_: adapter.buried("q")],
    "list-tubes": [lambda adapter, *_: adapter.queues()],
    "peek": [
        lambda adapter, *_: adapter.peek("q", JobState.READY),
        lambda adapter, *_: adapter.delete("q", "job-2"),
    ],
    "kick-job": [lambda adapter, *_: adapter.kick("q", "job-0")],
    "peek-ready": [lambda adapter, *_: adapter.purge("q")],
    "peek-delayed": [lambda adapter, *_: adapter.purge("q")],
    "peek-buried": [lambda adapter, *_: adapter.purge("q")],
    "stats": [
        reserves,
        opens_another,
    ],
    "ignore": [reserves],
    "watch": [
        reserves,
        lambda adapter, *_: adapter.pause("q", timedelta(0)),
    ],
    "pause-tube": [lambda adapter, *_: adapter.pause("q", timedelta(0))],
}


@pytest.mark.parametrize("command", CALLS)
def test_finding_d19_whatever_is_answered_to_whatever_command_is_an_error_of_the_contract(
    opened: Opened, odd: OddServer, server: Beanstalkd, command: str
) -> None:
    direct = opened(server.port)
    adapter = opened(odd.port, timeout=SHORT, connect_timeout=SHORT)
    for status in STATUSES:
        for call in CALLS[command]:
            direct.enqueue_many([MESSAGE, MESSAGE])
            consumer, held = held_by(adapter)
            odd.odd = {command.encode(): status + b"\r\n"}
            with suppress(AdapterError):
                call(adapter, consumer, held)
            odd.odd = {}
            consumer.close()
            # Nothing of it stays.
            with suppress(AdapterUnavailable, EnqueueUnknown):
                adapter.stats("q")
                adapter.enqueue(MESSAGE)
            adapter.stats("q")
            adapter.enqueue(MESSAGE)
            consumer, held = held_by(adapter)
            consumer.settle(held, COMMIT)
            consumer.close()
            direct.purge("q")


def test_finding_d19_a_release_that_buries_for_want_of_memory_is_logged_whole(
    opened: Opened, odd: OddServer, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = opened(odd.port)
    adapter.enqueue(MESSAGE)
    consumer, held = held_by(adapter)
    odd.odd = {b"release": b"BURIED\r\n"}
    with pytest.raises(AdapterError) as caught:
        consumer.settle(held, Rollback())
    assert not isinstance(caught.value, LeaseLost)
    assert repr(MESSAGE.body) in caplog.text
    consumer.close()


def without(key: bytes) -> Callable[[bytes], bytes]:
    """Leave a key out of statistics, which stay well framed."""
    return changed(rb"(?m)^%b: .*\n" % re.escape(key), b"")


def garbled(key: bytes, value: bytes) -> Callable[[bytes], bytes]:
    """Give a key another value."""
    return changed(rb"(?m)^%b: .*$" % re.escape(key), key + b": " + value)


def changed(pattern: bytes, by: bytes) -> Callable[[bytes], bytes]:
    def change(reply: bytes) -> bytes:
        if not reply.startswith(b"OK "):
            return reply
        chunk = re.sub(pattern, lambda _: by, reply.partition(b"\r\n")[2][:-2])
        return b"OK %d\r\n%b\r\n" % (len(chunk), chunk)

    return change


KEYS = {
    "stats": ["version", "id", "max-job-size", "binlog-current-index", "draining", "total-jobs"],
    "stats-tube": [
        "current-jobs-ready", "current-jobs-reserved", "current-jobs-delayed", "current-jobs-buried",
        "total-jobs", "pause", "pause-time-left",
    ],
    "stats-job": [
        "id", "tube", "state", "pri", "age", "ttr", "time-left", "reserves", "releases", "kicks",
    ],
}  # fmt: skip


VALUES = [b"x", b"-1", b"9" * 30]


@pytest.mark.parametrize("command", KEYS)
def test_finding_d19_statistics_that_lack_or_garble_a_key_are_an_error_of_the_contract(
    opened: Opened, odd: OddServer, server: Beanstalkd, command: str
) -> None:
    direct = opened(server.port)
    adapter = opened(odd.port, timeout=SHORT, connect_timeout=SHORT)
    calls = itertools.cycle(CALLS[command])
    for key, value in itertools.product(map(str.encode, KEYS[command]), (None, *VALUES)):
        for call in itertools.islice(calls, 2):
            direct.enqueue_many([MESSAGE, MESSAGE])
            consumer, held = held_by(adapter)
            odd.change = {command.encode(): without(key) if value is None else garbled(key, value)}
            with suppress(AdapterError):
                call(adapter, consumer, held)
            odd.change = {}
            consumer.close()
            with suppress(AdapterUnavailable, EnqueueUnknown):
                adapter.stats("q")
            adapter.stats("q")
            direct.enqueue(MESSAGE)  # the others may not be back yet
            consumer, held = held_by(adapter)
            consumer.settle(held, COMMIT)
            consumer.close()
            direct.purge("q")


def test_s14_of_many_jobs_one_that_is_buried_for_want_of_memory_may_run_and_the_others_are_stored(
    opened: Opened, odd: OddServer
) -> None:
    """It is stored, though not ready; after a kick by an operator it would run."""
    adapter = opened(odd.port, timeout=SHORT)
    answers = iter(
        [b"INSERTED 1\r\n", b"BURIED 2\r\n", b"OUT_OF_MEMORY\r\n", b"JOB_TOO_BIG\r\n", b"DRAINING\r\n"]
    )
    odd.change[b"put"] = lambda real: next(answers)
    outcomes = adapter.enqueue_many([attrs.evolve(MESSAGE, id=f"job-{n}") for n in range(5)])
    assert [(type(one), getattr(one, "job_id", None), getattr(one, "reason", None)) for one in outcomes] == [
        (type(None), None, None),
        (EnqueueUnknown, "job-1", None),
        (EnqueueRejected, "job-2", "full"),
        (EnqueueRejected, "job-3", "too-large"),
        (EnqueueRejected, "job-4", "draining"),
    ]


@pytest.mark.parametrize(
    ("reply", "outcome"), [(b"DELETED\r\n", EnqueueRejected), (b"NOT_FOUND\r\n", EnqueueUnknown)]
)
def test_s14_a_job_that_is_buried_for_want_of_memory_is_refused_only_if_it_could_be_taken_back(
    opened: Opened, odd: OddServer, reply: bytes, outcome: type[AdapterError]
) -> None:
    adapter = opened(odd.port, timeout=SHORT)
    odd.odd = {b"put": b"BURIED 5\r\n", b"delete": reply}
    with pytest.raises(outcome) as caught:
        adapter.enqueue(MESSAGE)
    assert getattr(caught.value, "job_id", "") == "job-1"
