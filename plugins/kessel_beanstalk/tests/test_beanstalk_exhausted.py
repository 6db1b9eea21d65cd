"""A real server that has run out of something: file descriptors, disk space (f10, f27, f29)."""

from __future__ import annotations

import errno
import logging
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.framing import FramedSocket
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import AdapterError, AdapterUnavailable, EnqueueRejected
from kessel_core.contract import COMMIT, NO_PAUSE, Bury, JobState, Message, Reservation, Rollback, Settlement

Opened = Callable[..., BeanstalkAdapter]
SECOND = timedelta(seconds=1)
#: A file of the binlog; with this as limit of its files the server cannot begin another one.
FILE_BYTES = 16_384


def message(number: int, payload: bytes = b"null") -> Message:
    body = b'{"v":1,"id":"job-%d","type":"t","priority":9,"payload":%b}' % (number, payload)
    return Message(f"job-{number}", "q", body, 9)


def test_f27_out_of_file_descriptors_is_unavailable_in_time_and_open_connections_work(
    servers: Callable[..., Beanstalkd], opened: Opened
) -> None:
    server = servers(before="ulimit -n 16")
    adapter = opened(server.port, connect_timeout=SECOND)
    adapter.enqueue(message(1))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    late = adapter.consumer(["q"])
    outcomes: list[object] = []

    def reserve() -> None:
        try:
            outcomes.append(late.reserve(NO_PAUSE))
        except AdapterError as exc:
            outcomes.append(exc)

    with ExitStack() as stack:
        for _ in range(20):  # the kernel takes those that the server cannot
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
        thread = threading.Thread(target=reserve)
        thread.start()
        thread.join(5)
        assert isinstance(outcomes[0], AdapterUnavailable)
        adapter.enqueue(message(2))
        following = consumer.settle_and_reserve(held, COMMIT)
        assert following is not None and following.id == "job-2"
        consumer.settle(following, COMMIT)
    adapter.enqueue(message(3))
    again = late.reserve(SECOND)
    assert again is not None and again.id == "job-3"
    late.close()
    consumer.close()


def test_s14_a_connection_whose_options_the_system_refuses_is_unavailable_and_closed(
    opened: Opened, server: Beanstalkd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS does for one that the server has ended already."""
    adapter = opened(server.port)
    made: list[socket.socket] = []

    def refused(own: socket.socket, *_: object) -> None:
        made.append(own)
        raise OSError(errno.EINVAL, "Invalid argument")

    with monkeypatch.context() as patched:
        patched.setattr(FramedSocket, "setsockopt", refused)
        with pytest.raises(AdapterUnavailable, match="Invalid argument"):
            adapter.consumer(["q"]).reserve(NO_PAUSE)
    assert [own.fileno() for own in made] == [-1] * len(made) != []
    adapter.enqueue(message(1))


@contextmanager
def full_disk(server: Beanstalkd) -> Iterator[None]:
    """Let the server begin no further file, as on a disk without room; exact, unlike a small disk."""
    assert server.process is not None
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES - 1, hard))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@pytest.fixture
def small(servers: Callable[..., Beanstalkd], tmp_path: Path) -> Beanstalkd:
    """A durable server with small files, which survives that they cannot grow."""
    return servers("-b", str(tmp_path), "-s", str(FILE_BYTES), "-f", "0", before='trap "" XFSZ')


def filled(adapter: BeanstalkAdapter) -> int:
    """Enqueue until the server takes no more; return how many jobs it took."""
    for number in range(1000):
        try:
            adapter.enqueue(message(number, b'"%b"' % (b"x" * 400)))
        except EnqueueRejected as exc:
            assert exc.reason == "full"
            return number
    raise AssertionError("the disk is not full")


needs_prlimit = pytest.mark.skipif(sys.platform != "linux", reason="limits of another process: Linux only")


@needs_prlimit
def test_f10_on_a_full_disk_jobs_are_refused_as_full_and_none_is_lost(
    opened: Opened, small: Beanstalkd
) -> None:
    adapter = opened(small.port)
    with full_disk(small):
        stored = filled(adapter)
        outcomes = adapter.enqueue_many([message(number, b'"%b"' % (b"y" * 400)) for number in range(3)])
        assert [getattr(outcome, "reason", None) for outcome in outcomes] == ["full"] * 3
        assert adapter.stats("q").ready == stored > 0
        consumer = adapter.consumer(["q"])
        held = consumer.reserve(SECOND)
        assert held is not None
        consumer.settle(held, COMMIT)  # workers go on
        consumer.close()
    adapter.enqueue(message(1001))
    small.kill()
    small.start()
    assert opened(small.port).stats("q").ready == stored


@needs_prlimit
@pytest.mark.parametrize(
    "settlement", [Bury("error", "its handler failed"), Rollback(SECOND)], ids=["burial", "rollback"]
)
def test_rule_10_f29_a_settle_that_a_full_disk_refuses_is_logged_whole_and_the_job_is_back_after_a_restart(
    opened: Opened, small: Beanstalkd, caplog: pytest.LogCaptureFixture, settlement: Settlement
) -> None:
    adapter = opened(small.port)
    with full_disk(small):
        stored = filled(adapter)
        refused = settled_until_refused(adapter, settlement)
        [limbo] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert str(refused.id) in limbo and repr(refused.body) in limbo
        lost = stored - adapter.stats("q").total
        assert lost == 1, "the facts have changed: the job is not out of reach"
        consumer = adapter.consumer(["q"])
        other = consumer.reserve(SECOND)
        assert other is not None and other.id != refused.id  # no hot loop on the one that failed
        consumer.settle(other, COMMIT)
        consumer.close()
    small.kill()
    small.start()
    consumer = adapter.consumer(["q"])
    seen = []
    while (held := consumer.reserve(2 * SECOND)) is not None:
        seen.append(held.id)
        consumer.settle(held, COMMIT)
    seen += [job.id for job in adapter.buried("q")]
    consumer.close()
    assert refused.id in seen and len(seen) == stored - 1


@contextmanager
def no_memory(server: Beanstalkd, spare: int) -> Iterator[None]:
    """Let the server have so many bytes more than it has, and no others."""
    assert server.process is not None
    used = (
        int(Path(f"/proc/{server.process.pid}/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    )
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_AS)
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (used + spare, hard))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (hard, hard))


@needs_prlimit
def test_jobs_that_a_server_without_memory_does_not_send_are_not_told_as_none(
    servers: Callable[..., Beanstalkd], opened: Opened
) -> None:
    """It says NOT_FOUND then; a purge would remove nothing, and a move leave all of them, with no error."""
    server = servers("-z", "4000000")
    adapter = opened(server.port)
    for number in range(2):
        adapter.enqueue(message(number, b'"%b"' % (b"x" * 3_000_000)))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    consumer.settle(held, Bury("error", "why"))
    with no_memory(server, 1_000_000):
        asked: list[Callable[[], object]] = [
            lambda: adapter.purge("q"),
            lambda: adapter.peek("q", JobState.READY),
            lambda: adapter.buried("q"),
            lambda: adapter.kick("q", "job-0"),
            lambda: opened(server.port).delete("q", "job-1"),  # which remembers no number of it
        ]
        for ask in asked:
            with pytest.raises(AdapterUnavailable, match="does not send it"):
                ask()
        assert (adapter.stats("q").ready, adapter.stats("q").buried) == (1, 1)
        held = consumer.reserve(SECOND)  # workers go on
        assert held is not None
        consumer.settle(held, COMMIT)
    consumer.close()
    adapter.kick("q", "job-0")
    assert adapter.purge("q") == 1


def settled_until_refused(adapter: BeanstalkAdapter, settlement: Settlement) -> Reservation:
    """Settle jobs so until the server fails at it; return the job that is out of reach now."""
    consumer = adapter.consumer(["q"])
    try:
        while True:
            held = consumer.reserve(SECOND)
            assert held is not None
            try:
                consumer.settle(held, settlement)
            except AdapterError:
                return held
    finally:
        consumer.close()
