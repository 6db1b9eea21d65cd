"""The server for probes is open to whoever reaches it: what it answers, and what it refuses (S38)."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

import kessel_core.runtime.health_http as health_http
from kessel_core.runtime.health_http import Answer, HealthServer, ask_all, listening
from tests.threadless import no_thread
from tests.until import until

BOUND = 20.0


@pytest.fixture
def served() -> Iterator[Callable[..., int]]:
    """Starts a server that answers with the path, and returns its port."""
    servers: list[HealthServer] = []

    def serve(answer: Callable[[str], Answer] = lambda path: Answer(200, path.encode())) -> int:
        listener = listening("127.0.0.1", 0)
        port: int = listener.getsockname()[1]
        servers.append(HealthServer(listener, answer))
        servers[-1].start()
        return port

    yield serve
    for server in servers:
        server.close()


def said(port: int, request: bytes) -> bytes:
    """Send bytes, and return everything that is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=BOUND) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def test_s38_get_is_answered_and_the_connection_closed(served: Callable[..., int]) -> None:
    head, _, body = said(served(), b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        "HTTP/1.1 200 OK",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Length: 6",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    assert body == b"/livez"


def test_s38_head_is_answered_without_a_body(served: Callable[..., int]) -> None:
    head, _, body = said(served(), b"HEAD /livez HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert b"Content-Length: 6" in head
    assert body == b""


def test_s38_a_query_is_no_part_of_the_path(served: Callable[..., int]) -> None:
    assert said(served(), b"GET /readyz?verbose=1 HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\n/readyz")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /livez HTTP/1.1\r\n\r\n" + b"x" * 200_000, b"405 Method Not Allowed"),
        (b"DELETE / HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400 Bad Request"),
        (b"GET livez HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400 Bad Request"),
        (b"\r\n\r\n", b"400 Bad Request"),
        (b"x", b"400 Bad Request"),
        (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 3000, b"431 Request Header Fields Too Large"),
    ],
    ids=["body", "method", "tls", "no path", "bytes", "version", "empty", "half", "long"],
)
def test_s38_garbage_is_refused_in_one_line_and_not_logged(
    request_: bytes, status: bytes, served: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    port = served()
    assert said(port, request_).startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert caplog.records == []
    assert said(port, b"GET /livez HTTP/1.1\r\n\r\n").endswith(b"/livez")


def test_s38_clients_that_send_nothing_are_dropped_and_others_get_their_turn(
    served: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_http, "_PATIENCE", 0.1)
    port = served()
    silent = [socket.create_connection(("127.0.0.1", port), timeout=BOUND) for _ in range(20)]
    try:
        silent[0].sendall(b"GET /liv")
        assert said(port, b"GET /livez HTTP/1.1\r\n\r\n").endswith(b"/livez")
        for one in silent:
            assert one.recv(100) == b""
    finally:
        for one in silent:
            one.close()


def test_s38_a_client_that_drips_has_one_patience_for_all_of_its_request(
    served: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_http, "_PATIENCE", 0.2)
    with socket.create_connection(("127.0.0.1", served()), timeout=BOUND) as connection:
        dropped = threading.Event()

        def drip() -> None:
            while not dropped.wait(0.05):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert connection.recv(100) == b""
        except ConnectionResetError:
            pass  # dropped as well: bytes were on their way
        finally:
            dropped.set()
            thread.join()


def test_s38_no_more_than_a_few_requests_are_answered_at_the_same_time(served: Callable[..., int]) -> None:
    inside, most, go_on = [0], [0], threading.Event()
    lock = threading.Lock()

    def slow(path: str) -> Answer:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        go_on.wait(BOUND)
        with lock:
            inside[0] -= 1
        return Answer(200, b"late")

    port = served(slow)
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(said(port, b"GET / HTTP/1.1\r\n\r\n")))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    until(lambda: inside[0] == 8)
    go_on.set()
    for thread in threads:
        thread.join()
    assert (most[0], len(answers)) == (8, 12)
    assert all(one.endswith(b"late") for one in answers)


def test_s38_without_a_thread_for_a_request_the_next_one_is_still_answered(
    served: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, request = served(), b"GET /livez HTTP/1.1\r\n\r\n"
    failed = no_thread(monkeypatch, "kessel-health-request", times=health_http._CONNECTIONS + 1)
    for number in range(health_http._CONNECTIONS + 1):  # so that none of the few places is lost, either
        with suppress(OSError):
            assert said(port, request) == b""
        assert len(failed) == number + 1
    assert said(port, request).endswith(b"/livez")


def test_s38_an_answer_that_fails_is_500_and_logged_with_its_traceback(
    served: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: str) -> Answer:
        raise ValueError("not today")

    answer = said(served(fail), b"GET /metrics HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"not today" not in answer
    (record,) = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert record.exc_info is not None


def test_s38_a_server_that_is_closed_frees_its_port() -> None:
    listener = listening("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server = HealthServer(listener, lambda path: Answer(200, b""))
    server.start()
    with pytest.raises(OSError, match="in use"):
        listening("127.0.0.1", port)
    server.close()
    server.close()
    listening("127.0.0.1", port).close()


FORKING = """
import os, sys, warnings
from kessel_core.runtime.health_http import Answer, HealthServer, listening
warnings.simplefilter("ignore")  # of a fork beside threads: a handler may do so
listener = listening("127.0.0.1", 0)
port = listener.getsockname()[1]
server = HealthServer(listener, lambda path: Answer(200, b""))
server.start()
reading, writing = os.pipe()
is_there, is_here = os.pipe()
child = os.fork()
if child == 0:
    os.close(writing)
    os.write(is_here, b"1")
    os.read(reading, 1)
    os._exit(0)
os.read(is_there, 1)
server.close()
listening("127.0.0.1", port).close()
os.close(writing)
os.waitpid(child, 0)
"""


def test_s38_a_forked_child_does_not_keep_the_port() -> None:
    """What a handler forks may outlive the worker, which could not be started again."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_s38_several_are_asked_at_once_and_the_silent_do_not_delay_the_others(
    served: Callable[..., int],
) -> None:
    with closing(listening("127.0.0.1", 0)) as silent, closing(listening("127.0.0.1", 0)) as gone:
        gone.close()
        teapot = served(lambda path: Answer(503, b"x" * 300_000, "application/json"))
        ports = {1: served(), 2: silent.getsockname()[1], 3: teapot, 4: 1}
        assert ask_all(ports, "/livez", 1.0) == {
            1: Answer(200, b"/livez"),
            3: Answer(503, b"x" * 300_000, "application/json"),
        }


def test_s38_who_lets_nobody_connect_takes_no_time_from_the_others(served: Callable[..., int]) -> None:
    """As a process that was stopped, after as many probes as the system lets wait for it."""
    with socket.socket() as hung, ExitStack() as stack:
        hung.bind(("127.0.0.1", 0))
        hung.listen(0)
        address = hung.getsockname()
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)

        def slow(path: str) -> Answer:
            time.sleep(0.2)
            return Answer(200, b"here")

        ports = {1: address[1], 2: address[1], 3: served(slow), 4: served(slow)}
        assert sorted(ask_all(ports, "/livez", 3.0)) == [3, 4]


def test_s38_what_is_no_answer_of_http_counts_as_none() -> None:
    with closing(listening("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"hello\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert ask_all({1: listener.getsockname()[1]}, "/", BOUND) == {}
        thread.join()
