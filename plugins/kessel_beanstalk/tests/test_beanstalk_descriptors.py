"""What happens to connections whose descriptors somebody else in the process closes (fault 45)."""

from __future__ import annotations

import gc
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kessel_beanstalk import connection as module
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.testing import Beanstalkd

from kessel_core.contract import COMMIT, NO_PAUSE, AdapterUnavailable, Consumer, LeaseLost, Message
from tests.descriptors import on_standard_numbers

Opened = Callable[..., BeanstalkAdapter]


@pytest.fixture(autouse=True)
def _nobody_has_closed_anything_yet() -> Iterator[None]:
    module._somebody_closes.clear()
    yield
    module._somebody_closes.clear()


def number_of(consumer: Consumer) -> int:
    held = consumer._connection  # type: ignore[attr-defined]
    number = held.socket.fileno()
    assert isinstance(number, int)
    return number


@pytest.fixture
def holding(server: Beanstalkd, opened: Opened) -> tuple[Consumer, object]:
    adapter = opened(server.port)
    adapter.enqueue(Message("one", "default", b'{"v":1,"id":"one","type":"a"}', 1))
    consumer = adapter.consumer(["default"])
    return consumer, consumer.reserve(NO_PAUSE)


@pytest.mark.parametrize("call", ["settle", "settle_and_reserve", "extend"])
def test_f45_a_call_on_a_closed_descriptor_is_a_lost_lease_and_the_job_comes_again(
    holding: tuple[Consumer, object], call: str
) -> None:
    consumer, held = holding
    os.close(number_of(consumer))
    arguments = (held, COMMIT) if call.startswith("settle") else (held,)
    with pytest.raises(LeaseLost):
        getattr(consumer, call)(*arguments)
    again = consumer.reserve(NO_PAUSE)
    assert again is not None
    consumer.settle(again, COMMIT)
    consumer.close()


@pytest.mark.parametrize("is_known", [True, False])
def test_f45_what_has_taken_the_number_is_neither_written_to_nor_closed(
    holding: tuple[Consumer, object], is_known: bool
) -> None:
    """Before any theft is known, a file is told from a socket by the system; afterwards all are."""
    consumer, held = holding
    number = number_of(consumer)
    mine, theirs = socket.socketpair()
    if is_known:
        module._somebody_closes.set()
        os.dup2(theirs.fileno(), number)
    else:
        os.dup2(null := os.open(os.devnull, os.O_RDWR), number)
        os.close(null)
    with pytest.raises(LeaseLost):
        consumer.settle(held, COMMIT)  # type: ignore[arg-type]
    consumer.close()
    os.fstat(number)
    theirs.close()
    os.close(number)
    assert mine.recv(1) == b""
    mine.close()
    assert module._somebody_closes.is_set()


def test_f45_a_waiting_reserve_whose_number_was_taken_says_nothing_there(
    server: Beanstalkd, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = opened(server.port).consumer(["default"])
    assert consumer.reserve(NO_PAUSE) is None
    number, mine = number_of(consumer), socket.socketpair()
    adapter = opened(server.port)
    adapter.enqueue(Message("one", "default", b'{"v":1,"id":"one","type":"a"}', 1))
    ask = module.Connection.ask

    def taken_meanwhile(connection: module.Connection, command: object) -> object:
        answer = ask(connection, command)  # type: ignore[arg-type, var-annotated]
        module._somebody_closes.set()
        os.dup2(mine[1].fileno(), number)
        return answer

    with monkeypatch.context() as patch, pytest.raises(AdapterUnavailable, match="somebody else"):
        patch.setattr(module.Connection, "ask", taken_meanwhile)
        consumer.reserve(NO_PAUSE)
    os.close(number)
    mine[1].close()
    assert mine[0].recv(1) == b""
    mine[0].close()
    again = consumer.reserve(NO_PAUSE)
    assert again is not None
    consumer.close()


def test_f45_a_lost_connection_is_no_theft(server: Beanstalkd, opened: Opened) -> None:
    consumer = opened(server.port).consumer(["default"])
    assert consumer.reserve(NO_PAUSE) is None
    server.kill()
    with pytest.raises(AdapterUnavailable):
        consumer.reserve(NO_PAUSE)
    assert not module._somebody_closes.is_set()


def test_f45_no_connection_has_the_number_of_a_standard_stream(server: Beanstalkd, tmp_path: Path) -> None:
    """A `print` of anybody would be a command to the server."""
    assert on_standard_numbers(f"beanstalk://127.0.0.1:{server.port}", tmp_path) <= {"/dev/null"}


def test_a_connection_that_the_collector_finds_beside_its_socket_is_closed_and_warns_nobody(
    server: Beanstalkd, opened: Opened
) -> None:
    """As of a thread that has ended, whose exception somebody keeps: the collector met the socket first."""
    adapter = opened(server.port)
    numbers: list[int] = []

    def enqueues() -> None:
        adapter.enqueue(Message("one", "default", b'{"v":1,"id":"one","type":"a"}', 1))
        mine = adapter._producer._mine.connection
        numbers.append(mine.socket.fileno())
        kept: list[object] = [mine]
        kept.append(kept)

    gc.disable()  # so that it is found here
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            thread = threading.Thread(target=enqueues)
            thread.start()
            thread.join()
            socket.socket(fileno=os.dup(numbers[0])).close()  # it is open
            gc.collect()
    finally:
        gc.enable()
    assert [str(one.message) for one in told] == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(numbers[0])
