"""S24: a name is looked up once, every address is checked, and the connection goes to a checked one."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from kessel_http.connecting import Deadline, Found, RefusedAddress, Unable, connected
from kessel_http.urls import read_url

from .conftest import Receiver, network

FAR = 10.0


class Names:
    """Looks names up in a table; notes each look-up."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, name: str, port: int) -> list[Found]:
        self.asked.append(name)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET6, (one, port, 0, 0)) if ":" in one else (socket.AF_INET, (one, port))
            for one in found
        ]


def connect(
    url: str, names: Any = None, *, seconds: float = FAR, internal: bool = False, **parts: Any
) -> socket.socket:
    parts |= {"resolve": names} if names is not None else {}
    return connected(read_url(url), Deadline(seconds), network(**parts), internal=internal)


@pytest.fixture
def nothing_connects(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Notes what would be connected to."""
    tried: list[Any] = []

    def connect(made: socket.socket, address: Any) -> None:
        tried.append(address)
        raise ConnectionRefusedError("not in this test")

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tried


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://127.0.0.1/", "127.0.0.1 is refused: loopback"),
        ("https://[::1]/", "::1 is refused: loopback"),
        ("https://[::ffff:10.0.0.1]/", "is refused: mapped of 10.0.0.1, private"),
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254 is refused: link-local"),
    ],
)
def test_s24_an_address_in_the_url_is_checked_without_a_look_up(
    nothing_connects: list[Any], url: str, why: str
) -> None:
    names = Names(["8.8.8.8"])
    with pytest.raises(RefusedAddress, match=why):
        connect(url, names)
    assert (names.asked, nothing_connects) == ([], [])


@pytest.mark.parametrize(
    "bad", ["127.0.0.1", "10.0.0.1", "::1", "fe80::1%3", "64:ff9b::7f00:1", "169.254.169.254"]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_s24_one_bad_address_among_good_ones_is_enough(
    nothing_connects: list[Any], bad: str, place: int
) -> None:
    found = ["8.8.8.8", "2606:4700:4700::1111"]
    found.insert(place, bad)
    with pytest.raises(RefusedAddress, match=r"hooks.example.org leads to .*, which is refused: "):
        connect("https://hooks.example.org/", Names(found))
    assert nothing_connects == []


def test_s24_a_name_of_this_machine_is_refused_as_the_system_looks_it_up(nothing_connects: list[Any]) -> None:
    with pytest.raises(RefusedAddress, match="loopback"):
        connect("https://localhost/")
    assert nothing_connects == []


def test_s24_the_name_is_looked_up_once_and_its_checked_addresses_are_connected_to(
    nothing_connects: list[Any],
) -> None:
    names = Names(["8.8.8.8", "2606:4700:4700::1111"], ["127.0.0.1"])
    with pytest.raises(ConnectionRefusedError):
        connect("https://hooks.example.org:8443/", names)
    assert names.asked == ["hooks.example.org"]
    assert nothing_connects == [("8.8.8.8", 8443), ("2606:4700:4700::1111", 8443, 0, 0)]


def test_s24_each_call_looks_the_name_up_anew(nothing_connects: list[Any]) -> None:
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    with pytest.raises(ConnectionRefusedError):
        connect("https://hooks.example.org/", names)
    with pytest.raises(RefusedAddress):
        connect("https://hooks.example.org/", names)


def _loopback_is_public(address: Any) -> str | None:
    return None if address.is_loopback else "elsewhere"


def test_s24_the_certificate_is_checked_by_the_name_and_not_by_the_address(
    secure_receiver: Receiver, client_tls: ssl.SSLContext
) -> None:
    port = secure_receiver.port
    url = f"https://hooks.example.org:{port}/"
    with connect(url, Names(["127.0.0.1"]), tls=client_tls, refused=_loopback_is_public) as made:
        assert isinstance(made, ssl.SSLSocket)
        assert made.server_hostname == "hooks.example.org"
        assert made.getpeername() == ("127.0.0.1", port)


def test_s24_internal_endpoints_may_be_anywhere(receiver: Receiver) -> None:
    for url in (f"http://127.0.0.1:{receiver.port}/", f"http://inside.example:{receiver.port}/"):
        with connect(url, Names(["127.0.0.1"]), internal=True) as made:
            assert made.getpeername() == ("127.0.0.1", receiver.port)


def test_s23_each_address_gets_an_equal_part_of_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, given = 1000.0, []

    def connect_(made: socket.socket, address: Any) -> None:
        nonlocal now
        timeout = made.gettimeout()
        assert timeout is not None
        given.append(timeout)
        now += timeout
        raise TimeoutError("timed out")

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(socket.socket, "connect", connect_)
    with pytest.raises(TimeoutError):
        connect("https://hooks.example.org/", Names(["8.8.8.8", "8.8.4.4", "1.1.1.1"]), seconds=9.0)
    assert given == [pytest.approx(3.0)] * 3


def test_s23_what_connecting_took_is_missing_for_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0

    def connect_(made: socket.socket, address: Any) -> None:
        nonlocal now
        now += 3.0

    class Handshake:
        @staticmethod
        def wrap_socket(made: socket.socket, server_hostname: str) -> socket.socket:
            return made

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(socket.socket, "connect", connect_)
    made = connect("https://hooks.example.org/", Names(["8.8.8.8"]), seconds=9.0, tls=Handshake())
    assert made.gettimeout() == pytest.approx(6.0)
    made.close()


def test_s23_a_connection_that_took_all_the_time_is_closed(
    monkeypatch: pytest.MonkeyPatch, open_sockets: Callable[[], int]
) -> None:
    now = 1000.0

    def connect_(made: socket.socket, address: Any) -> None:
        nonlocal now
        now += 9.0

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(socket.socket, "connect", connect_)
    before = open_sockets()
    with pytest.raises(TimeoutError):
        connect("https://hooks.example.org/", Names(["8.8.8.8"]), seconds=9.0)
    assert open_sockets() == before


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = socket.socket.connect

    def connect_(made: socket.socket, address: Any) -> None:
        if address[0] != "127.0.0.1":
            time.sleep(made.gettimeout() or 0)
            raise TimeoutError("timed out")
        before(made, address)

    monkeypatch.setattr(socket.socket, "connect", connect_)
    names = Names(["10.0.0.1", "127.0.0.1"])
    with connect(f"http://inside.example:{receiver.port}/", names, seconds=1.0, internal=True) as made:
        assert made.getpeername()[0] == "127.0.0.1"


def test_many_addresses_get_no_more_than_the_time_that_is_left(nothing_connects: list[Any]) -> None:
    with pytest.raises(OSError):  # the first ones are refused, or the time is over
        connect("https://hooks.example.org/", Names(["8.8.8.8"] * 40), seconds=0.5)
    assert len(nothing_connects) == 40


def test_a_refused_connection_is_followed_by_the_next_address(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = socket.socket.connect

    def connect_(made: socket.socket, address: Any) -> None:
        if address[0] != "127.0.0.1":
            raise ConnectionRefusedError("nobody listens")
        before(made, address)

    monkeypatch.setattr(socket.socket, "connect", connect_)
    names = Names(["10.0.0.1", "127.0.0.1"])
    with connect(f"http://inside.example:{receiver.port}/", names, internal=True) as made:
        assert made.getpeername()[0] == "127.0.0.1"


def test_s23_a_name_server_that_stalls_ends_at_the_deadline() -> None:
    released = threading.Event()

    def stalls(name: str, port: int) -> list[Found]:
        released.wait(FAR)
        return []

    start = time.monotonic()
    with pytest.raises(TimeoutError, match="could not be looked up in time"):
        connect("https://hooks.example.org/", stalls, seconds=0.3)
    assert time.monotonic() - start < FAR
    released.set()


@pytest.mark.parametrize(
    "raised", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")]
)
def test_what_a_look_up_raises_is_passed_on(raised: Exception) -> None:
    def fails(name: str, port: int) -> list[Found]:
        raise raised

    with pytest.raises(type(raised), match=str(raised.args[-1])):
        connect("https://hooks.example.org/", fails)


def test_a_name_without_an_address_cannot_be_reached() -> None:
    with pytest.raises(OSError, match=r"hooks\.example\.org has no address"):
        connect("https://hooks.example.org/", Names([]))


@pytest.fixture
def open_sockets(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    made: list[socket.socket] = []
    here, before = threading.get_ident(), socket.socket.__init__

    def counted(self: socket.socket, *arguments: Any, **more: Any) -> None:
        before(self, *arguments, **more)
        if threading.get_ident() == here:  # and not in the receiver
            made.append(self)

    monkeypatch.setattr(socket.socket, "__init__", counted)
    return lambda: sum(one.fileno() != -1 for one in made)


def test_no_socket_stays_open_behind_an_error(
    open_sockets: Callable[[], int], receiver: Receiver, client_tls: ssl.SSLContext
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    before = open_sockets()
    for url, tls in (
        (f"http://127.0.0.1:{closed}/", None),
        (f"https://localhost:{closed}/", client_tls),
        (f"https://127.0.0.1:{receiver.port}/", client_tls),
    ):
        with pytest.raises(OSError):  # of several kinds; what counts is what stays open
            connect(url, internal=True, seconds=2.0, **({} if tls is None else {"tls": tls}))
    assert open_sockets() == before


# --- what this process lacks ------------------------------------------------------------------------------


def lacking(monkeypatch: pytest.MonkeyPatch, code: int, families: Sequence[int]) -> None:
    """Let no socket of these families be made."""
    before = socket.socket.__init__

    def init(made: socket.socket, family: int = -1, *more: Any, **options: Any) -> None:
        if (socket.AF_INET if family == -1 else family) in families and "fileno" not in options:
            raise OSError(code, os.strerror(code))
        before(made, family, *more, **options)

    monkeypatch.setattr(socket.socket, "__init__", init)


def test_s23_an_address_of_ipv6_is_passed_over_where_there_is_no_ipv6(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    lacking(monkeypatch, errno.EAFNOSUPPORT, [socket.AF_INET6])
    url = f"http://hooks.example.org:{receiver.port}/"
    with connect(url, Names(["::1", "127.0.0.1"]), internal=True) as made:
        assert made.getpeername() == ("127.0.0.1", receiver.port)


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EAFNOSUPPORT])
@pytest.mark.parametrize(
    "addresses", [["127.0.0.1", "::1"], ["::1", "127.0.0.1"], ["127.0.0.1", "::1", "::1"]]
)
def test_s23_what_an_address_answered_counts_more_than_that_there_is_no_ipv6(
    monkeypatch: pytest.MonkeyPatch, code: int, addresses: list[str]
) -> None:
    """In a container without IPv6 an endpoint that refused never rested: the worker blamed itself."""
    before = socket.socket.connect

    def connect_(made: socket.socket, address: Any) -> None:
        if made.family == socket.AF_INET6:
            raise OSError(code, os.strerror(code))
        before(made, address)

    monkeypatch.setattr(socket.socket, "connect", connect_)
    with pytest.raises(ConnectionRefusedError):
        connect("http://hooks.example.org:1/", Names(addresses), internal=True)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_s23_a_process_without_descriptors_is_told_from_an_address_that_fails(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    lacking(monkeypatch, code, [socket.AF_INET, socket.AF_INET6])
    for url in ("https://8.8.8.8/", "https://hooks.example.org/"):
        with pytest.raises(Unable, match=os.strerror(code)):
            connect(url, Names(["8.8.8.8", "2606:4700:4700::1111"]))


def test_s23_a_look_up_that_has_no_descriptor_is_told_from_an_unknown_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system says that the name is not known, whatever it lacks."""

    def unknown(name: str, port: int) -> list[Found]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(socket.gaierror):
        connect("https://hooks.example.org/", unknown)
    lacking(monkeypatch, errno.EMFILE, [socket.AF_INET])
    with pytest.raises(Unable, match=os.strerror(errno.EMFILE)):
        connect("https://hooks.example.org/", unknown)


def test_s23_a_process_without_threads_is_told_from_a_name_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(Unable, match="can't start new thread"):
        connect("https://hooks.example.org/", Names(["8.8.8.8"]))
