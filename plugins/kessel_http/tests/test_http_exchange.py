"""S23: one POST, within one deadline, whatever the other side does."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from kessel_http.connecting import Deadline
from kessel_http.exchange import LONGEST, Answer, NotAnswered, _Wire, post
from kessel_http.urls import read_url

from .conftest import Raw, Receiver, network

#: In seconds; what must end at the deadline would otherwise last much longer than `FAR`.
SHORT, FAR = 0.4, 10.0
HEAD = b"HTTP/1.1 200 OK\r\n"


def send(port: int, body: bytes = b"{}", **more: Any) -> Answer:
    headers = more.pop("headers", {})
    url = read_url(more.pop("url", f"http://127.0.0.1:{port}/hooks"))
    parts = {name: more.pop(name) for name in ("resolve", "tls") if name in more}
    return post(url, headers, body, network(**parts), **{"seconds": FAR, "internal": True, **more})


def read_request(made: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += made.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += made.recv(65_536)
    return head + b"\r\n\r\n" + body


Start = Callable[[Callable[[socket.socket], None]], Raw]


def answering(raw: Start, *parts: bytes, pause: float = 0.0) -> Raw:
    """Start a server that answers each request with these bytes, and then ends the connection."""

    def serve(made: socket.socket) -> None:
        read_request(made)
        for part in parts:
            made.sendall(part)
            time.sleep(pause)

    return raw(serve)


def test_s23_a_body_arrives_as_it_is_with_its_headers(receiver: Receiver) -> None:
    body = '{"a": "\u00fc"}'.encode()
    assert send(receiver.port, body, headers={"webhook-id": "1"}) == Answer(204)
    (got,) = receiver.received
    assert (got.path, got.body) == ("/hooks", body)
    assert got.headers == {
        "Host": f"127.0.0.1:{receiver.port}",
        "User-Agent": "kessel-http",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "webhook-id": "1",
    }


def test_s23_a_large_body_arrives_whole(receiver: Receiver) -> None:
    body = b"x" * 3_000_000
    assert send(receiver.port, body).status == 204
    assert receiver.received[0].body == body


@pytest.mark.parametrize(
    "status", [200, 201, 202, 204, 205, 299, 304, 400, 404, 410, 418, 429, 500, 503, 599]
)
def test_s23_the_status_is_what_was_answered(receiver: Receiver, status: int) -> None:
    receiver.answer(status)
    assert send(receiver.port).status == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_s23_a_redirect_is_returned_and_not_followed(receiver: Receiver, status: int) -> None:
    receiver.answer(status, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")
    assert send(receiver.port).status == status
    assert [got.path for got in receiver.received] == ["/hooks"]


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_s23_proxies_of_the_environment_are_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert send(receiver.port).status == 204


def test_s23_retry_after_is_returned(receiver: Receiver) -> None:
    receiver.answer(503, Retry_After="120")
    assert send(receiver.port) == Answer(503, "120")


# --- what never ends ends at the deadline -----------------------------------------------------------------


def silent(made: socket.socket) -> None:
    read_request(made)
    time.sleep(FAR)


def drip(made: socket.socket, text: bytes) -> None:
    for number in range(len(text)):
        made.sendall(text[number : number + 1])
        time.sleep(0.05)


def dripped_head(made: socket.socket) -> None:
    read_request(made)
    drip(made, HEAD + b"X-A: " + b"a" * 1000)


def dripped_status(made: socket.socket) -> None:
    read_request(made)
    drip(made, b"HTTP/1.1 " + b" " * 1000)


def endless_continuing(made: socket.socket) -> None:
    read_request(made)
    while True:
        made.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.01)


def reads_nothing(made: socket.socket) -> None:
    time.sleep(FAR)


@pytest.mark.parametrize("serve", [silent, dripped_head, dripped_status, endless_continuing])
def test_s23_a_call_ends_at_its_deadline_however_the_head_of_the_answer_drips(
    raw: Start, serve: Callable[[socket.socket], None]
) -> None:
    server, start = raw(serve), time.monotonic()
    with pytest.raises(NotAnswered, match=r"no answer within 0\.4 s"):
        send(server.port, seconds=SHORT)
    assert time.monotonic() - start < FAR


def test_s23_a_call_ends_at_its_deadline_if_the_request_is_not_read(raw: Start) -> None:
    server, start = raw(reads_nothing), time.monotonic()
    with pytest.raises(NotAnswered, match="no answer within"):
        send(server.port, b"x" * 30_000_000, seconds=SHORT)
    assert time.monotonic() - start < FAR


def test_s23_a_request_that_is_read_in_drops_gets_what_is_left_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, given = 1000.0, []

    class Drops:
        settimeout = given.append

        def send(self, data: bytes) -> int:
            nonlocal now
            now += 3.0
            return 1

    monkeypatch.setattr(time, "monotonic", lambda: now)
    drops: Any = Drops()
    with pytest.raises(TimeoutError):
        _Wire(drops, Deadline(9.0)).sendall(b"x" * 100)
    assert given == [9.0, 6.0, 3.0]


def test_s23_a_call_ends_at_its_deadline_if_nobody_accepts_it() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port, start = listener.getsockname()[1], time.monotonic()
        held = []
        for _ in range(8):  # fills the line of those who wait to be accepted
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            held.append(one)
        with pytest.raises(NotAnswered):
            send(port, seconds=SHORT)
        assert time.monotonic() - start < FAR
        for one in held:
            one.close()


def test_s23_a_call_ends_at_its_deadline_if_tls_is_not_answered(
    raw: Start, client_tls: ssl.SSLContext
) -> None:
    server, start = raw(reads_nothing), time.monotonic()
    with pytest.raises(NotAnswered):
        send(server.port, url=f"https://localhost:{server.port}/", tls=client_tls, seconds=SHORT)
    assert time.monotonic() - start < FAR


def dripped_body(made: socket.socket) -> None:
    read_request(made)
    made.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    drip(made, b"x" * 1000)


def no_body(made: socket.socket) -> None:
    read_request(made)
    made.sendall(HEAD + b"Content-Length: 5\r\n\r\n")
    time.sleep(FAR)


def dripped_chunks(made: socket.socket) -> None:
    read_request(made)
    made.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        drip(made, b"1\r\nx\r\n")


@pytest.mark.parametrize("serve", [dripped_body, no_body, dripped_chunks])
def test_s23_a_call_whose_status_is_known_ends_at_its_deadline_with_it(
    raw: Start, serve: Callable[[socket.socket], None]
) -> None:
    server, start = raw(serve), time.monotonic()
    assert send(server.port, seconds=SHORT).status == 200
    assert time.monotonic() - start < FAR


# --- what is read ------------------------------------------------------------------------------------------


def test_s23_of_an_endless_answer_at_most_64_kib_are_read(raw: Start) -> None:
    sent = 0
    ended = threading.Event()

    def serve(made: socket.socket) -> None:
        nonlocal sent
        read_request(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        try:
            made.sendall(HEAD + b"\r\n")
            while True:
                sent += made.send(b"x" * 4096)
        finally:
            ended.set()

    start = time.monotonic()
    assert send(raw(serve).port).status == 200
    assert time.monotonic() - start < FAR, "it ended long before its deadline"
    assert ended.wait(FAR)
    assert sent < 8_000_000  # what fits into the buffers of the two sockets


def test_s23_exactly_64_kib_are_read(monkeypatch: pytest.MonkeyPatch, raw: Start) -> None:
    read = 0
    before = socket.socket.recv_into

    def counted(made: socket.socket, buffer: Any, *more: Any) -> int:
        nonlocal read
        got = before(made, buffer, *more)
        read += got
        return got

    server = answering(raw, HEAD + b"\r\n", b"x" * 1_000_000)
    monkeypatch.setattr(socket.socket, "recv_into", counted)
    assert send(server.port).status == 200
    assert read == LONGEST == 65_536


def test_s23_a_head_without_end_is_no_answer(raw: Start) -> None:
    server = answering(raw, HEAD, *[b"X-%d: %s\r\n" % (n, b"a" * 900) for n in range(80)], b"\r\n")
    with pytest.raises(NotAnswered, match="longer than 64 KiB"):
        send(server.port)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 100\r\n\r\nshort",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        HEAD + b"Content-Length: nonsense\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nextra",
        b"HTTP/1.1 205 Reset Content\r\n\r\nextra",
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + HEAD + b"\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
        + HEAD
        + b"Content-Length: 1\r\n\r\nx",
    ],
)
def test_s23_a_success_is_one_whatever_its_body_and_what_came_before_it(raw: Start, answer: bytes) -> None:
    assert 200 <= send(answering(raw, answer).port).status < 300


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"<html>200</html>",
        b"\x15\x03\x01\x00\x02\x02\x46",
        HEAD + b"\r\n".join([b"a: b"] * 200) + b"\r\n\r\n",
    ],
)
def test_s23_what_is_no_answer_of_http_is_none_and_is_not_repeated(raw: Start, answer: bytes) -> None:
    with pytest.raises(NotAnswered) as error:
        send(answering(raw, answer).port)
    assert "SSH" not in str(error.value)
    assert "html" not in str(error.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK",
        HEAD,
        HEAD + b"X-Part",
        HEAD + b"Content-Length: 0\r\n",
        b"HTTP/1.1 503 Busy\r\nRetry-After: 1",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + b"X-Part",
        b"HTTP/1.1 103 Early Hints\r\nLink",
    ],
)
def test_s23_a_head_that_is_cut_off_is_no_answer(raw: Start, answer: bytes) -> None:
    with pytest.raises(NotAnswered, match="the connection ended within the head of its answer"):
        send(answering(raw, answer).port)


def test_s23_switching_protocols_is_a_final_status(raw: Start) -> None:
    assert send(answering(raw, b"HTTP/1.1 101 Switching Protocols\r\n\r\n").port).status == 101


def test_s23_a_reset_connection_is_no_answer(raw: Start) -> None:
    def serve(made: socket.socket) -> None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    with pytest.raises(NotAnswered):
        send(raw(serve).port)


#: Fits into no buffer, so that the connection is reset while it is sent.
HUGE = b"x" * 30_000_000
GONE = b"HTTP/1.1 410 Gone\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"


def reads_little(made: socket.socket, answer: bytes) -> None:
    """Answer a request whose body is not read, and end the connection, which resets it."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.recv(10)
    made.sendall(answer)


def test_s23_an_answer_that_comes_before_the_request_is_read_counts(raw: Start) -> None:
    server = raw(lambda made: reads_little(made, GONE))
    assert send(server.port, HUGE) == Answer(410, "7")


def test_s23_an_answer_over_tls_that_comes_before_the_request_is_read_counts(
    raw: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def serve(made: socket.socket) -> None:
        with server_tls.wrap_socket(made, server_side=True) as secure:
            reads_little(secure, GONE)

    server = raw(serve)
    assert send(server.port, HUGE, url=f"https://localhost:{server.port}/", tls=client_tls) == Answer(
        410, "7"
    )


def test_s23_a_reset_while_the_request_is_sent_is_told_as_that(raw: Start) -> None:
    server = raw(lambda made: reads_little(made, b""))
    with pytest.raises(NotAnswered, match=r"Connection reset|Broken pipe"):
        send(server.port, HUGE)


def test_s23_a_port_where_nobody_listens_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotAnswered, match=r"[Rr]efused"):
        send(port)


# --- TLS ---------------------------------------------------------------------------------------------------


def test_s23_https_is_checked_by_the_name_in_the_url(
    secure_receiver: Receiver, client_tls: ssl.SSLContext
) -> None:
    port = secure_receiver.port
    assert send(port, url=f"https://localhost:{port}/x", tls=client_tls).status == 204
    assert send(port, url=f"https://127.0.0.1:{port}/x", tls=client_tls).status == 204
    assert [got.headers["Host"] for got in secure_receiver.received] == [
        f"localhost:{port}",
        f"127.0.0.1:{port}",
    ]


def test_s23_a_certificate_of_another_name_is_refused_before_anything_is_sent(
    secure_receiver: Receiver, client_tls: ssl.SSLContext
) -> None:
    port = secure_receiver.port
    with pytest.raises(NotAnswered, match=r"certificate is not accepted.*other"):
        send(
            port,
            url=f"https://other.example:{port}/",
            tls=client_tls,
            resolve=lambda name, port: [(socket.AF_INET, ("127.0.0.1", port))],
        )
    assert secure_receiver.received == []


def test_s23_a_certificate_that_nobody_vouches_for_is_refused(secure_receiver: Receiver) -> None:
    port = secure_receiver.port
    with pytest.raises(NotAnswered, match="certificate is not accepted"):
        send(port, url=f"https://localhost:{port}/", tls=ssl.create_default_context())
    assert secure_receiver.received == []


def test_s23_https_where_plain_http_answers_is_no_answer(
    receiver: Receiver, client_tls: ssl.SSLContext
) -> None:
    with pytest.raises(NotAnswered, match="TLS failed"):
        send(receiver.port, url=f"https://localhost:{receiver.port}/", tls=client_tls, seconds=2.0)


def test_s23_a_dripped_answer_over_tls_ends_at_the_deadline(
    raw: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def serve(made: socket.socket) -> None:
        with server_tls.wrap_socket(made, server_side=True) as secure:
            dripped_head(secure)

    server, start = raw(serve), time.monotonic()
    with pytest.raises(NotAnswered, match="no answer within"):
        send(server.port, url=f"https://localhost:{server.port}/", tls=client_tls, seconds=1.0)
    assert time.monotonic() - start < FAR


def test_s23_a_deadline_that_is_over_leaves_nothing() -> None:
    deadline = Deadline(0.01)
    assert 0 < deadline.left() <= 0.01
    time.sleep(0.02)
    with pytest.raises(TimeoutError):
        deadline.left()
