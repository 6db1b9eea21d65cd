"""Faults between adapter and server: each against a real beanstalkd, behind a proxy where needed."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import greenstalk
import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.framing import FramedSocket, NotSent
from kessel_beanstalk.testing import Beanstalkd
from kessel_conformance import Cut, FaultProxy

from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    EnqueueRejected,
    EnqueueUnknown,
    LeaseLost,
    ProtocolError,
    UnknownJob,
)
from kessel_core.contract import COMMIT, NO_PAUSE, Bury, JobState, Message
from kessel_core.testing import free_port
from tests.gone_peers import kernel_is_told, only_where_it_can_be_told
from tests.until import until

Opened = Callable[..., BeanstalkAdapter]
SECOND = timedelta(seconds=1)


def message(number: int = 1) -> Message:
    return Message(
        f"job-{number}", "q", b'{"v":1,"id":"job-%d","type":"t","priority":9,"payload":null}' % number, 9
    )


def test_f01_a_closed_port_is_unavailable(opened: Opened) -> None:
    with pytest.raises(AdapterUnavailable):
        opened(free_port())


@pytest.mark.parametrize(
    "banner", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n", b"\n", b"x" * 5000]
)
def test_f26_another_protocol_is_named_with_its_address(opened: Opened, banner: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(100)
            connection.sendall(banner)
            time.sleep(0.2)
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises(ProtocolError, match=f"127.0.0.1:{port}"):
            opened(port)
        thread.join(5)


@pytest.mark.parametrize("is_beanstalkd", [False, True])
def test_connection_to_a_server_that_is_not_wanted_is_closed(
    opened: Opened, server: Beanstalkd, is_beanstalkd: bool
) -> None:
    """Each call tries again, and would leave one behind."""
    reply = b"-ERR unknown command\r\n"
    if is_beanstalkd:  # but without the binlog that is required
        with socket.create_connection(("127.0.0.1", server.port)) as real, real.makefile("rb") as stats:
            real.sendall(b"stats\r\n")
            reply = stats.readline()
            reply += stats.read(int(reply.split()[1]) + 2)
    ends = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                connection.recv(100)
                connection.sendall(reply)
                try:
                    ends.append(connection.recv(100))
                except TimeoutError:
                    ends.append(b"it is still open")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(CapabilityMissing if is_beanstalkd else ProtocolError) as refused:
            opened(listener.getsockname()[1], require_durable=True)
        thread.join(10)
    assert ends == [b""]
    assert refused.tb is not None  # the end came although the error was at hand, which keeps all it passed


def test_f02_a_server_that_accepts_and_never_answers_times_out(opened: Opened) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(AdapterUnavailable):
        opened(listener.getsockname()[1], connect_timeout=timedelta(milliseconds=200))


def test_f18_a_restart_with_binlog_keeps_jobs_and_a_waiting_worker_comes_back(
    opened: Opened, durable: Beanstalkd, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = opened(durable.port)
    adapter.enqueue(message(1))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    durable.kill()
    with pytest.raises(LeaseLost):
        consumer.settle(held, COMMIT)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            with pytest.raises(AdapterUnavailable):
                consumer.reserve(NO_PAUSE)
        durable.start()
        again = consumer.reserve(timedelta(seconds=5))
    assert again is not None and again.id == "job-1"
    consumer.settle(again, COMMIT)
    assert sum("was restarted" in record.getMessage() for record in caplog.records) == 1
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) <= 1
    consumer.close()


def test_f28_a_binlog_that_is_cut_short_loses_what_was_cut_and_the_restart_is_told(
    opened: Opened, durable: Beanstalkd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = opened(durable.port)
    assert adapter.enqueue_many([message(number) for number in range(10)]) == [None] * 10
    durable.kill()
    [log] = (tmp_path / "binlog").glob("binlog.*")
    written = log.read_bytes().rstrip(b"\0")
    log.write_bytes(written[:-20])
    durable.start()
    consumer = adapter.consumer(["q"])
    with caplog.at_level(logging.INFO):
        seen = []
        while (held := consumer.reserve(NO_PAUSE)) is not None:
            seen.append(held.id)
            consumer.settle(held, COMMIT)
    assert seen == [f"job-{number}" for number in range(9)]
    assert "was restarted" in caplog.text
    consumer.close()


def test_f28_a_server_that_comes_back_with_a_smaller_limit_rejects_as_too_large(
    opened: Opened, server: Beanstalkd
) -> None:
    adapter = opened(server.port)
    large = Message("large", "q", b"x" * 200, 9)
    adapter.enqueue(large)
    server.kill()
    server.arguments = ("-z", "100")
    server.start()
    until = time.monotonic() + 5
    while True:  # the first call may find the old connection broken
        try:
            adapter.enqueue(message(1))
        except (AdapterUnavailable, EnqueueUnknown):
            assert time.monotonic() < until
        else:
            break
    with pytest.raises(EnqueueRejected) as caught:
        adapter.enqueue(large)
    assert caught.value.reason == "too-large"
    [outcome] = adapter.enqueue_many([large])
    assert isinstance(outcome, EnqueueRejected) and outcome.reason == "too-large"


def test_f30_a_reservation_from_before_a_restart_never_settles_a_reused_id(
    opened: Opened, server: Beanstalkd
) -> None:
    adapter = opened(server.port)
    adapter.enqueue(message(1))
    consumer = adapter.consumer(["q"])
    old = consumer.reserve(SECOND)
    assert old is not None
    server.kill()
    server.start()
    opened(server.port).enqueue(message(2))  # takes the id 1 again
    with pytest.raises(LeaseLost):
        consumer.settle(old, COMMIT)
    innocent = consumer.reserve(timedelta(seconds=2))
    assert innocent is not None and innocent.id == "job-2"
    consumer.close()


def test_f20_a_reply_cut_after_every_byte_never_gives_half_a_job(
    opened: Opened, proxied: FaultProxy, adapter: BeanstalkAdapter
) -> None:
    adapter.enqueue(message(1))
    whole = message(1).body
    behind = opened(proxied.port)
    consumer = behind.consumer(["q"])
    consumer.reserve(NO_PAUSE)
    consumer.close()
    for count in range(1, len(b"RESERVED 1 60\r\n") + len(whole) + 2, 3):
        consumer = behind.consumer(["q"])
        connection = consumer._connected()  # type: ignore[attr-defined]
        assert connection.is_open
        until(lambda: adapter.stats("q").ready == 1)  # what the last one held is given back when it is gone
        proxied.cut_at(Cut(up=False, after=count))
        with pytest.raises(AdapterUnavailable):
            consumer.reserve(NO_PAUSE)
        consumer.close()
    until(lambda: adapter.stats("q").ready == 1)


_LONGER_THAN_ANNOUNCED = """
import socket
from kessel_beanstalk.framing import FramedSocket, MalformedReply
with socket.create_server(("127.0.0.1", 0)) as listener:
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
ours = FramedSocket(near, 5.0)
far.sendall(b"RESERVED 1 2\\r\\nabcd\\r\\n")
ours.reader.readline()
try:
    print(ours.reader.chunk(2))
except MalformedReply:
    print("refused")
ours.close()
far.close()
"""


@pytest.mark.parametrize("flags", [[], ["-O"]], ids=["plain", "optimized"])
def test_f20_a_body_longer_than_announced_is_refused_also_without_assertions(flags: list[str]) -> None:
    """Many clients check it with `assert` only."""
    command = [sys.executable, *flags, "-c", _LONGER_THAN_ANNOUNCED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "refused\n"


def test_f21_a_commit_without_its_reply_is_a_lost_lease(
    opened: Opened, proxied: FaultProxy, adapter: BeanstalkAdapter
) -> None:
    behind = opened(proxied.port, timeout=SECOND)
    adapter.enqueue(message())
    consumer = behind.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    proxied.drop_down = True
    with pytest.raises(LeaseLost, match="may have been done"):
        consumer.settle_and_reserve(held, COMMIT)
    proxied.drop_down = False
    assert adapter.stats("q").total == 0
    assert consumer.reserve(NO_PAUSE) is None
    consumer.close()


def test_f23_a_half_open_peer_while_a_job_runs_fails_the_extend(
    opened: Opened, proxied: FaultProxy, adapter: BeanstalkAdapter
) -> None:
    behind = opened(proxied.port, timeout=SECOND)
    adapter.enqueue(message())
    consumer = behind.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    proxied.drop_up = proxied.drop_down = True
    with pytest.raises(LeaseLost):
        consumer.extend(held)
    with pytest.raises(LeaseLost):
        consumer.settle(held, COMMIT)
    consumer.close()


def test_f24_a_slow_and_dribbling_peer_works(opened: Opened, proxied: FaultProxy) -> None:
    proxied.delay, proxied.dribble = 0.01, True
    adapter = opened(proxied.port)
    assert adapter.enqueue_many([message(number) for number in range(20)]) == [None] * 20
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    seen = []
    while held is not None:
        seen.append(held.id)
        held = consumer.settle_and_reserve(held, COMMIT)
    assert seen == [f"job-{number}" for number in range(20)]
    consumer.close()


def test_s14_an_enqueue_whose_answer_is_garbled_may_be_stored(
    opened: Opened, proxied: FaultProxy, adapter: BeanstalkAdapter
) -> None:
    behind = opened(proxied.port)
    behind.enqueue(message(1))
    proxied.garbles = True
    with pytest.raises(EnqueueUnknown, match="not a beanstalkd"):
        behind.enqueue(message(2))
    proxied.end_faults()
    behind.enqueue(message(3))
    assert adapter.stats("q").ready == 3


@pytest.mark.parametrize("cut", [Cut(up=False, after=1000), Cut(up=True, after=0)])
def test_many_with_the_connection_cut_tells_what_is_unknown(
    opened: Opened, proxied: FaultProxy, adapter: BeanstalkAdapter, cut: Cut
) -> None:
    """S14: with the one whose reply was waited for; where no put arrives, none is told as stored."""
    behind = opened(proxied.port)
    behind.enqueue(message(0))
    proxied.cut_at(cut)
    outcomes = behind.enqueue_many([message(number) for number in range(1, 2001)])
    stored = sum(outcome is None for outcome in outcomes)
    unknown = sum(isinstance(outcome, EnqueueUnknown) for outcome in outcomes)
    sure = sum(isinstance(outcome, AdapterUnavailable) for outcome in outcomes)
    assert stored + unknown + sure == 2000
    assert unknown > 0
    time.sleep(0.2)
    assert 1 + stored <= adapter.stats("q").ready <= 1 + stored + unknown


@only_where_it_can_be_told
def test_f23_a_peer_that_is_gone_is_noticed_within_half_a_minute_and_not_within_moments(
    opened: Opened, server: Beanstalkd
) -> None:
    """By what the kernel was told: in milliseconds and in seconds."""
    adapter = opened(server.port, timeout=timedelta(seconds=7))
    with closing(adapter.shared.server.connect()) as connection:
        kernel_is_told(connection.socket, milliseconds=7_000)


def test_s14_a_batch_that_is_cut_off_while_it_is_sent_may_be_stored_in_part(
    opened: Opened, server: Beanstalkd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one write the server may have the first puts, so nobody says of any that it is not stored."""
    behind = opened(server.port)
    behind.enqueue(message(0))

    def cut_off(own: FramedSocket, data: bytes) -> None:
        own.sendall(data[: len(data) // 2])
        raise NotSent("the peer takes no more data")

    monkeypatch.setattr(FramedSocket, "send_whole", cut_off)
    # More than one batch: what was not begun is surely not stored.
    outcomes = behind.enqueue_many([message(number) for number in range(1, 301)])
    monkeypatch.undo()
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [EnqueueUnknown] * 256 + [AdapterUnavailable] * 44


@pytest.mark.parametrize("kind", [ValueError, TimeoutError])
def test_finding_d7_an_enqueue_that_a_signal_handler_interrupts_is_unknown_once_its_bytes_may_have_left(
    opened: Opened, proxied: FaultProxy, adapter: BeanstalkAdapter, kind: type[Exception]
) -> None:
    """S14; the job is stored, and its reply is what was being waited for."""

    def interrupt(*_: object) -> None:
        raise kind("enough")

    behind = opened(proxied.port)
    behind.enqueue(message(1))
    proxied.drop_down = True
    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(EnqueueUnknown):
            behind.enqueue(message(2))
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    proxied.drop_down = False
    assert adapter.stats("q").ready == 2
    behind.enqueue(message(3))


def test_cancel_wakes_a_waiting_reserve(adapter: BeanstalkAdapter) -> None:
    consumer = adapter.consumer(["q"])
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(consumer.reserve(timedelta(seconds=60))))
    thread.start()
    time.sleep(0.2)
    consumer.cancel()
    thread.join(5)
    assert answers == [None]
    assert consumer.reserve(SECOND) is None
    consumer.close()


def test_a_held_job_is_settled_after_cancel(adapter: BeanstalkAdapter) -> None:
    adapter.enqueue_many([message(1), message(2)])
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    consumer.cancel()
    consumer.extend(held)
    assert consumer.settle_and_reserve(held, COMMIT) is None
    assert adapter.stats("q").ready == 1
    consumer.close()


def test_reasons_of_buried_jobs_survive_a_restart_with_binlog(opened: Opened, durable: Beanstalkd) -> None:
    adapter = opened(durable.port)
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    consumer.settle(held, Bury("no-handler", "nobody knows 't'"))
    consumer.close()
    durable.kill()
    durable.start()
    [job] = adapter.buried("q")
    assert (job.id, job.reason, job.message, job.body) == (
        "job-1",
        "no-handler",
        "nobody knows 't'",
        message().body,
    )
    assert "q" in adapter.queues() and not any(name.startswith("kessel.") for name in adapter.queues())


def test_records_of_jobs_that_are_gone_are_removed(adapter: BeanstalkAdapter) -> None:
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    consumer.settle(held, Bury("error"))
    consumer.close()
    assert adapter.purge("q") == 1
    assert adapter.shared.side_tubes.burials("q") == {}
    with pytest.raises(UnknownJob):
        adapter.kick("q", "job-1")


def test_foreign_jobs_are_named_by_the_servers_id(adapter: BeanstalkAdapter, server: Beanstalkd) -> None:
    with greenstalk.Client(("127.0.0.1", server.port), encoding=None, use="q") as client:
        number = client.put(b"\xff no json", 5, 0, 60)
    [job] = adapter.peek("q", JobState.READY)
    assert (job.id, job.body) == (f"@{number}", b"\xff no json")
    adapter.delete("q", f"@{number}")
    with pytest.raises(UnknownJob):
        adapter.delete("q", f"@{number}")


def test_a_waiting_job_of_another_process_is_found_by_its_own_id(opened: Opened, server: Beanstalkd) -> None:
    opened(server.port).enqueue_many([message(number) for number in range(600)])
    other = opened(server.port)
    other.delete("q", "job-7")
    assert other.stats("q").ready == 599


def test_after_close_everything_is_refused(adapter: BeanstalkAdapter) -> None:
    adapter.enqueue(message())
    adapter.close()
    adapter.close()
    with pytest.raises(AdapterError):
        adapter.enqueue(message())
    with pytest.raises(AdapterError):
        adapter.stats("q")
