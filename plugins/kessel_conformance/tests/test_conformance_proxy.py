"""The proxy breaks what it is told to break, at that byte, and passes on all else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from kessel_conformance import Cut, FaultProxy, Traffic
from kessel_conformance import proxy as proxy_module


class Answers:
    """A server that answers each line with its length, and keeps what it received."""

    def __init__(self) -> None:
        self.received = b""
        self.changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            try:
                while data := peer.recv(1000):
                    with self.changed:
                        self.received += data
                        self.changed.notify_all()
                    if data.endswith(b"\n"):
                        peer.sendall(b"%06d\n" % len(data))
            except OSError:
                pass

    def got(self, data: bytes) -> bool:
        """Wait until this was received, all in all."""
        with self.changed:
            return self.changed.wait_for(lambda: self.received == data, 10)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def server() -> Iterator[Answers]:
    one = Answers()
    yield one
    one.close()


@pytest.fixture
def proxy(server: Answers) -> Iterator[FaultProxy]:
    with FaultProxy(server.port) as one:
        yield one


def dial(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def ask(peer: socket.socket, line: bytes = b"12345\n") -> bytes:
    peer.sendall(line)
    return rest(peer, 7)


def rest(peer: socket.socket, most: int = 7) -> bytes:
    """Read until so many bytes are there, or the stream ends."""
    found = b""
    while len(found) < most and (data := peer.recv(most - len(found))):
        found += data
    return found


def answers(proxy: FaultProxy) -> bool:
    try:
        with dial(proxy) as peer:
            return ask(peer) == b"000006\n"
    except OSError:
        return False


def test_traffic_is_counted_by_bytes_and_round_trips(proxy: FaultProxy) -> None:
    with dial(proxy) as peer:
        ask(peer)
        before = proxy.traffic
        assert [ask(peer), ask(peer)] == [b"000006\n"] * 2
        assert proxy.traffic - before == Traffic(round_trips=2, up=12, down=14)
    with dial(proxy) as peer:
        ask(peer)
    whole = proxy.traffic
    assert (whole.connections, whole.round_trips, whole.bytes) == (2, 4, 52)


@pytest.mark.parametrize("after", [0, 1, 5, 6])
@pytest.mark.parametrize("reset", [False, True])
def test_request_is_cut_after_so_many_bytes_once(
    proxy: FaultProxy, server: Answers, after: int, reset: bool
) -> None:
    with dial(proxy) as peer:
        proxy.cut_at(Cut(up=True, after=after, reset=reset))
        peer.sendall(b"12345\n")
        if reset:
            with pytest.raises(ConnectionResetError):
                rest(peer)
        else:
            assert rest(peer) == b""
    assert server.got(b"12345\n"[:after])
    assert proxy.end_faults() is False
    with dial(proxy) as peer:
        assert ask(peer) == b"000006\n"


@pytest.mark.parametrize("after", [0, 1, 6, 7])
def test_answer_is_cut_after_so_many_bytes_of_what_the_server_did(
    proxy: FaultProxy, server: Answers, after: int
) -> None:
    with dial(proxy) as peer:
        proxy.cut_at(Cut(up=False, after=after))
        peer.sendall(b"12345\n")
        assert rest(peer, 8) == b"000006\n"[:after]  # all of it as well, and then its end
    assert server.got(b"12345\n")


def test_cut_is_not_seen_before_it_is_shown(proxy: FaultProxy, server: Answers) -> None:
    with dial(proxy) as peer, dial(proxy) as other:
        proxy.cut_at(Cut(up=False, after=0, unseen=True))
        peer.sendall(b"12345\n")
        assert server.got(b"12345\n")
        peer.settimeout(0.05)
        with pytest.raises(TimeoutError):
            peer.recv(7)
        assert ask(other) == b"000006\n"
        proxy.show_cuts()
        peer.settimeout(10)
        assert rest(peer) == b""
        assert ask(other) == b"000006\n"


def test_answer_is_lost_that_is_said_to_be_once(proxy: FaultProxy, server: Answers) -> None:
    said = iter([False, True])
    with dial(proxy) as peer, dial(proxy) as other:
        proxy.loses = lambda: next(said)
        assert ask(peer) == b"000006\n"
        peer.sendall(b"12345\n")
        assert rest(peer) == b""
        assert server.got(b"12345\n" * 2)
        assert ask(other) == b"000006\n"  # it is asked no more


def test_proxy_closes_while_a_cut_is_unseen(server: Answers) -> None:
    with FaultProxy(server.port) as proxy, dial(proxy) as peer:
        proxy.cut_at(Cut(up=False, after=0, unseen=True))
        peer.sendall(b"12345\n")
        assert server.got(b"12345\n")
        proxy.close()
        assert rest(peer) == b""


def test_nothing_reaches_the_server_any_more_once_an_answer_is_cut(
    proxy: FaultProxy, server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that takes the piece for the whole asks again at once, before the connection has ended."""
    asked, cut = threading.Event(), proxy_module._Link.cut

    def late(link: proxy_module._Link, *, reset: bool) -> None:
        asked.wait(10)
        cut(link, reset=reset)

    monkeypatch.setattr(proxy_module._Link, "cut", late)
    with dial(proxy) as peer:
        proxy.cut_at(Cut(up=False, after=6))
        peer.sendall(b"12345\n")
        assert rest(peer, 6) == b"000006"
        peer.sendall(b"again\n")
        with server.changed:
            server.changed.wait(0.1)  # where it comes through, it is there by then
        asked.set()
        assert rest(peer) == b""
    assert server.received == b"12345\n"


def test_request_passes_whole_in_which_a_cut_is_reached_that_lets_it(
    proxy: FaultProxy, server: Answers
) -> None:
    with dial(proxy) as peer:
        proxy.cut_at(Cut(up=True, after=4, whole=True))
        peer.sendall(b"12345\n")
        assert rest(peer) == b""
    assert server.got(b"12345\n")
    assert proxy.end_faults() is False


def test_cut_that_is_not_reached_is_outstanding(proxy: FaultProxy) -> None:
    with dial(proxy) as peer:
        proxy.cut_at(Cut(up=True, after=100))
        assert ask(peer) == b"000006\n"
        assert proxy.end_faults() is True
        assert ask(peer, b"1" * 200 + b"\n") == b"000201\n"


def test_swallowing_both_ways_leaves_the_other_side_half_open(proxy: FaultProxy) -> None:
    with dial(proxy) as peer:
        ask(peer)
        proxy.drop_up = proxy.drop_down = True
        peer.sendall(b"12345\n")
        peer.settimeout(0.1)
        with pytest.raises(TimeoutError):
            peer.recv(1)


def test_held_answer_comes_late(proxy: FaultProxy) -> None:
    with dial(proxy) as peer:
        proxy.hold_answers()
        peer.sendall(b"12345\n")
        peer.settimeout(0.1)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        proxy.end_faults()
        peer.settimeout(10)
        assert rest(peer) == b"000006\n"


def test_refusing_proxy_resets_new_connections_and_keeps_old_ones(proxy: FaultProxy) -> None:
    with dial(proxy) as old:
        ask(old)
        proxy.refuses = True
        assert not answers(proxy)
        assert ask(old) == b"000006\n"
        proxy.end_faults()
        assert answers(proxy)


def test_server_that_is_gone_resets_connections(server: Answers) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with FaultProxy(free.getsockname()[1]) as proxy:
            assert not answers(proxy)


def test_slow_and_dribbling_proxy_passes_everything_on(proxy: FaultProxy) -> None:
    proxy.delay, proxy.dribble = 0.01, True
    with dial(proxy) as peer:
        assert ask(peer) == b"000006\n"
        proxy.cut()
        assert peer.recv(1) == b""


def test_request_that_is_held_reaches_the_server_after_its_caller_has_gone(
    proxy: FaultProxy, server: Answers
) -> None:
    with dial(proxy) as peer:
        ask(peer)
        proxy.hold_requests()
        peer.sendall(b"late\n")
        peer.settimeout(0.1)
        with pytest.raises(TimeoutError):
            rest(peer)
    proxy.end_faults()
    assert answers(proxy)  # other connections are not held
    assert server.got(b"12345\n12345\n")
    before = proxy.traffic
    proxy.pass_held()
    assert server.received == b"12345\n12345\nlate\n"  # it has answered
    assert (proxy.traffic - before).up == 5
    proxy.pass_held()


def test_connections_that_are_made_while_requests_are_held_are_held_as_well(
    proxy: FaultProxy, server: Answers
) -> None:
    proxy.hold_requests()
    peers = [dial(proxy), dial(proxy)]
    for peer in peers:
        peer.sendall(b"late\n")
        peer.settimeout(0.1)
        with pytest.raises(TimeoutError):
            rest(peer)
        peer.settimeout(10)
    proxy.end_faults()
    proxy.pass_held()
    assert [rest(peer) for peer in peers] == [b"000005\n"] * 2
    assert ask(peers[0]) == b"000006\n"  # as any other connection from now on
    for peer in peers:
        peer.close()


def test_requests_of_other_connections_than_the_first_pass_where_only_those_are_held(
    proxy: FaultProxy, server: Answers
) -> None:
    with dial(proxy) as one, dial(proxy) as two:
        proxy.hold_requests(of_first=True)
        one.sendall(b"first\n")
        end = time.monotonic() + 10
        while not proxy.holds_some:
            assert time.monotonic() < end
            time.sleep(0.001)
        assert ask(two) == b"000006\n"
        proxy.pass_held()
        assert rest(one, 7) == b"000006\n"


def test_proxy_closes_while_requests_are_held(server: Answers) -> None:
    with FaultProxy(server.port) as proxy:
        proxy.hold_requests()
        peer = dial(proxy)
        peer.sendall(b"late\n")
        peer.settimeout(0.1)
        with pytest.raises(TimeoutError):
            rest(peer)
        begun = time.monotonic()
    assert time.monotonic() - begun < 4  # no thread was waited for in vain
    peer.close()
